r"""Variance along the lines between class means, and how far a classifier is from the nearest one.

In a second pass over the features, with the means known, every deviation :math:`x_n - \mu_i` is
multiplied with all centred means at once,

.. math:: P_{nj} = \langle x_n - \mu_i, \tilde\mu_j \rangle, \qquad
          \langle x_n - \mu_i, \mu_j - \mu_i \rangle = P_{nj} - P_{ni},

so that the variance along each of C^2 lines needs no covariance. The products go through the
deviation's coordinates in the span of the centred means, whose squares give NC1 too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import linear

from .. import _check
from ..ops.projected_squares import DEVIATION_PRODUCTS, PROJECTED_SQUARES
from ._tiles import tiles
from .geometry import ClassGeometry
from .nearest_centre import NearestCentre
from .pairs import PairStatistics

NAME = "Projections"


@dataclass(frozen=True, eq=False)
class Projected:
    r"""What the projections on the centres' span give.

    Attributes:
        cdnv: Directional CDNV of the ordered pairs,
            :math:`\frac{1}{n_i} \sum_{n \in i} \langle x_n - \mu_i, \mu_j - \mu_i \rangle^2
            / \|\mu_j - \mu_i\|^4`; infinite where two means are equal. Classes absent from the
            geometry, or with fewer than two samples in this pass, are left out.
        nc1: () float64, :math:`\mathrm{Tr}(\Sigma_W \Sigma_B^+) / C` with :math:`\Sigma_W` the mean
            over all samples and :math:`\Sigma_B` the mean over the C classes present, as
            :meth:`ClassGeometry.nc1` has it; infinite where all means are equal.
    """

    cdnv: PairStatistics
    nc1: Tensor


class Projections:
    r"""Directional CDNV and NC1 by a second pass, without a covariance.

    ::

        projections = Projections(statistics.compute())
        for x, y in loader:
            projections.update(model.features(x), y)
        projections.compute().cdnv.mean

    All is float64: along the line between two centres a class may be much narrower than it is
    elsewhere, and float32 products would round what is left. A projected standard deviation keeps
    six digits down to about 1e-9 of the deviations' own size, times the longest centred mean over
    the distance of the two means. Sums run over the samples in their order, so that neither the
    number of threads nor the batches change them but for the rounding of the products.

    On a GPU ``update`` does not wait for it: a wrong label is left for ``compute``, ``merge`` and
    ``all_reduce`` to raise; that batch and all later ones count nothing, until ``reset``.

    Args:
        geometry: Its means are what deviations are taken from; they may be another set's.

    Source: arXiv 2603.03530 (directional CDNV); Papyan, Han, Donoho 2020, arXiv 2008.08186 (NC1).
    """

    @torch.inference_mode(False)
    @torch.no_grad()
    def __init__(self, geometry: ClassGeometry) -> None:
        _check_geometry(NAME, geometry)
        self.geometry = geometry
        self.num_classes, self.width = geometry.means.shape
        self._usable = geometry.present & geometry.means.isfinite().all(1)
        usable = self._usable[:, None]
        self._means = geometry.means.where(usable, 0)
        mean = self._means.sum(0) / usable.sum().clamp(min=1)
        centred = (self._means - mean).where(usable, 0)
        # Row r of the axes has the means' spread sizes[r]^2; at most min(C, D) rows.
        _, self._sizes, axes = torch.linalg.svd(centred, full_matrices=False)
        self._axes = axes.contiguous()
        self._centred = centred @ self._axes.T  # (C, axes): the centred means in coordinates
        self.reset()

    @torch.inference_mode(False)
    def reset(self) -> None:
        """Forgets what was counted, a fault too."""
        classes, device = self.num_classes, self._means.device
        size = classes + classes**2 + len(self._axes)
        self._sums = torch.zeros(size, dtype=torch.float64, device=device)
        self._fault = torch.full((2,), -1, device=device)  # row and label of the first wrong one

    @torch.inference_mode(False)
    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Adds a batch.

        Args:
            features: (N, ...) with D numbers in a row, of any floating dtype and strides.
            labels: (N,) int64 or int32 class numbers; -1 is ignored.

        Raises:
            TypeError: An argument is no tensor or has the wrong dtype.
            ValueError: A shape or a device is wrong; on the CPU, a label is.
        """
        self._check_batch(features, labels)
        if labels.is_cuda and len(labels):
            labels = self._note_fault(labels)
        counts, squares, along = self._parts()
        axes = len(self._axes)
        measured = labels.masked_fill(~self._usable[labels.clamp(min=0)], -1)
        spans = list(tiles(len(labels), 8 * (self.width + self.num_classes + axes)))
        height = max((span.stop - span.start for span in spans), default=0)
        coordinates_of = self._means.new_empty(height, axes)
        products_of = self._means.new_empty(height, self.num_classes)
        for span in spans:
            count = span.stop - span.start
            coordinates, products = coordinates_of[:count], products_of[:count]
            rows = features[span].detach().reshape(count, self.width)
            DEVIATION_PRODUCTS(coordinates, rows, measured[span], self._means, self._axes)
            torch.mm(coordinates, self._centred.T, out=products)
            PROJECTED_SQUARES(counts, squares, products, labels[span])
            along += coordinates.square_().sum(0)

    @torch.inference_mode(False)
    def merge(self, other: Projections) -> Self:
        """Adds what another object, made from the same means, has counted.

        Raises:
            TypeError: ``other`` is no Projections.
            ValueError: Its means differ; or a GPU's labels were wrong.
        """
        if not isinstance(other, Projections):
            _check.refuse(NAME, "other", f"be a {NAME}", type(other).__name__, TypeError)
        if not torch.equal(self._means, other._means.to(self._means.device)):
            _check.refuse(NAME, "other", "be made from the same means", "other means", ValueError)
        self._raise_fault()
        other._raise_fault()
        self._sums += other._sums.to(self._sums.device)
        return self

    @torch.inference_mode(False)
    def all_reduce(self, group: dist.ProcessGroup | None = None) -> Self:
        """Adds what all ranks have counted from the same means, in one all_reduce of one buffer.

        Without ``torch.distributed`` nothing changes.

        Raises:
            ValueError: On every rank, where a GPU's labels were wrong on one.
        """
        if dist.is_available() and dist.is_initialized():
            buffer = torch.cat([self._sums, (self._fault[:1] >= 0).double()])
            dist.all_reduce(buffer, group=group)
            if buffer[-1] > 0:
                self._raise_fault()
                rule = "have right labels on every rank"
                _check.refuse(NAME, "an update", rule, "wrong ones on another rank", ValueError)
            self._sums = buffer[:-1].clone()
        return self

    def compute(self) -> Projected:
        """The measures of what was counted so far; waits for the device.

        Raises:
            ValueError: A GPU's labels were wrong.
        """
        self._raise_fault()
        counts, squares, along = self._parts()
        distances = self.geometry.distances().pairs
        pairs = squares / counts[:, None] / distances.pow(4)
        pairs = pairs.masked_fill(distances == 0, torch.inf)
        included = self.geometry.present & (counts > 1)
        kept = included[:, None] & included & ~torch.eye(len(counts), device=counts.device).bool()
        cdnv = PairStatistics(pairs.where(kept, torch.nan), included, ordered=True)
        return Projected(cdnv, self._nc1(along, counts[self._usable].sum()))

    def _nc1(self, along: Tensor, samples: Tensor) -> Tensor:
        """As ``neural_collapse.scatter_ratio``, but that C cancels: the sizes are not over it."""
        if bool((self.geometry.present & ~self._usable).any()):
            return torch.full_like(samples, torch.nan)
        classes = int(self._usable.sum())
        noise = max(classes, self.width) * torch.finfo(torch.float64).eps * self._sizes.amax()
        rank = min(classes - 1, int((self._sizes > noise).sum()))
        if rank <= 0:
            return torch.full_like(samples, torch.inf)
        shares = along[:rank] / self._sizes[:rank].square()
        return torch.div(shares.sum(), samples)

    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Views of counts (C,), squares (C, C) and the squared coordinates' sums (axes,)."""
        classes = self.num_classes
        lengths = [classes, classes**2, len(self._axes)]
        counts, squares, along = torch.split(self._sums, lengths)
        return counts, squares.view(classes, classes), along

    def _check_batch(self, features: Tensor, labels: Tensor) -> None:
        _check.tensors(NAME, {"features": features, "labels": labels})
        _check.floating(NAME, {"features": features})
        if features.ndim == 0 or features.shape[1:].numel() != self.width:
            rule = f"have shape (N, ...) with {self.width} numbers in a row"
            _check.refuse(NAME, "features", rule, tuple(features.shape), ValueError)
        _check.labels(NAME, labels, len(features), self.num_classes)
        for name, value in {"features": features, "labels": labels}.items():
            if value.device != self._means.device:
                rule = f"be on device {self._means.device}"
                _check.refuse(NAME, name, rule, value.device, ValueError)

    def _note_fault(self, labels: Tensor) -> Tensor:
        """The labels, or -1 for all where one was ever wrong, without waiting for the device."""
        wrong = (labels < -1) | (labels >= self.num_classes)
        place = wrong.int().argmax(0, keepdim=True)
        found = torch.cat([place, labels.index_select(0, place).long()])
        first = wrong.any() & (self._fault[0] < 0)
        self._fault = found.where(first, self._fault)
        return labels.where(self._fault[0] < 0, -1)

    def _raise_fault(self) -> None:
        row, label = self._fault.tolist()
        if row >= 0:
            rule = f"lie in [0, {self.num_classes}) or be -1"
            _check.refuse(NAME, "labels", rule, f"{label} at {row}", ValueError)


class Disagreement:
    """NC4 while samples stream by: how often a classifier and the nearest centre differ.

    Args:
        geometry: Of the training samples; its means are the centres, for training and test
            samples alike.

    Source: Papyan, Han, Donoho 2020, arXiv 2008.08186, NC4.
    """

    @torch.inference_mode(False)
    @torch.no_grad()
    def __init__(self, geometry: ClassGeometry) -> None:
        _check_geometry("nc4", geometry)
        self.nearest = NearestCentre(geometry.means)
        device = geometry.means.device
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)  # differing, samples

    @torch.inference_mode(False)
    @torch.no_grad()
    def update(self, features: Tensor, logits: Tensor) -> None:
        """Counts a batch.

        Args:
            features: (N, ...) with D numbers in a row.
            logits: (N, C), whose greatest names a class, of equal ones the first.

        Raises:
            TypeError: An argument is no floating tensor.
            ValueError: A shape or a device is wrong.
        """
        _check.tensors("nc4", {"features": features, "logits": logits})
        _check.floating("nc4", {"logits": logits})
        shape = (*features.shape[:1], self.nearest.num_classes)
        if logits.shape != shape:
            _check.refuse("nc4", "logits", f"have shape {shape}", tuple(logits.shape), ValueError)
        nearest = self.nearest.predict(features)
        self._sums[0] += (logits.argmax(1).to(nearest.device) != nearest).sum()
        self._sums[1] += len(nearest)

    @torch.inference_mode(False)
    def merge(self, other: Disagreement) -> Self:
        """Adds what another object has counted."""
        self._sums += other._sums.to(self._sums.device)
        return self

    @torch.inference_mode(False)
    def all_reduce(self, group: dist.ProcessGroup | None = None) -> Self:
        """Adds what all ranks have counted. Without ``torch.distributed`` nothing changes."""
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(self._sums, group=group)
        return self

    def compute(self) -> Tensor:
        """() float64 in [0, 1], the share that differs; NaN without samples."""
        return self._sums[0] / self._sums[1]


@torch.no_grad()
def nc4(
    features: Tensor, classifier: Tensor | tuple[Tensor, Tensor | None], geometry: ClassGeometry
) -> Tensor:
    r"""NC4, the share of samples that the classifier and the nearest class centre call differently.

    .. math:: \frac{1}{N} \#\{n : \arg\max_k z_{nk} \ne \arg\min_k \|x_n - \mu_k\|\}

    Args:
        features: (N, ...) with D numbers in a row, the input of the classifier.
        classifier: Its logits z (N, C), or weight (C, D) and bias (C,) or None of its linear map.
        geometry: Of the training samples, whose means are the centres.

    Returns:
        () float64; 0 where the classifier has become the nearest-centre rule.

    Raises:
        TypeError: An argument is no floating tensor.
        ValueError: A shape or a device is wrong.

    Source: Papyan, Han, Donoho 2020, arXiv 2008.08186, NC4. :class:`Disagreement` streams it.
    """
    found = Disagreement(geometry)
    _check.tensors("nc4", {"features": features})
    if isinstance(classifier, tuple):
        classifier = _logits(features, *classifier, shape=tuple(geometry.means.shape))
    found.update(features, classifier)
    return found.compute()


def _logits(
    features: Tensor, weight: Tensor, bias: Tensor | None, *, shape: tuple[int, ...]
) -> Tensor:
    given = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    _check.tensors("nc4", {"features": features, **given})
    _check.floating("nc4", {"features": features, **given})
    for (name, value), wanted in zip(given.items(), (shape, shape[:1]), strict=False):
        if value.shape != wanted:
            _check.refuse("nc4", name, f"have shape {wanted}", tuple(value.shape), ValueError)
    rows = features.flatten(1)
    if rows.shape[1] != shape[1]:
        rule = f"have shape (N, ...) with {shape[1]} numbers in a row"
        _check.refuse("nc4", "features", rule, tuple(features.shape), ValueError)
    return linear(rows, weight.to(rows.dtype), None if bias is None else bias.to(rows.dtype))


def _check_geometry(op: str, geometry: object) -> None:
    if not isinstance(geometry, ClassGeometry):
        got = type(geometry).__name__
        _check.refuse(op, "geometry", "be a ClassGeometry", got, TypeError)
