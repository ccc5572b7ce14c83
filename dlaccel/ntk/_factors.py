"""What is kept of a set of rows: for each block the factors of its share of the kernel.

A factor that depends on the output is kept as (B, N, F, T, w). B counts kernels (O for the
diagonal), F the outputs among the rows (O for the full kernel), and for the trace the outputs
stand side by side in w.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from ._autograd import jacobians
from ._forms import Block, Outputs
from ._network import Network
from ._sample_axis import SampleAxis
from ._survey import Forward, Survey, check_same, run
from ._uses import Call, Lookup, Product

TRANSIENT = 1 << 28  # bytes of activations and cotangents that a forward may take at once
TINY = 1 << 16  # numbers below which the overhead of a call costs more than the call
MANY = 1 << 24  # numbers of all outputs' cotangents together


@dataclass(eq=False)
class Factor:
    """Of one block.

    Attributes:
        cotangent: (B, N, F, T, w); per-sample gradients with T = 1 where no operand is kept; of
            no width (w = 0) for a read-out.
        operand: What it is multiplied with, (N, T, a), or ids (N, T).
    """

    cotangent: Tensor
    operand: Tensor | None


@dataclass(frozen=True)
class Arrangement:
    """Where each output's numbers stand in a factor."""

    outputs: Outputs
    count: int

    def empty(self, samples: int, part: Tensor) -> Tensor:
        """A factor of so many samples, for parts (N, T, w)."""
        o, (_, places, width) = self.count, part.shape
        shape = {
            "full": (1, samples, o, places, width),
            "trace": (1, samples, 1, places, o * width),
        }.get(self.outputs, (o, samples, 1, places, width))
        return part.new_empty(shape)

    def slot(self, factor: Tensor, output: int) -> Tensor:
        """The part (N, T, w) of one output."""
        if self.outputs == "full":
            return factor[0, :, output]
        if self.outputs == "trace":
            samples, places = factor.shape[1], factor.shape[3]
            width = factor.shape[-1] // self.count
            return factor.view(samples, places, self.count, width)[:, :, output]
        return factor[output, :, 0]


@dataclass(eq=False)
class Sweep:
    """Takes rows of an input to their factors, a batch at a time."""

    network: Network
    survey: Survey
    blocks: list[Block]
    arrangement: Arrangement

    def factors(self, x: Tensor) -> list[Factor]:
        """The factor of each block for the rows ``x``."""
        found: dict[int, Factor] = {}
        each = self._batch(x)
        for start in range(0, len(x), each):
            self._sweep(x[start : start + each], start, len(x), found)
        return [found[place] for place in range(len(self.blocks))]

    def _batch(self, x: Tensor) -> int:
        """Rows whose graph and cotangents of one output stay below ``TRANSIENT``."""
        probe = self.survey.forward
        numbers = sum(torch.Size(call.shape).numel() for call in probe.calls) / len(probe.out)
        per_row = 4 * numbers * self.network.dtype.itemsize
        return max(1, min(len(x), int(TRANSIENT / max(per_row, 1))))

    def _sweep(self, x: Tensor, start: int, samples: int, found: dict[int, Factor]) -> None:
        forward = run(self.network, x)
        check_same(self.network.op, self.survey.forward, forward)
        rows = slice(start, start + len(x))
        ruled = [(i, _Rule(b, self.survey, forward)) for i, b in enumerate(self.blocks) if b.uses]
        for place, rule in ruled:
            operand = rule.operand()
            if rows.start == 0:
                whole = operand if len(x) == samples else _room(operand, samples)
                found[place] = Factor(torch.empty(0), whole)
            kept = found[place].operand
            if kept is not None and operand is not None and kept is not operand:
                kept[rows] = operand
        for output, gradients in enumerate(cotangents(forward)):
            for place, rule in ruled:
                self._keep(found[place], rule.part(gradients), output, rows, samples)
        self._by_autograd(x, rows, samples, found)

    def _keep(self, factor: Factor, part: Tensor, output: int, rows: slice, samples: int) -> None:
        if output == 0 and rows.start == 0:
            factor.cotangent = self.arrangement.empty(samples, part)
        self.arrangement.slot(factor.cotangent, output)[rows] = part

    def _by_autograd(self, x: Tensor, rows: slice, samples: int, found: dict[int, Factor]) -> None:
        without = [(i, b.names[0]) for i, b in enumerate(self.blocks) if not b.uses]
        if not without:
            return
        jacobian = jacobians(self.network, [name for _, name in without], x)
        for (place, _), gradients in zip(without, jacobian, strict=True):
            factor = found.setdefault(place, Factor(gradients, None))
            for output in range(gradients.shape[1]):
                self._keep(factor, gradients[:, output, None], output, rows, samples)


class _Rule:
    """A block in one forward."""

    def __init__(self, block: Block, survey: Survey, forward: Forward) -> None:
        self._form = block.form
        self._uses = [(forward.uses[i], _known(survey.axes[i])) for i in block.uses]

    def operand(self) -> Tensor | None:
        """(N, T, a) or ids (N, T)."""
        if self._form == "gradients":
            return None
        parts = []
        for use, axis in self._uses:
            if isinstance(use, Lookup):
                parts.append(use.ids(axis))
            elif isinstance(use, Product):
                parts.append(use.right(axis)[:, 0])
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def part(self, gradients: dict[Call, Tensor]) -> Tensor:
        """(N, T, w) of one output."""
        parts = []
        for use, axis in self._uses:
            cotangent = gradients[use.call]
            if self._form == "gradients":
                parts.append(use.gradient(axis, cotangent)[:, None])
            elif isinstance(use, Lookup):
                parts.append(use.values(axis, cotangent))
            elif self._form == "read-out":
                parts.append(cotangent.new_empty(len(cotangent), 1, 0))
            elif isinstance(use, Product):
                parts.append(use.left(axis, cotangent)[:, 0])
        if len(parts) == 1:
            return parts[0]
        return torch.stack(parts).sum(0) if self._form == "gradients" else torch.cat(parts, 1)


def _known(axis: SampleAxis | None) -> SampleAxis:
    assert axis is not None  # else the parameter is left to autograd
    return axis


def _room(like: Tensor | None, samples: int) -> Tensor | None:
    return None if like is None else like.new_empty(samples, *like.shape[1:])


def cotangents(forward: Forward) -> Iterator[dict[Call, Tensor]]:
    """For each output in turn, the gradient of its sum over the samples at each call's output.

    Row n of it is the gradient of sample n's output, as samples do not meet. Large batches go
    output by output: that measures as fast as one backward of all of them, and needs less room.
    """
    out, calls = forward.out, forward.calls
    if not calls:
        return
    edges = [call.edge for call in calls]
    numbers = sum(torch.Size(call.shape).numel() for call in calls)
    count = out.shape[1]
    small = count > 1 and numbers <= TINY and numbers * count <= MANY
    if small and (all_at_once := _batched(out, edges)):
        for each in zip(*all_at_once, strict=True):
            yield dict(zip(calls, each, strict=True))
        return
    for output in range(count):
        seed = torch.zeros_like(out)
        seed[:, output] = 1
        found = torch.autograd.grad(
            out, edges, seed, retain_graph=output + 1 < count, allow_unused=True
        )
        yield {c: _filled(c, g, out) for c, g in zip(calls, found, strict=True)}


def _batched(out: Tensor, edges: Sequence[GradientEdge]) -> tuple[Tensor, ...] | None:
    """All outputs' at once, (O, ...) each; None where torch cannot."""
    count = out.shape[1]
    seeds = torch.eye(count, dtype=out.dtype, device=out.device)
    seeds = seeds[:, None].expand(count, *out.shape)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")
            return torch.autograd.grad(out, edges, seeds, retain_graph=True, is_grads_batched=True)
    except RuntimeError:  # a layer without a rule for batches of gradients
        return None


def _filled(call: Call, gradient: Tensor | None, like: Tensor) -> Tensor:
    return like.new_zeros(call.shape) if gradient is None else gradient
