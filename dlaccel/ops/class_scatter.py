r"""The scatter of labelled features about a shift, pooled or class by class.

For the samples :math:`x_i` of weight :math:`w_i` and label :math:`y_i`, and the shift :math:`s_c`
of their class:

.. math:: T_c = \sum_{y_i = c} w_i (x_i - s_c)(x_i - s_c)^T, \qquad T = \sum_c T_c,

from which the covariance of class c is :math:`T_c / n_c - d_c d_c^T` with :math:`d_c = S_c / n_c`
of ``class_moments``. A symmetric rank-N update: half of the matrix is computed, and mirrored.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _check
from .._procedure import Procedure
from .._spec import Bad, Make, ProcedureSpec, Shape, replacing

NAME = "class_scatter"


def reference(
    scatter: Tensor,
    shifts: Tensor,
    features: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    classes: int,
) -> None:
    """Adds ``features`` to the state; ``check`` has seen the arguments."""
    labels = labels.long()
    used = (labels >= 0) & (labels < classes)
    if weight is not None:
        used &= weight > 0
    rows, labels = features[used].double(), labels[used]
    shifted = rows - (shifts[labels] if len(shifts) == classes else shifts)
    weighted = shifted if weight is None else shifted * weight[used, None].double()
    for place, total in enumerate(scatter):
        mine = slice(None) if len(scatter) != classes else labels == place
        lower = (total + weighted[mine].mT @ shifted[mine]).tril()
        total.copy_(lower + lower.tril(-1).mT)


def check(
    scatter: Tensor,
    shifts: Tensor,
    features: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    classes: int,
) -> None:
    """Refuses what the kernel must not see. On a GPU a label out of range is not used."""
    inputs = {"features": features, "labels": labels}
    weights = {} if weight is None else {"weight": weight}
    _check.tensors(NAME, inputs | weights)
    _check.floating(NAME, {"features": features} | weights)
    width = scatter.shape[-1]
    if features.ndim != 2 or features.shape[1] != width:
        rule = f"have shape (N, {width})"
        _check.refuse(NAME, "features", rule, tuple(features.shape), ValueError)
    if len(scatter) not in (1, classes):
        rule = f"have shape (1, {width}, {width}) or ({classes}, {width}, {width})"
        _check.refuse(NAME, "scatter", rule, tuple(scatter.shape), ValueError)
    if shifts.shape not in ((1, width), (classes, width)):
        rule = f"have shape (1, {width}) or ({classes}, {width})"
        _check.refuse(NAME, "shifts", rule, tuple(shifts.shape), ValueError)
    _check.labels(NAME, labels, len(features), classes)
    for name, value in (inputs | weights).items():
        if value.device != scatter.device:
            _check.refuse(NAME, name, f"be on device {scatter.device}", value.device, ValueError)
    if weight is not None:
        _check.weights(NAME, weight, len(features))


PROCEDURE = Procedure(
    name=NAME,
    schema="Tensor(a!) scatter, Tensor shifts, Tensor features, Tensor labels, Tensor? weight, "
    "int classes",
    reference=reference,
    check=check,
)

CLASSES = 5


def _sample(size: Shape, make: Make) -> tuple[Any, ...]:
    """Pooled; the state is not empty, class 3 has no sample, some labels are -1."""
    samples, width = size
    features = make(samples, width)
    where = features.device
    shifts = torch.linspace(-1, 1, CLASSES * width, dtype=torch.float64, device=where)
    labels = torch.arange(samples, device=where) * 7 % 11 % (CLASSES + 1) - 1
    labels[labels == 3] = 4
    scatter = torch.eye(width, dtype=torch.float64, device=where)[None]
    return scatter, shifts.reshape(CLASSES, width), features, labels, None, CLASSES


def _by_class(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    scatter, *rest = arguments
    return (scatter.repeat(CLASSES, 1, 1), *rest)


def _weighted(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    scatter, shifts, features, labels, _, classes = arguments
    weight = torch.arange(len(features), device=features.device) % 4 * 0.25
    return scatter, shifts[:1], features, labels.int(), weight.to(features.dtype), classes


_with = replacing(PROCEDURE, lambda make: _sample((4, 3), make))


SPEC = ProcedureSpec(
    name=NAME,
    procedure=PROCEDURE,
    reference=reference,
    sample=_sample,
    variants={
        "pooled": lambda a: a,
        "by class": _by_class,
        "weighted": _weighted,
        "weighted by class": lambda a: _by_class(_weighted(a)),
    },
    writes=1,
    sizes=((0, 5), (1, 1), (37, 13), (300, 67), (611, 50)),
    roundings=8,  # two shifted values, two roots of the weight, product and sum, on both sides
    reduces=lambda size: max(1, size[0]),
    source="Papyan, Han, Donoho 2020, arXiv 2008.08186: the covariance within classes",
    bad={
        "features' width": Bad(
            _with(2, lambda make: make(4, 2)),
            ValueError,
            "dlaccel.class_scatter: features must have shape (N, 3), got (4, 2).",
        ),
        "number of shifts": Bad(
            _with(1, lambda make: make(2, 3).double()),
            ValueError,
            "dlaccel.class_scatter: shifts must have shape (1, 3) or (5, 3), got (2, 3).",
        ),
        "number of matrices": Bad(
            _with(0, lambda make: make(2, 3, 3).double()),
            ValueError,
            "dlaccel.class_scatter: scatter must have shape (1, 3, 3) or (5, 3, 3), got (2, 3, 3).",
        ),
        "labels' dtype": Bad(
            _with(3, lambda make: make(4).float()),
            TypeError,
            "dlaccel.class_scatter: labels must have dtype int64 or int32, got float32.",
        ),
        "weight's length": Bad(
            _with(4, lambda make: make(3)),
            ValueError,
            "dlaccel.class_scatter: weight must have shape (4,), got (3,).",
        ),
    },
)
