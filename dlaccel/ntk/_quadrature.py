"""Kernels of any activation, by Gauss-Hermite quadrature over the pair of pre-activations."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ._activations import Function
from ._correlations import Points
from ._points import Layer

NODES = 64
CHUNK = 1 << 21  # values of the activation that are held at once


class Quadrature:
    r"""Expectations under (u, v) of variances q, q' and correlation c.

    u and v are :math:`\sqrt q (\cos(t/2) g + \sin(t/2) h)` and :math:`\sqrt{q'} (\cos(t/2) g -
    \sin(t/2) h)` for independent g, h and :math:`c = \cos t`, which loses nothing at c = 1 and
    treats both alike.
    """

    def __init__(self, function: Function, nodes: int, device: torch.device) -> None:
        points, weights = np.polynomial.hermite_e.hermegauss(nodes)
        self.function = function
        self.nodes = torch.from_numpy(points).to(device)
        self.weights = torch.from_numpy(weights / math.sqrt(2 * math.pi)).to(device)

    def values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The activation and its derivative."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = self.function(leaf)
            (slope,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), slope

    def square(self, deviations: Tensor) -> Tensor:
        """E f(u)^2 for u of the given deviations, of any shape."""
        return self.values(deviations[..., None] * self.nodes)[0].square() @ self.weights

    def deviations(self, points: Points, layers: list[Layer]) -> list[Tensor]:
        """Deviations of the points behind each linear layer."""
        moments, found = points.deviations.square(), []
        for layer in layers:
            found.append((layer.weight**2 * moments + layer.bias**2).sqrt())
            moments = self.square(found[-1])
        return found

    def products(self, mine: Tensor, theirs: Tensor, cosine: Tensor) -> tuple[Tensor, Tensor]:
        """E f(u) f(v) and E f'(u) f'(v) for deviations that expand to the shape of ``cosine``."""
        values, slopes = torch.empty_like(cosine).flatten(), torch.empty_like(cosine).flatten()
        flat = [t.expand(cosine.shape).flatten() for t in (cosine.clamp(-1, 1), mine, theirs)]
        step = max(1, CHUNK // len(self.nodes) ** 2)
        for part in (slice(i, i + step) for i in range(0, len(values), step)):
            c, left, right = (t[part, None, None] for t in flat)
            sine = ((1 - c) / 2).sqrt() * self.nodes
            along = ((1 + c) / 2).sqrt() * self.nodes[:, None]
            f, df = self.values(left * (along + sine))
            g, dg = self.values(right * (along - sine))
            values[part] = f.mul_(g) @ self.weights @ self.weights
            slopes[part] = df.mul_(dg) @ self.weights @ self.weights
        return values.view(cosine.shape), slopes.view(cosine.shape)

    def entries(
        self,
        cosine: Tensor,
        mine: list[Tensor],
        theirs: list[Tensor],
        layers: list[Layer],
        inputs: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """NNGP, tangent kernel and gap of a panel; ``inputs`` are the points' own deviations."""
        first, *later = layers
        size = inputs[0][:, None] * inputs[1]
        covariance = tangent = first.weight**2 * size * cosine + first.bias**2
        for place, layer in enumerate(later):
            left, right = mine[place][:, None], theirs[place]
            values, slopes = self.products(left, right, correlation(covariance, left, right))
            covariance = layer.weight**2 * values + layer.bias**2
            tangent = covariance + layer.weight**2 * slopes * tangent
        return covariance, tangent, 1 - correlation(covariance, mine[-1][:, None], theirs[-1]).abs()


def correlation(covariance: Tensor, mine: Tensor, theirs: Tensor) -> Tensor:
    """0 where a deviation is 0."""
    size = mine * theirs
    return torch.where(size == 0, 0.0, covariance / size)
