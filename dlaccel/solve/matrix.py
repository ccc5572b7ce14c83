"""What a matrix to be solved must be, and the sentence for one that is not positive definite."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NoReturn

import torch
from torch import Tensor

from .. import _check

RidgeScale = Literal["absolute", "mean", "diagonal"]
RIDGE_SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "absolute": torch.ones_like,
    "mean": lambda diagonal: diagonal.mean(-1, keepdim=True).expand_as(diagonal),
    "diagonal": lambda diagonal: diagonal,
}
"""What a ridge of 1 adds to a diagonal (..., N): 1, its mean, or itself."""
EPSILON = torch.finfo(torch.float64).eps


def symmetric(op: str, argument: str, K: Tensor) -> Tensor:
    """K (..., N, N) in float64; of an asymmetry that is rounding, the mean."""
    _check.tensors(op, {argument: K})
    _check.floating(op, {argument: K})
    if K.ndim < 2 or K.shape[-1] != K.shape[-2] or K.numel() == 0:
        _check.refuse(op, argument, "have shape (..., N, N)", tuple(K.shape), ValueError)
    matrix = K.detach().double()
    finite(op, argument, matrix)
    if matrix.equal(matrix.mT):
        return matrix
    gap, largest = (matrix - matrix.mT).abs().max().item(), matrix.abs().max().item()
    if gap > math.sqrt(torch.finfo(K.dtype).eps) * largest:
        got = f"a mirror image that differs by {gap:.2g} where the largest entry is {largest:.2g}"
        _check.refuse(op, argument, "be symmetric", got, ValueError)
    return (matrix + matrix.mT) / 2


def finite(op: str, argument: str, value: Tensor) -> None:
    """Every entry is, wherever it lies."""
    wrong = ~value.isfinite()
    if wrong.any():
        index = int(wrong.flatten().nonzero()[0])
        got = f"{value.flatten()[index].item()} at {_place(index, value.shape)}"
        _check.refuse(op, argument, "be finite", got, ValueError)


def number(op: str, argument: str, value: float) -> None:
    """``value`` is finite and not negative."""
    if not 0 <= value < math.inf:
        _check.refuse(op, argument, "be finite and not negative", value, ValueError)


def refuse_indefinite(
    op: str, argument: str, matrix: Tensor, ridge: float, ridge_scale: RidgeScale
) -> NoReturn:
    """Names the least eigenvalue, and a ridge with which the matrices (..., N, N) all factor."""
    size = matrix.shape[-1]
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    scale = RIDGE_SCALES[ridge_scale](diagonal)
    added = ridge * scale
    least = torch.linalg.eigvalsh(matrix + added.diag_embed())[..., 0]
    # Enough for Cholesky's own rounding (Higham 2002, Accuracy and Stability of Numerical
    # Algorithms, theorem 10.7) and that of the eigenvalue.
    margin = 3 * size * (size + 1) * EPSILON * (diagonal + added).abs().amax(-1)
    missing = (margin - least).clamp_min(torch.finfo(torch.float64).tiny)
    if (scale > 0).all():
        enough, words = ridge + missing / scale.amin(-1), ""
    else:
        enough, words = added.amax(-1).clamp_min(0) + missing, ' with ridge_scale="absolute"'
    worst = int(least.argmin())
    place = f" in {argument}{_place(worst, least.shape)}" if least.ndim else ""
    got = (
        f"the least eigenvalue {least.flatten()[worst].item():.2g}{place} with ridge={ridge:g} "
        f"(ridge={_rounded_up(enough.max().item()):g}{words} would do)"
    )
    _check.refuse(op, argument, "be positive definite to rounding", got, ValueError)


def _rounded_up(value: float) -> float:
    """To two digits."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step) * step:.1e}")


def _place(index: int, shape: torch.Size) -> list[int]:
    return [int(i) for i in torch.unravel_index(torch.tensor(index), shape)]


def norms(columns: Tensor) -> Tensor:
    """(..., 1, C) of (..., N, C)."""
    found: Tensor = torch.linalg.vector_norm(columns, dim=-2, keepdim=True)
    return found


def dots(a: Tensor, b: Tensor) -> Tensor:
    """(..., 1, C), column by column."""
    return (a * b).sum(-2, keepdim=True)


def nonzero(sizes: Tensor) -> Tensor:
    """Divisors: 1 where a size is 0."""
    return torch.where(sizes > 0, sizes, 1.0)
