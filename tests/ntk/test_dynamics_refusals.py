"""What closed forms of training refuse, in which words."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from samples import maker
from torch import Tensor

from dlaccel.ntk.dynamics import Dynamics, gradient_descent, gradient_flow

MAKE = maker(torch.float64, "cpu")
A, B = MAKE(6, 2, 30), MAKE(4, 2, 30)
Y, F_TRAIN, F_TEST = MAKE(6, 2), MAKE(6, 2), MAKE(4, 2)
INFINITY = math.inf


def full(a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum("nop,mqp->nmoq", a, b)


K, CROSS, OWN = full(A, A), full(B, A), full(B, B)
EYE = torch.eye(3, dtype=torch.float64)
DYNAMICS = Dynamics(K, Y)
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no kernel": (
        lambda: gradient_flow("K", Y, 1.0),  # type: ignore[arg-type]
        TypeError,
        "ntk.gradient_flow: K must be a torch.Tensor, got str.",
    ),
    "kernel": (
        lambda: gradient_descent(CROSS, Y, 1),
        ValueError,
        "ntk.gradient_descent: K must have shape (N, N), (O, N, N) or (N, N, O, O), got (4, 6, 2, "
        "2).",
    ),
    "targets": (
        lambda: gradient_flow(K, Y[:3], 1.0),
        ValueError,
        "ntk.gradient_flow: y must have shape (6, 2), got (3, 2).",
    ),
    "infinite targets": (
        lambda: gradient_flow(EYE, EYE[0] / 0, 1.0),
        ValueError,
        "ntk.gradient_flow: y must be finite, got inf at [0].",
    ),
    "indefinite": (
        lambda: gradient_flow(EYE - 2 * EYE, EYE[0], 1.0),
        ValueError,
        "ntk.gradient_flow: K must be positive definite to rounding, got the least eigenvalue -1 "
        "with "
        "ridge=0 (ridge=1.1 would do).",
    ),
    "negative time": (
        lambda: gradient_flow(K, Y, torch.tensor([1.0, -2.0])),
        ValueError,
        "ntk.gradient_flow: t must not be negative, got -2.0.",
    ),
    "no time": (
        lambda: gradient_flow(K, Y, math.nan),
        ValueError,
        "ntk.gradient_flow: t must not be negative, got nan.",
    ),
    "times": (
        lambda: gradient_flow(K, Y, torch.ones(2, 2)),
        ValueError,
        "ntk.gradient_flow: t must be a number or (T,), got (2, 2).",
    ),
    "half a step": (
        lambda: gradient_descent(K, Y, 2.5),
        ValueError,
        "ntk.gradient_descent: steps must be whole, got 2.5.",
    ),
    "no limit": (
        lambda: gradient_descent(4 * EYE, EYE[0], INFINITY, learning_rate=0.5),
        ValueError,
        "ntk.gradient_descent: learning_rate must be less than 0.5 for infinite steps to have a "
        "limit, "
        "got 0.5.",
    ),
    "no limit of the mean": (
        lambda: gradient_descent(4 * EYE, EYE[0], INFINITY, learning_rate=2.0, loss="mean"),
        ValueError,
        "ntk.gradient_descent: learning_rate must be less than 1.5 for infinite steps to have a "
        "limit, "
        "got 2.0.",
    ),
    "rate": (
        lambda: gradient_flow(K, Y, 1.0, learning_rate=0.0),
        ValueError,
        "ntk.gradient_flow: learning_rate must be positive and finite, got 0.0.",
    ),
    "ridge": (
        lambda: gradient_flow(K, Y, 1.0, ridge=-1.0),
        ValueError,
        "ntk.gradient_flow: ridge must be finite and not negative, got -1.0.",
    ),
    "loss": (
        lambda: gradient_flow(K, Y, 1.0, loss="hinge"),  # type: ignore[arg-type]
        ValueError,
        "ntk.gradient_flow: loss must be one of 'sum', 'mean', got 'hinge'.",
    ),
    "method": (
        lambda: Dynamics(K, Y, method="adam"),  # type: ignore[arg-type]
        ValueError,
        "ntk.Dynamics: method must be one of 'flow', 'descent', got 'adam'.",
    ),
    "outputs before": (
        lambda: DYNAMICS.outputs(1.0, f_train=F_TEST),
        ValueError,
        "ntk.gradient_flow: f_train must have shape (6, 2), got (4, 2).",
    ),
    "test kernel": (
        lambda: DYNAMICS.outputs(1.0, K_test=OWN),
        ValueError,
        "ntk.gradient_flow: K_test must have shape (M, 6, 2, 2), got (4, 4, 2, 2).",
    ),
    "test outputs before": (
        lambda: DYNAMICS.outputs(1.0, K_test=CROSS, f_train=F_TRAIN),
        ValueError,
        "ntk.gradient_flow: f_test must be given with f_train and K_test, got None.",
    ),
    "no test kernel": (
        lambda: DYNAMICS.outputs(1.0, f_test=F_TEST),
        ValueError,
        "ntk.gradient_flow: K_test must be given with f_test, got None.",
    ),
    "prior": (
        lambda: DYNAMICS.ensemble(1.0, CROSS),
        ValueError,
        "ntk.gradient_flow: nngp must have shape (6, 6, 2, 2), got (4, 6, 2, 2).",
    ),
    "prior of test points": (
        lambda: DYNAMICS.ensemble(1.0, K, K_test=CROSS, nngp_test=CROSS),
        ValueError,
        "ntk.gradient_flow: nngp_test_test must be given with K_test and nngp_test, got None.",
    ),
    "prior of other test points": (
        lambda: DYNAMICS.ensemble(1.0, K, K_test=CROSS, nngp_test=K, nngp_test_test=OWN),
        ValueError,
        "ntk.gradient_flow: nngp_test must have shape (4, 6, 2, 2), got (6, 6, 2, 2).",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    call, kind, message = REFUSED[case]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == f"dlaccel.{message}"
