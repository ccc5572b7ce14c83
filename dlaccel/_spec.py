"""One description for each op: it feeds tests, benchmarks, the dtype table and the docs table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

Shape = tuple[int, ...]
Call = tuple[tuple[Tensor, ...], Mapping[str, Any]]

# Half the spacing of the numbers next to 1: the largest relative error of one rounding.
ROUNDING = {
    torch.float64: 2.0**-53,
    torch.float32: 2.0**-24,
    torch.float16: 2.0**-11,
    torch.bfloat16: 2.0**-8,
}


class Make(Protocol):
    """Draws a tensor of normal numbers; the caller fixes dtype, device and seed."""

    def __call__(self, *shape: int) -> Tensor: ...


@dataclass(frozen=True)
class Bad:
    """A call that must be refused with exactly this sentence."""

    call: Callable[[Make], Any]
    error: type[Exception]
    message: str


def replacing(
    call: Callable[..., Any], arguments: Callable[[Make], Sequence[Any]]
) -> Callable[[int, Callable[[Make], Any]], Callable[[Make], None]]:
    """Gives calls of ``call`` with one of some good arguments replaced, for a spec's ``bad``."""

    def with_argument(place: int, value: Callable[[Make], Any]) -> Callable[[Make], None]:
        def bad(make: Make) -> None:
            given = list(arguments(make))
            given[place] = value(make)
            call(*given)

        return bad

    return with_argument


@dataclass(frozen=True)
class OpSpec:
    """What tests and benchmarks need to know of an op.

    Attributes:
        name: Of the public function in ``dlaccel.ops``.
        function: The public function.
        reference: The same signature in plain torch; the only oracle.
        sample: Arguments of a size: ``(size, make) -> tensors``; keywords come from the variant.
        variants: Keyword arguments by the name of the variant.
        sizes: For tests: always an empty one, a single element, an odd one, one above a block.
        bench_sizes: For benchmarks, by group.
        bytes_moved: ``(tensors, result) -> bytes`` that the forward pass has to read and write.
        flops: ``(tensors) -> floating-point operations`` of the forward pass.
        roundings: How many roundings in the compute type stand between inputs and result, counted
            in units of the relative rounding error; a 2 ulp function counts 4.
        reduces: Length of the longest sum in the forward or the gradient, by size.
        grad_bytes_moved: Like ``bytes_moved`` for the gradient.
        bad: Calls that are refused, with the sentence.
        source: Where the mathematics stands.
    """

    name: str
    function: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    sample: Callable[[Shape, Make], tuple[Tensor, ...]]
    variants: Mapping[str, Mapping[str, Any]]
    sizes: tuple[Shape, ...]
    bench_sizes: Mapping[str, tuple[Shape, ...]]
    bytes_moved: Callable[[tuple[Tensor, ...], Tensor], int]
    grad_bytes_moved: Callable[[tuple[Tensor, ...], Tensor], int]
    flops: Callable[[tuple[Tensor, ...]], int]
    roundings: int
    source: str
    reduces: Callable[[Shape], int] = field(default=lambda size: 1)
    bad: Mapping[str, Bad] = field(default_factory=dict)

    def limit(self, dtype: torch.dtype, size: Shape) -> float:
        """The largest relative L2 error allowed against float64.

        One rounding into the dtype, and ``roundings`` in the type it is computed in (float32 for
        half types), each sum adding the square root of its length, as independent errors do.
        """
        compute = dtype if dtype == torch.float64 else torch.float32
        inner = self.roundings * math.sqrt(self.reduces(size)) * ROUNDING[compute]
        return ROUNDING[dtype] + inner


@dataclass(frozen=True)
class ProcedureSpec:
    """What tests need to know of a procedure, a kernel that writes into the caller's tensors.

    Attributes:
        name: Of the procedure.
        procedure: Called with the arguments, its state first (``dlaccel._procedure.Procedure``).
        reference: The same in plain torch; the only oracle. Given its floating inputs in float64.
        sample: All arguments for a size, state included: ``(size, make) -> arguments``. What
            ``make`` draws has the dtype under test; everything else the sample fixes itself.
        variants: Functions of the name of a variant over :attr:`sample`'s arguments, for the modes
            that scalars and optional tensors choose.
        writes: How many of the first arguments are state.
        sizes: For tests: always an empty one, a single element, an odd one, one above a block.
        roundings: Of the compute type, between the inputs and what is written, in a sum of one.
        compute: The type in which the kernel computes and keeps its sums.
        reduces: Length of the longest sum, by size.
        bad: Calls that are refused, with the sentence.
        source: Where the mathematics stands.
    """

    name: str
    procedure: Callable[..., None]
    reference: Callable[..., None]
    sample: Callable[[Shape, Make], tuple[Any, ...]]
    sizes: tuple[Shape, ...]
    roundings: int
    source: str
    writes: int
    variants: Mapping[str, Callable[[tuple[Any, ...]], tuple[Any, ...]]] = field(
        default_factory=lambda: {"plain": lambda arguments: arguments}
    )
    compute: torch.dtype = torch.float64
    reduces: Callable[[Shape], int] = field(default=lambda size: 1)
    bad: Mapping[str, Bad] = field(default_factory=dict)

    def limit(self, size: Shape) -> float:
        """The largest relative L2 error of a written tensor, as in :meth:`OpSpec.limit`."""
        return self.roundings * math.sqrt(self.reduces(size)) * ROUNDING[self.compute]
