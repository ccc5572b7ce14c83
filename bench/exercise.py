"""Runs every op once, for a memory checker or a profiler: ``python -m bench.exercise [SIZE]``.

SIZE, such as 8192x14336, is one size in bfloat16 and the main variant; without it,
every variant in float32 and bfloat16 at small sizes. Inputs are drawn on the CPU: hardly a kernel
but ours runs on the device.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from dlaccel._spec import OpSpec, Shape
from dlaccel.ops import SPECS

from .cases import MAIN

SMALL: tuple[Shape, ...] = ((1, 1), (7, 129), (64, 64), (2, 4099))
_DTYPES = (torch.float32, torch.bfloat16)


def run(spec: OpSpec, variant: str, size: Shape, dtype: torch.dtype, device: str) -> None:
    """Forward and backward, contiguous and with rows that lie apart."""

    def make(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape) * scale).to(dtype).to(device)

    def apart(*shape: int, scale: float = 1.0) -> Tensor:
        return make(*shape[:-1], shape[-1] + 3)[..., 1 : shape[-1] + 1]

    for draw in (make, apart):
        leaves = tuple(t.detach().requires_grad_() for t in spec.sample(size, draw))
        result = spec.function(*leaves, **spec.variants[variant])
        torch.autograd.grad(result, leaves, make(*result.shape))


def main(arguments: list[str], device: str) -> int:
    if arguments:
        size = tuple(int(n) for n in arguments[0].split("x"))
        for spec in SPECS:
            variant = MAIN if MAIN in spec.variants else next(iter(spec.variants))
            run(spec, variant, size, torch.bfloat16, device)
    else:
        for spec in SPECS:
            for variant in spec.variants:
                for dtype in _DTYPES:
                    for size in SMALL:
                        run(spec, variant, size, dtype, device)
    if device == "cuda":
        torch.cuda.synchronize()
    print(f"{len(SPECS)} ops ran on {device}.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:], "cuda" if torch.cuda.is_available() else "cpu"))
