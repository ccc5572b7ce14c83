"""Definitions and bounds of arXiv 2112.15121, in the paper's order and symbols.

P~_1 .. P~_l are the source classes with m samples each, S~_c; P_1 .. P_k are the target classes
with n samples each, S_c; all classes come from one distribution D. f maps an input to the p
features below the top layer, mu_f(Q) = E f(x) and Var_f(Q) = E |f(x) - mu_f(Q)|^2 for x from Q.
The class-distance normalised variance

    V_f(Q, Q') = (Var_f(Q) + Var_f(Q')) / (2 |mu_f(Q) - mu_f(Q')|^2)

is :meth:`dlaccel.collapse.ClassGeometry.cdnv`. The target is classified by the nearest class
centre, h(x) = argmin_c |f(x) - mu_f(S_c)|, and L_D(f) is the expected 0/1 error of h.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from dlaccel.collapse import ClassGeometry

LEAST_A = 5.0
"""The directional bound is stated for every a from here on."""


@dataclass(frozen=True)
class NewSamples:
    """Proposition 1 for every pair of classes, ``(C, C)`` each, NaN where a class is alone.

    Attributes:
        fresh: V_f(Q1, Q2).
        a: A.
        b: B.
        bound: (V_f(S1, S2) + B) (1 + A)^2.
    """

    fresh: Tensor
    a: Tensor
    b: Tensor
    bound: Tensor


def new_samples(sample: ClassGeometry, fresh: ClassGeometry) -> NewSamples:
    r"""Proposition 1: how much larger the CDNV of fresh samples of the same classes can be.

    With d = |mu(Q1) - mu(Q2)|, its value d^ on the samples, and

        A = (|mu(S1) - mu(Q1)| + |mu(S2) - mu(Q2)|) / d,
        B = (e1 + e2) / (2 d^^2),  e_c = max(0, Var(Q_c) - Var(S_c)),

    d^ <= (1 + A) d gives V_f(Q1, Q2) <= (V_f(S1, S2) + B) (1 + A)^2. The paper bounds A and B by
    Rademacher complexities of order m^(-1/2); here they are what they are.

    Args:
        sample: Classes of the training samples S_c.
        fresh: The same classes, of samples that were not trained on, as Q_c.
    """
    off = (sample.means - fresh.means).norm(dim=1)
    excess = (fresh.variances - sample.variances).clamp(min=0)
    before, after = (geometry.distances().pairs for geometry in (sample, fresh))
    a = _pair_sums(off) / after
    b = _pair_sums(excess) / (2 * before.square())
    bound = (sample.cdnv().pairs + b) * (1 + a).square()
    return NewSamples(fresh.cdnv().pairs, a, b, bound)


def _pair_sums(values: Tensor) -> Tensor:
    return values[:, None] + values


def new_classes_rate(source_classes: int) -> float:
    """Proposition 2: the order in l, l^(-1/2), of E V_f(P, P') - Avg V_f(P~_i, P~_j).

    Its factor, a complexity of f over the least squared distance of class means, has no value that
    can be computed.
    """
    return 1 / math.sqrt(source_classes)


def few_shot_bound(cdnv: float, ways: int, shots: int, s: float = 1.0) -> float:
    """Proposition 3: L_D(f) <= 16 (k - 1) (1/n + 1/s) E V_f(P, P').

    Args:
        cdnv: E V_f(P, P') over pairs of target classes.
        ways: k.
        shots: n.
        s: p for features that are spherically symmetric in every class, 1 in general.
    """
    return 16 * (ways - 1) * (1 / shots + 1 / s) * cdnv


def informative_cdnv(ways: int, shots: int, s: float = 1.0) -> float:
    """The CDNV below which Proposition 3 says less than 1."""
    return 1 / few_shot_bound(1.0, ways, shots, s)


def rederived_bound(cdnv: float, ways: int, shots: int) -> float:
    """4 (k - 1) (1 + n^(-1/2))^2 E V_f(P, P'): Proposition 3 for s = 1, proved with less.

    With r = |x - mu_i| and r_c = |mu(S_c) - mu_c|, x of class i goes to j only if
    2 r + r_i + r_j >= |mu_i - mu_j| = d. By Markov's inequality for the square and Minkowski's, its
    probability is at most (2 sd_i + sd_i n^(-1/2) + sd_j n^(-1/2))^2 / d^2, sd_c^2 = Var(P_c);
    Minkowski's inequality again averages it over pairs. As (1 + x)^2 <= 2 (1 + x^2), it is at most
    half of Proposition 3. The shots may be drawn with or without replacement.
    """
    return 4 * (ways - 1) * (1 + 1 / math.sqrt(shots)) ** 2 * cdnv


def directional_bound(directional: float, cdnv: float, ways: int, shots: int) -> float:
    """A later bound of the same group (not of this paper): its first term sees the decision axis.

    (k - 1) min_a [(1/2 - 2/a - 2^(3/2) / (a n))^(-2) V~
    + (a / 4) (2 n^(-1/2) (V^(1/2) + V) + V / n)] over a >= 5 with a positive bracket. V~ is the
    directional CDNV, the variance along the line that joins the two means over their squared
    distance. Read in the repository of arXiv 2603.03530, not proved here.

    Args:
        directional: V~, averaged over ordered pairs of classes.
        cdnv: V, averaged likewise.
        ways: k.
        shots: n.
    """
    from scipy.optimize import minimize_scalar

    numerator = 2 + 2**1.5 / shots
    slope = (2 * (math.sqrt(cdnv) + cdnv) / math.sqrt(shots) + cdnv / shots) / 4

    def at(log_a: float) -> float:
        a = math.exp(log_a)
        return (0.5 - numerator / a) ** -2 * directional + a * slope

    # From 1e6 on the first term is 4 V~ to five digits.
    least = max(LEAST_A, 2 * numerator * (1 + 1e-9))
    found = minimize_scalar(at, bounds=(math.log(least), math.log(1e6)), method="bounded")
    return float((ways - 1) * found.fun)
