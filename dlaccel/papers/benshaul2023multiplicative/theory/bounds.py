"""What no ReLU network can beat, and what one hidden layer of ReLUs does (P5).

Along a line, N ReLU neurons of any depth and any connections make at most 2^N affine pieces.
Proof: order the neurons so that each reads only earlier ones. Suppose that the first j are all
affine on each of p_j intervals of the line (p_0 = 1). The pre-activation of the next neuron is
affine on each, so it changes sign at most once there, and the neuron cuts it into at most two:
p_{j+1} <= 2 p_j.

One affine piece on an interval of length h where |f''| >= kappa without change of sign:

- sup norm: with e = f - affine, e(a) - 2 e(mid) + e(b) is the second difference of f, at least
  kappa h^2 / 4 in absolute value, so max |e| >= kappa h^2 / 16.
- L2 norm: with Phi = (x^2 - h^2/4)^2 around the middle, integral e Phi'' = integral f'' Phi, so by
  Cauchy-Schwarz integral e^2 >= kappa^2 (integral Phi)^2 / integral Phi''^2 = kappa^2 h^5 / 720.

Cut [-1, 1] into q cells of length L with least curvature kappa_i (0 where the sign changes); let
p_i pieces meet cell i, sum p_i <= p + q - 1. In a cell one piece has h >= L / p_i, and
sum h^5 >= L^5 / p_i^4 by convexity. So

- sup norm: p_i >= (L / 4) sqrt(kappa_i / epsilon), p_i >= 1, and p >= 1 + sum (p_i - 1);
- L2 norm: integral e^2 >= sum kappa_i^2 L^5 / (720 p_i^4) >= L^5 (sum kappa_i^(2/5))^5 / (720 P^4)
  with P = sum p_i (Hoelder), and p >= P - q + 1.

Each q gives a bound; the best over powers of two is taken, and N >= log2 p.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from .chebyshev import Function
from .networks import Affine, Array, ReLULayer, ReLUNetwork


def second_derivative(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Second derivative of ``function`` ``[P, d] -> [P]`` along the first coordinate, ``[P]``."""
    x = x.detach().clone().requires_grad_()
    (first,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first[:, 0].sum(), x)
    return second[:, 0]


POINTS = 1025
"""Points per line at which curvature is sampled; 512 cells share them, ends included."""


def sup_neurons(function: Function, epsilon: float) -> int:
    """ReLU neurons that any network within epsilon of ``function`` on [-1, 1] must have.

    The curvature of each cell is the least one sampled.
    """
    t = torch.linspace(-1, 1, POINTS, dtype=torch.float64)[:, None]
    curvature = second_derivative(lambda x: function(x[:, 0]), t)[None]
    pieces = []
    for kappa in _cells(curvature):
        each = (2 / kappa.shape[1] / 4 * (kappa[0] / epsilon).sqrt()).ceil().clamp(min=1)
        pieces.append(1 + float((each - 1).sum()))
    return math.ceil(math.log2(max(pieces)))


def l2_neurons(curvature: Tensor, density: float, epsilon: float) -> int:
    """ReLU neurons that any network within epsilon in L2(mu) of a function must have.

    mu is a product measure. Every line parallel to the first axis is cut into ``p <= 2 ** N``
    pieces, so that the bound of one line may be averaged over lines; the sample mean stands for
    the mean.

    Args:
        curvature: f'' at ``POINTS`` equidistant points of [-1, 1] on sampled lines,
            ``[lines, POINTS]``.
        density: A lower bound of the density of mu along a line.
        epsilon: The L2 error.
    """
    pieces = [1.0]
    for kappa in _cells(curvature):
        cells = kappa.shape[1]
        fifth = (kappa**0.4).sum(1) * (2 / cells)
        total = density * float((fifth**5).mean()) / (720 * epsilon**2)
        pieces.append(total**0.25 - cells + 1)
    return math.ceil(math.log2(max(pieces)))


def _cells(curvature: Tensor) -> Iterator[Tensor]:
    """Least ``|f''|`` of q = 1, 2, 4, .., 512 cells, ``[lines, q]``; 0 where signs differ."""
    width = curvature.shape[1] - 1
    while width > 1:
        cell = curvature.unfold(1, width + 1, width)
        yield torch.maximum(cell.amin(-1), -cell.amax(-1)).clamp(min=0)
        width //= 2


def interpolant(function: Function, knots: Array) -> ReLUNetwork:
    """One hidden layer that interpolates ``function`` linearly at ``knots``: a neuron a piece."""
    values = function(torch.from_numpy(knots)).numpy()
    slopes = np.diff(values) / np.diff(knots)
    weights = torch.from_numpy(np.diff(slopes, prepend=0.0))[None]
    units = Affine.dense(torch.ones(len(slopes), 1), -torch.from_numpy(knots[:-1]))
    output = Affine.dense(weights, torch.from_numpy(values[:1]))
    return ReLUNetwork((ReLULayer(units),), output)


def smallest_interpolant(function: Function, epsilon: float) -> ReLUNetwork:
    """The interpolant on [-1, 1] with the fewest pieces whose error, measured, is below epsilon.

    Knots are spread evenly in ``integral |f''|^(1/2)``, which is asymptotically the best placing;
    the number of pieces is found by doubling, then bisection.
    """
    t = torch.linspace(-1, 1, 20001, dtype=torch.float64)[:, None]
    root = second_derivative(lambda x: function(x[:, 0]), t).abs().sqrt().numpy()
    mass = np.cumsum(root + 0.01 * root.mean())  # the floor keeps knots where f is almost straight
    place = (mass - mass[0]) / (mass[-1] - mass[0])

    def knots(pieces: int) -> Array:
        inner: Array = np.interp(np.linspace(0, 1, pieces + 1), place, t[:, 0].numpy())
        return inner

    def reaches(pieces: int) -> bool:
        at = knots(pieces)
        inside = (at[:-1, None] + np.diff(at)[:, None] * np.linspace(0, 1, 17)).ravel()
        exact = function(torch.from_numpy(inside)).numpy()
        straight = np.interp(inside, at, function(torch.from_numpy(at)).numpy())
        return bool(np.abs(exact - straight).max() <= epsilon)

    enough = 1
    while not reaches(enough):
        enough *= 2
    lacking = enough // 2
    while enough - lacking > 1:
        middle = (enough + lacking) // 2
        enough, lacking = (middle, lacking) if reaches(middle) else (enough, middle)
    return interpolant(function, knots(enough))
