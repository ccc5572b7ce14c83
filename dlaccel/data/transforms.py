"""Transforms on tensors: symmetries as classes, sizes, standardising, splits of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .. import _check
from .images import Images
from .outside import need


def symmetries(images: Images) -> Images:
    """The eight symmetries of the square as classes: the label is 8 y + g.

    g = 4 f + r: r quarter turns counterclockwise, after a mirroring left to right when f is 1.
    Row 8 n + g of the result is image n under g. Exact: pixels move, none is computed.

    Raises:
        ValueError: when the images are not square.
    """
    return _multiplied("symmetries", images, [(flip, turn) for flip in (0, 1) for turn in range(4)])


def rotations(images: Images) -> Images:
    """The four quarter turns as classes: the label is 4 y + r, r turns counterclockwise.

    Row 4 n + r of the result is image n under r. Exact.

    Raises:
        ValueError: when the images are not square.
    """
    return _multiplied("rotations", images, [(0, turn) for turn in range(4)])


def _multiplied(op: str, images: Images, moves: Sequence[tuple[int, int]]) -> Images:
    shape = tuple(images.images.shape)
    if shape[2] != shape[3]:
        _check.refuse(f"data.{op}", "images", "be square", shape, ValueError)
    order = len(moves)
    moved = [
        torch.rot90(images.images.flip(3) if flip else images.images, turn, (2, 3))
        for flip, turn in moves
    ]
    labels = order * images.labels[:, None] + torch.arange(order)
    names = [f"{'mirrored ' * flip}{90 * turn} degrees" for flip, turn in moves]
    return replace(
        images,
        images=torch.stack(moved, 1).flatten(0, 1),
        labels=labels.flatten(),
        class_names=tuple(f"{name}, {move}" for name in images.class_names for move in names),
        groups={key: group.repeat_interleave(order) for key, group in images.groups.items()},
    )


def resize(images: Images, size: int, filter: str = "box") -> Images:
    """Every image at size x size by Pillow's filter: box, bilinear, hamming, bicubic or lanczos.

    Raises:
        ValueError: for another filter or a size below 1.
        ModuleNotFoundError: without Pillow.
    """
    need("PIL", "Pillow")
    from PIL import Image

    filters = {f.name.lower(): f for f in Image.Resampling}
    _check.choice("data.resize", "filter", filter, filters)
    _positive("resize", "size", size)
    pixels = images.images.permute(0, 2, 3, 1).numpy()
    channels = images.images.shape[1]
    small = np.empty((len(images), size, size, channels), np.uint8)
    for place, image in enumerate(pixels):
        picture = Image.fromarray(image[..., 0] if channels == 1 else np.ascontiguousarray(image))
        small[place] = np.asarray(picture.resize((size, size), filters[filter])).reshape(
            size, size, channels
        )
    return replace(images, images=torch.from_numpy(small).permute(0, 3, 1, 2).contiguous())


def standardise(
    images: Images | Tensor, mean: float | Sequence[float], std: float | Sequence[float]
) -> Tensor:
    """(x/255 - mean) / std as float32, by channel.

    Args:
        images: uint8 (N, c, H, W), on any device.
        mean: one number or c, on the scale 0..1.
        std: like mean.

    Raises:
        TypeError: when the images are not uint8.
        ValueError: when mean or std fit neither one channel nor c, or std is not positive.
    """
    pixels = images.images if isinstance(images, Images) else images
    if pixels.dtype != torch.uint8:
        _check.refuse("data.standardise", "images", "be uint8", pixels.dtype, TypeError)
    shift, scale = (
        torch.as_tensor(value, dtype=torch.float32, device=pixels.device).reshape(-1, 1, 1)
        for value in (mean, std)
    )
    for name, value in (("mean", shift), ("std", scale)):
        if len(value) not in (1, pixels.shape[1]):
            rule = f"be one number or {pixels.shape[1]}"
            _check.refuse("data.standardise", name, rule, len(value), ValueError)
    if not (scale > 0).all():
        _check.refuse("data.standardise", "std", "be positive", std, ValueError)
    return (pixels.to(torch.float32) / 255 - shift) / scale


def channel_moments(images: Images | Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all pixels, on the scale 0..1.

    Sums of bytes and of their squares are integers, so the result depends on no order.
    """
    pixels = images.images if isinstance(images, Images) else images
    levels = torch.arange(256, dtype=torch.float64, device=pixels.device)
    means, deviations = [], []
    for channel in pixels.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = share @ levels
        means.append(mean.item() / 255)
        deviations.append((share @ (levels - mean).square()).sqrt().item() / 255)
    return tuple(means), tuple(deviations)


def split_classes(num_classes: int, sizes: Sequence[int], seed: int) -> tuple[Tensor, ...]:
    """Disjoint random sets of classes, each sorted; the same for a seed everywhere.

    Raises:
        ValueError: when the sizes exceed the number of classes or one is below 1.
    """
    for size in sizes:
        _positive("split_classes", "sizes", size)
    if sum(sizes) > num_classes:
        rule = f"add up to at most {num_classes}"
        _check.refuse("data.split_classes", "sizes", rule, sum(sizes), ValueError)
    order = torch.randperm(num_classes, generator=torch.Generator().manual_seed(seed))
    parts = torch.split(order[: sum(sizes)], list(sizes))
    return tuple(part.sort().values for part in parts)


def _positive(op: str, argument: str, value: int) -> None:
    if value < 1:
        _check.refuse(f"data.{op}", argument, "be at least 1", value, ValueError)
