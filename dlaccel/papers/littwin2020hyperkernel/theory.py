"""The paper's kernels in closed form, in its symbols; float64, entry by entry.

h(u) = g(z; f(x; w)) with u = (x, z). f has L layers of weights, y^l = W^l q^(l-1) / n_(l-1)^(1/2),
q^l = 2^(1/2) relu(y^l); y^L is cut into V^1 .. V^H, the weights of g, which has the same form. All
W are standard normal and only they are trained. Widths n of f and m of g go to infinity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Covariance:
    """Covariances of a quantity at u and u', which broadcast against each other.

    Attributes:
        cross: At u and u'.
        first: Variance at u.
        second: Variance at u'.
    """

    cross: Tensor
    first: Tensor
    second: Tensor

    @classmethod
    def of(cls, left: Tensor, right: Tensor) -> Covariance:
        """Of inputs ``[N, d]`` and ``[M, d]``: x . x' / d, all pairs, ``[N, M]``."""
        d = left.shape[1]
        first, second = left.square().sum(1) / d, right.square().sum(1) / d
        return cls(left @ right.T / d, first[:, None], second[None, :])

    @property
    def scale(self) -> Tensor:
        """Product of the two standard deviations."""
        return (self.first * self.second).sqrt()

    @property
    def angle(self) -> Tensor:
        """Angle theta = arccos of the correlation, without arccos' loss of digits near 1."""
        rho = (self.cross / self.scale).clamp(-1, 1)
        return 2 * torch.atan2((1 - rho).sqrt(), (1 + rho).sqrt())


@dataclass(frozen=True)
class Kernels:
    """Both kernels of h.

    Attributes:
        gp: Covariance of h(u) and h(u'), K_GP.
        tangent: The hyperkernel K_h; of g alone Theta_g.
        activity: A^(H-1), the covariance of the last activities of g.
    """

    gp: Tensor
    tangent: Tensor
    activity: Tensor


def kappa0(p: Covariance) -> Tensor:
    """2 E[relu'(a) relu'(b)] = (pi - theta) / pi for a, b normal with covariance p."""
    return (math.pi - p.angle) / math.pi


def kappa1(p: Covariance) -> Covariance:
    """2 E[relu(a) relu(b)] = scale (sin theta + (pi - theta) cos theta) / pi; variances stay."""
    theta = p.angle
    cross = p.scale * (theta.sin() + (math.pi - theta) * theta.cos()) / math.pi
    return Covariance(cross, p.first, p.second)


def meta_kernels(x: Covariance, depth: int) -> tuple[Covariance, Tensor]:
    """Of f with L = ``depth``: s = S^L with its variances, and Theta_f.

    S^1 = x.x' / n_0, S^(l+1) = kappa1(S^l), Theta_f = sum_l S^l prod_(k=l)^(L-1) kappa0(S^k).
    """
    s, theta = x, x.cross
    for _ in range(depth - 1):
        slope, s = kappa0(s), kappa1(s)
        theta = s.cross + slope * theta
    return s, theta


def primary_kernels(
    s: Covariance, z: Covariance, depth: int, *, backward_scale: bool = True
) -> Kernels:
    """Of g with H = ``depth`` under weights of covariance s: K_GP and Theta_g.

    A^0 = z.z' / m_0, P^l = s A^(l-1), A^l = kappa1(P^l), K_GP = P^H and
    Theta_g = sum_l A^(l-1) prod_(k=l)^(H-1) (s kappa0(P^k)).

    Args:
        s: Covariance of the generated weights.
        z: A^0.
        depth: H.
        backward_scale: False drops s from the products of Theta_g, as the released code does.
    """
    a, theta = z, z.cross
    for _ in range(depth - 1):
        p = _product(s, a)
        slope, a = kappa0(p), kappa1(p)
        theta = a.cross + (s.cross * slope if backward_scale else slope) * theta
    return Kernels(s.cross * a.cross, theta, a.cross)


def hyperkernel(
    x: Covariance,
    z: Covariance,
    meta_depth: int,
    primary_depth: int,
    *,
    backward_scale: bool = True,
) -> Kernels:
    """K_GP and K_h = Theta_f Theta_g of h, from S^1 of x and A^0 of z."""
    s, theta_f = meta_kernels(x, meta_depth)
    found = primary_kernels(s, z, primary_depth, backward_scale=backward_scale)
    return Kernels(found.gp, theta_f * found.tangent, found.activity)


def term_exponent(order: int, primary_depth: int, wide_primary: bool) -> float:
    """Exponent e in |K^(r)| ~ n^e, f of width n and g of H layers (0: f alone, a plain network).

    1 - r for a plain network, and where g is as wide as f; else min(0, H - r).
    """
    if wide_primary or primary_depth == 0:
        return 1.0 - order
    return float(min(0, primary_depth - order))


def cost_exponent(order: int, primary_depth: int, wide_primary: bool) -> float:
    """Exponent e in |c^(r)| ~ n^e; c = mean (h - y)^2 / 2 has terms h^(i) h^(r - i)."""
    exponents = [
        term_exponent(i, primary_depth, wide_primary) if i else 0.0 for i in range(order + 1)
    ]
    return max(low + high for low, high in zip(exponents, exponents[::-1], strict=True))


def _product(s: Covariance, a: Covariance) -> Covariance:
    return Covariance(s.cross * a.cross, s.first * a.first, s.second * a.second)
