"""The host's own time: 64 x 64 elements, where the call costs more than the arithmetic.

``identity`` (the bilinear product) stands beside torch's ``a * b``, which computes the same.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dlaccel.ops import glu

from .peers import EAGER
from .process import python
from .rows import OURS, Row, timed
from .timing import Contestant, Race, race

PLAIN = "a * b"
_SIDE = 64
_FRESH = """
import json, time
start = time.perf_counter(); import torch
torched = time.perf_counter(); import dlaccel.ops
imported = time.perf_counter(); x = torch.randn(64, 64)
begin = time.perf_counter(); dlaccel.ops.glu(x, x); first = time.perf_counter()
dlaccel.ops.glu(x, x); second = time.perf_counter()
x.requires_grad_(); third = time.perf_counter()
dlaccel.ops.glu(x, x).sum().backward(); fourth = time.perf_counter()
print(json.dumps({"import torch": torched - start, "import dlaccel after torch": imported - torched,
  "first call": first - begin, "second call": second - first, "first backward": fourth - third}))
"""


def silu_product(gate: Tensor, value: Tensor) -> Tensor:
    """Eager torch's gated linear unit."""
    return F.silu(gate) * value


def calls(device: torch.device, dtype: torch.dtype = torch.float32) -> dict[str, list[Contestant]]:
    """Contestants by case."""

    def pair(wants_gradient: bool) -> tuple[Tensor, Tensor]:
        a, b = (torch.randn(_SIDE, _SIDE, device=device, dtype=dtype) for _ in range(2))
        return a.requires_grad_(wants_gradient), b.requires_grad_(wants_gradient)

    def contestant(who: str, function: Callable[..., Any], *arguments: Any) -> Contestant:
        return Contestant(who, function, lambda turn: arguments)

    def identity(wants_gradient: bool) -> list[Contestant]:
        tensors = pair(wants_gradient)
        return [
            contestant(OURS, glu, *tensors, "identity"),
            contestant(PLAIN, operator.mul, *tensors),
        ]

    tensors = pair(False)
    return {
        "identity": identity(False),
        "identity, gradient wanted": identity(True),
        "silu": [contestant(OURS, glu, *tensors), contestant(EAGER, silu_product, *tensors)],
    }


def host_race(contestants: list[Contestant], rounds: int, budget: float) -> Race:
    """By the host's clock on any device: queueing is what is measured."""
    return race(contestants, torch.device("cpu"), rounds=rounds, budget=budget)


def measure(device: torch.device, rounds: int = 100, budget: float = 3.0) -> list[Row]:
    """Rows of the stage ``host``, and of a fresh process's first calls."""
    rows = []
    for case, contestants in calls(device).items():
        found = host_race(contestants, rounds, budget)
        for who in found.seconds:
            words = ("glu", case, f"{_SIDE}x{_SIDE}", "float32", "host")
            rows.append(timed(words, who, found, None, cache="warm"))
    if device.type == "cuda":
        torch.cuda.synchronize()
    return rows + _fresh_process(device)


def _fresh_process(device: torch.device) -> list[Row]:
    program = _FRESH.replace("torch.randn(64, 64)", f"torch.randn(64, 64, device={str(device)!r})")
    row = Row("glu", "silu", f"{_SIDE}x{_SIDE}", "float32", "", OURS, rounds=1)
    seconds: dict[str, float] = json.loads(python(["-c", program]))
    return [replace(row, stage=f"process: {what}", ms=s * 1e3) for what, s in seconds.items()]
