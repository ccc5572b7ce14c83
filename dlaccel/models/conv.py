"""CONV-L-H and CONVRES-L-H of arXiv 2202.09028: one width, one resolution, L layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor, nn

from .. import _check
from ..nn._features import check_counts
from ._layers import (
    ACTIVATION,
    PREACTIVATION,
    Images,
    Network,
    check_image_size,
    conv_layer,
    drawn_from,
)


class _Stemmed(Network):
    """A stem that divides the side by 4, layers at that size, a linear head on all numbers."""

    def __init__(
        self,
        depth: int,
        layer: Callable[[], nn.Module],
        width: int,
        num_classes: int,
        in_channels: int,
        image_size: int,
        generator: Generator | None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_counts(
            name, depth=depth, width=width, num_classes=num_classes, in_channels=in_channels
        )
        check_image_size(self, image_size, 4)
        self.input = Images(name, in_channels, side=image_size)
        with drawn_from(generator):
            self.stem = nn.Sequential(
                nn.Conv2d(in_channels, width, 2, stride=2),
                nn.BatchNorm2d(width),
                nn.Conv2d(width, width, 2, stride=2),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )
            self.layers = nn.Sequential(*(layer() for _ in range(depth)))
            self.flatten = nn.Flatten()
            self.head = nn.Linear(width * (image_size // 4) ** 2, num_classes)
        self.penultimate = "flatten"


class Conv(_Stemmed):
    """L layers of 3x3 convolution to H channels, batch norm, ReLU, all at a quarter of the side.

    A stem of two 2x2 convolutions of stride 2 goes before them and is not counted. At 32x32 a layer
    gives 64 H numbers: 25,600 for H = 400.

    Args:
        depth: L.
        width: H.
        num_classes: C.
        in_channels: Of the images.
        image_size: Their side, a multiple of 4.
        embedding: What ``embeddings`` names: ``"preactivation"``, the convolutions' outputs, as the
            published code measures, or ``"activation"``, the layers' outputs after the ReLU.
        generator: The start is drawn from it alone; else from torch's own.

    Raises:
        TypeError: when a count is no integer.
        ValueError: when one is out of range or ``embedding`` is another word.

    Source: arXiv 2202.09028, section 4.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        num_classes: int = 10,
        *,
        in_channels: int = 3,
        image_size: int = 32,
        embedding: str = PREACTIVATION,
        generator: Generator | None = None,
    ) -> None:
        _check.choice("Conv", "embedding", embedding, (PREACTIVATION, ACTIVATION))
        layer = partial(conv_layer, width, width)
        super().__init__(depth, layer, width, num_classes, in_channels, image_size, generator)
        part = "conv" if embedding == PREACTIVATION else "activation"
        self.embeddings = tuple(f"layers.{i}.{part}" for i in range(depth))


class ConvRes(_Stemmed):
    """The stem of :class:`Conv`, then L residual blocks of two 3x3 convolutions to H channels.

    A block is z = relu(norm(V x)), x <- relu(norm(x + W z)); ``embeddings`` names the blocks, so
    that they are measured after their ReLU.

    Args:
        depth: L.
        width: H.
        num_classes: C.
        in_channels: Of the images.
        image_size: Their side, a multiple of 4.
        dead_skip: A block returns z, as in the published code, whose skips and second convolutions
            change nothing; its figures were made so, its text means the default.
        generator: The start is drawn from it alone; else from torch's own.

    Raises:
        TypeError: when a count is no integer.
        ValueError: when one is out of range.

    Source: arXiv 2202.09028, section 4.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        num_classes: int = 10,
        *,
        in_channels: int = 3,
        image_size: int = 32,
        dead_skip: bool = False,
        generator: Generator | None = None,
    ) -> None:
        layer = partial(ConvBlock, width, dead_skip)
        super().__init__(depth, layer, width, num_classes, in_channels, image_size, generator)
        self.embeddings = tuple(f"layers.{i}" for i in range(depth))


class ConvBlock(nn.Module):
    """A block of :class:`ConvRes`; it keeps its idle parameters with ``dead_skip``."""

    def __init__(self, width: int, dead_skip: bool) -> None:
        super().__init__()
        self.dead_skip = dead_skip
        self.inner = conv_layer(width, width)
        self.outer = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Shape ``[N, width, H, W]`` to the same."""
        z: Tensor = self.inner(x)
        if self.dead_skip:
            return z
        return torch.relu(self.norm(x + self.outer(z)))
