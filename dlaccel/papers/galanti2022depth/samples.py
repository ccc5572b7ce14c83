"""Labelled images of a data set, ready for a network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from dlaccel import data
from dlaccel.data import Images

MULTIPLE = 8
"""Sides are padded with black to a multiple of it: 28 pixels to 32, as the published code does."""

CIFAR_MOMENTS = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
MNIST_MOMENTS = (0.1307,), (0.3081,)
MOMENTS = {
    "cifar10": CIFAR_MOMENTS,
    "cifar10_jpeg": CIFAR_MOMENTS,
    "mnist": MNIST_MOMENTS,
    "fashion_mnist": MNIST_MOMENTS,
}
"""Mean and deviation of the pixels as in the published code (of CIFAR-100 and of MNIST); of other
data they are measured."""

EVALUATED = 500
"""Images of a forward pass of an evaluation."""

AUGMENTED_SIDE = 32
"""Crops by 4 pixels, mirrorings and rotations are meant for images of this size."""

DRAW_SEED = 12345
"""Which images are drawn when not all are used; the same ones for all seeds."""


@dataclass(frozen=True, eq=False)
class Samples:
    """N labelled images.

    Attributes:
        images: uint8 (N, c, side, side).
        labels: (N,) int64.
        classes: C.
        mean: Of each channel.
        deviation: Of each channel.
        augmented: Whether training cuts, mirrors and rotates them at random.
    """

    images: Tensor
    labels: Tensor
    classes: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    augmented: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        """Of the images."""
        return self.images.shape[1]

    @property
    def side(self) -> int:
        """Of the images, after padding."""
        return self.images.shape[2]

    @cached_property
    def inputs(self) -> Tensor:
        """All images as the networks take them, float32."""
        return data.standardise(self.images, self.mean, self.deviation)

    def draw(self, rows: Tensor, generator: Generator) -> Tensor:
        """Images of a training step, by row."""
        if not self.augmented:
            return self.inputs[rows]
        shifted = data.augment(self.images[rows], generator)
        return data.standardise(shifted, self.mean, self.deviation)


def batches(x: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Inputs and labels in order, ``EVALUATED`` at a time."""
    return list(zip(torch.split(x, EVALUATED), torch.split(labels, EVALUATED), strict=True))


def load_samples(
    name: str, *, count: int, test_count: int, augment: bool, device: torch.device
) -> tuple[Samples, Samples]:
    """Training and test samples of a data set.

    Args:
        name: As :func:`dlaccel.data.load` takes it.
        count: The first so many training images, or drawn from a set sorted by class; 0 is all.
        test_count: So many test images, drawn once; 0 is all.
        augment: Whether images of 32 pixels are augmented in training.
        device: Where they go.

    Raises:
        dlaccel.data.DataError: when the data are missing or damaged.
    """
    train, test = (_padded(data.load(name, split)) for split in ("train", "test"))
    by_class = bool((train.labels.diff() >= 0).all())
    train = _drawn(train, count) if by_class else train.subset(slice(count or None))
    test = _drawn(test, test_count)
    mean, deviation = MOMENTS.get(name) or data.channel_moments(train)
    return tuple(  # type: ignore[return-value]
        Samples(
            part.images.to(device),
            part.labels.to(device),
            part.num_classes,
            mean,
            deviation,
            augment and part.images.shape[2] == AUGMENTED_SIDE,
        )
        for part in (train, test)
    )


def _drawn(images: Images, count: int) -> Images:
    if not 0 < count < len(images):
        return images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(DRAW_SEED))
    return images.subset(order[:count].sort().values)


def _padded(images: Images) -> Images:
    """Black borders, evenly, up to a square side that ``MULTIPLE`` divides."""
    height, width = images.images.shape[2:]
    side = -(-max(height, width) // MULTIPLE) * MULTIPLE
    down, right = side - height, side - width
    borders = (right // 2, right - right // 2, down // 2, down - down // 2)
    return Images(
        F.pad(images.images, borders), images.labels, images.class_names, source=images.source
    )
