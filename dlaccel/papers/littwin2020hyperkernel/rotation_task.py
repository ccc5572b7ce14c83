"""The task of E3 and E4: by how much was an image turned? Pictures are turned on the device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from dlaccel import data
from dlaccel.data import Images

CLASSES = 12
"""Multiples of 30 degrees."""

SIDE = 16
"""Smaller images are enlarged to it: a digit of 8 pixels cannot be turned by 30 degrees."""

MOMENTS = {"mnist": (0.1307, 0.3081)}
"""Mean and deviation of pixels as the published code has them; .5 and .5 for other data."""


@dataclass(frozen=True)
class Turned:
    """Images turned at random, for R networks at a time.

    Attributes:
        pixels: ``[N, c, side^2]``, normalised, on the device of the run.
        fill: What normalising makes of black, which comes in at the corners.
        side: Of the images.
        circular: Whether angles near 360 belong to class 0; the published code gives them to the
            last class.
    """

    pixels: Tensor
    fill: float
    side: int
    circular: bool

    @classmethod
    def of(cls, images: Images, name: str, circular: bool, device: torch.device) -> Turned:
        """Images of a data set, enlarged where they are small."""
        if images.images.shape[2] < SIDE:
            images = data.resize(images, SIDE, "bilinear")
        mean, deviation = MOMENTS.get(name, (0.5, 0.5))
        pixels = data.standardise(images.images.to(device), mean, deviation)
        return cls(pixels.flatten(2), -mean / deviation, pixels.shape[-1], circular)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def inputs(self) -> int:
        """Numbers of an image."""
        return self.pixels[0].numel()

    def draw(self, rows: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Images x turned by alpha1, y turned by alpha1 + alpha2, the class of alpha2.

        Args:
            rows: ``[R, B]``, which images.
            generator: On the CPU; draws both angles from U(0, 360).

        Returns:
            ``[R, B, inputs]``, ``[R, B, inputs]``, ``[R, B]``.
        """
        angles = 360 * torch.rand(2, *rows.shape, generator=generator)
        labels = label(angles[1], self.circular).to(self.pixels.device)
        x, y = (
            self.turn(rows.to(self.pixels.device), turn.to(self.pixels.device))
            for turn in (angles[0], angles.sum(0))
        )
        return x, y, labels

    def turn(self, rows: Tensor, angles: Tensor) -> Tensor:
        """Images ``[R, B]`` turned counterclockwise by degrees, nearest pixel, black corners."""
        source, inside = source_pixels(angles, self.side)
        pixels = self.pixels[rows]
        turned = pixels.gather(-1, source[..., None, :].expand_as(pixels))
        return torch.where(inside[..., None, :], turned, self.fill).flatten(-2)


def label(angles: Tensor, circular: bool = False) -> Tensor:
    """The class k whose angle 30 k is closest, on the line or on the circle."""
    nearest = (angles / (360 / CLASSES)).round().long()
    return nearest % CLASSES if circular else nearest.clamp(max=CLASSES - 1)


def source_pixels(angles: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Which pixel of the picture each pixel of the turned one shows.

    Args:
        angles: Degrees counterclockwise, any shape.
        side: Of the square picture.

    Returns:
        Indices ``[..., side^2]``, row after row, and where they lie inside.
    """
    centre = torch.arange(side, device=angles.device, dtype=torch.float32) + 0.5 - side / 2
    down, right = (c.flatten() for c in torch.meshgrid(centre, centre, indexing="ij"))
    radians = (angles * (math.pi / 180))[..., None]
    cos, sin = radians.cos(), radians.sin()
    column = (cos * right - sin * down + side / 2).floor().long()
    row = (sin * right + cos * down + side / 2).floor().long()
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    return (row * side + column).clamp(0, side**2 - 1), inside


def majority_share(circular: bool = False) -> float:
    """Share of the most frequent class: 45 of 360 degrees on the line."""
    return 1 / CLASSES if circular else 45 / 360
