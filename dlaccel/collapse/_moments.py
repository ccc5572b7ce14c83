r"""The state of class statistics: sums about a shift, in one buffer, and how it moves and adds.

About the shifts :math:`s_c`, class c has the weight :math:`n_c`, the number of its samples,
:math:`S_c = \sum w (x - s_c)`, :math:`Q_c = \sum w \|x - s_c\|^2` and, where asked for,
:math:`T_c = \sum w (x - s_c)(x - s_c)^T`, all float64. States about the same shifts add.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _check
from ..ops.class_moments import PROCEDURE as class_moments
from ..ops.class_scatter import PROCEDURE as class_scatter


class Parts(NamedTuple):
    """Views of the buffer."""

    counts: Tensor  # (C,) sums of weights
    samples: Tensor  # (C,) numbers of samples
    squares: Tensor  # (C,)
    sums: Tensor  # (C, D)
    scatter: Tensor  # (0, D, D), pooled (1, D, D), or (C, D, D)


@dataclass(eq=False)
class Moments:
    """The state of C classes of D features, with no, one pooled or C scatter matrices.

    Attributes:
        buffer: (``size``,) float64.
        parts: Views of the buffer, in its order.
        shifts: (C, D) float64, or (1, D) where common.
        fault: (3,) int64, as ``class_moments`` notes it.
    """

    classes: int
    width: int
    matrices: int
    buffer: Tensor
    shifts: Tensor
    fault: Tensor
    parts: Parts = field(init=False)

    def __post_init__(self) -> None:
        """Takes the buffer apart."""
        classes, width = self.classes, self.width
        lengths = [classes] * 3 + [classes * width, self.matrices * width * width]
        counts, samples, squares, sums, scatter = torch.split(self.buffer, lengths)
        shape = (self.matrices, width, width)
        self.parts = Parts(counts, samples, squares, sums.view(classes, width), scatter.view(shape))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are taken apart anew: their parts are views again."""
        whole = (self.buffer.clone(), self.shifts.clone(), self.fault.clone())
        return Moments, (self.classes, self.width, self.matrices, *whole)

    @staticmethod
    def size(classes: int, width: int, matrices: int) -> int:
        """Numbers in the buffer."""
        return classes * (3 + width) + matrices * width * width

    @classmethod
    def zeros(
        cls, classes: int, width: int, matrices: int, rows: int, device: torch.device
    ) -> Moments:
        """No samples, about shifts of zero, of which there are ``rows``."""
        size = cls.size(classes, width, matrices)
        # One piece of memory: two of like size, the allocator would give back and fetch each time.
        memory = torch.zeros(size + rows * width, dtype=torch.float64, device=device)
        shifts = memory[size:].view(rows, width)
        fault = torch.full((3,), -1, device=device)
        return cls(classes, width, matrices, memory[:size], shifts, fault)

    @property
    def device(self) -> torch.device:
        """Where the state lies."""
        return self.buffer.device

    def add(self, rows: Tensor, labels: Tensor, weight: Tensor | None, adopt: bool) -> None:
        """Adds samples (N, D). What is refused on the CPU leaves everything as it was."""
        p = self.parts
        class_moments(
            p.counts, p.samples, p.sums, p.squares, self.shifts, self.fault,
            rows, labels, weight, int(adopt),
        )  # fmt: skip
        if self.matrices:
            if labels.is_cuda:  # with a fault, whose news has not come to the host, none is used
                labels = torch.where(self.fault[0] < 0, labels, -1)
            class_scatter(p.scatter, self.shifts, rows, labels, weight, self.classes)

    def used(self) -> Tensor:
        """(C, 1), for a common shift (1, 1), bool: whether samples were counted about a shift."""
        used = self.parts.counts > 0
        return used[:, None] if len(self.shifts) == self.classes else used.any().view(1, 1)

    def about(self, shifts: Tensor) -> Moments:
        r"""A copy about other shifts :math:`s'`; with :math:`\delta = s - s'`.

        .. math::

            S' = S + n \delta, \quad Q' = Q + 2 \delta \cdot S + n \|\delta\|^2, \quad
            T' = T + \delta S^T + S \delta^T + n \delta \delta^T.
        """
        moved = replace(self, buffer=self.buffer.clone(), shifts=shifts)
        p = moved.parts
        step = (self.shifts - shifts).expand_as(p.sums)
        half = p.sums + p.counts[:, None] * step / 2  # T' = T + step half^T + half step^T
        p.squares.add_((step * half).sum(1), alpha=2)
        pairs: Iterable[tuple[Tensor, Tensor]] = (
            [(step, half)] if self.matrices == 1 else zip(step[:, None], half[:, None], strict=True)
        )
        for scatter, (a, b) in zip(p.scatter, pairs, strict=False):
            product = a.mT @ b
            scatter += product + product.mT
        p.sums.addcmul_(p.counts[:, None], step)
        return moved

    def to(self, device: torch.device) -> Moments:
        """A copy on the device, or this state where it already lies there."""
        moved = (tensor.to(device) for tensor in (self.buffer, self.shifts, self.fault))
        return Moments(self.classes, self.width, self.matrices, *moved)

    def raise_fault(self) -> None:
        """Says what the kernel found in a GPU's labels or weights; waits for it.

        Raises:
            ValueError: The sentence that ``update`` raises at once on the CPU.
        """
        row, label, bits = self.fault.tolist()
        if row < 0:
            return
        op = class_moments.name
        if not -1 <= label < self.classes:
            rule = f"lie in [0, {self.classes}) or be -1"
            _check.refuse(op, "labels", rule, f"{label} at {row}", ValueError)
        value = torch.tensor(bits).view(torch.float64).item()
        _check.refuse(op, "weight", "be finite and not negative", f"{value} at {row}", ValueError)

    def tensors(self) -> dict[str, Tensor]:
        """Copies of the parts and the shifts, by name."""
        named = self.parts._asdict() | {"shifts": self.shifts}
        return {name: tensor.clone() for name, tensor in named.items()}

    def load(self, op: str, tensors: Mapping[str, Tensor]) -> None:
        """Takes what :meth:`tensors` gave.

        Raises:
            ValueError: A shape is not this state's, or a shift is not finite.
        """
        mine = self.parts._asdict() | {"shifts": self.shifts}
        for name, part in mine.items():
            got = tuple(tensors[name].shape)
            if got != part.shape:
                _check.refuse(op, name, f"have shape {tuple(part.shape)}", got, ValueError)
        check_finite(op, "shifts", tensors["shifts"])
        for name, part in mine.items():
            part.copy_(tensors[name].detach())


def saved_width(op: str, tensors: Mapping[str, Any]) -> int:
    """The width of what :meth:`Moments.tensors` gave.

    Raises:
        TypeError: A tensor is none, or not float64.
        ValueError: A name is wrong, or ``sums`` no matrix.
    """
    check_names(op, "state['tensors']", {*Parts._fields, "shifts"}, tensors)
    _check.tensors(op, tensors)
    _check.dtype(op, tensors, torch.float64)
    sums = tensors["sums"]
    if sums.ndim != 2:
        _check.refuse(op, "sums", "have shape (C, D)", tuple(sums.shape), ValueError)
    return int(sums.shape[1])


def check_names(op: str, what: str, names: Collection[str], value: object) -> None:
    """``value`` is a mapping of exactly these names."""
    if not isinstance(value, Mapping):
        got = type(value).__name__
    elif set(value) == set(names):
        return
    else:
        got = f"a mapping of {', '.join(sorted(map(str, value)))}"
    _check.refuse(op, what, f"be a mapping of {', '.join(sorted(names))}", got, ValueError)


def check_finite(op: str, name: str, value: Tensor) -> None:
    """No number is NaN or infinite."""
    wrong = ~value.isfinite().flatten()
    if wrong.any():
        place = int(wrong.nonzero()[0])
        got = f"{value.flatten()[place].item()} at {place}"
        _check.refuse(op, name, "be finite", got, ValueError)
