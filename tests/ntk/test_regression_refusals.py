"""What kernel regression refuses, in which words."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from samples import maker
from torch import Tensor

from dlaccel.ntk.regression import Regression, flatten_outputs, regress


class Products:
    """A kernel J J'^T that is never formed."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self.a, self.b, self.shape = a, b, (len(a), len(b))

    def __matmul__(self, v: Tensor) -> Tensor:
        return self.a @ (self.b.T @ v)


MAKE = maker(torch.float64, "cpu")
JAC, JAC_NEW, Y = MAKE(20, 3, 100), MAKE(7, 3, 100), MAKE(20, 3)
FULL = torch.einsum("nop,mqp->nmoq", JAC, JAC)
EACH = torch.einsum("nop,mop->onm", JAC, JAC)
K, CROSS = EACH[0], JAC_NEW[:, 0] @ JAC[:, 0].T


def fit(**options: Any) -> Regression:
    return regress(K, Y, 0.1, **options)


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no kernel": (
        lambda: regress(3.0, Y),
        TypeError,
        "ntk.regress: K must be a torch.Tensor or have shape and @, got float.",
    ),
    "one axis": (
        lambda: regress(K[0], Y),
        ValueError,
        "ntk.regress: K must have shape (N, N), (O, N, N) or (N, N, O, O), got (20,).",
    ),
    "not square": (
        lambda: regress(CROSS, Y),
        ValueError,
        "ntk.regress: K must have shape (N, N), (O, N, N) or (N, N, O, O), got (7, 20).",
    ),
    "outputs that differ": (
        lambda: regress(FULL[..., :2], Y),
        ValueError,
        "ntk.regress: K must have shape (N, N), (O, N, N) or (N, N, O, O), got (20, 20, 3, 2).",
    ),
    "integers": (
        lambda: regress(torch.eye(20, dtype=torch.int64), Y),
        TypeError,
        "ntk.regress: K must have dtype float64, float32, bfloat16 or float16, got int64.",
    ),
    "targets": (
        lambda: regress(K, Y[:5]),
        ValueError,
        "ntk.regress: y must have shape (20,) or (20, C), got (5, 3).",
    ),
    "targets of a full kernel": (
        lambda: regress(FULL, Y[:, 0]),
        ValueError,
        "ntk.regress: y must have shape (20, 3), got (20,).",
    ),
    "targets of an operator": (
        lambda: regress(Products(JAC[:, 0], JAC[:, 0]), Y[:5]),
        ValueError,
        "ntk.regress: y must have shape (20,) or (20, C), got (5, 3).",
    ),
    "integer targets": (
        lambda: regress(K, Y.long()),
        TypeError,
        "ntk.regress: y must have dtype float64, float32, bfloat16 or float16, got int64.",
    ),
    "infinite targets": (
        lambda: regress(K, Y * math.inf),
        ValueError,
        f"ntk.regress: y must be finite, got {Y[0, 0].item() * math.inf} at [0, 0].",
    ),
    "ridge": (
        lambda: regress(K, Y, -0.5),
        ValueError,
        "ntk.regress: ridge must be finite and not negative, got -0.5.",
    ),
    "indefinite": (
        lambda: regress(-torch.eye(20, dtype=torch.float64), Y),
        ValueError,
        "ntk.regress: K must be positive definite to rounding, got the least eigenvalue -1 with "
        "ridge=0 (ridge=1.1 would do).",
    ),
    "method": (
        lambda: fit(method="lu"),
        ValueError,
        "ntk.regress: method must be one of 'cholesky', 'conjugate_gradient', got 'lu'.",
    ),
    "a factor of an operator": (
        lambda: regress(Products(JAC[:, 0], JAC[:, 0]), Y, 1.0, method="cholesky"),
        ValueError,
        "ntk.regress: method must be 'conjugate_gradient' for an operator, got 'cholesky'.",
    ),
    "a relative ridge of products": (
        lambda: fit(method="conjugate_gradient", ridge_scale="mean"),
        ValueError,
        "ntk.regress: ridge_scale must be 'absolute' for conjugate gradients, got 'mean'.",
    ),
    "likelihood": (
        lambda: fit(method="conjugate_gradient").log_likelihood(),
        ValueError,
        "ntk.regress: method must be 'cholesky' for a likelihood, got 'conjugate_gradient'.",
    ),
    "test kernel": (
        lambda: fit().predict(CROSS.T),
        ValueError,
        "ntk.regress: K_test must have shape (M, 20), got (20, 7).",
    ),
    "full test kernel": (
        lambda: regress(FULL, Y, 0.1).predict(CROSS),
        ValueError,
        "ntk.regress: K_test must have shape (M, 20, 3, 3), got (7, 20).",
    ),
    "test kernel for each output": (
        lambda: regress(EACH, Y, 0.1).predict(EACH[:2]),
        ValueError,
        "ntk.regress: K_test must have shape (3, M, 20), got (2, 20, 20).",
    ),
    "test operator": (
        lambda: fit().predict(Products(JAC_NEW[:, 0], JAC_NEW[:, 0])),
        ValueError,
        "ntk.regress: K_test must have 20 columns, got (7, 7).",
    ),
    "no test kernel": (
        lambda: fit().predict("kernel"),
        TypeError,
        "ntk.regress: K_test must be a torch.Tensor, got str.",
    ),
    "k_diag": (
        lambda: fit().variance(CROSS, torch.ones(6)),
        ValueError,
        "ntk.regress: k_diag must have shape (7,), got (6,).",
    ),
    "test by test": (
        lambda: fit().covariance(CROSS, CROSS),
        ValueError,
        "ntk.regress: K_test_test must have shape (7, 7), got (7, 20).",
    ),
    "flattening": (
        lambda: flatten_outputs(K),
        ValueError,
        "ntk.flatten_outputs: K must have shape (N, M, O, P), got (20, 20).",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    call, kind, message = REFUSED[case]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == f"dlaccel.{message}"
