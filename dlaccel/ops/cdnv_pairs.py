r"""What every two classes have between them: CDNV, its one-sided form, or the squared distance.

For means :math:`\mu_i` and variances :math:`v_i` (traces of covariances), i not j:

.. math::
    V_{ij} = \frac{v_i + v_j}{2 \|\mu_i - \mu_j\|^2}, \qquad
    V^1_{ij} = \frac{v_i}{\|\mu_i - \mu_j\|^2}, \qquad
    \Delta_{ij} = \|\mu_i - \mu_j\|^2,

the class-distance normalised variance of Galanti, Gyorgy, Hutter 2022, arXiv 2112.15121, and the
form of arXiv 2212.12532. Squared distances come from one symmetric product of the means about a
centre, and from the differences themselves where two means are near beside their distance from it.
Equal means have infinite CDNV; a variance of NaN makes all pairs of its class NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _check
from .._procedure import Procedure
from .._spec import Bad, Make, ProcedureSpec, Shape, replacing

NAME = "cdnv_pairs"
CDNV, ONE_SIDED, SQUARED_DISTANCE = 0, 1, 2
NEAR = 1e-4  # as kNear in csrc/ops/cdnv_pairs/cdnv_pairs.h


def reference(pairs: Tensor, means: Tensor, variances: Tensor, measure: int) -> None:
    """Writes all pairs, 0 on the diagonal; ``check`` has seen the arguments."""
    means = means.contiguous()  # sums run in the order of the strides
    for i, mean in enumerate(means):
        squares = (means - mean).square().sum(1)
        both = variances[i] + variances
        if measure == SQUARED_DISTANCE:
            row = squares
        else:
            spread = both / 2 if measure == CDNV else variances[i]
            row = torch.where(squares == 0, torch.inf, spread / squares)
        pairs[i] = row.where(~both.isnan(), torch.nan)
    pairs.fill_diagonal_(0)


def check(pairs: Tensor, means: Tensor, variances: Tensor, measure: int) -> None:
    """Refuses what the kernel must not see."""
    arguments = {"means": means, "variances": variances}
    _check.tensors(NAME, arguments)
    _check.dtype(NAME, arguments, torch.float64)
    for name, value in arguments.items():
        if value.device != pairs.device:
            _check.refuse(NAME, name, f"be on device {pairs.device}", value.device, ValueError)
    if means.ndim != 2:
        _check.refuse(NAME, "means", "have shape (C, D)", tuple(means.shape), ValueError)
    classes = len(means)
    for name, value, shape in (
        ("pairs", pairs, (classes, classes)),
        ("variances", variances, (classes,)),
    ):
        if value.shape != shape:
            _check.refuse(NAME, name, f"have shape {shape}", tuple(value.shape), ValueError)


PROCEDURE = Procedure(
    name=NAME,
    schema="Tensor(a!) pairs, Tensor means, Tensor variances, int measure",
    reference=reference,
    check=check,
)


def _sample(size: Shape, make: Make) -> tuple[Any, ...]:
    """Two of the classes are near each other, far from the centre."""
    classes, width = size
    means = make(classes, width).double()
    variances = make(classes).double().square() + 0.5
    if classes > 5:
        means[5] = means[4] + 1e-4 * make(width).double()
    pairs = torch.zeros(classes, classes, dtype=torch.float64, device=means.device)
    return pairs, means, variances, CDNV


def _measuring(measure: int) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    return lambda arguments: (*arguments[:-1], measure)


_with = replacing(PROCEDURE, lambda make: _sample((4, 3), make))


SPEC = ProcedureSpec(
    name=NAME,
    procedure=PROCEDURE,
    reference=reference,
    sample=_sample,
    variants={
        "cdnv": _measuring(CDNV),
        "one sided": _measuring(ONE_SIDED),
        "squared distance": _measuring(SQUARED_DISTANCE),
    },
    writes=1,
    sizes=((0, 3), (1, 1), (9, 5), (37, 13), (71, 130)),
    # Below NEAR of the sum of the two squared distances from the centre, a squared distance is
    # recomputed; above, the roundings of its three terms grow by at most 1 / NEAR.
    roundings=int(8 / NEAR),
    reduces=lambda size: max(1, size[1]),
    source="Galanti, Gyorgy, Hutter 2022, arXiv 2112.15121; arXiv 2212.12532",
    bad={
        "means' dtype": Bad(
            _with(1, lambda make: make(4, 3).float()),
            TypeError,
            "dlaccel.cdnv_pairs: means must have dtype float64, got float32.",
        ),
        "means' axes": Bad(
            _with(1, lambda make: make(4).double()),
            ValueError,
            "dlaccel.cdnv_pairs: means must have shape (C, D), got (4,).",
        ),
        "number of variances": Bad(
            _with(2, lambda make: make(3).double()),
            ValueError,
            "dlaccel.cdnv_pairs: variances must have shape (4,), got (3,).",
        ),
    },
)
