"""ResNet-18 for images of 32 pixels, and with the layers that were put on top of it."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Generator, Tensor, nn

from ..nn._features import check_counts
from ._layers import Images, Network, drawn_from, global_average, top_layers

WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """x <- relu(norm(W relu(norm(V x))) + x), a 1x1 convolution on x where its shape changes."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, width, 1, stride=stride, bias=False),
                nn.BatchNorm2d(width),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Shape ``[N, in_channels, H, W]`` to ``[N, width, H / stride, W / stride]``."""
        return torch.relu(self.residual(x) + self.shortcut(x))


class ResNet18(Network):
    """A 3x3 stem without pooling, four stages of two blocks, the average, a linear head.

    ``embeddings`` names the stem, the stages, the average and the layers on top, if any.

    Args:
        num_classes: C.
        in_channels: Of the images, which may have any side.
        top_depth: None for the plain network; else a layer of 128 neurons and so many more before
            the head, as in the first versions of arXiv 2202.09028.
        top: Kind of those: ``"fc"``, measured before the ReLU, or ``"res"``, measured after it.
        generator: The start is drawn from it alone; else from torch's own.

    Raises:
        TypeError: when a count is no integer.
        ValueError: when one is out of range or ``top`` is another word.

    Source: He et al. 2015, arXiv 1512.03385, section 4.2; arXiv 2202.09028 version 1.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        in_channels: int = 3,
        top_depth: int | None = None,
        top: str = "fc",
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_counts("ResNet18", num_classes=num_classes, in_channels=in_channels)
        self.input = Images("ResNet18", in_channels)
        with drawn_from(generator):
            self.stem = nn.Sequential(
                OrderedDict(
                    conv=nn.Conv2d(in_channels, WIDTHS[0], 3, padding=1, bias=False),
                    norm=nn.BatchNorm2d(WIDTHS[0]),
                    activation=nn.ReLU(),
                )
            )
            self.stages = nn.Sequential(
                *(
                    nn.Sequential(
                        BasicBlock(before, width, 1 if stage == 0 else 2),
                        BasicBlock(width, width, 1),
                    )
                    for stage, (before, width) in enumerate(
                        zip(WIDTHS[:1] + WIDTHS[:-1], WIDTHS, strict=True)
                    )
                )
            )
            self.pool = global_average()
            self.top, names, width = top_layers(self, WIDTHS[-1], top_depth, top)
            self.head = nn.Linear(width, num_classes)
        stages = [f"stages.{i}" for i in range(len(WIDTHS))]
        self.embeddings = ("stem", *stages, "pool", *names)
        self.penultimate = "top" if names else "pool"
