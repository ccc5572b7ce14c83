"""Rates of the machine at hand, measured once for each kind of numbers and kept in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .._op import is_plainly_eager


@dataclass(frozen=True)
class Machine:
    """What a cost model needs: operations and bytes in a second.

    Attributes:
        product: Floating-point operations of ``torch.mm`` in a second.
        kernel: Those of a product whose operand is formed on the way; 0 where there is no kernel.
        cache: Bytes that an operation on a tile in the cache moves in a second.
        memory: Bytes from or to memory in a second.
        call: Seconds that a call of torch takes by itself.
        lanes: Rows that the kernel computes at once: fewer take as long.
        measured: Whether these are this machine's, or those of a common one.
    """

    product: float
    kernel: float
    cache: float
    memory: float
    call: float
    lanes: int = 32
    measured: bool = False


# What is assumed while nothing may be timed: a desktop's core, and a GPU of 2023 whose operations
# are far above its bandwidth. There is no kernel of ours on a GPU.
_CORE = Machine(100e9, 200e9, 60e9, 12e9, 2e-6)
_GPU = Machine(50e12, 0.0, 4e12, 4e12, 8e-6)
_known: dict[tuple[torch.dtype, int], Machine] = {}


def machine(
    device: torch.device, dtype: torch.dtype, measure: Callable[[], float] | None
) -> Machine:
    """The rates for products of ``dtype``.

    Args:
        device: A CPU is measured, on the first call with this dtype and number of threads, unless
            something is traced; others are assumed.
        dtype: float32 or float64.
        measure: Times the kernel once and gives its operations in a second; None has no kernel.
    """
    if device.type != "cpu":
        return _GPU
    key = dtype, torch.get_num_threads()
    found = _known.get(key)
    if found is None:
        if not is_plainly_eager():
            return _CORE if measure else Machine(**{**vars(_CORE), "kernel": 0.0})
        with torch.no_grad():
            found = _known[key] = _measured(dtype, measure)
    return found


def fastest(call: Callable[[], Any], times: int) -> float:
    """Seconds of the fastest call: what else the machine does only slows calls down."""
    call()
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def _measured(dtype: torch.dtype, measure: Callable[[], float] | None) -> Machine:
    size = dtype.itemsize
    a, c = torch.ones(256, 256, dtype=dtype), torch.empty(256, 256, dtype=dtype)
    single, long = torch.ones(1, dtype=dtype), torch.ones(2**25 // size, dtype=dtype)
    other = torch.empty_like(long)
    return Machine(
        product=2 * 256**3 / fastest(lambda: torch.mm(a, a, out=c), 8),
        kernel=measure() if measure else 0.0,
        cache=3 * size * a.numel() / fastest(lambda: torch.mul(a, a, out=c), 8),
        memory=2 * size * long.numel() / fastest(lambda: other.copy_(long), 2),
        call=fastest(lambda: torch.mul(single, single, out=single), 8),
        lanes=128 // size,
        measured=True,
    )
