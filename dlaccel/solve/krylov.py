r"""Conjugate gradients: solving by products alone. A residual is :math:`r = b - A x`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import _check
from .matrix import dots, finite, nonzero, norms, number

NAME = "solve.conjugate_gradient"
Map = Callable[[Tensor], Tensor]


class ConvergenceWarning(RuntimeWarning):
    """An iteration ended above its tolerance."""


@dataclass(frozen=True, eq=False)
class Solution:
    r"""What conjugate gradients found.

    Attributes:
        x: The shape of b, float64.
        residual: (..., C), or () for b (N,): :math:`\|b - A x\|_2 / \|b\|_2`, computed from x.
        converged: Its shape, where it is within the tolerance.
        iterations: How many products of A with a block of directions there were.
        history: (iterations + 1, ..., C) relative residuals, as the recurrence has them.
        report: One sentence.
    """

    x: Tensor
    residual: Tensor
    converged: Tensor
    iterations: int
    history: Tensor
    report: str


def conjugate_gradient(
    operator: Any,
    b: Tensor,
    *,
    ridge: float = 0.0,
    preconditioner: Map | None = None,
    start: Tensor | None = None,
    tolerance: float | None = None,
    iterations: int | None = None,
) -> Solution:
    r"""Solves :math:`(K + \rho I) x = b` by products with K alone.

    Every column of b has its own step lengths and stops by itself; all share each product. A column
    is done when its residual, computed anew from x, is within the tolerance. Source: Hestenes and
    Stiefel 1952.

    Args:
        operator: K, of which ``operator @ p`` for p (..., N, C) is asked. p has its ``dtype``, if
            it has one, else float64; all else is float64.
        b: (N,) or (..., N, C).
        ridge: :math:`\rho`, not negative.
        preconditioner: :math:`r \mapsto M^{-1} r` for r (..., N, C), symmetric positive definite,
            such as ``Factor.approximate``.
        start: The shape of b; zero without.
        tolerance: Of :math:`\|b - A x\|_2 / \|b\|_2`; without, 1e-10, or a hundred roundings of a
            narrower operator's dtype.
        iterations: The most of them; 10 N without.

    Warns:
        ConvergenceWarning: With ``Solution.report``, when a column is above the tolerance.

    Raises:
        TypeError: ``b`` or what the operator gives is no floating tensor, or it has no ``@``.
        ValueError: A shape does not fit, or the operator or the preconditioner shows that it is not
            positive definite.
    """
    if not hasattr(operator, "__matmul__"):
        _check.refuse(NAME, "operator", "have @", type(operator).__name__, TypeError)
    if isinstance(operator, Tensor):
        _check.floating(NAME, {"operator": operator})
    dtype = getattr(operator, "dtype", None)
    dtype = dtype if isinstance(dtype, torch.dtype) else torch.float64
    epsilon = torch.finfo(dtype).eps
    if tolerance is None:
        tolerance = max(1e-10, 100 * epsilon)
    right, x = _arguments(operator, b, ridge, start, tolerance, iterations)
    room = 10 * right.shape[-2] if iterations is None else iterations
    product = _product(operator, dtype, ridge)
    r = right if start is None else right - product(x)
    size = nonzero(norms(right))
    residual = norms(r) / size
    history = [residual]
    while (residual > tolerance).any() and len(history) <= room:
        left = room + 1 - len(history)
        step, lengths = sweep(product, preconditioner, r, tolerance * size, left, epsilon)
        history += [length / size for length in lengths]
        x = x + step
        r = right - product(x)
        before, residual = residual, norms(r) / size
        if not ((residual < before / 2) & (before > tolerance)).any():
            break  # the products' rounding allows no more
    converged = residual <= tolerance
    taken = len(history) - 1
    report = _report(residual, converged, taken, room, tolerance)
    if not converged.all():
        warnings.warn(f"dlaccel.{NAME}: {report}", ConvergenceWarning, stacklevel=2)

    def places(value: Tensor) -> Tensor:
        return value[..., 0, 0] if b.ndim == 1 else value[..., 0, :]

    past = torch.stack(history)
    return Solution(
        x.reshape(b.shape), places(residual), places(converged), taken, places(past), report
    )


def _arguments(
    operator: Any,
    b: Tensor,
    ridge: float,
    start: Tensor | None,
    tolerance: float,
    iterations: int | None,
) -> tuple[Tensor, Tensor]:
    """Checked right-hand sides and start, as columns (..., N, C)."""
    given = {"b": b} if start is None else {"b": b, "start": start}
    _check.tensors(NAME, given)
    _check.floating(NAME, given)
    number(NAME, "ridge", ridge)
    number(NAME, "tolerance", tolerance)
    number(NAME, "iterations", 0 if iterations is None else iterations)
    if b.ndim == 0 or b.numel() == 0:
        _check.refuse(NAME, "b", "have shape (N,) or (..., N, C)", tuple(b.shape), ValueError)
    columns = b[:, None] if b.ndim == 1 else b
    size, shape = columns.shape[-2], getattr(operator, "shape", None)
    if shape is not None and tuple(shape[-2:]) != (size, size):
        rule = f"have shape (..., {size}, {size}) for b of shape {tuple(b.shape)}"
        _check.refuse(NAME, "operator", rule, tuple(shape), ValueError)
    if start is not None and start.shape != b.shape:
        rule = f"have the shape of b {tuple(b.shape)}"
        _check.refuse(NAME, "start", rule, tuple(start.shape), ValueError)
    for name, value in given.items():
        finite(NAME, name, value)
    right = columns.detach().double()
    x = torch.zeros_like(right) if start is None else start.detach().double().reshape(right.shape)
    return right, x


def _product(operator: Any, dtype: torch.dtype, ridge: float) -> Map:
    def product(p: Tensor) -> Tensor:
        found = operator @ p.to(dtype)
        if not isinstance(found, Tensor):
            rule = "give a torch.Tensor for operator @ p"
            _check.refuse(NAME, "operator", rule, type(found).__name__, TypeError)
        if found.shape != p.shape:
            rule = f"give the shape of p {tuple(p.shape)} for operator @ p"
            _check.refuse(NAME, "operator", rule, tuple(found.shape), ValueError)
        return found.detach().double() + ridge * p

    return product


def _report(residual: Tensor, done: Tensor, taken: int, room: int, tolerance: float) -> str:
    largest = f"the largest relative residual is {residual.max().item():.2g}"
    if done.all():
        return f"converged in {taken} iterations; {largest}."
    above = f"{int((~done).sum())} of {done.numel()} right-hand sides are above {tolerance:g}"
    why = f"{room} were allowed" if taken >= room else "rounding of the products allows no less"
    return f"no convergence: after {taken} iterations {above}; {largest}; {why}."


def sweep(
    product: Map,
    precondition: Map | None,
    r: Tensor,
    limit: Tensor,
    room: int,
    epsilon: float,
) -> tuple[Tensor, list[Tensor]]:
    r"""Conjugate gradients from zero on the residual r (..., N, C).

    Args:
        product: :math:`p \mapsto A p`.
        precondition: :math:`r \mapsto M^{-1} r`.
        r: Where to start.
        limit: (..., 1, C); a column stops where its residual is no longer.
        room: The most iterations.
        epsilon: One rounding of a product.

    Returns:
        The step in x, and the residuals' lengths after each iteration.
    """
    z = r if precondition is None else precondition(r)
    p, step, rho = z, torch.zeros_like(r), dots(r, z)
    lengths: list[Tensor] = []
    active = norms(r) > limit
    while len(lengths) < room and active.any():
        iteration = len(lengths) + 1
        _refuse_negative("preconditioner", active & (rho <= 0), rho / dots(r, r), iteration)
        q = product(p)
        curvature, squares = dots(p, q), dots(p, p)
        rounding = epsilon * math.sqrt(r.shape[-2]) * norms(p) * norms(q)
        negative = active & (curvature < -rounding)
        _refuse_negative("operator", negative, curvature / squares, iteration)
        active &= curvature > 0  # else this direction is rounding alone
        alpha = torch.where(active, rho / curvature, 0.0)
        step, r = step + alpha * p, r - alpha * q
        lengths.append(norms(r))
        active &= lengths[-1] > limit
        z = r if precondition is None else precondition(r)
        before, rho = rho, dots(r, z)
        p = z + torch.where(active, rho / before, 0.0) * p
    return step, lengths


def _refuse_negative(argument: str, wrong: Tensor, quotients: Tensor, iteration: int) -> None:
    if wrong.any():
        worst = quotients[wrong].min().item()
        got = f"a vector of Rayleigh quotient {worst:.2g} in iteration {iteration}"
        _check.refuse(NAME, argument, "be positive definite", got, ValueError)
