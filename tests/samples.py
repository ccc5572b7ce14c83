"""What tests share: devices, dtypes, random tensors, and the one measure of error."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda])]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def maker(
    dtype: torch.dtype, device: str, seed: int = 0, scale: float = 1.0
) -> Callable[..., Tensor]:
    """Draws tensors in float64 on the CPU, so that every dtype and device sees the same numbers."""
    generator = torch.Generator().manual_seed(seed)

    def make(*shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
        return drawn.to(device=device, dtype=dtype)

    return make


def relative_error(result: Tensor, truth: Tensor) -> float:
    """Relative L2 distance in float64; 0 for empty tensors."""
    result, truth = result.detach().double().cpu(), truth.detach().double().cpu()
    assert result.shape == truth.shape
    if truth.numel() == 0:
        return 0.0
    norm = truth.norm().item()
    return (result - truth).norm().item() / norm if norm else result.norm().item()
