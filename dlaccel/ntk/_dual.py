r"""Activations as maps of second moments, in plain torch, for kernels with positions.

Beside a covariance k of variances q and q' there is its distance :math:`q + q' - 2 k`, the mean
square of the difference. Linear layers scale it and drop their bias, which makes it exact for equal
inputs; from it a rectifier knows the angle of near-duplicates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..ops._arc_cosine import rectify
from ._activations import ABRelu, Function
from ._quadrature import Quadrature, correlation


@dataclass(frozen=True)
class Moments:
    """Covariances of pairs, their distances, and the variances on both sides, which expand."""

    covariance: Tensor
    distance: Tensor
    variances1: Tensor
    variances2: Tensor


class Dual:
    """One activation: what it makes of variances, of covariances, and its mean slope product."""

    def __init__(
        self, activation: ABRelu | str | Function, nodes: int, device: torch.device
    ) -> None:
        self.activation = activation
        self.rule = (
            None if isinstance(activation, ABRelu | str) else Quadrature(activation, nodes, device)
        )

    def variance(self, q: Tensor) -> Tensor:
        """E f(u)^2."""
        if isinstance(self.activation, ABRelu):
            return self.activation.gain**2 * q
        if self.rule is not None:
            return self.rule.square(q.sqrt())
        return (2 / math.pi) * torch.atan2(2 * q, (1 + 4 * q).sqrt())

    def __call__(self, x: Moments) -> tuple[Moments, Tensor]:
        """The moments of f(u), f(v), and E f'(u) f'(v)."""
        q = (self.variance(x.variances1), self.variance(x.variances2))
        if isinstance(self.activation, ABRelu):
            covariance, distance, slope = _rectified(x, self.activation)
            return Moments(covariance, distance, *q), slope
        if self.rule is not None:
            left, right = x.variances1.sqrt(), x.variances2.sqrt()
            cosine = correlation(x.covariance, left, right)
            covariance, slope = self.rule.products(left, right, cosine)
        else:
            covariance, slope = _erf(x)
        return Moments(covariance, q[0] + q[1] - 2 * covariance, *q), slope


def _rectified(x: Moments, rectifier: ABRelu) -> tuple[Tensor, Tensor, Tensor]:
    left, right = x.variances1.sqrt(), x.variances2.sqrt()
    size, radial = left * right, (left - right).square()
    some = torch.where(size == 0, 1.0, size)
    cosine = torch.where(size == 0, 0.0, x.covariance / some).clamp(-1, 1)
    near = ((x.distance - radial) / (2 * some)).clamp(0, 1)
    gap = torch.where(cosine > 0, near, 1 - cosine.abs())
    gain = rectifier.gain**2
    cosine, gap, slope = rectify(cosine, gap, rectifier.contrast)
    to_one = torch.where(cosine < 0, 1 - cosine, gap)
    return gain * size * cosine, gain * (radial + 2 * size * to_one), gain * slope


def _erf(x: Moments) -> tuple[Tensor, Tensor]:
    q = (1 + 2 * x.variances1) * (1 + 2 * x.variances2)
    rest = (q - 4 * x.covariance.square()).sqrt()
    return (2 / math.pi) * torch.atan2(2 * x.covariance, rest), (4 / math.pi) / rest
