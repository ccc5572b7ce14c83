"""Definitions and inequalities T1 to T5 of arXiv 2212.12532, in the paper's order and symbols.

Source classes P~_1 .. P~_l with m samples each and target classes P_1 .. P_k with n samples each,
S_c, come from one distribution D over classes. f gives features; mu_f(Q) and Var_f(Q) are mean and
(scalar) variance of a class. Here the class-distance normalised variance has one side,

    V_f(Qi, Qj) = Var_f(Qi) / |mu_f(Qi) - mu_f(Qj)|^2,

``ClassGeometry.cdnv(one_sided=True)``, whose average over ordered pairs is that of the symmetric
one of arXiv 2112.15121. The error of the pair (i, j) with n shots is

    E_n(i, j) = Pr over x of P_i, S_i, S_j of |f(x) - mu_f(S_i)| >= |f(x) - mu_f(S_j)|,

so that ties are errors, and L_D(f) is the expected k-way error of the nearest class centre.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class MainBound:
    """T1, term by term: constants and logarithms are hidden, so no value of it certifies anything.

    L_D(f) <~ (k - 1) Avg V_f(S~_i, S~_j) + [k C(f) / min |mu(S~_i) - mu(S~_j)|]
    (n^2 m^(-1/2) + l^(-1/2)).

    Attributes:
        collapse: The first term; what the sample says if nothing else were to be paid.
        scale: k over the least distance of class means: what multiplies C(f) and the rates.
        samples: n^2 m^(-1/2), from samples to classes; it grows with n, so that only n^2 far below
            m^(1/2) makes sense of it.
        classes: l^(-1/2), from classes to new classes.
    """

    collapse: float
    scale: float
    samples: float
    classes: float


def main_bound(
    cdnv: float,
    least_distance: float,
    *,
    ways: int,
    shots: int,
    samples: int,
    source_classes: int,
) -> MainBound:
    """T1 from the observables of the source training sample.

    Args:
        cdnv: Avg V_f(S~_i, S~_j) over i != j.
        least_distance: min |mu_f(S~_i) - mu_f(S~_j)| over i != j.
        ways: k.
        shots: n.
        samples: m.
        source_classes: l.
    """
    return MainBound(
        collapse=(ways - 1) * cdnv,
        scale=ways / least_distance,
        samples=shots**2 * samples**-0.5,
        classes=source_classes**-0.5,
    )


def union_bound(pairwise: float, ways: int) -> float:
    """T2: the k-way error is at most (k - 1) times the average E_n(i, j); equal for k = 2.

    :meth:`dlaccel.collapse.CentreErrors.k_way` averages the k-way error over all choices of k
    classes, so that on the same draws the inequality holds without any Monte Carlo error.
    """
    return (ways - 1) * pairwise


def ramp(margins: Tensor, width: float | Tensor) -> Tensor:
    """T3's relaxation of "margin <= 0": 1 up to 0, falling to 0 at ``width``, 1/width-Lipschitz.

    The margin of x in the pair (i, j) is |f(x) - mu(S_j)| - |f(x) - mu(S_i)|; the paper's width is
    of the order of the least distance of class means.
    """
    return (1 - margins / width).clamp(0, 1)


def pairwise_bound(cdnv: float, shots: int) -> float:
    """T4: Avg E_n(i, j) <= 16 (1 + 2/n) Avg V_f(Qi, Qj).

    If |x - mu_i|, |mu(S_i) - mu_i| and |mu(S_j) - mu_j| are below |mu_i - mu_j| / 4, x is told
    right. Chebyshev's inequality for each: E_n(i, j) <= 16 V_ij + 16 V_ij / n + 16 V_ji / n.
    """
    return 16 * (1 + 2 / shots) * cdnv


def spherical_bound(cdnv: float, shots: int, p: int) -> float:
    """T4 for spherically symmetric classes in p dimensions: 16 (1/p + 1/n) V (recalled)."""
    return 16 * (1 / p + 1 / shots) * cdnv


def squared_margin(distance: float, var_i: float, var_j: float, shots: int) -> float:
    """T5: E |x - mu(S_j)|^2 - E |x - mu(S_i)|^2 = d^2 + (Var_j - Var_i) / n, x fresh from i."""
    return distance**2 + (var_j - var_i) / shots


def gaussian_class_cdnv(p: int, sigma: float) -> float:
    """E V for class means from N(0, I_p) and class variance p sigma^2: p sigma^2 / (2 (p - 2)).

    The squared distance of two means is 2 chi^2_p, and E 1 / chi^2_p = 1 / (p - 2) for p > 2.
    """
    return p * sigma**2 / (2 * (p - 2))
