r"""Few-shot errors between any two classes, and so among any k, on the same draws.

For classes i and j, with n support samples of each drawn anew,

.. math:: E_n(i, j) = \Pr_{x \sim i,\; S_i, S_j}
    [ \|f(x) - \mu(S_i)\| \ge \|f(x) - \mu(S_j)\| ], \qquad x \notin S_i,

of arXiv 2212.12532; ties are errors. With F all features about one of them and R the 0/1 matrix
that selects the supports, every squared distance is, times :math:`n^2` and up to a term of x alone,

.. math:: (R F F^T R^T)_{jj} - 2n (R F F^T)_{jx},

so that no pair is visited by itself. The products run over tiles of draws and samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _check
from ._batches import as_rows
from .episodes import check_counts, check_finite, class_members, draw
from .heads import about_the_middle

OP = "pairwise_errors"
STRIP = 1 << 23
"""Inner products of all samples with some of them, kept at a time: 64 MB."""
SCORES = 1 << 17
"""Scores of a tile of draws, classes and samples: 1 MB, which stays in cache."""

# Nanoseconds on one AVX-512 core, of which only the ratios matter: a multiply-add of a float64
# matrix product, a score, and each inner product that is looked up for it.
MULTIPLIED, SCORED, ENTRY = 0.04, 1.0, 0.6


@dataclass(frozen=True, eq=False)
class CentreErrors:
    r"""How held-out samples fare among the few-shot centres of all classes.

    A class of fewer than n + 1 samples is left out; its entries are NaN.

    Attributes:
        pairs: (C, C) float64, :math:`E_n(i, j)`; NaN on the diagonal.
        nearer: (C, P) float64, of class i the share of (sample, draw) for which exactly b of the
            other P - 1 classes have a centre at least as near as its own.
        by_draw: (R,) float64, the mean over ordered pairs in each draw; its spread over
            :math:`\sqrt R` is the standard error of the mean of ``pairs``.
    """

    pairs: Tensor
    nearer: Tensor
    by_draw: Tensor

    def k_way(self, ways: int) -> Tensor:
        r"""(C,) float64, each class's error in k-way episodes, averaged over all sets of classes.

        Among k - 1 other classes drawn from P - 1, of which b are nearer, none is with probability
        :math:`\binom{P - 1 - b}{k - 1} / \binom{P - 1}{k - 1}`. For k = 2 this is the mean of
        ``pairs`` over j, and for every k at most k - 1 times that, draw by draw.

        Raises:
            ValueError: ``ways`` is not in [2, P].
        """
        others = self.nearer.shape[1] - 1
        if not 2 <= ways <= others + 1:
            rule = f"lie in [2, {others + 1}], the classes that take part"
            _check.refuse("CentreErrors.k_way", "ways", rule, ways, ValueError)
        nearer = torch.arange(others + 1, dtype=torch.float64, device=self.nearer.device)
        right = torch.ones_like(nearer)
        for drawn in range(ways - 1):
            right *= (others - nearer - drawn).clamp(min=0) / (others - drawn)
        return self.nearer @ (1 - right)


def pairwise_errors(
    features: Tensor, labels: Tensor, *, shots: int, draws: int, seed: int
) -> Tensor:
    """(C, C) float64, the few-shot error of every ordered pair (:func:`centre_errors`)."""
    return centre_errors(features, labels, shots=shots, draws=draws, seed=seed).pairs


def k_way_errors(
    features: Tensor, labels: Tensor, ways: int, *, shots: int, draws: int, seed: int
) -> Tensor:
    """(C,) float64, the k-way error by class, on the draws of :func:`pairwise_errors`."""
    return centre_errors(features, labels, shots=shots, draws=draws, seed=seed).k_way(ways)


def centre_errors(
    features: Tensor, labels: Tensor, *, shots: int, draws: int, seed: int
) -> CentreErrors:
    """Draws supports of all classes again and again, and ranks every other sample each time.

    Args:
        features: (N, ...), one row for each sample.
        labels: (N,) int64 or int32; samples of label -1 have no part.
        shots: n, support samples of each class in a draw.
        draws: R, independent draws of the supports of all classes.
        seed: From 0 to 2^64 - 1.

    Raises:
        TypeError: ``features`` is no floating or ``labels`` no int64 or int32 tensor.
        ValueError: Their lengths differ, a feature is not finite, a number is out of range, or
            fewer than two classes have n + 1 samples.
    """
    _check.tensors(OP, {"features": features})
    _check.floating(OP, {"features": features})
    members, offsets = class_members(OP, labels)
    if features.ndim == 0 or len(features) != len(labels):
        rule = f"have a row for each of {len(labels)} labels"
        _check.refuse(OP, "features", rule, f"shape {tuple(features.shape)}", ValueError)
    rows = as_rows(features.detach())
    check_finite(OP, "be finite", rows)
    check_counts(OP, 1, shots=shots, draws=draws)
    kept = (offsets.diff() > shots).nonzero().flatten()
    if len(kept) < 2:
        rule = f"give two classes shots + 1 = {shots + 1} samples"
        _check.refuse(OP, "labels", rule, f"{len(kept)} such classes", ValueError)
    drawn = _draw(rows, members, offsets, kept, shots, draws, seed)
    return _spread(_rank(drawn), kept, len(offsets) - 1)


def _spread(found: CentreErrors, kept: Tensor, classes: int) -> CentreErrors:
    """From the classes that take part to all, NaN where they do not."""
    pairs = found.pairs.new_full((classes, classes), torch.nan)
    pairs[kept[:, None], kept] = found.pairs
    nearer = found.nearer.new_full((classes, len(kept)), torch.nan)
    nearer[kept] = found.nearer
    return CentreErrors(pairs, nearer, found.by_draw)


@dataclass(frozen=True)
class _Draws:
    """M samples sorted by class, and of all P classes R supports of n.

    Attributes:
        features: (M, D) float64, about one of them.
        own: (M,), the class of each.
        sizes: (P,), samples of each class.
        support: (R, P, n), places among the M.
        held_out: (R, M) bool, in no support of the draw.
    """

    features: Tensor
    own: Tensor
    sizes: Tensor
    support: Tensor
    held_out: Tensor


def _draw(
    rows: Tensor,
    members: Tensor,
    offsets: Tensor,
    kept: Tensor,
    shots: int,
    draws: int,
    seed: int,
) -> _Draws:
    sizes = offsets.diff()[kept]
    ends = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    own = torch.arange(len(kept), device=kept.device).repeat_interleave(sizes)
    place = torch.arange(len(own), device=kept.device)
    chosen = members[offsets[kept][own] + place - ends[own]]
    everyone = torch.arange(len(kept), device=kept.device)
    shape = (draws, len(kept), shots)
    classes, samples = draw(OP, place, ends, everyone, shape, seed)
    # A draw's classes come shuffled; here each goes to its own place.
    support = samples.scatter(1, classes[..., None].expand_as(samples), samples)
    held_out = torch.ones(draws, len(own), dtype=torch.bool, device=own.device)
    held_out.scatter_(1, support.flatten(1), False)
    features = about_the_middle(rows[chosen.to(rows.device)])
    return _Draws(features, *(t.to(rows.device) for t in (own, sizes, support, held_out)))


def _rank(drawn: _Draws) -> CentreErrors:
    draws, classes, shots = drawn.support.shape
    held_out = (drawn.sizes - shots).double()
    pairs = drawn.features.new_zeros(classes, classes)
    ranks = drawn.features.new_zeros(classes * (classes + 1))
    by_draw = drawn.features.new_zeros(draws)
    for some, samples, scores in _scores(drawn):
        own = drawn.own[samples]
        mine = scores.gather(1, own.expand(len(scores), 1, -1))
        nearer = ~(mine < scores) & drawn.held_out[some, None, samples]  # a NaN is an error
        pairs.index_add_(0, own, nearer.sum(0, dtype=torch.float64).T)
        rank = nearer.sum(1)  # its own class is among them; 0 for a sample of a support
        ranks += torch.bincount((own * (classes + 1) + rank).flatten(), minlength=len(ranks))
        by_draw[some] += ((rank - 1).clamp(min=0) / held_out[own]).sum(1)
    pairs.fill_diagonal_(torch.nan)
    total = draws * held_out[:, None]
    nearer_classes = ranks.view(classes, classes + 1)[:, 1:]
    return CentreErrors(pairs / total, nearer_classes / total, by_draw / (classes * (classes - 1)))


def _scores(drawn: _Draws) -> Iterator[tuple[slice, slice, Tensor]]:
    """Tiles (T, P, B): for draws, classes and samples the squared distance, up to the sample's own.

    From inner products of the samples, looked up n at a time, or from those with the class sums.
    """
    draws, classes, shots = drawn.support.shape
    number, width = drawn.features.shape
    rows = draws * classes
    looked_up = MULTIPLIED * width * (rows - number) > rows * (SCORED + ENTRY * shots)
    strip = max(1, min(number, STRIP // number, SCORES // classes))
    some = max(1, SCORES // (classes * max(strip, width)))
    tiles = [slice(begin, begin + some) for begin in range(0, draws, some)]
    sums = (_sums(drawn.support[part], drawn.features) for part in tiles)
    within = torch.cat([each.square().sum(2) for each in sums])
    for first in range(0, number, strip):
        samples = slice(first, first + strip)
        asked = drawn.features[samples].T
        products = drawn.features @ asked if looked_up else None
        for part in tiles:
            support = drawn.support[part]
            if products is None:
                across = _sums(support, drawn.features) @ asked
            else:
                across = _sums(support, products)
            yield part, samples, within[part, :, None] - 2 * shots * across


def _sums(support: Tensor, rows: Tensor) -> Tensor:
    """(T, P, ...), sums of the rows that (T, P, n) selects."""
    bags = F.embedding_bag(support.flatten(0, 1), rows, mode="sum")
    return bags.view(*support.shape[:2], -1)
