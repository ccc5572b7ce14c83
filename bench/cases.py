"""Cases from the specs: what is run, on which buffers, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dlaccel._spec import OpSpec, Shape

from .roofline import buffer_sets
from .timing import Contestant

MAIN = "silu"  # the variant that is measured most, in specs that have it; else their first
STAGES = ("forward", "out", "backward", "backward expanded", "both")
ALONE = ("forward", "backward")
_SMALL = ((7, 129), (64, 64))
Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """One op at one size; ``layout`` chunk: rows of the first tensors lie in one wider tensor."""

    spec: OpSpec
    variant: str
    size: Shape
    dtype: torch.dtype
    layout: str = "contiguous"

    @property
    def words(self) -> tuple[str, str, str, str]:
        """Op, variant, size and dtype, as rows have them."""
        view = "" if self.layout == "contiguous" else f", {self.layout}"
        size = "x".join(map(str, self.size))
        return self.spec.name, self.variant + view, size, str(self.dtype).removeprefix("torch.")

    def bind(self, function: Function) -> Function:
        return partial(function, **self.spec.variants[self.variant])


@dataclass(frozen=True)
class Set:
    """The buffers of one turn; ``expanded`` is what ``sum().backward()`` sends, one number."""

    tensors: tuple[Tensor, ...]
    leaves: tuple[Tensor, ...]
    out: Tensor
    dense: Tensor
    expanded: Tensor


@dataclass
class Buffers:
    """All sets of a case, random and unlike."""

    case: Case
    device: torch.device
    seed: int = 0
    sets: list[Set] = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator(self.device).manual_seed(self.seed)

        def make(*shape: int, scale: float = 1.0) -> Tensor:
            drawn = torch.randn(shape, generator=generator, device=self.device) * scale
            return drawn.to(self.case.dtype)

        first = self._set(make)
        self.forward_bytes = self.case.spec.bytes_moved(first.tensors, first.out)
        self.gradient_bytes = self.case.spec.grad_bytes_moved(first.tensors, first.out)
        count = buffer_sets(self.gradient_bytes, self.device)
        self.sets = [first, *(self._set(make) for _ in range(count - 1))]

    def _set(self, make: Callable[..., Tensor]) -> Set:
        tensors = self.case.spec.sample(self.case.size, make)
        if self.case.layout == "chunk":
            tensors = _chunked(tensors)
        out = torch.empty_like(self.case.bind(self.case.spec.reference)(*tensors))
        return Set(
            tensors,
            tuple(t.detach().requires_grad_() for t in tensors),
            out,
            dense=make(*out.shape),
            expanded=make(1).expand(out.shape),
        )

    @property
    def cache(self) -> str:
        return "warm" if len(self.sets) == 1 else "rotated"

    def moved(self, stage: str) -> int:
        """Bytes that a stage has to read and write."""
        result = self.sets[0].out.nbytes
        return {
            "backward": self.gradient_bytes,
            "backward expanded": self.gradient_bytes - result,
            "both": self.forward_bytes + self.gradient_bytes,
        }.get(stage, self.forward_bytes)

    def contestant(
        self, who: str, function: Function, stage: str, overwrites: bool = False
    ) -> Contestant:
        """``function`` takes the spec's tensors; ``overwrites``: its backward destroys them."""
        sets = self.sets

        def leaves(turn: int) -> tuple[Tensor, ...]:
            mine = sets[turn % len(sets)].leaves
            return tuple(map(leaf_copy, mine)) if overwrites else mine

        def cotangent(turn: int) -> Tensor:
            mine = sets[turn % len(sets)]
            return mine.expanded if stage == "backward expanded" else mine.dense

        def into(out: Tensor, *tensors: Tensor) -> Tensor:
            return function(*tensors, out=out)

        def graph(turn: int) -> Sequence[Any]:
            mine = leaves(turn)
            return function(*mine), mine, cotangent(turn)

        def both(dy: Tensor, *mine: Tensor) -> tuple[Tensor, ...]:
            return torch.autograd.grad(function(*mine), mine, dy)

        def tensors(turn: int) -> Sequence[Any]:
            return sets[turn % len(sets)].tensors

        def out_and_tensors(turn: int) -> Sequence[Any]:
            return sets[turn % len(sets)].out, *tensors(turn)

        def cotangent_and_leaves(turn: int) -> Sequence[Any]:
            return cotangent(turn), *leaves(turn)

        ways: dict[str, tuple[Callable[..., Any], Callable[[int], Sequence[Any]]]] = {
            "forward": (function, tensors),
            "out": (into, out_and_tensors),
            "backward": (torch.autograd.grad, graph),
            "backward expanded": (torch.autograd.grad, graph),
            "both": (both, cotangent_and_leaves),
        }
        return Contestant(who, *ways[stage])


def leaf_copy(tensor: Tensor) -> Tensor:
    """A copy with the same strides, which wants a gradient."""
    memory = torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
    )
    return memory.copy_(tensor.detach()).requires_grad_()


def _alike(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    return [t for t in tensors if t.shape == tensors[0].shape]


def _chunked(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The tensors shaped like the first become ``chunk`` views of one; the others stay."""
    alike = _alike(tensors)
    views = iter(torch.cat(alike, -1).chunk(len(alike), -1))
    return tuple(next(views) if t.shape == tensors[0].shape else t for t in tensors)


@dataclass(frozen=True)
class Planned:
    """A case, its stages, and whether it is worth a compilation."""

    case: Case
    stages: tuple[str, ...]
    compiled: bool


def select(
    specs: Sequence[OpSpec],
    size_group: str,
    dtypes: Sequence[torch.dtype],
    *,
    quick: bool = False,
) -> list[Planned]:
    """The most telling first, so that a run may be cut short.

    First the main variant at the size with the most elements, all stages and dtypes (``quick``: no
    more than that); then, forward and backward, its ``chunk`` views, its other sizes in the first
    dtype, and the other variants in the first dtype at that size.
    """
    ranked: tuple[list[Planned], ...] = ([], [], [])
    for spec in specs:
        sizes = _SMALL if size_group == "small" else spec.bench_sizes[size_group]
        largest = max(sizes, key=lambda size: torch.Size(size).numel())
        main = MAIN if MAIN in spec.variants else next(iter(spec.variants))
        for dtype in dtypes:
            first = Case(spec, main, largest, dtype)
            ranked[0].append(Planned(first, STAGES, True))
            if len(_alike(spec.sample((2, 2), _zeros))) > 1:
                ranked[1].append(Planned(replace(first, layout="chunk"), ALONE, True))
        first = Case(spec, main, largest, dtypes[0])
        others = [size for size in sizes if size != largest]
        ranked[1].extend(Planned(replace(first, size=size), ALONE, True) for size in others)
        variants = [name for name in spec.variants if name != main]
        ranked[2].extend(Planned(replace(first, variant=v), ALONE, False) for v in variants)
    return ranked[0] if quick else [*ranked[0], *ranked[1], *ranked[2]]


def from_words(specs: Sequence[OpSpec], op: str, variant: str, size: str, dtype: str) -> Case:
    """The case that :attr:`Case.words` names."""
    (spec,) = (s for s in specs if s.name == op)
    name, _, layout = variant.partition(", ")
    shape = tuple(int(n) for n in size.split("x"))
    return Case(spec, name, shape, getattr(torch, dtype), layout or "contiguous")


def _zeros(*shape: int, scale: float = 1.0) -> Tensor:
    return torch.zeros(shape)
