r"""Cholesky factors of :math:`A = K + R`, K (..., N, N) and R the diagonal that a ridge adds."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from .. import _check
from .krylov import ConvergenceWarning, sweep
from .matrix import (
    EPSILON,
    RIDGE_SCALES,
    RidgeScale,
    nonzero,
    norms,
    number,
    refuse_indefinite,
    symmetric,
)

Precision = Literal["float64", "float32"]
PRECISIONS = ("float64", "float32")


@dataclass(frozen=True, eq=False)
class Factor:
    r"""A Cholesky factor of A. It is also an operator: ``factor @ x`` is A x.

    Attributes:
        matrix: (..., N, N) K in float64.
        ridge: (..., N) the diagonal R.
        lower: (..., N, N) L. In float64 :math:`L L^T = A`; in float32 it is that of
            :math:`D^{-1/2} A D^{-1/2}`, D the diagonal of A, so that no entry can overflow.
    """

    matrix: Tensor
    ridge: Tensor
    lower: Tensor

    def __matmul__(self, x: Tensor) -> Tensor:
        columns = self._columns("x", x)
        return _like(x, self.matrix @ columns + self.ridge[..., None] * columns)

    def solve(self, b: Tensor) -> Tensor:
        r""":math:`A^{-1} b`, float64, b (N,) or (..., N, C).

        From a float32 factor by iterative refinement: residuals in float64, each corrected by
        conjugate gradients that the factor preconditions, so that it also serves where
        :math:`\kappa(A)` exceeds 1e7. Source: Higham and Pranesh 2021, SIAM J. Sci. Comput. 43(1),
        with conjugate gradients in the place of GMRES.

        Warns:
            ConvergenceWarning: The refinement ended above N roundings of backward error.
        """
        columns = self._columns("b", b)
        if self.lower.dtype == torch.float64:
            return _like(b, self.approximate(columns))
        return _like(b, _refined(self, columns))

    def approximate(self, b: Tensor) -> Tensor:
        r""":math:`A^{-1} b` to the factor's own precision, b (..., N, C): a preconditioner."""
        if self.lower.dtype == torch.float64:
            return torch.cholesky_solve(b, self.lower)
        root = self._diagonal.sqrt()[..., None]
        right = b / root
        size = nonzero(norms(right))
        return torch.cholesky_solve((right / size).float(), self.lower).double() * size / root

    def relative_residual(self, x: Tensor, b: Tensor) -> Tensor:
        r""":math:`\|b - A x\|_2 / \|b\|_2` of every column, (..., C) or () for b (N,)."""
        columns = self._columns("b", b)
        found = norms(columns - self @ self._columns("x", x)) / nonzero(norms(columns))
        return _like(b, found[..., 0, :])

    @cached_property
    def norm(self) -> Tensor:
        r""":math:`\|A\|_1`, (...)."""
        sums: Tensor = torch.linalg.vector_norm(self.matrix, 1, dim=-2)
        diagonal = self.matrix.diagonal(dim1=-2, dim2=-1)
        return (sums - diagonal.abs() + self._diagonal.abs()).amax(-1)

    @cached_property
    def condition(self) -> Tensor:
        r""":math:`\|A\|_1 \|A^{-1}\|_1`, (...), in the 1-norm.

        The first of the two is exact, the other a lower bound that is seldom less than a third of
        it, from eleven solves. Source: Hager 1984; Higham 1988, ACM Trans. Math. Softw. 14(4).
        """
        size = self.matrix.shape[-1]
        x = torch.full_like(self.ridge, 1 / size)[..., None]
        best = torch.zeros_like(self.norm)
        for _ in range(5):  # every x has norm 1, so each solve is a lower bound
            y = self.solve(x)
            best = torch.maximum(best, y.abs().sum((-2, -1)))
            slope = self.solve(torch.where(y < 0, -1.0, 1.0).to(y))
            x = torch.zeros_like(x).scatter(-2, slope.abs().argmax(-2, keepdim=True), 1.0)
        index = torch.arange(size, dtype=x.dtype, device=x.device)
        waves = (1 - 2 * (index % 2)) * (1 + index / max(1, size - 1))
        y = self.solve(waves[:, None].expand_as(x))
        return self.norm * torch.maximum(best, y.abs().sum((-2, -1)) / waves.abs().sum())

    def least_eigenvalue(self) -> Tensor:
        """Of A, (...), from all its eigenvalues: about ten times the work of the factor."""
        values: Tensor = torch.linalg.eigvalsh(self.matrix + self.ridge.diag_embed())
        return values[..., 0]

    def log_determinant(self) -> Tensor:
        """Of A, (...), as precise as the factor."""
        found = 2 * self.lower.diagonal(dim1=-2, dim2=-1).double().log().sum(-1)
        return found if self.lower.dtype == torch.float64 else found + self._diagonal.log().sum(-1)

    @property
    def _diagonal(self) -> Tensor:
        return self.matrix.diagonal(dim1=-2, dim2=-1) + self.ridge

    def _columns(self, name: str, value: Tensor) -> Tensor:
        """``value`` as (..., N, C) in float64."""
        _check.tensors("solve.Factor", {name: value})
        columns = value[:, None] if value.ndim == 1 else value
        if columns.ndim < self.matrix.ndim or columns.shape[-2] != self.matrix.shape[-1]:
            rule = f"have shape (..., N, C) for a matrix of shape {tuple(self.matrix.shape)}"
            _check.refuse("solve.Factor", name, rule, tuple(value.shape), ValueError)
        return columns.detach().double()


def _like(given: Tensor, columns: Tensor) -> Tensor:
    return columns[..., 0] if given.ndim == 1 else columns


def cholesky(
    K: Tensor,
    ridge: float = 0.0,
    *,
    ridge_scale: RidgeScale = "absolute",
    precision: Precision = "float64",
    op: str = "solve.cholesky",
    argument: str = "K",
) -> Factor:
    """Factors K plus a ridge.

    Args:
        K: (..., N, N), any floating dtype, symmetric to rounding.
        ridge: Not negative.
        ridge_scale: What a ridge of 1 adds to the diagonal: 1, the diagonal's mean, or itself.
        precision: Of the factor. A float32 one takes about half the time and memory.
        op: The name that refusals bear.
        argument: What they call K.

    Raises:
        TypeError: K is no floating tensor.
        ValueError: K is not square, finite and symmetric; the ridge is negative; or A is not
            positive definite, with its least eigenvalue and a ridge that would do.
    """
    number(op, "ridge", ridge)
    _check.choice(op, "ridge_scale", ridge_scale, RIDGE_SCALES)
    _check.choice(op, "precision", precision, PRECISIONS)
    return factorise(op, argument, symmetric(op, argument, K), ridge, ridge_scale, precision)


def factorise(
    op: str,
    argument: str,
    matrix: Tensor,
    ridge: float,
    ridge_scale: RidgeScale = "absolute",
    precision: Precision = "float64",
) -> Factor:
    """The factor of a float64 matrix that is finite and, to rounding, symmetric."""
    added = ridge * RIDGE_SCALES[ridge_scale](matrix.diagonal(dim1=-2, dim2=-1))
    lower = _lower64(matrix, added) if precision == "float64" else _lower32(matrix, added)
    if lower is None:
        refuse_indefinite(op, argument, matrix, ridge, ridge_scale)
    return Factor(matrix, added, lower)


def _lower64(matrix: Tensor, added: Tensor) -> Tensor | None:
    work = matrix.clone(memory_format=torch.contiguous_format)
    work.diagonal(dim1=-2, dim2=-1).add_(added)
    return _in_place(work)


def _lower32(matrix: Tensor, added: Tensor) -> Tensor | None:
    """A factor of A scaled to a unit diagonal, which is raised if float32 needs it."""
    diagonal = matrix.diagonal(dim1=-2, dim2=-1) + added
    if not (diagonal > 0).all():
        return None
    root = diagonal.sqrt()
    size = matrix.shape[-1]
    # N roundings make good what float32 takes from the least eigenvalue as a rule, N^2 always
    # (Higham 2002, Accuracy and Stability of Numerical Algorithms, theorem 10.7).
    for roundings in (0, size, 2 * size * size):
        work = (matrix / root[..., None] / root[..., None, :]).float().contiguous()
        work.diagonal(dim1=-2, dim2=-1).fill_(1 + roundings * torch.finfo(torch.float32).eps)
        lower = _in_place(work)
        if lower is not None:
            return lower
    return None


def _in_place(work: Tensor) -> Tensor | None:
    """The factor of a contiguous matrix, which it overwrites."""
    info = torch.empty(work.shape[:-2], dtype=torch.int32, device=work.device)
    columns = work.mT  # LAPACK's own order, so that no copy is made
    torch.linalg.cholesky_ex(columns, out=(columns, info))
    return None if info.any() else columns


def _refined(factor: Factor, b: Tensor) -> Tensor:
    x = factor.approximate(b)
    size, before = b.shape[-2], torch.full_like(norms(b), math.inf)
    while True:
        r = b - factor @ x
        rounding = EPSILON * (factor.norm[..., None, None] * norms(x) + norms(b))
        now = norms(r)
        if (now <= rounding).all() or not (now < before / 2).any():
            break
        step, _ = sweep(factor.__matmul__, factor.approximate, r, rounding, 10 * size, EPSILON)
        x, before = x + step, now
    if (now > size * rounding).any():
        worst = (now / nonzero(rounding)).max().item()
        text = f"a float32 factor was refined to {worst:.0f} roundings of backward error only"
        warnings.warn(f"dlaccel.solve.Factor: {text}.", ConvergenceWarning, stacklevel=3)
    return x
