"""The correctness gate: a contestant that is wrong is not timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .cases import Buffers, leaf_copy

# Ours may err this many times as much as eager torch does, both against float64: where a limit is
# far from what a kernel does, a slip would pass it. Equally many roundings differ by less than two.
EAGER_FACTOR = 2.0


@dataclass(frozen=True)
class Errors:
    """Relative L2 errors against float64; ``first_ms`` is the first call's, both passes."""

    result: float
    gradients: float
    first_ms: float

    def of(self, stage: str) -> float:
        if stage == "both":
            return max(self.result, self.gradients)
        return self.gradients if stage.startswith("backward") else self.result


@dataclass(frozen=True)
class Oracle:
    """The reference in float64, result and gradients."""

    result: Tensor
    gradients: tuple[Tensor, ...]

    @classmethod
    def of(cls, buffers: Buffers) -> Oracle:
        mine = buffers.sets[0]
        leaves = tuple(t.detach().double().requires_grad_() for t in mine.tensors)
        result = buffers.case.bind(buffers.case.spec.reference)(*leaves)
        return cls(result.detach(), torch.autograd.grad(result, leaves, mine.dense.double()))


def errors(function: Callable[..., Tensor], buffers: Buffers, oracle: Oracle) -> Errors:
    """Of one contestant; raises what it raises."""
    mine = buffers.sets[0]
    leaves = tuple(map(leaf_copy, mine.tensors))
    start = time.perf_counter()
    result = function(*leaves)
    gradients = torch.autograd.grad(result, leaves, mine.dense)
    if result.is_cuda:
        torch.cuda.synchronize()
    first_ms = (time.perf_counter() - start) * 1e3
    return Errors(
        relative_error(result.detach(), oracle.result),
        max(map(relative_error, gradients, oracle.gradients)),
        first_ms,
    )


def relative_error(measured: Tensor, exact: Tensor) -> float:
    """L2 norm of the difference over that of the exact one; infinite for NaN."""
    difference = (measured.double() - exact).norm() / exact.norm().clamp_min(1e-300)
    return float(torch.nan_to_num(difference, nan=float("inf")))


def refusal(buffers: Buffers, measured: Errors, eager: Errors | None) -> str | None:
    """Why a contestant must not be timed; ``eager`` holds ours to torch's own error as well."""
    case = buffers.case
    limit = case.spec.limit(case.dtype, case.size)
    worst = max(measured.result, measured.gradients)
    if not worst <= limit:
        return f"its error {worst:.2g} passes the limit {limit:.2g}"
    if eager is None or case.dtype == torch.float64:  # float64 is the oracle's own dtype
        return None
    for name, own, theirs in (
        ("result", measured.result, eager.result),
        ("gradients", measured.gradients, eager.gradients),
    ):
        if own > EAGER_FACTOR * theirs:
            allowed = f"{EAGER_FACTOR:g} times eager's {theirs:.2g}"
            return f"the error of its {name}, {own:.2g}, passes {allowed}"
    return None
