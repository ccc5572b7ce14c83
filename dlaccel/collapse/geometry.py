r"""What labelled features look like, class by class: counts, means, spreads, and what follows.

Symbols: C classes, D features, :math:`n_c` samples of class c (or the sum of their weights) and N
of all, :math:`\mu_c` its mean, :math:`v_c` the trace of its covariance. Everything is float64.

A class without samples has mean and variance NaN, a class of one sample has variance NaN. Means
enter wherever they exist; pairs that need a variance leave such classes out and count the pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .. import _check
from ..ops import cdnv_pairs
from . import neural_collapse
from .neural_collapse import EqualAngles, SelfDuality
from .pairs import PairStatistics

NAME = "ClassGeometry"

Weighting = Literal["class", "sample"]
Collapse = Literal["pinv", "quotient", "trace"]


@dataclass(frozen=True, eq=False)
class ClassGeometry:
    r"""The statistics of the classes, and the measures of collapse that they give.

    Where ``weighting`` is asked for, ``"class"`` gives every class that has a sample the weight
    :math:`p_c = 1 / C`, ``"sample"`` the weight :math:`p_c = n_c / N`.

    Attributes:
        counts: (C,), the samples of each class, or the sum of their weights; 0 where absent.
        means: (C, D); NaN for an absent class.
        variances: (C,), :math:`\frac{1}{n_c} \sum \|x - \mu_c\|^2`; NaN for a class of fewer than
            two samples.
        scatter: (D, D), the covariance within classes :math:`\Sigma_W = \frac{1}{N} \sum_c
            \sum_{x \in c} (x - \mu_c)(x - \mu_c)^T`, where it was collected.
        class_covariances: (C, D, D), each divided by :math:`n_c`, where they were collected.

    Raises:
        TypeError: A tensor is not float64.
        ValueError: Shapes do not fit.
    """

    counts: Tensor
    means: Tensor
    variances: Tensor
    scatter: Tensor | None = None
    class_covariances: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuses what does not fit together."""
        _check.tensors(NAME, {"means": self.means})
        if self.means.ndim != 2:
            _check.refuse(NAME, "means", "have shape (C, D)", tuple(self.means.shape), ValueError)
        classes, width = self.means.shape
        shapes: dict[str, tuple[int, ...]] = {
            "counts": (classes,),
            "means": (classes, width),
            "variances": (classes,),
            "scatter": (width, width),
            "class_covariances": (classes, width, width),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is None and name in ("scatter", "class_covariances"):
                continue
            _check.tensors(NAME, {name: value})
            _check.dtype(NAME, {name: value}, torch.float64)
            if value.shape != shape:
                _check.refuse(NAME, name, f"have shape {shape}", tuple(value.shape), ValueError)

    @property
    def present(self) -> Tensor:
        """(C,) bool: the classes that have a sample."""
        return self.counts > 0

    @property
    def measured(self) -> Tensor:
        """(C,) bool: the classes that have a variance, even one that the data made NaN."""
        lone = self.variances.isnan() & self.means.sum(1).isfinite()
        return self.present & ~lone

    def global_mean(self, weighting: Weighting = "class") -> Tensor:
        r"""(D,): :math:`\mu_G = \sum_c p_c \mu_c`."""
        _check.choice(NAME, "weighting", weighting, ("class", "sample"))
        means = self.means[self.present]
        if weighting == "class":
            return means.mean(0)
        return self.counts[self.present] @ means / self.counts.sum()

    def between(self, weighting: Weighting = "class") -> Tensor:
        r"""The factor B of the covariance between classes, :math:`\Sigma_B = B^T B`.

        One row :math:`\sqrt{p_c} (\mu_c - \mu_G)` for each class present, in their order.
        """
        counts = self.counts[self.present]
        shares = counts if weighting == "sample" else torch.ones_like(counts)
        return (shares / shares.sum()).sqrt()[:, None] * self._centred(weighting)

    def within(self) -> Tensor:
        r"""(D, D): :math:`\Sigma_W`, the scatter, or what the classes' covariances make of it.

        Raises:
            ValueError: Neither was collected.
        """
        if self.scatter is not None:
            return self.scatter
        if self.class_covariances is None:
            rule = 'be collected (moments="pooled" or "full")'
            _check.refuse(NAME, "scatter", rule, None, ValueError)
        counts, covariances = self.counts[self.measured], self.class_covariances[self.measured]
        return torch.einsum("c,cij->ij", counts / self.counts.sum(), covariances)

    def within_trace(self) -> Tensor:
        r"""(): :math:`\mathrm{Tr}\,\Sigma_W = \sum_c n_c v_c / N`; one sample has no spread."""
        total = (self.counts * self.variances)[self.measured].sum()
        return total / self.counts.sum()

    def cdnv(self, *, one_sided: bool = False, ddof: int = 0) -> PairStatistics:
        r"""The class-distance normalised variance of all pairs.

        .. math:: V_{ij} = \frac{v_i + v_j}{2 \|\mu_i - \mu_j\|^2}

        of Galanti, Gyorgy, Hutter 2022, arXiv 2112.15121; one-sided
        :math:`v_i / \|\mu_i - \mu_j\|^2`, ordered pairs, of arXiv 2212.12532, which has the same
        mean. Equal means give infinity.

        Args:
            one_sided: The second form.
            ddof: Variances are divided by :math:`n_c` less this; classes that have no more than
                ``ddof`` samples are left out.
        """
        included = self.measured & (self.counts > ddof)
        variances = self.variances * (self.counts / (self.counts - ddof))
        measure = cdnv_pairs.ONE_SIDED if one_sided else cdnv_pairs.CDNV
        return PairStatistics(self._pairs(measure, variances, included), included, one_sided)

    def distances(self) -> PairStatistics:
        r""":math:`\|\mu_i - \mu_j\|` of all pairs of classes present."""
        squares = self._pairs(cdnv_pairs.SQUARED_DISTANCE, self.counts, self.present)
        return PairStatistics(squares.sqrt_(), self.present)

    def nc1(
        self,
        variant: Collapse = "pinv",
        *,
        rank: int | None = None,
        weighting: Weighting = "class",
    ) -> Tensor:
        r"""(): the variability within classes beside that between them, 0 at collapse.

        - ``"pinv"``: :math:`\mathrm{Tr}(\Sigma_W \Sigma_B^+) / C`, Papyan, Han, Donoho 2020, arXiv
          2008.08186. It needs the scatter; without one a second pass gives the same,
          :class:`~dlaccel.collapse.projection.Projections`.
        - ``"quotient"``: :math:`\mathrm{Tr}\,\Sigma_W / \mathrm{Tr}\,\Sigma_B`, Tirer, Huang,
          Niles-Weed 2023. Like the next it needs the variances alone.
        - ``"trace"``: :math:`\mathrm{Tr}\,\Sigma_W / (\mathrm{Tr}\,\Sigma_W +
          \mathrm{Tr}\,\Sigma_B)`, Rangamani et al. 2023.

        Args:
            variant: Which.
            rank: Of the pseudo-inverse: how many eigenvalues of :math:`\Sigma_B` count. Without it
                C - 1, or D, less those within rounding of 0.
            weighting: Of the classes in :math:`\Sigma_B` and its centre.

        Raises:
            ValueError: An unknown variant, a rank out of range, or no scatter where one is needed.
        """
        _check.choice(NAME, "variant", variant, ("pinv", "quotient", "trace"))
        between = self.between(weighting)
        if variant == "pinv":
            most = min(between.shape)
            if rank is not None and not 1 <= rank <= most:
                _check.refuse(NAME, "rank", f"lie in [1, {most}]", rank, ValueError)
            return neural_collapse.scatter_ratio(self.within(), between, rank)
        inner, outer = self.within_trace(), between.square().sum()
        return inner / outer if variant == "quotient" else inner / (inner + outer)

    def nc2(self, *, weighting: Weighting = "class", ddof: int = 0) -> EqualAngles:
        """How far the class means are from a simplex about the global mean.

        Args:
            weighting: Of the classes in the global mean.
            ddof: As in :func:`~dlaccel.collapse.neural_collapse.equal_angles`, which also measures
                a classifier's weights.
        """
        return neural_collapse.equal_angles(self._centred(weighting), ddof=ddof)

    def nc3(
        self, weight: Tensor, bias: Tensor | None = None, *, weighting: Weighting = "class"
    ) -> SelfDuality:
        """How far the last layer is from the class means.

        Args:
            weight: (C, D), of the last layer; rows of absent classes are left out.
            bias: (C,), of the last layer.
            weighting: Of the classes in the global mean.

        Raises:
            ValueError: Shapes that are not those of the classes and features.
        """
        classes, width = self.means.shape
        given = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        for (name, value), shape in zip(
            given.items(), ((classes, width), (classes,)), strict=False
        ):
            _check.tensors(NAME, {name: value})
            if value.shape != shape:
                _check.refuse(NAME, name, f"have shape {shape}", tuple(value.shape), ValueError)
        rows, means = weight.detach().double()[self.present], self._centred(weighting)
        offset = None
        if bias is not None:
            kept = bias.detach().double()[self.present]
            offset = (kept + rows @ self.global_mean(weighting)).norm()
        return SelfDuality(
            (rows / rows.norm() - means / means.norm()).square().sum(),
            neural_collapse.distance_from_simplex(rows @ means.T),
            offset,
        )

    def _centred(self, weighting: Weighting) -> Tensor:
        return self.means[self.present] - self.global_mean(weighting)

    def _pairs(self, measure: int, variances: Tensor, included: Tensor) -> Tensor:
        pairs = self.means.new_empty(len(self.means), len(self.means))
        finite = self.means.sum(1).isfinite()  # another mean must not become the centre of all
        variances = variances.where(included & finite, torch.nan)
        cdnv_pairs.PROCEDURE(pairs, self.means, variances, measure)
        return pairs.fill_diagonal_(torch.nan)
