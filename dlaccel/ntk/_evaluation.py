"""One network's kernel of two inputs, by pairs of tiles where the factors are too large at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _check
from ._contraction import contract
from ._factors import Arrangement, Factor, Sweep
from ._forms import Block, Outputs, blocks
from ._network import Network
from ._survey import survey

Span = tuple[int, int]


@dataclass(eq=False)
class Evaluation:
    """Computes tiles of a kernel.

    Attributes:
        network: Whose kernel it is.
        outputs: Which of its entries.
        count: O.
        blocks: How the parameters contribute.
    """

    network: Network
    outputs: Outputs
    count: int
    blocks: list[Block]
    _sweep: Sweep

    @property
    def row(self) -> int:
        """Bytes that the factors of one sample take."""
        return sum(block.kept for block in self.blocks) * self.network.dtype.itemsize

    def factors(self, x: Tensor, rows: Span) -> list[Factor]:
        """The factors of some rows of ``x``."""
        return self._sweep.factors(self.network.cast(x[slice(*rows)]))

    def tile(self, first: list[Factor], second: list[Factor]) -> Tensor:
        """(N, M), (N, M, O), (O, N, M) or (N, M, O, O'); symmetric if ``second`` is ``first``."""
        found = contract(self.blocks, self.count, first, second)
        if self.outputs == "full":
            o = self.count
            return found.view(found.shape[1] // o, o, -1, o).transpose(1, 2)
        if self.outputs == "trace":
            return found[0]
        return found if self.outputs == "block_diagonal" else found.movedim(0, -1)


def evaluation(network: Network, x: Tensor, samples: int, outputs: Outputs) -> Evaluation:
    """Prepares a network; a few rows of ``x`` are run."""
    found = survey(network, network.cast(x[: min(len(x), 8)]))
    chosen = blocks(network, found, samples, outputs)
    if not chosen:
        rule = "depend on the parameters of the kernel"
        _check.refuse(network.op, "model", rule, "an output that depends on none", ValueError)
    count = found.forward.out.shape[1]
    sweep = Sweep(network, found, chosen, Arrangement(outputs, count))
    return Evaluation(network, outputs, count, chosen, sweep)


def spans(samples: int, each: int) -> list[Span]:
    """Nearly equal spans of the samples, of at most ``each``."""
    count = -(-samples // each)
    return [(samples * i // count, samples * (i + 1) // count) for i in range(count)]


def shape_of(outputs: Outputs, samples: int, others: int, count: int) -> tuple[int, ...]:
    """Of the kernel."""
    return {
        "full": (samples, others, count, count),
        "trace": (samples, others),
        "diagonal": (samples, others, count),
        "block_diagonal": (count, samples, others),
    }[outputs]


def part(kernel: Tensor, outputs: Outputs, rows: Span, columns: Span) -> Tensor:
    """The view of a tile in a kernel."""
    lead = (slice(None),) if outputs == "block_diagonal" else ()
    return kernel[(*lead, slice(*rows), slice(*columns))]


def mirrored(tile: Tensor, outputs: Outputs) -> Tensor:
    """The tile on the other side of a symmetric kernel."""
    if outputs == "full":
        return tile.permute(1, 0, 3, 2)
    return tile.mT if outputs == "block_diagonal" else tile.transpose(0, 1)


def pairs(rows: list[Span], columns: list[Span], symmetric: bool) -> Iterator[tuple[Span, Span]]:
    """Pairs of tiles row by row; of a symmetric kernel those on and below the diagonal."""
    for i, row in enumerate(rows):
        for column in columns[: i + 1] if symmetric else columns:
            yield row, column


def evaluate(found: Evaluation, x1: Tensor, x2: Tensor | None, memory: int) -> Tensor:
    """The whole kernel; the factors of two tiles take at most ``memory`` bytes."""
    symmetric, other = x2 is None, x1 if x2 is None else x2
    n, m = len(x1), len(other)
    whole = found.row * (n if symmetric else n + m) <= memory
    if whole:
        first = found.factors(x1, (0, n))
        return found.tile(first, first if symmetric else found.factors(other, (0, m)))
    each = max(1, memory // (2 * found.row))
    rows, columns = spans(n, each), spans(m, each)
    shape = shape_of(found.outputs, n, m, found.count)
    kernel = torch.empty(shape, dtype=found.network.dtype, device=x1.device)
    for row, column, tile in sweep_tiles(found, x1, x2, pairs(rows, columns, symmetric)):
        part(kernel, found.outputs, row, column).copy_(tile)
        if symmetric and row != column:
            part(kernel, found.outputs, column, row).copy_(mirrored(tile, found.outputs))
    return kernel


def sweep_tiles(
    found: Evaluation,
    x1: Tensor,
    x2: Tensor | None,
    wanted: Iterator[tuple[Span, Span]],
) -> Iterator[tuple[Span, Span, Tensor]]:
    """The wanted tiles; the factors of a row are kept while the next pair shares it."""
    last: Span | None = None
    first: list[Factor] = []
    for row, column in wanted:
        if row != last:
            first.clear()
            first, last = found.factors(x1, row), row
        if x2 is None and row == column:
            second = first
        else:
            second = found.factors(x1 if x2 is None else x2, column)
        yield row, column, found.tile(first, second)
