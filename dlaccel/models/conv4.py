"""The small convolutional network of the few-shot literature."""

from __future__ import annotations

from torch import Generator, nn

from .. import _check
from ..nn._features import check_counts
from ._layers import Images, Network, conv_layer, drawn_from

BLOCKS = 4


class Conv4(Network):
    """Four blocks of 3x3 convolution, batch norm, ReLU and 2x2 pooling, then a linear head.

    ``embeddings`` names the blocks; on 28x28 the last gives ``width`` numbers.

    Args:
        num_classes: C.
        width: Channels of every block.
        in_channels: Of the images.
        image_size: Their side, at least 16.
        generator: The start is drawn from it alone; else from torch's own.

    Raises:
        TypeError: when a count is no integer.
        ValueError: when one is out of range.

    Source: Vinyals et al. 2016, arXiv 1606.04080, section 4.1.
    """

    def __init__(
        self,
        num_classes: int,
        width: int = 64,
        *,
        in_channels: int = 1,
        image_size: int = 28,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_counts(
            "Conv4",
            num_classes=num_classes,
            width=width,
            in_channels=in_channels,
            image_size=image_size,
        )
        if image_size < 2**BLOCKS:
            rule = f"be at least {2**BLOCKS}"
            _check.refuse("Conv4", "image_size", rule, image_size, ValueError)
        self.input = Images("Conv4", in_channels, side=image_size)
        with drawn_from(generator):
            self.blocks = nn.Sequential(
                *(conv_layer(width if i else in_channels, width, pool=True) for i in range(BLOCKS))
            )
            self.flatten = nn.Flatten()
            self.head = nn.Linear(width * (image_size >> BLOCKS) ** 2, num_classes)
        self.embeddings = tuple(f"blocks.{i}" for i in range(BLOCKS))
        self.penultimate = "flatten"
