r"""Definitions and the bound of arXiv 2202.09028, in the paper's order and symbols.

A network h = e o f_L, f_L = g^L o .. o g^1, has the features f_i after layer i. Of a set S of
labelled samples, the *nearest-centre classifier* of layer i is
:math:`\hat h_i(x) = argmin_c \|f_i(x) - \mu_{f_i}(S_c)\|` with the class means of S
(:class:`dlaccel.collapse.NearestCentre`), and :math:`err_S(\hat h_i)` its error on S. How far the
classes are collapsed is the CDNV, :math:`V(P, Q) = (Var_P + Var_Q) / (2 \|\mu_P - \mu_Q\|^2)`, over
all pairs of classes (:meth:`dlaccel.collapse.ClassGeometry.cdnv`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from dlaccel.collapse.depth import effective_depth

__all__ = [
    "Estimate",
    "Mistakes",
    "balanced_samples",
    "bound_estimate",
    "depth_or_beyond",
    "effective_depth",
    "minimal_depth",
    "monotonicity_failures",
    "noisy_labels",
    "wrong_labels",
]


def depth_or_beyond(errors: Sequence[float], epsilon: float) -> int:
    r"""The :math:`\epsilon`-effective depth :math:`d^\epsilon_S(h)`, or L + 1 where there is none.

    Args:
        errors: :math:`err_S(\hat h_i)` for i = 1 .. L.
        epsilon: The error that is let pass.
    """
    return effective_depth(errors, epsilon) or len(errors) + 1


def minimal_depth(depths: Sequence[int | None], deepest: int) -> int:
    r"""The least effective depth of trained networks, for :math:`d^\epsilon_{min}(G, S)`.

    The definition asks for the smallest L for which *some* f in G^L has a nearest-centre error of
    at most epsilon on S. Training need not find it, so this is an upper bound, if any network has
    such a layer.

    Args:
        depths: Effective depths of networks of any depth, None where no layer reaches epsilon.
        deepest: The largest L among them; ``deepest + 1`` is returned where there is none.
    """
    return min((depth for depth in depths if depth is not None), default=deepest + 1)


# Labels that are wrong


def noisy_labels(labels: Tensor, q: float, num_classes: int, generator: Generator) -> Tensor:
    """Each label is redrawn with probability q, from all classes: a share q (C - 1) / C is wrong.

    The draws are nested: what is redrawn at a smaller q is redrawn, to the same label, at a larger.
    """
    redrawn = torch.rand(len(labels), generator=generator) < q
    anew = torch.randint(num_classes, (len(labels),), generator=generator)
    return torch.where(redrawn, anew, labels)


def wrong_labels(labels: Tensor, p: float, num_classes: int, generator: Generator) -> Tensor:
    """Exactly p m of the m labels, rounded, are replaced by another class, uniformly."""
    order = torch.randperm(len(labels), generator=generator)
    chosen = order[: round(p * len(labels))]
    shift = torch.randint(1, num_classes, (len(chosen),), generator=generator)
    wrong = labels.clone()
    wrong[chosen] = (labels[chosen] + shift) % num_classes
    return wrong


def balanced_samples(
    labels: Tensor, per_class: int, parts: int, generator: Generator
) -> tuple[Tensor, ...]:
    """Disjoint S_1 .. S_parts, ``per_class`` rows of every class each, as indices in random order.

    Raises:
        ValueError: when a class has too few rows.
    """
    counts = torch.bincount(labels)
    if int(counts.min()) < parts * per_class:
        raise ValueError(
            f"dlaccel.galanti2022depth: labels must have {parts * per_class} samples of each "
            f"class, got {int(counts.min())} of class {int(counts.argmin())}."
        )
    shuffled = torch.randperm(len(labels), generator=generator)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    starts = counts.cumsum(0) - counts
    rows = by_class[starts[:, None] + torch.arange(parts * per_class)]
    parted = rows.reshape(len(counts), parts, per_class)
    return tuple(
        parted[:, part].flatten()[torch.randperm(len(counts) * per_class, generator=generator)]
        for part in range(parts)
    )


# The bound with corrupted labels


@dataclass(frozen=True)
class Estimate:
    """The bound at one p, as estimated.

    Attributes:
        p: Share of wrong labels in S~_2.
        probability: Share of draws whose effective depth reached the minimal depth.
        value: ``probability + (1 + alpha) p``.
    """

    p: float
    probability: float
    value: float


def bound_estimate(
    effective: Sequence[Sequence[int]], minimal: Sequence[int], p: float, alpha: float
) -> Estimate:
    r"""The first two terms of the bound on the expected test error, by counting draws.

    .. math::
        E\, err_P(h^\gamma_{S_1}) \le
        Pr_{S_1, S_2, \tilde Y_2}\big[ E_\gamma d^\epsilon_{S_1}(h^\gamma_{S_1})
            \ge d^\epsilon_{min}(G, S_1 \cup \tilde S_2) \big]
        + (1 + \alpha) p + \delta^1_m + \delta^2_{m, p, \alpha}

    :math:`\tilde S_2` is S_2 with p m wrong labels, gamma the initialisation. The estimate leaves
    out the deltas (:class:`Mistakes`, :func:`monotonicity_failures`) and has an upper bound in the
    place of the minimal depth, so it is an estimate and no certificate.

    Args:
        effective: :math:`d^\epsilon_{S_1}(h^\gamma_{S_1})`, for each draw one for each gamma.
        minimal: :func:`minimal_depth` on :math:`S_1 \cup \tilde S_2`, for each draw.
        p: Share of wrong labels, in (0, 1/2).
        alpha: In (0, 1).
    """
    reached = [
        sum(depths) / len(depths) >= least for depths, least in zip(effective, minimal, strict=True)
    ]
    probability = sum(reached) / len(reached)
    return Estimate(p, probability, probability + (1 + alpha) * p)


# Its two assumptions


@dataclass(frozen=True)
class Mistakes:
    r"""How uniform the mistakes of a learner on fresh data are (:math:`\delta^1_m`).

    The bound assumes that, but for a probability :math:`\delta^1_m`, every set of as many positions
    and every wrong label is equally likely.

    Attributes:
        count: Mistakes, a mean over initialisations.
        labels: Total variation between the pairs (true class, predicted class) of all mistakes and
            the uniform distribution over the C (C - 1) pairs.
        labels_uniform: What as many uniform mistakes give, on average.
        overlap: Mistakes that two initialisations share, over what chance would have them share;
            None where there are none.
    """

    count: float
    labels: float
    labels_uniform: float
    overlap: float | None

    @classmethod
    def of(
        cls, predictions: Tensor, labels: Tensor, num_classes: int, generator: Generator
    ) -> Mistakes:
        """From the predictions ``[initialisations, m]`` for samples with these labels ``[m]``.

        The mistakes of one initialisation are compared with as many uniform ones; several are
        averaged.
        """
        pairs = num_classes * (num_classes - 1)
        wrong = predictions != labels
        shift = (predictions - labels) % num_classes - 1
        pair = labels * (num_classes - 1) + shift
        found = [pair[i][wrong[i]] for i in range(len(predictions))]
        uniform = [torch.randint(pairs, (200, len(one)), generator=generator) for one in found]
        return cls(
            count=float(wrong.sum(1).double().mean()),
            labels=_mean([_total_variation(one, pairs) for one in found]),
            labels_uniform=_mean(
                [_total_variation(row, pairs) for rows in uniform for row in rows]
            ),
            overlap=_overlap(wrong),
        )


def _total_variation(drawn: Tensor, values: int) -> float:
    """Between the empirical distribution of integers and the uniform one over 0 .. values - 1."""
    if len(drawn) == 0:
        return 0.0
    share = torch.bincount(drawn, minlength=values) / len(drawn)
    return float((share - 1 / values).abs().sum() / 2)


def _overlap(wrong: Tensor) -> float | None:
    """Mean over pairs of rows of |A and B| / (|A| |B| / m)."""
    both = (wrong[:, None] & wrong[None, :]).sum(2).double()
    sizes = both.diagonal()
    chance = sizes[:, None] * sizes[None, :] / wrong.shape[1]
    pairs = torch.triu(chance, 1) > 0
    return float((both[pairs] / chance[pairs]).mean()) if bool(pairs.any()) else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def monotonicity_failures(
    minimal: Mapping[float, Sequence[int]], alpha: float
) -> dict[float, float]:
    r"""Share of draws in which more wrong labels do not need more depth (:math:`\delta^2`).

    At p a draw fails when for some :math:`q \ge (1 + \alpha) p` of the grid
    :math:`d_{min}(p) > E\, d_{min}(q)`. The largest p has no such q and is left out.

    Args:
        minimal: :func:`minimal_depth` of each draw, by p.
        alpha: In (0, 1).
    """
    failures = {}
    for p, depths in minimal.items():
        larger = [_mean(at) for q, at in minimal.items() if q >= (1 + alpha) * p]
        if larger:
            failures[p] = _mean([float(depth > min(larger)) for depth in depths])
    return failures
