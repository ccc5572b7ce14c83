"""A measure of every two classes, and its summaries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .. import _check

NAME = "PairStatistics"


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of pairs between edges.

    Attributes:
        counts: (bins,) int64. A pair beyond the edges is in no bin, nor is one that is NaN.
        edges: (bins + 1,) float64, ascending. A bin holds its left edge, the last also its right.
    """

    counts: Tensor
    edges: Tensor


@dataclass(frozen=True, eq=False)
class PairStatistics:
    """A measure of all pairs of two different classes.

    Every summary is over the pairs whose two classes are included, and NaN where there is none. A
    NaN between two included classes comes from the data: mean, min, max and median show it.

    Attributes:
        pairs: (C, C) float64; NaN on the diagonal and for pairs of a class that is left out.
        included: (C,) bool, the classes that take part.
        ordered: Whether (i, j) and (j, i) are two pairs; otherwise ``pairs`` is symmetric.
    """

    pairs: Tensor
    included: Tensor
    ordered: bool = False

    @cached_property
    def values(self) -> Tensor:
        """(:attr:`count`,) float64: each pair that takes part once, in no stated order."""
        kept = self.pairs
        if not self.included.all():
            kept = kept[self.included][:, self.included]
        return off_diagonal(kept, self.ordered)

    @property
    def count(self) -> int:
        """The number of pairs that take part."""
        return len(self.values)

    @property
    def excluded(self) -> int:
        """The number of pairs that a class left out takes with it."""
        classes = len(self.pairs)
        return classes * (classes - 1) // (1 if self.ordered else 2) - self.count

    @property
    def mean(self) -> Tensor:
        """() float64."""
        return self.values.mean()

    @property
    def min(self) -> Tensor:
        """() float64."""
        return self.values.amin() if self.count else self._nan()

    @property
    def max(self) -> Tensor:
        """() float64."""
        return self.values.amax() if self.count else self._nan()

    @property
    def median(self) -> Tensor:
        """() float64, between the two middle pairs where their number is even."""
        if not self.count:
            return self._nan()
        middle = self.count // 2
        if self.values.is_cpu:  # NumPy's selection takes a tenth of the time of torch's
            ranked = torch.from_numpy(np.partition(self.values.numpy(), middle))
        else:
            ranked = self.values.sort().values
        upper = ranked[middle]
        lower = upper if self.count % 2 else ranked[:middle].amax()
        return torch.where(self.values.isnan().any(), torch.nan, (lower + upper) / 2)

    def histogram(self, bins: int | Tensor = 50) -> Histogram:
        """The pairs counted by size.

        Args:
            bins: A number of bins of equal width from the smallest to the largest finite pair, or
                their (bins + 1,) edges in ascending order.

        Raises:
            ValueError: ``bins`` is below one, or its edges are fewer than two or do not ascend.
        """
        if isinstance(bins, Tensor):
            return self._between(bins.to(self.values))
        if bins < 1:
            _check.refuse(NAME, "bins", "be at least 1", bins, ValueError)
        finite = self.values
        low, high = _range(finite)
        if not math.isfinite(high - low):
            finite = finite[finite.isfinite()]
            low, high = _range(finite)
        places = ((finite - low) * (bins / (high - low))).long().clamp_(max=bins - 1)
        edges = torch.linspace(low, high, bins + 1, dtype=finite.dtype, device=finite.device)
        return Histogram(places.bincount(minlength=bins), edges)

    def _between(self, edges: Tensor) -> Histogram:
        if edges.ndim != 1 or len(edges) < 2 or not bool((edges.diff() > 0).all()):
            _check.refuse(
                NAME, "bins", "be ascending edges, at least two", edges.tolist(), ValueError
            )
        inside = self.values[(self.values >= edges[0]) & (self.values <= edges[-1])]
        places = torch.bucketize(inside, edges[1:-1], right=True)
        return Histogram(places.bincount(minlength=len(edges) - 1), edges)

    def _nan(self) -> Tensor:
        return self.pairs.new_tensor(torch.nan)


def _range(values: Tensor) -> tuple[float, float]:
    """The smallest and the largest value, or what is wide enough to hold them where they agree."""
    if not len(values):
        return 0.0, 1.0
    low, high = (float(x) for x in values.aminmax())
    return (low, high) if low != high else (low - 0.5, high + 0.5)


def off_diagonal(square: Tensor, ordered: bool) -> Tensor:
    """What stands off the diagonal of (k, k), in no stated order.

    Not ordered, the matrix is symmetric and each pair is taken once: (k (k - 1) / 2,).
    """
    k = len(square)
    # The flat matrix but for its first element, as rows of k + 1 that end on the diagonal: row i
    # has (i, i + 1), (i, i + 2), .. and past the matrix's edge (i + 1, 0), (i + 1, 1), ..
    rows = square.flatten()[1:].view(max(k - 1, 0), k + 1)
    if ordered:
        return rows[:, :-1].flatten()
    # Its column d - 1 has the pairs that differ by d in the upper triangle and those by k + 1 - d
    # in the lower one. With k odd the middle difference would come twice: it comes from above.
    half = rows[:, : k // 2].flatten()
    return torch.cat([half, square.diagonal((k + 1) // 2)]) if k % 2 else half
