"""Wide residual networks, and plain ones of the same shape."""

from __future__ import annotations

from typing import cast

import torch
from torch import Generator, Tensor, nn

from .. import _check
from ..nn._features import check_counts
from ._layers import Images, Network, drawn_from, global_average

STEM = 16


class PreactivationBlock(nn.Module):
    """x + W relu(norm(V relu(norm(x)))); a 1x1 convolution on relu(norm(x)) where shapes change.

    Without ``skip`` it is the second term alone.
    """

    def __init__(self, in_channels: int, width: int, stride: int, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.norm = nn.BatchNorm2d(in_channels)
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )
        changes = skip and (stride != 1 or in_channels != width)
        self.shortcut = (
            nn.Conv2d(in_channels, width, 1, stride=stride, bias=False) if changes else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shape ``[N, in_channels, H, W]`` to ``[N, width, H / stride, W / stride]``."""
        z = torch.relu(self.norm(x))
        y = cast(Tensor, self.residual(z))
        if not self.skip:
            return y
        return y + (x if self.shortcut is None else self.shortcut(z))


class _WideNetwork(Network):
    """A stem of 16 channels, three stages of blocks, norm, ReLU, the average, a linear head."""

    def __init__(
        self,
        depth: int,
        factor: int,
        num_classes: int,
        in_channels: int,
        skip: bool,
        generator: Generator | None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_counts(
            name, depth=depth, factor=factor, num_classes=num_classes, in_channels=in_channels
        )
        if depth < 10 or depth % 6 != 4:
            _check.refuse(name, "depth", "be 6 n + 4 with n at least 1", depth, ValueError)
        self.input = Images(name, in_channels)
        blocks = (depth - 4) // 6
        widths = [STEM * factor * 2**stage for stage in range(3)]
        with drawn_from(generator):
            self.stem = nn.Conv2d(in_channels, STEM, 3, padding=1, bias=False)
            self.stages = nn.Sequential(
                *(
                    nn.Sequential(
                        PreactivationBlock(before, width, 1 if stage == 0 else 2, skip),
                        *(PreactivationBlock(width, width, 1, skip) for _ in range(blocks - 1)),
                    )
                    for stage, (before, width) in enumerate(
                        zip([STEM, *widths[:-1]], widths, strict=True)
                    )
                )
            )
            self.norm = nn.BatchNorm2d(widths[-1])
            self.activation = nn.ReLU()
            self.pool = global_average()
            self.head = nn.Linear(widths[-1], num_classes)
        self.embeddings = ("stem", *(f"stages.{stage}" for stage in range(3)), "pool")
        self.penultimate = "pool"


class WideResNet(_WideNetwork):
    """WRN-depth-factor: three stages of (depth - 4) / 6 blocks, 16, 32 and 64 channels x factor.

    ``embeddings`` names the stem, the stages and the average; every block is ``stages.i.j``.

    Args:
        depth: 6 n + 4.
        factor: How many times wider than a thin residual network.
        num_classes: C.
        in_channels: Of the images, which may have any side.
        generator: The start is drawn from it alone; else from torch's own.

    Raises:
        TypeError: when a count is no integer.
        ValueError: when one is out of range.

    Source: Zagoruyko and Komodakis 2016, arXiv 1605.07146, table 1; arXiv 2112.15121 has (28, 4).
    """

    def __init__(
        self,
        depth: int = 28,
        factor: int = 4,
        num_classes: int = 10,
        *,
        in_channels: int = 3,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(depth, factor, num_classes, in_channels, True, generator)


class PlainConv(_WideNetwork):
    """Conv-depth-factor: the shape of :class:`WideResNet` without its skips.

    Args:
        depth: 6 n + 4.
        factor: How many times wider than a thin network.
        num_classes: C.
        in_channels: Of the images, which may have any side.
        generator: The start is drawn from it alone; else from torch's own.

    Raises:
        TypeError: when a count is no integer.
        ValueError: when one is out of range.

    Source: arXiv 2112.15121, "Conv-N-M".
    """

    def __init__(
        self,
        depth: int = 28,
        factor: int = 4,
        num_classes: int = 10,
        *,
        in_channels: int = 3,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(depth, factor, num_classes, in_channels, False, generator)
