"""Ridge regression on features, by whichever Gram matrix is smaller."""

from __future__ import annotations

from torch import Tensor

from .. import _check
from .factor import factorise
from .matrix import finite, number

NAME = "solve.ridge_regression"


def ridge_regression(features: Tensor, targets: Tensor, ridge: float) -> Tensor:
    r"""Weights W (..., D, C), float64, that minimise :math:`\|F W - Y\|^2 + \rho \|W\|^2`.

    The primal :math:`(F^T F + \rho I)^{-1} F^T Y` where D is at most N, else the dual
    :math:`F^T (F F^T + \rho I)^{-1} Y`, which is the same.

    Args:
        features: F (..., N, D).
        targets: Y (..., N, C).
        ridge: :math:`\rho`, not negative.

    Raises:
        TypeError: An argument is no floating tensor.
        ValueError: Shapes do not fit, a number is not finite, or the smaller Gram matrix plus the
            ridge is not positive definite.
    """
    number(NAME, "ridge", ridge)
    given = {"features": features, "targets": targets}
    _check.tensors(NAME, given)
    _check.floating(NAME, given)
    if features.ndim < 2:
        _check.refuse(NAME, "features", "have shape (..., N, D)", tuple(features.shape), ValueError)
    if targets.ndim < 2 or targets.shape[:-1] != features.shape[:-1]:
        rule = f"have shape ({', '.join(map(str, features.shape[:-1]))}, C)"
        _check.refuse(NAME, "targets", rule, tuple(targets.shape), ValueError)
    rows, wanted = features.detach().double(), targets.detach().double()
    finite(NAME, "targets", wanted)
    dual = rows.shape[-2] < rows.shape[-1]
    gram = rows @ rows.mT if dual else rows.mT @ rows
    argument = "features @ features.T" if dual else "features.T @ features"
    if not gram.diagonal(dim1=-2, dim2=-1).isfinite().all():  # sums of squares, so they bound all
        finite(NAME, "features", rows)
        finite(NAME, argument, gram)
    factor = factorise(NAME, argument, gram, ridge)
    if dual:
        return (factor.solve(wanted).mT @ rows).mT  # faster than rows.mT @ ... where C is small
    return factor.solve(rows.mT @ wanted)
