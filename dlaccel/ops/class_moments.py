r"""The moments of labelled features, class by class, in one pass about a shift.

For class c with shift :math:`s_c`, over its samples :math:`x_i` of weight :math:`w_i`:

.. math:: n_c = \sum w_i, \quad S_c = \sum w_i (x_i - s_c), \quad Q_c = \sum w_i \|x_i - s_c\|^2,

from which the mean is :math:`s_c + S_c / n_c` and the trace of the covariance
:math:`Q_c / n_c - \|S_c / n_c\|^2`. With a shift inside the class nothing cancels: Chan, Golub,
LeVeque 1983, "Algorithms for computing the sample variance".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _check
from .._procedure import Procedure
from .._spec import Bad, Make, ProcedureSpec, Shape

NAME = "class_moments"


def reference(
    counts: Tensor,
    sums: Tensor,
    squares: Tensor,
    shifts: Tensor,
    fault: Tensor,
    features: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    adopt: int,
) -> None:
    """Adds ``features`` to the state; ``check`` has seen the arguments."""
    labels = labels.long()
    used = labels >= 0 if weight is None else (labels >= 0) & (weight > 0)
    rows, labels = features[used].double(), labels[used]
    weights = torch.ones_like(rows[:, 0]) if weight is None else weight[used].double()
    if adopt:
        _adopt(counts, shifts, rows, labels)
    shifted = rows - (shifts[labels] if len(shifts) == len(counts) > 1 else shifts[:1])
    counts.index_add_(0, labels, weights)
    sums.index_add_(0, labels, shifted * weights[:, None])
    squares.index_add_(0, labels, shifted.square().sum(1) * weights)


def _adopt(counts: Tensor, shifts: Tensor, rows: Tensor, labels: Tensor) -> None:
    """Shifts not yet in use become the first sample of their class or, if common, of all."""
    if len(shifts) != len(counts):
        labels, counts = torch.zeros_like(labels), counts.sum(0, keepdim=True)
    places = torch.arange(len(labels), device=labels.device)
    first = torch.full((len(shifts),), len(labels), device=labels.device)
    first.scatter_reduce_(0, labels, places, "amin")
    new = (first < len(labels)) & (counts == 0)
    shifts[new] = rows[first[new]]


def check(
    counts: Tensor,
    sums: Tensor,
    squares: Tensor,
    shifts: Tensor,
    fault: Tensor,
    features: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    adopt: int,
) -> None:
    """Refuses what the kernel must not see. On a GPU the kernel itself looks at the labels."""
    inputs = {"features": features, "labels": labels}
    weights = {} if weight is None else {"weight": weight}
    _check.tensors(NAME, inputs | weights)
    _check.floating(NAME, {"features": features} | weights)
    if features.ndim != 2 or features.shape[1] != sums.shape[1]:
        rule = f"have shape (N, {sums.shape[1]})"
        _check.refuse(NAME, "features", rule, tuple(features.shape), ValueError)
    _check.labels(NAME, labels, len(features), len(counts))
    for name, value in (inputs | weights).items():
        if value.device != sums.device:
            _check.refuse(NAME, name, f"be on device {sums.device}", value.device, ValueError)
    if weight is not None:
        _check.weights(NAME, weight, len(features))


PROCEDURE = Procedure(
    name=NAME,
    schema="Tensor(a!) counts, Tensor(b!) sums, Tensor(c!) squares, Tensor(d!) shifts, "
    "Tensor(e!) fault, Tensor features, Tensor labels, Tensor? weight, int adopt",
    reference=reference,
    check=check,
)

CLASSES = 5


def _sample(size: Shape, make: Make) -> tuple[Any, ...]:
    """Class 3 stays empty, class 1 has a state already, some labels are -1."""
    samples, width = size
    features = make(samples, width)
    where = features.device
    state = torch.zeros(CLASSES, width + 2, dtype=torch.float64, device=where)
    state[1] = torch.linspace(-1, 2, width + 2)
    state[1, 0], state[1, -1] = 3, 12 * width
    labels = torch.arange(samples, device=where) * 7 % 11 % (CLASSES + 1) - 1
    labels[labels == 3] = 4
    counts, sums, squares = state[:, 0].clone(), state[:, 1:-1].clone(), state[:, -1].clone()
    fault = torch.full((2,), -1, device=where)
    return counts, sums, squares, torch.zeros_like(sums), fault, features, labels, None, 1


def _weighted(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    features, labels = arguments[5], arguments[6]
    weight = torch.arange(len(features), device=features.device) % 4 * 0.25
    return (*arguments[:6], labels.int(), weight.to(features.dtype), 1)


def _common(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    counts, sums, squares, shifts = (torch.zeros_like(a) for a in arguments[:4])
    return (counts, sums, squares, shifts[:1].clone(), *arguments[4:])


def _with(place: int, value: Callable[[Make], Tensor]) -> Callable[[Make], None]:
    """A call with one argument of a good one replaced."""

    def call(make: Make) -> None:
        arguments = list(_sample((4, 3), make))
        arguments[place] = value(make)
        PROCEDURE(*arguments)

    return call


def _labels(*values: float) -> Callable[[Make], Tensor]:
    return lambda make: torch.tensor(values, device=make(1).device)


SPEC = ProcedureSpec(
    name=NAME,
    procedure=PROCEDURE,
    reference=reference,
    sample=_sample,
    variants={"own shifts": lambda a: a, "weighted": _weighted, "common shift": _common},
    writes=5,
    sizes=((0, 5), (1, 1), (37, 13), (700, 67), (5000, 96)),
    roundings=6,  # the shifted value, its square, the weight, each sum, on both sides
    reduces=lambda size: max(1, size[0] * size[1]),
    source="Chan, Golub, LeVeque 1983; CDNV: Galanti, Gyorgy, Hutter 2022, arXiv 2112.15121",
    bad={
        "features' width": Bad(
            _with(5, lambda make: make(4, 2)),
            ValueError,
            "dlaccel.class_moments: features must have shape (N, 3), got (4, 2).",
        ),
        "labels' dtype": Bad(
            _with(6, _labels(0.0, 1.0, 2.0, 0.0)),
            TypeError,
            "dlaccel.class_moments: labels must have dtype int64 or int32, got float32.",
        ),
        "labels' length": Bad(
            _with(6, _labels(0, 1, 2)),
            ValueError,
            "dlaccel.class_moments: labels must have shape (4,), got (3,).",
        ),
    },
)
