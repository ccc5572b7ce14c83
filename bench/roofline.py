"""Ceilings, measured in the run that they judge.

They are what torch reaches: its copy writes through the cache, so a kernel whose stores bypass it
may show more than 100 %.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import torch
from torch import Tensor

from .timing import Contestant, race

COPY, MUL = "copy", "torch.mul(out=)"
CEILINGS = (COPY, MUL)
_SIDE = {"cpu": 1024, "cuda": 8192}  # of the product that gives the matmul rate
_UNKNOWN_CACHE = 64 << 20  # bytes, where the system does not say


def bandwidth(bytes_moved: int, dtype: torch.dtype, device: torch.device) -> list[Contestant]:
    """A copy and an element-wise product into given outputs, each moving ``bytes_moved`` bytes."""
    sets = buffer_sets(bytes_moved, device)
    element = torch.empty((), dtype=dtype).element_size()

    def buffers(count: int) -> list[list[Tensor]]:
        length = max(1, bytes_moved // count // element)
        return [
            [torch.randn(length, device=device).to(dtype) for _ in range(count)]
            for _ in range(sets)
        ]

    pairs, triples = buffers(2), buffers(3)
    return [
        Contestant(COPY, lambda a, o: o.copy_(a), lambda turn: pairs[turn % sets]),
        Contestant(MUL, lambda a, b, o: torch.mul(a, b, out=o), lambda turn: triples[turn % sets]),
    ]


@functools.cache
def matmul_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Operations per second of a square product of random data, in the dtype it computes in."""
    side = _SIDE[device.type]
    a, b, o = (torch.randn(side, side, device=device).to(dtype) for _ in range(3))
    product = Contestant("matmul", lambda: torch.mm(a, b, out=o), lambda turn: ())
    return 2 * side**3 / race([product], device, rounds=10, budget=2.0).time("matmul").median


def buffer_sets(bytes_used: int, device: torch.device) -> int:
    """How many sets of buffers must take turns so that the last-level cache holds none of them.

    1 where a case is so small that a caller's data would lie in the cache anyway.
    """
    if bytes_used < 1 << 20:
        return 1
    return max(2, min(64, 2 * last_level_cache(device) // bytes_used + 1))


@functools.cache
def last_level_cache(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).L2_cache_size
    sizes = [
        path.read_text().strip()
        for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    ]
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    found = [re.fullmatch(r"(\d+)([KMG])", size) for size in sizes]
    return max((int(m[1]) * units[m[2]] for m in found if m), default=_UNKNOWN_CACHE)
