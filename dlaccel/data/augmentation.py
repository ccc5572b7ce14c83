"""Random crops, mirrorings, colours and rotations of a whole batch at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _check

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey value (ITU-R BT.601)."""


def augment(
    batch: Tensor,
    generator: torch.Generator,
    *,
    crop: int = 4,
    flip: bool = True,
    rotate: float = 15.0,
    jitter: Sequence[float] = (0.0, 0.0, 0.0),
) -> Tensor:
    """Each image cropped, mirrored, recoloured and rotated at random, in this order.

    Crop: padded by ``crop`` black pixels on each side, then cut to its size anywhere. Flip: left to
    right with probability 1/2. Jitter: factors drawn from [1 - j, 1 + j] for brightness, contrast
    and saturation, in this order. Rotate: by an angle in [-rotate, rotate] degrees, bilinear, black
    outside. Crop and flip only move pixels.

    Args:
        batch: (N, c, H, W), uint8 or floating on the scale 0..1: augment before standardising.
        generator: of the draws, on the CPU for the same ones on every device.
        crop: pixels.
        flip: whether to mirror.
        rotate: degrees.
        jitter: three numbers in [0, 1].

    Returns:
        A new batch of the same shape, dtype and device.

    Raises:
        TypeError: when the batch is neither uint8 nor floating.
        ValueError: when the batch has not four axes or a number is out of its range.
    """
    _check_augment(batch, crop, rotate, jitter)

    if not len(batch):
        return batch.clone()

    def draw(*shape: int) -> Tensor:
        drawn = torch.rand(shape, generator=generator, device=generator.device)
        return drawn.to(batch.device)

    out = batch
    if crop or flip:
        out = _shifted(out, crop, draw(3, len(out)), flip)
    if any(jitter) or rotate:
        byte = out.dtype == torch.uint8
        unit = out.float() / 255 if byte else out.to(torch.promote_types(out.dtype, torch.float32))
        if any(jitter):
            unit = _recoloured(unit, jitter, draw)
        if rotate:
            unit = _rotated(unit, (2 * draw(len(out)) - 1) * rotate)
        out = ((unit * 255).round() if byte else unit).to(out.dtype)
    return out.clone() if out is batch else out


def _shifted(batch: Tensor, crop: int, drawn: Tensor, flip: bool) -> Tensor:
    """Rows and columns of the padded images, gathered."""
    height, width = batch.shape[2:]
    padded = F.pad(batch, (crop,) * 4)
    down, right = (drawn[:2] * (2 * crop + 1)).long().clamp(max=2 * crop)
    rows = down[:, None] + torch.arange(height, device=batch.device)
    columns = torch.arange(width, device=batch.device).expand(len(batch), width)
    if flip:
        columns = torch.where(drawn[2, :, None] < 0.5, columns.flip(1), columns)
    columns = right[:, None] + columns
    image = torch.arange(len(batch), device=batch.device)[:, None, None]
    return (
        padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]]
        .permute(0, 3, 1, 2)
        .contiguous()
    )


def _recoloured(unit: Tensor, jitter: Sequence[float], draw: Callable[..., Tensor]) -> Tensor:
    strength = torch.tensor(jitter, dtype=unit.dtype, device=unit.device)[:, None]
    factors = 1 + strength * (2 * draw(3, len(unit)).to(unit.dtype) - 1)
    brightness, contrast, saturation = factors[..., None, None, None]
    unit = (unit * brightness).clamp(0, 1)
    unit = torch.lerp(_grey(unit).mean((1, 2, 3), keepdim=True), unit, contrast).clamp(0, 1)
    return torch.lerp(_grey(unit), unit, saturation).clamp(0, 1)


def _grey(unit: Tensor) -> Tensor:
    """(N, 1, H, W)."""
    if unit.shape[1] == 1:
        return unit
    weights = torch.tensor(LUMA, dtype=unit.dtype, device=unit.device)[:, None, None]
    return (unit * weights).sum(1, keepdim=True)


def _rotated(unit: Tensor, degrees: Tensor) -> Tensor:
    """Turned about the centre; the aspect ratio enters as grid coordinates run over -1..1."""
    height, width = unit.shape[2:]
    angle = degrees.to(unit.dtype).deg2rad()
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rows = (cos, sin * (height / width), zero, -sin * (width / height), cos, zero)
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(unit.shape), align_corners=False)
    return F.grid_sample(unit, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _check_augment(batch: Tensor, crop: int, rotate: float, jitter: Sequence[float]) -> None:
    op = "data.augment"
    _check.tensors(op, {"batch": batch})
    if batch.dtype != torch.uint8 and not batch.is_floating_point():
        _check.refuse(op, "batch", "be uint8 or floating", batch.dtype, TypeError)
    if batch.ndim != 4 or batch.shape[1] not in (1, 3):
        rule = "have shape (N, c, H, W) with c 1 or 3"
        _check.refuse(op, "batch", rule, tuple(batch.shape), ValueError)
    if crop < 0:
        _check.refuse(op, "crop", "be at least 0", crop, ValueError)
    if not 0 <= rotate <= 180:
        _check.refuse(op, "rotate", "lie in [0, 180]", rotate, ValueError)
    if len(jitter) != 3 or not all(0 <= strength <= 1 for strength in jitter):
        _check.refuse(op, "jitter", "be three numbers in [0, 1]", tuple(jitter), ValueError)
