"""Which form each parameter's share of the kernel is computed in, and why.

With N samples, O outputs and T places, the share of a weight (g, a) costs in multiplications

- as block sums :math:`N^2 T^2 (a + f g)`: both Grams over all pairs of places;
- by per-sample gradients :math:`N O T a g + N^2 f a g`: to make them, and their Gram;

where f is O^2 for the full kernel and O for the others, as the outputs share the first Gram. So
block sums are taken iff :math:`T^2 (a / f + g) < a g (1 + T O / (N f))`: at one output
:math:`T^2 (a + g) < a g (1 + T / N)`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch.autograd.graph import GradientEdge, get_gradient_edge

from ._network import Network
from ._survey import Survey
from ._uses import Lookup, Product, Use

Outputs = Literal["full", "trace", "diagonal", "block_diagonal"]
Form = Literal[
    "Gram-Hadamard", "read-out", "block sum", "panels", "gradients", "lookup", "autograd"
]
FOLDING = ("Gram-Hadamard", "read-out", "block sum")  # forms that take a bias in
WIDE = 32  # outputs from which the identity is worth a form of its own
Key = tuple[str, tuple[int, int] | None]


@dataclass(frozen=True)
class Block:
    """Parameters, or a span of the rows of one, whose share of the kernel is taken at once.

    Attributes:
        names: The parameter, and the bias folded into it.
        rule: The functions that use it.
        form: How its share is computed.
        reason: Why so.
        uses: Which of the forward's uses.
        kept: Numbers that are kept for each sample.
    """

    names: tuple[str, ...]
    rule: str
    form: Form
    reason: str
    uses: tuple[int, ...]
    kept: int

    @property
    def bias(self) -> bool:
        """Whether a bias is folded in."""
        return len(self.names) > 1


@dataclass(frozen=True)
class _Case:
    """What the choice depends on beside the layer."""

    probed: int
    samples: int
    count: int
    outputs: Outputs
    last: GradientEdge | None


def blocks(network: Network, survey: Survey, samples: int, outputs: Outputs) -> list[Block]:
    """The blocks of all parameters that the output depends on."""
    probed, count = survey.forward.out.shape
    out = survey.forward.out
    last = None if out.grad_fn is None else get_gradient_edge(out)
    case = _Case(probed, samples, count, outputs, last)
    uses, unseen = survey.forward.uses, dict(survey.unseen)
    groups = _groups(uses, unseen)
    chosen = {key: _form([uses[i] for i in places], case) for key, places in groups.items()}
    folded = {
        weight: bias for weight, bias in _biases(uses, groups) if chosen[weight][0] in FOLDING
    }
    found = []
    for key, places in groups.items():
        if key not in folded.values():
            names = (key[0], folded[key][0]) if key in folded else (key[0],)
            rule = ", ".join(dict.fromkeys(uses[i].call.function for i in places))
            found.append(Block(names, rule, *chosen[key][:2], tuple(places), chosen[key][2]))
    for name, reason in unseen.items():
        kept = network.leaves[name].numel() * count
        found.append(Block((name,), "none", "autograd", reason, (), kept))
    return found


def _groups(uses: list[Use], unseen: dict[str, str]) -> dict[Key, list[int]]:
    """Which uses add up: all of a parameter, or those of each span of its rows."""
    found: dict[Key, list[int]] = defaultdict(list)
    for name in dict.fromkeys(use.name for use in uses):
        if name in unseen:
            continue
        places = [i for i, use in enumerate(uses) if use.name == name]
        if _overlap({uses[i].rows for i in places}):
            unseen[name] = "its uses take rows that overlap in part"
            continue
        for i in places:
            found[name, uses[i].rows].append(i)
    return found


def _overlap(spans: set[tuple[int, int] | None]) -> bool:
    """Whether two different spans of rows share a row; None is all rows."""
    some = sorted(span for span in spans if span is not None)
    if None in spans:
        return bool(some)
    return any(a[1] > b[0] for a, b in pairwise(some))


def _biases(uses: list[Use], groups: dict[Key, list[int]]) -> Iterator[tuple[Key, Key]]:
    """Weights used once, with the bias that is used in the same call and nowhere else."""
    alone = {places[0]: key for key, places in groups.items() if len(places) == 1}
    for place, key in alone.items():
        use = uses[place]
        if isinstance(use, Product) and use.bias is not None:
            for other, bias in alone.items():
                if uses[other].call is use.call and bias[0] == use.bias:
                    yield key, bias


def _form(uses: list[Use], case: _Case) -> tuple[Form, str, int]:
    """The form, its reason, and the numbers kept for each sample."""
    dense = uses[0].size * case.count
    if lookups := [use for use in uses if isinstance(use, Lookup)]:
        if len(lookups) < len(uses):
            return "gradients", "shared by layers of different kinds", dense
        places = sum(use.places(case.probed) for use in lookups)
        return "lookup", "only equal ids meet", places * (1 + case.count * lookups[0].table[1])
    products = [use for use in uses if isinstance(use, Product)]
    if len(products) < len(uses):
        return "gradients", "a scale or a bias", dense
    if len({use.transposed for use in products}) > 1 or products[0].groups > 1:
        return "gradients", "groups, or a weight used from both sides", dense
    return _product_form(products, case)


def _product_form(uses: list[Product], case: _Case) -> tuple[Form, str, int]:
    """The rule at the head of this file."""
    g, a = uses[0].widths
    places = sum(use.places(case.probed) for use in uses)
    if case.count >= WIDE and [use.call.edge for use in uses] == [case.last]:
        return "read-out", "its cotangents are the identity", a
    if places == 1:
        return "Gram-Hadamard", f"T = 1, a = {a}, g = {g}", a + case.count * g
    shared = case.count**2 if case.outputs == "full" else case.count
    sums = places**2 * (a / shared + g)
    gradients = a * g * (1 + places * case.count / (case.samples * shared))
    why = f"T = {places}, a = {a}, g = {g}: block sums cost {sums / gradients:.2g} of gradients"
    if sums < gradients:
        return "block sum", why, places * (a + case.count * g)
    if a <= places:
        return "gradients", f"{why}, which are smaller than cotangents", a * g * case.count
    return "panels", why, places * (a + case.count * g)
