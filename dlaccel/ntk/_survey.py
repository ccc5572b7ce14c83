"""What a forward used, checked against its graph; and which axis of each layer holds the samples.

The rules need two facts: that every use of a parameter was seen, and that row n of a layer's
cotangent belongs to sample n. The first is read off the graph. For the second a few rows are run:
their number must show in the shapes, and the gradient of one output row must vanish at every other
sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from .. import _check
from ._graph import Graph
from ._network import Network, graph
from ._recording import Recorder
from ._sample_axis import SampleAxis, possible
from ._uses import Call, Use

PROBES = (2, 3, 5, 7)  # numbers of rows; the next is tried where the ones before fit two axes

Signature = tuple[object, ...]


@dataclass(eq=False)
class Forward:
    """One forward with its graph.

    Attributes:
        out: (N, O).
        uses: Those that a gradient reaches.
        covered: For each leaf that a gradient reaches, whether the uses are all there are.
    """

    out: Tensor
    uses: list[Use]
    covered: dict[str, bool]

    @property
    def signature(self) -> Signature:
        """Equal for two forwards that do the same."""
        kinds = tuple((type(u), u.name, u.rows, u.call.function, u.changed) for u in self.uses)
        return kinds, tuple(sorted(self.covered.items()))

    @property
    def calls(self) -> list[Call]:
        """Each call once, in order."""
        return list(dict.fromkeys(use.call for use in self.uses))


@dataclass(eq=False)
class Survey:
    """What is known of a network from a few rows.

    Attributes:
        forward: Of the last probe.
        axes: Of each use; None where the samples were not found.
        unseen: Why a parameter has no rule.
    """

    forward: Forward
    axes: list[SampleAxis | None]
    unseen: dict[str, str]


def run(network: Network, x: Tensor) -> Forward:
    """A recorded forward."""
    recorder = Recorder(network.op, network.leaves)
    with graph(), recorder:
        out = network(x)
    seen = Graph(out.grad_fn)
    uses = [use for use in recorder.uses if use.call.edge.node in seen.users]
    covered = {}
    for name, leaf in seen.leaves({id(v): k for k, v in network.leaves.items()}).items():
        mine = [use.call.edge.node for use in uses if use.name == name]
        covered[name] = seen.is_covered(leaf, mine)
    return Forward(out, uses, covered)


def survey(network: Network, x: Tensor) -> Survey:
    """Runs a few rows of ``x``.

    Raises:
        ValueError: An output row depends on another row, or the model is refused by a rule.
    """
    shapes: list[dict[int, tuple[int, ...]]] = []
    for count in PROBES:
        rows = x[torch.arange(count, device=x.device) % len(x)]
        if rows.is_floating_point():
            rows.requires_grad_()
        forward = run(network, rows)
        shapes = shapes or [{} for _ in forward.uses]
        if len(shapes) != len(forward.uses):
            _other_path(network.op)
        for seen, use in zip(shapes, forward.uses, strict=True):
            seen[count] = use.call.shape
        fitting = [
            possible(seen, use.call.candidates)
            for seen, use in zip(shapes, forward.uses, strict=True)
        ]
        if all(len({each.axis for each in found}) < 2 for found in fitting):
            break
    found = list(_verified(network, forward, rows, fitting))
    return Survey(forward, found, _unseen(network, forward, found))


def _verified(
    network: Network, forward: Forward, rows: Tensor, fitting: list[list[SampleAxis]]
) -> Iterator[SampleAxis | None]:
    """For each use the one axis that the gradient of output row 1 agrees with."""
    sample = 1
    calls, out = forward.calls, forward.out
    inputs = [call.edge for call in calls]
    if rows.requires_grad:
        inputs.append(get_gradient_edge(rows))
    if not inputs or out.grad_fn is None:
        return
    seed = torch.zeros_like(out)
    seed[sample] = torch.linspace(0.5, 1.5, out.shape[1], dtype=out.dtype, device=out.device)
    gradients = torch.autograd.grad(out, inputs, seed, allow_unused=True)
    reached = gradients[-1] if rows.requires_grad else None
    _check_alone(network, forward, rows, reached, sample)
    by_call = dict(zip(calls, gradients, strict=False))
    for use, candidates in zip(forward.uses, fitting, strict=True):
        cotangent = by_call[use.call]
        agree = [c for c in candidates if cotangent is None or c.keeps_apart(cotangent, sample)]
        yield agree[0] if len(agree) == 1 and not use.changed else None


def _check_alone(
    network: Network, forward: Forward, rows: Tensor, reached: Tensor | None, sample: int
) -> None:
    """Refuses a model whose output row ``sample`` depends on another row of its input."""
    others = torch.arange(len(rows), device=rows.device) != sample
    if reached is not None:
        coupled = bool(reached[others].any())
    else:  # ids have no gradient: the row must stay when the others become copies of it
        with graph():
            alone = network(rows[[sample] * len(rows)])
        kept, was = alone[sample].detach(), forward.out[sample].detach()
        slack = 64 * torch.finfo(was.dtype).eps ** 0.5  # far above rounding, far below coupling
        coupled = bool(((kept - was).abs() > slack * was.abs().max()).any())
    if coupled:
        rule = "treat each sample alone, as a tangent kernel of its rows needs"
        got = "an output row that depends on another row of the input"
        _check.refuse(network.op, "model", rule, got, ValueError)


def _unseen(network: Network, forward: Forward, found: list[SampleAxis | None]) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for name, covered in forward.covered.items():
        if not covered:
            count = sum(use.name == name for use in forward.uses)
            reasons[name] = f"has uses without a rule, beside {count} with one"
    for use, axis in zip(forward.uses, found, strict=False):
        if use.changed:
            reasons.setdefault(use.name, f"the input of {use.call.function} was overwritten")
        elif axis is None:
            where = f"the output {use.call.shape} of {use.call.function}"
            reasons.setdefault(use.name, f"no axis of {where} is the samples' for sure")
    return reasons


def check_same(op: str, planned: Forward, now: Forward) -> None:
    """Refuses a model that did something else with these rows than with those of the plan."""
    if planned.signature != now.signature:
        _other_path(op)


def _other_path(op: str) -> None:
    rule = "do the same for all rows"
    got = "a forward whose layers differ from one batch to the next"
    _check.refuse(op, "model", rule, got, ValueError)
