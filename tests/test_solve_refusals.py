"""What solves refuse, in which words."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dlaccel import solve


class Narrow:
    """An operator that gives two numbers for three."""

    def __matmul__(self, p: Tensor) -> Tensor:
        return p[:2]


class NotATensor:
    def __matmul__(self, p: Tensor) -> Any:
        return p.numpy()


GOOD, B = 2 * torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
BAD = torch.diag(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))
CG = solve.conjugate_gradient
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no tensor": (
        lambda: solve.cholesky([[1.0]]),  # type: ignore[arg-type]
        TypeError,
        "solve.cholesky: K must be a torch.Tensor, got list.",
    ),
    "integers": (
        lambda: solve.cholesky(torch.eye(2, dtype=torch.int64)),
        TypeError,
        "solve.cholesky: K must have dtype float64, float32, bfloat16 or float16, got int64.",
    ),
    "not square": (
        lambda: solve.cholesky(torch.ones(2, 3)),
        ValueError,
        "solve.cholesky: K must have shape (..., N, N), got (2, 3).",
    ),
    "empty": (
        lambda: solve.cholesky(torch.ones(0, 0)),
        ValueError,
        "solve.cholesky: K must have shape (..., N, N), got (0, 0).",
    ),
    "not finite": (
        lambda: solve.cholesky(torch.tensor([[1.0, 0.0], [math.nan, 1.0]])),
        ValueError,
        "solve.cholesky: K must be finite, got nan at [1, 0].",
    ),
    "not symmetric": (
        lambda: solve.cholesky(torch.tensor([[1.0, 0.5], [0.0, 2.0]])),
        ValueError,
        "solve.cholesky: K must be symmetric, got a mirror image that differs by 0.5 where the "
        "largest "
        "entry is 2.",
    ),
    "negative ridge": (
        lambda: solve.cholesky(GOOD, -1.0),
        ValueError,
        "solve.cholesky: ridge must be finite and not negative, got -1.0.",
    ),
    "ridge_scale": (
        lambda: solve.cholesky(GOOD, ridge_scale="trace"),  # type: ignore[arg-type]
        ValueError,
        "solve.cholesky: ridge_scale must be one of 'absolute', 'mean', 'diagonal', got 'trace'.",
    ),
    "precision": (
        lambda: solve.cholesky(GOOD, precision="float16"),  # type: ignore[arg-type]
        ValueError,
        "solve.cholesky: precision must be one of 'float64', 'float32', got 'float16'.",
    ),
    "indefinite": (
        lambda: solve.cholesky(BAD),
        ValueError,
        "solve.cholesky: K must be positive definite to rounding, got the least eigenvalue -2 with "
        "ridge=0 (ridge=2.1 would do).",
    ),
    "indefinite in float32": (
        lambda: solve.cholesky(BAD, 0.5, precision="float32"),
        ValueError,
        "solve.cholesky: K must be positive definite to rounding, got the least eigenvalue -1.5 "
        "with "
        "ridge=0.5 (ridge=2.1 would do).",
    ),
    "indefinite in a batch": (
        lambda: solve.cholesky(torch.stack([GOOD, BAD])),
        ValueError,
        "solve.cholesky: K must be positive definite to rounding, got the least eigenvalue -2 in "
        "K[1] "
        "with ridge=0 (ridge=2.1 would do).",
    ),
    "no ridge of that scale": (
        lambda: solve.cholesky(BAD, ridge_scale="diagonal"),
        ValueError,
        "solve.cholesky: K must be positive definite to rounding, got the least eigenvalue -2 with "
        'ridge=0 (ridge=2.1 with ridge_scale="absolute" would do).',
    ),
    "right-hand side": (
        lambda: solve.cholesky(GOOD).solve(torch.ones(4, 1)),
        ValueError,
        "solve.Factor: b must have shape (..., N, C) for a matrix of shape (3, 3), got (4, 1).",
    ),
    "vector for a batch": (
        lambda: solve.cholesky(torch.stack([GOOD, GOOD])) @ B,
        ValueError,
        "solve.Factor: x must have shape (..., N, C) for a matrix of shape (2, 3, 3), got (3,).",
    ),
    "spectrum": (
        lambda: solve.spectrum(BAD),
        ValueError,
        "solve.spectrum: K must be positive definite to rounding, got the least eigenvalue -2 with "
        "ridge=0 (ridge=2.1 would do).",
    ),
    "operator's shape": (
        lambda: CG(GOOD, torch.ones(4)),
        ValueError,
        "solve.conjugate_gradient: operator must have shape (..., 4, 4) for b of shape (4,), got "
        "(3, 3).",
    ),
    "no operator": (
        lambda: CG(3.0, B),
        TypeError,
        "solve.conjugate_gradient: operator must have @, got float.",
    ),
    "operator of integers": (
        lambda: CG(torch.eye(3, dtype=torch.int64), B),
        TypeError,
        "solve.conjugate_gradient: operator must have dtype float64, float32, bfloat16 or float16, "
        "got int64.",
    ),
    "operator's answer": (
        lambda: CG(NotATensor(), B),
        TypeError,
        "solve.conjugate_gradient: operator must give a torch.Tensor for operator @ p, got "
        "ndarray.",
    ),
    "answer's shape": (
        lambda: CG(Narrow(), B),
        ValueError,
        "solve.conjugate_gradient: operator must give the shape of p (3, 1) for operator @ p, "
        "got (2, 1).",
    ),
    "indefinite operator": (
        lambda: CG(BAD, torch.tensor([0.0, 1.0, 0.0])),
        ValueError,
        "solve.conjugate_gradient: operator must be positive definite, got a vector of Rayleigh "
        "quotient -2 in iteration 1.",
    ),
    "indefinite preconditioner": (
        lambda: CG(GOOD, B, preconditioner=lambda r: -r),
        ValueError,
        "solve.conjugate_gradient: preconditioner must be positive definite, got a vector of "
        "Rayleigh "
        "quotient -1 in iteration 1.",
    ),
    "no right-hand side": (
        lambda: CG(GOOD, torch.ones(3, 0)),
        ValueError,
        "solve.conjugate_gradient: b must have shape (N,) or (..., N, C), got (3, 0).",
    ),
    "infinite right-hand side": (
        lambda: CG(GOOD, torch.tensor([1.0, math.inf, 0.0])),
        ValueError,
        "solve.conjugate_gradient: b must be finite, got inf at [1].",
    ),
    "start": (
        lambda: CG(GOOD, B, start=torch.ones(3, 1)),
        ValueError,
        "solve.conjugate_gradient: start must have the shape of b (3,), got (3, 1).",
    ),
    "tolerance": (
        lambda: CG(GOOD, B, tolerance=math.nan),
        ValueError,
        "solve.conjugate_gradient: tolerance must be finite and not negative, got nan.",
    ),
    "iterations": (
        lambda: CG(GOOD, B, iterations=-1),
        ValueError,
        "solve.conjugate_gradient: iterations must be finite and not negative, got -1.",
    ),
    "features": (
        lambda: solve.ridge_regression(B, B, 1.0),
        ValueError,
        "solve.ridge_regression: features must have shape (..., N, D), got (3,).",
    ),
    "targets": (
        lambda: solve.ridge_regression(GOOD, torch.ones(2, 1), 1.0),
        ValueError,
        "solve.ridge_regression: targets must have shape (3, C), got (2, 1).",
    ),
    "infinite features": (
        lambda: solve.ridge_regression(GOOD / 0, GOOD, 1.0),
        ValueError,
        "solve.ridge_regression: features must be finite, got inf at [0, 0].",
    ),
    "features of no full rank": (
        lambda: solve.ridge_regression(torch.ones(2, 1) * B, torch.ones(2, 1), 0.0),
        ValueError,
        "solve.ridge_regression: features @ features.T must be positive definite to rounding, got "
        "the "
        "least eigenvalue 0 with ridge=0 (ridge=1.2e-14 would do).",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    call, kind, message = REFUSED[case]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == f"dlaccel.{message}"
