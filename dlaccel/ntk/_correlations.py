"""Directions of inputs, and their correlations, a panel of rows at a time.

A product of float64 directions gives the gap 1 - |c| of a pair to some 4e-16, its angle to that
over the angle. Below NEAR the angle would lose more than two digits for a kernel in float64: there
the gap is half the square of the directions' difference. For a kernel in float32 that product has
digits enough; and above NEAR_SINGLE so has one in float32, of sums of CHAIN terms, good to 1e-7.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

NEAR = 1e-3
NEAR_SINGLE = 0.1
CHAIN = 256
FEW = 1 / 256  # the part of a panel's pairs up to which differences cost less than a new product
WIDE = 128  # inputs from which a product in float32 is worth looking through
PANEL = 1 << 19  # correlations of one panel, which stay in a CPU's cache
PAIRS = 1 << 22  # numbers of the differences that are held at once


class Points:
    """Inputs as directions, of length 1 or 0 for the zero vector, and root mean squares, (N,)."""

    def __init__(self, x: Tensor) -> None:
        self.x = x.detach()
        self.width = x.shape[1]
        # A float64 is scaled before it is squared; squares of all others have room in float64.
        exact = x.dtype == torch.float64 and self.width > 0
        top = self.x.abs().amax(1) if exact else None
        scaled = self.x if top is None else self.x / torch.where(top == 0, 1.0, top)[:, None]
        norms = torch.linalg.vector_norm(scaled, dim=1, dtype=torch.float64)
        self.norms = norms if top is None else top * norms
        self._scaled, self._lengths = scaled, torch.where(norms == 0, 1.0, norms)[:, None]
        self.deviations = self.norms / math.sqrt(max(self.width, 1))

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def directions(self) -> Tensor:
        """(N, d), float64."""
        return self._scaled / self._lengths

    def some(self, places: Tensor) -> Tensor:
        """Directions of the points at ``places``, float64."""
        return self._scaled[places] / self._lengths[places]

    @cached_property
    def single(self) -> Tensor:
        """The directions in float32, of which a length may be off by a rounding."""
        top = self._lengths.max().item() if len(self) else 1.0
        if top < 1e37 and self._lengths.min().item() > 1e-37:
            return self._scaled.float() / self._lengths.float()
        return self.directions.float()


@dataclass(frozen=True)
class Panel:
    """Correlations of some rows with some columns, and their gaps where those say too little."""

    rows: slice
    columns: slice
    cosine: Tensor
    gaps: Tensor | None


def panels(points: Points, others: Points, exact: bool, symmetric: bool) -> Iterator[Panel]:
    """The correlations, a panel of rows at a time; a symmetric one ends at its last row's column.

    ``exact`` asks for what float64 can hold of them; else float32's kernels are what they are for.
    """
    count, width = len(points), len(others)
    height = max(64, (PANEL if points.x.is_cpu else 64 * PANEL) // max(width, 1))
    # "high" and "medium" let a product round its operands to fewer bits
    full = torch.get_float32_matmul_precision() == "highest"
    singly = not exact and full and points.x.is_cpu and points.width >= WIDE
    memory = _Memory(min(height, count) * width, points.x.device)
    for first in range(0, count, height):
        rows = slice(first, min(first + height, count))
        columns = slice(0, rows.stop if symmetric else width)
        shape = (rows.stop - first, columns.stop)
        own = first if symmetric else None
        cosine, near = memory.single(shape) if singly else memory.double(shape), None
        if singly:
            _chained(points.single[rows], others.single[columns], cosine)
            near = _near(cosine, NEAR_SINGLE, own)
            if near is not None and len(near[0]) > FEW * cosine.numel():
                cosine, near = memory.double(shape), None
        if cosine.dtype == torch.float64:
            torch.mm(points.directions[rows], others.directions[columns].T, out=cosine)
            near = _near(cosine, NEAR, own) if exact else None
        gaps = None if near is None else _refined(cosine, near, points, others, first)
        yield Panel(rows, columns, cosine, gaps)


class _Memory:
    """Of one panel after another, asked for when it is first used."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.size, self.device = size, device

    @cached_property
    def _single(self) -> Tensor:
        return torch.empty(self.size, device=self.device, dtype=torch.float32)

    @cached_property
    def _double(self) -> Tensor:
        return torch.empty(self.size, device=self.device, dtype=torch.float64)

    def single(self, shape: tuple[int, int]) -> Tensor:
        return self._single[: math.prod(shape)].view(shape)

    def double(self, shape: tuple[int, int]) -> Tensor:
        return self._double[: math.prod(shape)].view(shape)


def _chained(mine: Tensor, theirs: Tensor, out: Tensor) -> None:
    """A product in float32 whose sums start anew after CHAIN terms."""
    torch.mm(mine[:, :CHAIN], theirs[:, :CHAIN].T, out=out)
    for start in range(CHAIN, mine.shape[1], CHAIN):
        part = slice(start, start + CHAIN)
        out.addmm_(mine[:, part], theirs[:, part].T)


def _near(cosine: Tensor, limit: float, own: int | None) -> tuple[Tensor, Tensor] | None:
    """Rows and columns of the pairs whose gap is below ``limit``, if there are any.

    Points of the diagonal ``own`` are themselves: their correlation becomes 1, and they are none.
    """
    diagonal = cosine[:0, 0:1] if own is None else cosine.diagonal(own)
    diagonal.zero_()
    least, most = cosine.aminmax() if cosine.numel() else (cosine.sum(), cosine.sum())
    found = None
    if not (most <= 1 - limit and least >= limit - 1):  # a NaN looks at all
        i, j = (cosine.abs() > 1 - limit).nonzero(as_tuple=True)
        found = (i, j) if len(i) else None
    diagonal.fill_(1.0)
    return found


def _refined(
    cosine: Tensor, near: tuple[Tensor, Tensor], points: Points, others: Points, first: int
) -> Tensor:
    """Gaps; of the near pairs from their directions' differences, or sums where opposite.

    Their correlations become those of the gaps.
    """
    gaps = 1 - cosine.double().abs()
    step = max(1, PAIRS // max(points.width, 1))
    for start in range(0, len(near[0]), step):
        i, j = (places[start : start + step] for places in near)
        side = torch.where(cosine[i, j] < 0, -1.0, 1.0).double()
        away = points.some(first + i) - side[:, None] * others.some(j)
        gap = away.square().sum(1) / 2
        gaps[i, j] = gap
        cosine[i, j] = (side * (1 - gap)).to(cosine.dtype)
    return gaps
