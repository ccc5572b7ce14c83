r"""The nearest class centre, exactly, at any offset, without a matrix of all distances.

Samples and centres are taken about a shift c, the centres' mean in float32, and compared by

.. math:: s_k = \tfrac{1}{2} \|\tilde m_k\|^2 - \langle \tilde x, \tilde m_k \rangle,
          \qquad \tilde x = x - c, \quad \tilde m_k = m_k - c,

whose products run in float32, tile by tile. A bound on the error of every score
(:meth:`NearestCentre._slack`) shows which rows cannot have been decided wrongly. The few others
are decided in float64, by the differences :math:`x - m_k` themselves.

Source: the nearest class-centre classifier of Papyan, Han, Donoho 2020, arXiv 2008.08186, and of
arXiv 2112.15121 and 2202.09028.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _check
from .._spec import ROUNDING
from ..ops.top_two import NEAREST_CENTRES, SUMMED, TOP_TWO
from ._tiles import tiles

NAME = "NearestCentre"


@dataclass(frozen=True, eq=False)
class TwoBest:
    r"""The two nearest centres of every sample, the nearer first, of equal ones the lower label.

    Attributes:
        best: (N,) int64 labels; -1 for a sample that is not finite, or where no centre is.
        second: (N,) int64 labels; -1 also where there is only one centre.
        margin: (N,) float64, :math:`\|x - m_{second}\|^2 - \|x - m_{best}\|^2 \ge 0`; infinite
            without a second centre, NaN without a best.
    """

    best: Tensor
    second: Tensor
    margin: Tensor


@dataclass(frozen=True, eq=False)
class _Scores:
    """What a pass knows of its rows: columns of the centres kept, three scores, the rows' norms."""

    best: Tensor
    second: Tensor
    scores: Tensor
    norms: Tensor


class NearestCentre:
    r"""Calls each sample by the nearest of C centres.

    The call is :math:`\arg\min_k \sum_d (x_d - m_{kd})^2` as float64 differences give it, ties
    going to the lowest label: no rounding of ours can change it, nor the batch that a sample comes
    in. A centre that is not finite, as the mean of an empty class, is nobody's. Two rows of
    ``centres`` that are equal are one centre, the lower label's.

    On a GPU a call waits to learn which rows have to be decided in float64, and for them.

    Args:
        centres: (C, D), float64, float32, bfloat16 or float16, such as ``ClassGeometry.means``.

    Raises:
        TypeError: ``centres`` is no floating tensor.
        ValueError: It has not two axes, or no element.
    """

    @torch.inference_mode(False)
    @torch.no_grad()
    def __init__(self, centres: Tensor) -> None:
        _check.tensors(NAME, {"centres": centres})
        _check.floating(NAME, {"centres": centres})
        if centres.ndim != 2 or centres.numel() == 0:
            rule = "have shape (C, D), neither of them 0"
            _check.refuse(NAME, "centres", rule, tuple(centres.shape), ValueError)
        centres = centres.detach().double()
        self.num_classes, self.width = centres.shape
        self._labels, self._twins = _distinct(centres)
        self._centres = centres[self._labels]
        # Any shift serves. One that is a float32 number leaves a float32 sample one rounding.
        self._shift = self._centres.mean(0).float().nan_to_num()
        centred = self._centres - self._shift.double()
        half_norms = centred.square().sum(1) / 2
        self._radius = float(torch.linalg.vector_norm(centred, dim=1).amax()) if len(centred) else 0
        self._about = {
            dtype: (centred.to(dtype), half_norms.to(dtype))
            for dtype in (torch.float64, torch.float32)
        }

    @torch.inference_mode(False)
    @torch.no_grad()
    def predict(self, features: Tensor) -> Tensor:
        """(N,) int64, the label of the nearest centre.

        Args:
            features: (N, ...) with D numbers in a row, of any floating dtype and strides.

        Returns:
            Labels; -1 for a row that is not finite, or where no centre is.

        Raises:
            TypeError: ``features`` is no floating tensor.
            ValueError: Its rows have not D numbers, or it is on another device than the centres.
        """
        best, _ = self._search(self._checked(features), 1)
        return _lookup(self._labels, best)

    @torch.inference_mode(False)
    @torch.no_grad()
    def top_two(self, features: Tensor) -> TwoBest:
        """The nearest and the second nearest centre, both exact; arguments as :meth:`predict`."""
        rows = self._checked(features)
        best, second = self._search(rows, 2)
        to_best, to_second = self._distances(rows, best), self._distances(rows, second)
        first_label, second_label = _lookup(self._labels, best), _lookup(self._labels, second)
        twin = _lookup(self._twins, best)  # as near as the best; so may be another, lower label
        lower = (to_second == to_best) & (second_label < twin)
        takes = (twin >= 0) & ~lower
        margin = (to_second - to_best).masked_fill(takes, 0)
        return TwoBest(first_label, twin.where(takes, second_label), margin)

    @torch.inference_mode(False)
    @torch.no_grad()
    def accuracy(self, features: Tensor, labels: Tensor) -> Tensor:
        """() float64, the share of samples called by their label; NaN where there is none.

        Args:
            features: As for :meth:`predict`.
            labels: (N,) int64 or int32; -1 is ignored.

        Raises:
            TypeError: Features or labels are of another kind.
            ValueError: Their shapes do not fit, or a label lies outside [-1, C).
        """
        labels = self._labels_of(features, labels)
        hits = self.predict(features) == labels
        used = labels >= 0
        return (hits & used).sum().double() / used.sum()

    @torch.inference_mode(False)
    @torch.no_grad()
    def confusion(self, features: Tensor, labels: Tensor) -> Tensor:
        """(C, C) int64: row i, column j counts the samples of class i that are called j.

        Arguments as for :meth:`accuracy`. A sample that is not finite is in no column.
        """
        labels = self._labels_of(features, labels)
        called = self.predict(features)
        counted = (labels >= 0) & (called >= 0)
        pairs = labels[counted].long() * self.num_classes + called[counted]
        counts = torch.bincount(pairs, minlength=self.num_classes**2)
        return counts.view(self.num_classes, self.num_classes)

    def _checked(self, features: Tensor) -> Tensor:
        _check.tensors(NAME, {"features": features})
        _check.floating(NAME, {"features": features})
        if features.device != self._shift.device:
            rule = f"be on device {self._shift.device}"
            _check.refuse(NAME, "features", rule, features.device, ValueError)
        if features.ndim == 0 or features.shape[1:].numel() != self.width:
            rule = f"have shape (N, ...) with {self.width} numbers in a row"
            _check.refuse(NAME, "features", rule, tuple(features.shape), ValueError)
        return features.detach()

    def _labels_of(self, features: Tensor, labels: Tensor) -> Tensor:
        rows = self._checked(features)
        _check.tensors(NAME, {"labels": labels})
        _check.labels(NAME, labels.cpu(), len(rows), self.num_classes)
        return labels.to(rows.device)

    def _search(self, rows: Tensor, ranks: int) -> tuple[Tensor, Tensor]:
        """The best and second columns of the centres kept; with ``ranks`` 1 only the best is sure.

        A row whose gaps exceed twice the error of a score cannot have been ordered otherwise.
        """
        found = self._pass_fused(rows) if rows.is_cuda else self._pass_tiled(rows)
        scores = found.scores.double()
        gap = scores[:, 1] - scores[:, 0]
        if ranks == 2 and len(self._labels) > 2:
            gap = gap.minimum(scores[:, 2] - scores[:, 1])
        sums = min(self.width, SUMMED) + -(-self.width // SUMMED)
        sure = gap > self._slack(found.norms, sums)
        doubtful = (~sure).nonzero()[:, 0]
        for part in tiles(len(doubtful), self._row_bytes(torch.float64)):
            places = doubtful[part]
            found.best[places], found.second[places] = self._decide(rows[places], ranks)
        return found.best, found.second

    def _pass_fused(self, rows: Tensor) -> _Scores:
        found = _empty(len(rows), torch.float32, rows.device)
        arguments = (found.best, found.second, found.scores, found.norms)
        flat = rows.reshape(len(rows), self.width)
        NEAREST_CENTRES(*arguments, flat, self._shift, *self._about[torch.float32])
        return found

    def _pass_tiled(self, rows: Tensor) -> _Scores:
        """Each tile is centred, multiplied by torch and read by our kernel while it is in cache."""
        dtype = torch.float32 if _float32_is_multiplied_as_such() else torch.float64
        centres, half_norms = self._about[dtype]
        found = _empty(len(rows), dtype, rows.device)
        shift = self._shift.to(torch.float64 if rows.dtype == torch.float64 else torch.float32)
        spans = list(tiles(len(rows), self._row_bytes(dtype)))
        height = max((span.stop - span.start for span in spans), default=0)
        tile_of = rows.new_empty(height, self.width, dtype=dtype)
        product_of = rows.new_empty(height, len(centres), dtype=dtype)
        spare_of = torch.empty_like(product_of) if self.width > SUMMED else product_of
        for span in spans:
            count = span.stop - span.start
            tile, products, spare = tile_of[:count], product_of[:count], spare_of[:count]
            torch.sub(rows[span].reshape(count, self.width), shift, out=tile)
            torch.linalg.vector_norm(tile, dim=1, out=found.norms[span])
            _multiply(tile, centres, products, spare)
            written = (found.best[span], found.second[span], found.scores[span])
            TOP_TWO(*written, products, half_norms)
        return found

    def _decide(self, rows: Tensor, ranks: int) -> tuple[Tensor, Tensor]:
        """Best and second column of (n, ...) rows in float64.

        The products leave some centres that may be the nearest; their distances decide.
        """
        rows = rows.reshape(len(rows), self.width).double()
        centres, half_norms = self._about[torch.float64]
        kept = len(centres)
        if kept == 0:
            nobody = torch.full((len(rows),), -1, dtype=torch.int64, device=rows.device)
            return nobody, nobody
        centred = rows - self._shift.double()
        scores = half_norms - centred @ centres.T
        slack = self._slack(torch.linalg.vector_norm(centred, dim=1), self.width)
        lowest = scores.topk(min(ranks, kept), largest=False).values[:, -1]
        may_be = ~(scores > (lowest + slack)[:, None])  # also where a score is NaN
        distances = torch.full_like(scores, torch.inf)
        row, column = may_be.nonzero(as_tuple=True)
        for part in tiles(len(row), 8 * self.width):
            apart = rows[row[part]] - self._centres[column[part]]
            distances[row[part], column[part]] = apart.square().sum(1)
        order = distances.sort(dim=1, stable=True).indices
        order = order.masked_fill(~rows.isfinite().all(1, keepdim=True), -1)
        second = order[:, 1] if kept > 1 else torch.full_like(order[:, 0], -1)
        return order[:, 0], second

    def _slack(self, norms: Tensor, sums: int) -> Tensor:
        r"""(N,) float64: by how much two scores of a row must differ, so that their order is sure.

        Let u be the rounding error of the scores' type and :math:`g_k = k u / (1 - k u)`, which
        bounds k roundings on one another in any order; R the longest of the centred centres, and r
        the row's norm. Writing :math:`\hat x, \hat m` for what was multiplied:

        1. Centring and conversion round every entry of :math:`\hat x` and :math:`\hat m` twice at
           most, a product is a sum of ``sums`` terms, :math:`\tfrac{1}{2}\|m\|^2` and the
           difference round three times: a score errs by at most :math:`g_{sums + 8} (r + R) R`.
           Twice that is for two scores.
        2. r is seen through roundings too: it is at most :math:`1 + 2 g_{D+4}` times as long.
        3. The float64 distances that define the answer err themselves, by
           :math:`g_{D+3} (r + R)^2` for two halves of a squared distance, with float64's u.
        4. Below the least normal number t errors are absolute, 4 D t for each factor at most,
           also where such numbers are flushed to 0.

        A row whose products may overflow is not sure, nor is one that is not finite.
        """
        dtype, width = norms.dtype, max(self.width, 1)
        least, most = torch.finfo(dtype).tiny, torch.finfo(dtype).max
        seen = 1 + 2 * _growth(width + 4, dtype)
        reach = norms.double() * seen + 2 * math.sqrt(width * least) + self._radius
        slack = 2 * _growth(sums + 8, dtype) * reach * self._radius
        slack += _growth(width + 3, torch.float64) * reach.square()
        slack += 8 * width * least * (1 + reach)
        return slack.where(reach * max(self._radius, 1.0) < most / 4, torch.inf)

    def _row_bytes(self, dtype: torch.dtype) -> int:
        """A row, centred, with its products."""
        return (self.width + len(self._labels)) * dtype.itemsize

    def _distances(self, rows: Tensor, columns: Tensor) -> Tensor:
        """(N,) float64 squared distances; infinite where the column is -1."""
        found = torch.full((len(rows),), torch.inf, dtype=torch.float64, device=rows.device)
        if len(self._centres):
            for span in tiles(len(rows), 8 * self.width):
                near = self._centres[columns[span].clamp(min=0)]
                found[span] = (rows[span].reshape(near.shape) - near).square_().sum(1)
        return found.masked_fill(columns < 0, torch.inf)


def _distinct(centres: Tensor) -> tuple[Tensor, Tensor]:
    """Labels, ascending, of the finite centres without repetition; the next label of an equal one.

    Equal centres would tie for every sample, and every tie is decided in float64.
    """
    present = centres.isfinite().all(1).nonzero()[:, 0]
    _, group = torch.unique(centres[present], dim=0, return_inverse=True)
    lowest: dict[int, int] = {}
    next_lowest: dict[int, int] = {}
    for label, member in zip(present.tolist(), group.tolist(), strict=True):
        if member not in lowest:
            lowest[member] = label
        else:
            next_lowest.setdefault(member, label)
    twins = [next_lowest.get(member, -1) for member in lowest]
    labels = torch.tensor(list(lowest.values()), dtype=torch.int64, device=centres.device)
    return labels, torch.tensor(twins, dtype=torch.int64, device=centres.device)


def _lookup(labels: Tensor, columns: Tensor) -> Tensor:
    """The labels of columns; -1 stays."""
    if len(labels) == 0:
        return columns
    return labels[columns.clamp(min=0)].masked_fill(columns < 0, -1)


def _empty(rows: int, dtype: torch.dtype, device: torch.device) -> _Scores:
    index = torch.empty(2, rows, dtype=torch.int64, device=device)
    numbers = torch.empty(4, rows, dtype=dtype, device=device)
    return _Scores(index[0], index[1], numbers[:3].view(rows, 3), numbers[3])


def _multiply(tile: Tensor, centres: Tensor, products: Tensor, spare: Tensor) -> None:
    """The products of a tile, in sums of at most SUMMED features, which round less than one sum."""
    torch.mm(tile[:, :SUMMED], centres[:, :SUMMED].T, out=products)
    for start in range(SUMMED, tile.shape[1], SUMMED):
        stop = start + SUMMED
        torch.mm(tile[:, start:stop], centres[:, start:stop].T, out=spare)
        products.add_(spare)


def _growth(roundings: int, dtype: torch.dtype) -> float:
    """The factor :math:`k u / (1 - k u)` of Higham 2002, section 3.1; infinite near its end."""
    part = roundings * ROUNDING[dtype]
    return part / (1 - part) if part < 0.25 else math.inf


def _float32_is_multiplied_as_such() -> bool:
    """Whether torch's product on the CPU rounds float32 to no less: settings may let it."""
    if os.environ.get("DNNL_DEFAULT_FPMATH_MODE", "STRICT").upper() != "STRICT":
        return False
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    precision = getattr(matmul, "fp32_precision", None)
    if precision is None:  # torch before 2.9
        return torch.get_float32_matmul_precision() == "highest"
    return precision in ("none", "ieee")
