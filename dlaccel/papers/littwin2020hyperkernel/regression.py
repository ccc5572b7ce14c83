"""Kernel regression on pixels of images, on grids: K depends on a pair of images and a distance.

A training point is an image and one of its pixels; K((x, z), (x', z')) depends on the cosine of x
and x' and, as A^0 = exp(-|z - z'|^2 / (2 bandwidth)), on the squared distance of two pixels, of
which a grid has few. So kernels are computed once for each pair of images and each distance, and
gathered.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from dlaccel.ntk import Kernels, hyperkernel, infinite
from dlaccel.ntk.regression import Regression, regress

META_DEPTH = 3
"""L."""

PRIMARY_DEPTH = 3
"""H."""


def _hyperkernel(x: Kernels, z: Kernels, backward_scale: bool = True) -> Kernels:
    return hyperkernel(x, z, depth=PRIMARY_DEPTH - 1, backward_scale=backward_scale, grid="product")


KERNELS: dict[str, Callable[[Kernels, Kernels], Tensor]] = {
    "hyperkernel": lambda x, z: _hyperkernel(x, z).ntk,
    "hyperkernel as released": lambda x, z: _hyperkernel(x, z, backward_scale=False).ntk,
    "NNGP": lambda x, z: _hyperkernel(x, z).nngp,
    "NNGP as released": lambda x, z: _hyperkernel(x, z).nngp / _repeated(x.nngp, z),
}
"""By name; the released code drops s from Theta_g's products and takes A^(H-1) for the NNGP, which
is s A^(H-1)."""


def _repeated(s: Tensor, z: Kernels) -> Tensor:
    """The covariance of images at each distance, ``[N, M D]``."""
    return s.repeat_interleave(z.nngp.shape[1], 1)


@dataclass(frozen=True)
class Grid:
    """Pixels of a square image, their coordinates whole numbers.

    Attributes:
        side: Pixels in a row.
        bandwidth: Variance of the Gaussian A^0 in squared pixels.
        shrink: Share by which correlations other than 1 are made smaller, as released: 1e-4.
    """

    side: int
    bandwidth: float
    shrink: float = 0.0

    @cached_property
    def squared(self) -> Tensor:
        """Squared distances of all pairs of pixels, ``[side^2, side^2]``."""
        places = torch.arange(self.side**2)
        z = torch.stack([places // self.side, places % self.side], 1)
        return (z[:, None] - z[None]).square().sum(-1)

    @cached_property
    def distances(self) -> Tensor:
        """The D squared distances that occur, ascending."""
        found: Tensor = torch.unique(self.squared)
        return found

    @cached_property
    def distance_index(self) -> Tensor:
        """Which of them each pair of pixels has, ``[side^2, side^2]``."""
        return torch.searchsorted(self.distances, self.squared)

    def covariance(self, device: torch.device) -> Kernels:
        """A^0 of a pixel with others at each of the distances, ``[1, D]``."""
        distances = self.distances.double().to(device)[None]
        cross = torch.exp(distances / (-2 * self.bandwidth)) * (1 - self.shrink)
        return Kernels(cross, cross, cross.new_ones(1), cross.new_ones(cross.shape[1]))

    def table(self, kernel: str, left: Tensor, right: Tensor) -> Tensor:
        """A kernel for each pair of images ``[N, d]``, ``[M, d]`` and each distance, ``[N, M, D]``.

        Images are scaled to unit variance; float64.
        """
        sides = (_spread(images, self.shrink, place) for place, images in enumerate((left, right)))
        x = infinite(
            *sides, depth=META_DEPTH - 1, weight_std=2**0.5, readout_weight_std=1.0, gap=True
        )
        z = self.covariance(left.device)
        return KERNELS[kernel](x, z).view(len(left), len(right), len(self.distances))


def _spread(images: Tensor, shrink: float, place: int) -> Tensor:
    """Rows with |x|^2 = d; a coordinate of each side's own makes correlations smaller."""
    own = images.new_zeros(len(images), 2)
    own[:, place] = math.sqrt(shrink)
    whole = torch.cat([unit(images) * math.sqrt(1 - shrink), own], 1)
    return whole * math.sqrt(whole.shape[1])


def unit(images: Tensor) -> Tensor:
    """Rows of norm 1; a black image stays black."""
    norms: Tensor = torch.linalg.vector_norm(images, dim=1, keepdim=True)
    return images / norms.clamp(min=1e-12)


@dataclass(frozen=True)
class Pairs:
    """Training points.

    Attributes:
        pixels: Which pixels of each of the N images, ``[N, k]``.
        values: Their grey values, ``[N, k]``.
    """

    pixels: Tensor
    values: Tensor


def gram(grid: Grid, table: Tensor, pairs: Pairs) -> Tensor:
    """K between all training points, ``[N k, N k]``, from the table of the training images."""
    count, each = pairs.pixels.shape
    pixels = pairs.pixels.flatten()
    distance = grid.distance_index.to(pixels.device)[pixels[:, None], pixels[None]]
    images = torch.arange(count, device=pixels.device).repeat_interleave(each)
    return table[images[:, None], images[None], distance]


def predict(grid: Grid, table: Tensor, pairs: Pairs, weights: Tensor) -> Tensor:
    """sum_j K((x, z), u_j) weights_j at every pixel z of M images, ``[M, side^2]``.

    The weights of an image's points are first summed by distance from each pixel, ``[side^2, D]``;
    what is left is a product of matrices.

    Args:
        grid: The pixels.
        table: Of the M images with the N training images, ``[M, N, D]``.
        pairs: The training points.
        weights: ``[N k]``.
    """
    count, each = pairs.pixels.shape
    index = grid.distance_index.to(table.device)
    found = table.new_zeros(len(table), len(index))
    for place, (pixels, own) in enumerate(
        zip(pairs.pixels, weights.view(count, each), strict=True)
    ):
        summed = table.new_zeros(len(index), len(grid.distances))
        summed.scatter_add_(1, index[:, pixels], own.expand(len(index), each))
        found.addmm_(table[:, place], summed.T)
    return found


def fit(kernel: Tensor, pairs: Pairs, ridge: float) -> Regression:
    """Kernel regression of the values; ``ridge`` is the share of K's diagonal that is added."""
    return regress(kernel, pairs.values.flatten(), ridge, ridge_scale="diagonal")
