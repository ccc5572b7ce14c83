"""How a parameter enters an output: what each use gives for its per-sample gradients.

N samples, T places at which a layer applies its weight (1 for a plain Linear, pixels of a
convolution, tokens), G groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from ._sample_axis import SampleAxis

Columns = Callable[[Tensor, SampleAxis], Tensor]


@dataclass(eq=False)
class Call:
    """One call of a function that uses parameters.

    Attributes:
        function: Its name.
        edge: Where the cotangent of its output arrives, whatever later changes it in place.
        shape: Of its output.
        candidates: Axes of the output that may be the samples'.
    """

    function: str
    edge: GradientEdge
    shape: tuple[int, ...]
    candidates: tuple[int, ...]


@dataclass(eq=False)
class Use:
    """A parameter, or a span of the rows of one, in one call.

    Attributes:
        name: The parameter's.
        rows: First row and the one after the last, if not all are used.
        call: Where.
        operand: The tensor that its gradient also depends on.
    """

    name: str
    rows: tuple[int, int] | None
    call: Call
    operand: Tensor | None

    def __post_init__(self) -> None:
        self._version = None if self.operand is None else self.operand._version

    @property
    def changed(self) -> bool:
        """Whether the operand was overwritten after the call."""
        return self.operand is not None and self.operand._version != self._version

    @property
    def size(self) -> int:
        """Numbers of the parameter that it uses."""
        raise NotImplementedError

    def gradient(self, axis: SampleAxis, cotangent: Tensor) -> Tensor:
        """Per-sample gradients (N, size) for the cotangent of one output."""
        raise NotImplementedError


@dataclass(eq=False)
class Product(Use):
    r"""A matrix: the gradient is :math:`\sum_t g_t a_t^T`, for each group.

    Attributes:
        columns: Takes the operand to its a, (N, G, T, a).
        widths: Outputs g and inputs a, of one group.
        groups: G.
        bias: Name of the bias that the call adds, if that is a parameter of the kernel.
        transposed: The parameter is (inputs, outputs).
        outputs_axis: Of the call's output.
    """

    columns: Columns
    widths: tuple[int, int]
    groups: int = 1
    bias: str | None = None
    transposed: bool = False
    outputs_axis: int = -1

    @property
    def size(self) -> int:
        """Numbers of the parameter that it uses."""
        return self.groups * self.widths[0] * self.widths[1]

    def places(self, samples: int) -> int:
        """T, when the call had so many samples."""
        return torch.Size(self.call.shape).numel() // (self.groups * self.widths[0] * samples)

    def left(self, axis: SampleAxis, cotangent: Tensor) -> Tensor:
        """The g, (N, G, T, outputs of a group)."""
        if self.outputs_axis == -1:
            return rows_of(axis, cotangent)
        split = cotangent.reshape(len(cotangent), self.groups, self.widths[0], -1).mT
        return places_together(axis, split)

    def right(self, axis: SampleAxis) -> Tensor:
        """The a, (N, G, T, inputs of a group)."""
        assert self.operand is not None
        return self.columns(self.operand.detach(), axis)

    def gradient(self, axis: SampleAxis, cotangent: Tensor) -> Tensor:
        """Per-sample gradients (N, size) for the cotangent of one output."""
        found = self.left(axis, cotangent).mT @ self.right(axis)
        return (found.mT if self.transposed else found).flatten(1)


@dataclass(eq=False)
class Elementwise(Use):
    """A scale, a bias or anything broadcast: the gradient is g times a factor, summed.

    Attributes:
        aligned: The parameter's shape with ones, so that it has the output's axes.
        factor: Gives what multiplies g; None for 1.
    """

    aligned: tuple[int, ...]
    factor: Callable[[], Tensor] | None = None

    @property
    def size(self) -> int:
        """Numbers of the parameter that it uses."""
        return torch.Size(self.aligned).numel()

    def gradient(self, axis: SampleAxis, cotangent: Tensor) -> Tensor:
        """Per-sample gradients (N, size) for the cotangent of one output."""
        if self.factor is not None:
            cotangent = cotangent * self.factor()
        first = axis.first(cotangent)
        rest = [size for place, size in enumerate(self.aligned) if place != axis.axis]
        if axis.places > 1:
            rest.insert(0, 1)
        summed = [place + 1 for place, size in enumerate(rest) if size == 1]
        return (first.sum(summed) if summed else first).reshape(len(first), -1)


@dataclass(eq=False)
class Lookup(Use):
    """Rows of a table: the gradient of row v is the sum of g over the places whose id is v.

    Attributes:
        table: Its rows and width.
        padding: The id that has no gradient.
    """

    table: tuple[int, int]
    padding: int | None = None

    @property
    def size(self) -> int:
        """Numbers of the parameter that it uses."""
        return self.table[0] * self.table[1]

    def places(self, samples: int) -> int:
        """T, when the call had so many samples."""
        return torch.Size(self.call.shape).numel() // (self.table[1] * samples)

    def ids(self, axis: SampleAxis) -> Tensor:
        """(N, T); -1 where there is no gradient."""
        assert self.operand is not None
        first = axis.first(self.operand)
        found = first.reshape(len(first), -1)
        return found if self.padding is None else found.masked_fill(found == self.padding, -1)

    def values(self, axis: SampleAxis, cotangent: Tensor) -> Tensor:
        """(N, T, width)."""
        first = axis.first(cotangent)
        return first.reshape(len(first), -1, self.table[1])

    def gradient(self, axis: SampleAxis, cotangent: Tensor) -> Tensor:
        """Per-sample gradients (N, size) for the cotangent of one output."""
        ids, values = self.ids(axis), self.values(axis, cotangent)
        values = values * (ids >= 0)[..., None]
        table = values.new_zeros(len(ids), *self.table)
        place = ids.clamp(min=0)[..., None].expand_as(values)
        return table.scatter_add_(1, place, values).flatten(1)


def rows_of(axis: SampleAxis, tensor: Tensor) -> Tensor:
    """(..., d) as (N, 1, T, d)."""
    first = axis.first(tensor)
    return first.reshape(len(first), 1, -1, first.shape[-1])


def places_together(axis: SampleAxis, tensor: Tensor) -> Tensor:
    """(rows, G, T, d) as (N, G, T', d), where a sample has several rows."""
    first = axis.first(tensor)
    return first if axis.places == 1 else first.transpose(1, 2).flatten(2, 3)
