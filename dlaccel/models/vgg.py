"""VGG networks with batch norm for images of 32 pixels and more."""

from __future__ import annotations

from torch import Generator, nn

from .. import _check
from ..nn._features import check_counts
from ._layers import Images, Network, conv_layer, drawn_from, global_average, top_layers

WIDTHS = (64, 128, 256, 512, 512)

# Depth -> convolutions in each of the five stages; with the three affine layers of the original
# they add up to the depth.
STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(Network):
    """VGG-depth: 3x3 convolutions with batch norm and ReLU, five poolings, one linear head.

    The usual form for 32x32: one head instead of the original's three affine layers. ``embeddings``
    names the layers, ``layers.i``, after ReLU and pooling, and the layers on top, if any.

    Args:
        depth: 11, 13, 16 or 19.
        num_classes: C.
        in_channels: Of the images, whose sides have at least 32 pixels.
        top_depth: None for the plain network; else a layer of 128 neurons and so many more before
            the head, as for :class:`ResNet18`.
        top: Kind of those: ``"fc"``, measured before the ReLU, or ``"res"``, measured after it.
        generator: The start is drawn from it alone; else from torch's own.

    Raises:
        TypeError: when a count is no integer.
        ValueError: when one is out of range or ``top`` is another word.

    Source: Simonyan and Zisserman 2014, arXiv 1409.1556, table 1. The first versions of
    arXiv 2202.09028 keep two layers of 4096 neurons below the ones on top; this one does not.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        *,
        in_channels: int = 3,
        top_depth: int | None = None,
        top: str = "fc",
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if depth not in STAGES:
            rule = f"be one of {', '.join(map(str, STAGES))}"
            _check.refuse("VGG", "depth", rule, repr(depth), ValueError)
        check_counts("VGG", num_classes=num_classes, in_channels=in_channels)
        self.input = Images("VGG", in_channels, least=32)
        layers = []
        with drawn_from(generator):
            before = in_channels
            for width, count in zip(WIDTHS, STAGES[depth], strict=True):
                for place in range(count):
                    layers.append(conv_layer(before, width, pool=place == count - 1))
                    before = width
            self.layers = nn.Sequential(*layers)
            self.pool = global_average()
            self.top, names, width = top_layers(self, WIDTHS[-1], top_depth, top)
            self.head = nn.Linear(width, num_classes)
        self.embeddings = (*(f"layers.{i}" for i in range(len(layers))), *names)
        self.penultimate = "top" if names else "pool"
