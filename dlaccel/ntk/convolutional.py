r"""Kernels of infinitely wide convolutional networks.

With :math:`\Sigma` the covariance of the pre-activations at a position p of x and p' of x', a
convolution of K offsets o takes the mean over them,

.. math::
    \Sigma'(p, p') = \frac{w^2}{K} \sum_o E[\phi \phi](p + o, p' + o) + b^2, \qquad
    \Theta'(p, p') = \Sigma'(p, p')
        + \frac{w^2}{K} \sum_o (E[\phi' \phi'] \, \Theta)(p + o, p' + o),

positions outside the image counting as 0. A flattened output needs pairs of equal positions alone;
global average pooling needs all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from .. import _check
from ..ops.ntk_recursion import place
from ._activations import Activation, resolve
from ._dual import Dual, Moments
from ._kernels import Kernels
from ._points import Layer, check_inputs, check_layers
from ._quadrature import NODES

OP = "ntk.infinite_convolutional"
TILE = 1 << 21  # numbers of one array of a tile of image pairs, 16 MiB


@torch.no_grad()
def infinite_convolutional(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    depth: int,
    filter_size: int = 3,
    padding: Literal["same", "valid"] = "same",
    pooling: Literal["flatten", "average"] = "flatten",
    activation: Activation = "relu",
    weight_std: float = 2**0.5,
    bias_std: float = 0.0,
    readout_weight_std: float | None = None,
    readout_bias_std: float | None = None,
    nodes: int = NODES,
) -> Kernels:
    """NNGP and tangent kernel of a convolutional network of infinitely many channels.

    ``depth`` convolutions of stride 1, each with its activation, then all positions side by side
    or their mean, and a linear read-out. Computed in float64, tile by tile of image pairs; time and
    memory for a pair grow with the number of positions, with ``"average"`` with its square.

    Args:
        x1: Images, (N, C, H, W).
        x2: Others, (M, C, H, W); ``x1`` itself where None: half is computed, bitwise symmetric.
        depth: Convolutions.
        filter_size: Of their square filters.
        padding: ``"same"``: zeros around; ``"valid"``: none, the image shrinks.
        pooling: ``"flatten"``, or ``"average"`` over all positions.
        activation: As in :func:`infinite`.
        weight_std: w.
        bias_std: b.
        readout_weight_std: w of the read-out; ``weight_std`` where None.
        readout_bias_std: b of the read-out; ``bias_std`` where None.
        nodes: Of the quadrature, for an activation that needs it.

    Returns:
        Float64 where an input is, else float32. No gradient flows through it.

    Raises:
        TypeError: An input is no floating tensor, or the activation no activation.
        ValueError: Shapes or devices do not fit, a number or word is not one of those allowed, or
            nothing of the image is left.

    Source: Novak et al. 2019 (arXiv 1810.05148); Arora et al. 2019 (arXiv 1904.11955), section 4.
    """
    check_inputs(OP, x1, x2, 4, "(N, C, H, W)")
    layers = check_layers(OP, depth, weight_std, bias_std, readout_weight_std, readout_bias_std)
    _check.choice(OP, "padding", padding, ("same", "valid"))
    _check.choice(OP, "pooling", pooling, ("flatten", "average"))
    if isinstance(filter_size, bool) or not isinstance(filter_size, int) or filter_size < 1:
        _check.refuse(OP, "filter_size", "be a positive integer", filter_size, ValueError)
    lost = depth * (filter_size - 1) if padding == "valid" else 0
    if x1.shape[1] == 0 or min(x1.shape[2:]) <= lost:
        rule = f"have a channel and images larger than {lost}"
        _check.refuse(OP, "x1", rule, tuple(x1.shape), ValueError)
    network = _Network(
        layers,
        Dual(resolve(OP, activation), nodes, x1.device),
        filter_size,
        padding == "same",
        pooling == "average",
    )
    symmetric = x2 is None or x2 is x1
    images = x1.detach().double()
    others = images if x2 is None or x2 is x1 else x2.detach().double()
    exact = any(x is not None and x.dtype == torch.float64 for x in (x1, x2))
    dtype = torch.float64 if exact else torch.float32
    nngp = torch.empty(len(images), len(others), dtype=dtype, device=x1.device)
    kernels = (nngp, torch.empty_like(nngp), nngp[:0, :0])
    cells = math.prod(x1.shape[2:])
    # the largest array of a tile: covariances, or differences of all channels
    side = math.isqrt(TILE // (cells * (cells if network.pooled else x1.shape[1]))) or 1
    for rows in _slices(len(images), side):
        panel = [
            network.entries(images[rows], others[columns])
            for columns in _slices(rows.stop if symmetric else len(others), side)
        ]
        if panel:
            values, tangents = (torch.cat(part, 1) for part in zip(*panel, strict=True))
            place(kernels, (values, tangents, values), rows.start, symmetric)
    variances1 = network.variances(images).to(dtype)
    variances2 = variances1 if others is images else network.variances(others).to(dtype)
    return Kernels(kernels[0], kernels[1], variances1, variances2)


def _slices(count: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


class _Network:
    def __init__(
        self, layers: list[Layer], dual: Dual, size: int, padded: bool, pooled: bool
    ) -> None:
        *self.layers, self.readout = layers
        self.dual, self.size, self.padded, self.pooled = dual, size, padded, pooled
        # axes of a pair's positions that an offset moves together: rows, then columns
        self.moved = ((-4, -2), (-3, -1)) if pooled else ((-2,), (-1,))

    def entries(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """NNGP and tangent kernel of a tile of images, (n, m)."""
        moments = self._inputs(x, y)
        tangent = torch.zeros_like(moments.covariance)
        for layer in self.layers:
            moments = self._convolved(layer, moments)
            tangent = moments.covariance + layer.weight**2 * self._mean(tangent)
            moments, slope = self.dual(moments)
            tangent = slope * tangent
        weight, bias = self.readout.weight**2, self.readout.bias**2
        values = weight * moments.covariance.flatten(2).mean(2) + bias
        return values, values + weight * tangent.flatten(2).mean(2)

    def variances(self, x: Tensor) -> Tensor:
        """The NNGP's diagonal, (N,)."""
        found = []
        for rows in _slices(len(x), 1):
            image = x[rows]
            moments = self._inputs(image, image)
            for layer in self.layers:
                moments, _ = self.dual(self._convolved(layer, moments))
            found.append(moments.covariance.mean())
        own = torch.stack(found) if found else x.new_empty(0)
        return self.readout.weight**2 * own + self.readout.bias**2

    def _inputs(self, x: Tensor, y: Tensor) -> Moments:
        (n, channels, *cells), m = x.shape, len(y)
        q = [image.square().mean(1) for image in (x, y)]
        if not self.pooled:
            covariance = torch.einsum("nchw,mchw->nmhw", x, y) / channels
            distance = (x[:, None] - y).square().mean(2)
            return Moments(covariance, distance, q[0][:, None], q[1])
        rows, columns = (image.movedim(1, -1).reshape(-1, channels) for image in (x, y))
        away = torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist").square()
        covariance, distance = (
            (pairs / channels).view(n, *cells, m, *cells).movedim(3, 1)
            for pairs in (rows @ columns.T, away)
        )
        return Moments(covariance, distance, q[0][:, None, :, :, None, None], q[1][:, None, None])

    def _convolved(self, layer: Layer, x: Moments) -> Moments:
        for axes in self.moved:
            own, other = axes[:1], axes[-1:]  # variances keep 1 for the other image's positions
            x = Moments(
                self._padded(x.covariance, axes),
                self._padded(x.distance, axes),
                self._padded(x.variances1, own),
                self._padded(x.variances2, other),
            )
            distance = x.distance
            if self.pooled:  # where one position lies outside, the other's variance is left
                beyond = [self._outside(distance, axis) for axis in axes]
                distance = distance + x.variances1 * beyond[1] + x.variances2 * beyond[0]
            x = Moments(
                self._summed(x.covariance, axes),
                self._summed(distance, axes),
                self._summed(x.variances1, own),
                self._summed(x.variances2, other),
            )
        weight, bias = layer.weight**2 / self.size**2, layer.bias**2
        return Moments(
            weight * x.covariance + bias,
            weight * x.distance,
            weight * x.variances1 + bias,
            weight * x.variances2 + bias,
        )

    def _mean(self, x: Tensor) -> Tensor:
        """Over the offsets of a filter."""
        for axes in self.moved:
            x = self._summed(self._padded(x, axes), axes)
        return x / self.size**2

    def _padded(self, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        if not self.padded:
            return x
        pads = [0] * (-2 * min(axes))
        for axis in axes:
            pads[-2 * axis - 2 : -2 * axis] = self._margins
        return functional.pad(x, pads)

    @property
    def _margins(self) -> list[int]:
        low = (self.size - 1) // 2
        return [low, self.size - 1 - low]

    def _outside(self, x: Tensor, axis: int) -> Tensor:
        """1 where a padded axis is past the image."""
        margins = self._margins if self.padded else [0, 0]
        inside = x.new_zeros(x.shape[axis] - sum(margins))
        mask = functional.pad(inside, margins, value=1.0)
        return mask.view(-1, *[1] * (-1 - axis))

    def _summed(self, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        """Over the offsets along one axis of the filter, which move all ``axes`` together."""
        parts = []
        for offset in range(self.size):
            part = x
            for axis in axes:
                part = part.narrow(axis, offset, x.shape[axis] - self.size + 1)
            parts.append(part)
        total = parts[0].clone()
        for part in parts[1:]:
            total += part
        return total
