"""How kernels between outputs become matrices, and targets the columns that these act on.

| kernel K | matrix | targets y | columns |
|---|---|---|---|
| (N, M), one for every output | K | (N,) or (N, C) | (N, C) |
| (O, N, M), one for each output | K, in a batch | (N, O) | (O, N, 1) |
| (N, M, O, O), between outputs | (N O, M O) | (N, O) | (N O, 1) |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import _check


def flatten_outputs(K: Tensor) -> Tensor:
    """The matrix (N O, M P) of a full kernel (N, M, O, P): [n, m, o, p] at [n O + o, m P + p].

    It is the order in which ``y.reshape(-1)`` has targets (N, O).

    Raises:
        TypeError: K is no tensor.
        ValueError: K has not four axes.
    """
    _check.tensors("ntk.flatten_outputs", {"K": K})
    if K.ndim != 4:
        _check.refuse(
            "ntk.flatten_outputs", "K", "have shape (N, M, O, P)", tuple(K.shape), ValueError
        )
    rows, columns, outputs, others = K.shape
    return K.transpose(1, 2).reshape(rows * outputs, columns * others)


@dataclass(frozen=True)
class Layout:
    """The place of outputs in K: its number of axes, and the targets' shape."""

    op: str
    axes: int
    targets: torch.Size

    @classmethod
    def of(cls, op: str, K: Any, y: Tensor) -> Layout:
        """From targets, and a kernel or an operator of side N or N O. Both are checked."""
        _check.tensors(op, {"y": y})
        _check.floating(op, {"y": y})
        shape = tuple(K.shape)
        if isinstance(K, Tensor):
            if not _square(shape):
                rule = "have shape (N, N), (O, N, N) or (N, N, O, O)"
                _check.refuse(op, "K", rule, shape, ValueError)
            wanted = {2: shape[:1], 3: (shape[-1], shape[0]), 4: (shape[0], shape[-1])}[K.ndim]
        elif y.ndim == 2 and shape[-1] == y.numel() != len(y):
            wanted = tuple(y.shape)
        else:
            wanted = shape[-1:]
        shared = len(wanted) == 1
        fits = y.ndim in (1, 2) and y.shape[: len(wanted)] == wanted
        if not fits or not y.numel():
            words = f"({wanted[0]},) or ({wanted[0]}, C)" if shared else str(wanted)
            _check.refuse(op, "y", f"have shape {words}", tuple(y.shape), ValueError)
        return cls(op, 2 if shared else 3 if len(shape) == 3 else 4, y.shape)

    @property
    def outputs(self) -> int:
        """How many; 1 where one kernel serves all."""
        return 1 if self.axes == 2 else self.targets[1]

    def columns(self, name: str, values: Tensor, rows: int) -> Tensor:
        """(rows, ...) in the layout of the targets, as columns in float64."""
        _check.tensors(self.op, {name: values})
        shape = (rows, *self.targets[1:])
        if values.shape != shape:
            _check.refuse(self.op, name, f"have shape {shape}", tuple(values.shape), ValueError)
        values = values.detach().double()
        if self.axes == 2:
            return values.reshape(rows, -1)
        return values.mT[..., None] if self.axes == 3 else values.reshape(-1, 1)

    def values(self, columns: Tensor) -> Tensor:
        """Columns, with any axes before them, as (..., rows, ...) in the layout of the targets."""
        if self.axes == 2:
            return columns[..., 0] if len(self.targets) == 1 else columns
        if self.axes == 3:
            return columns[..., 0].mT
        return columns.reshape(*columns.shape[:-2], -1, self.outputs)

    def matrix(self, name: str, K: Tensor, rows: int | None, columns: int) -> Tensor:
        """A kernel with the axes of K between so many points, of any rows if None, in float64."""
        _check.tensors(self.op, {name: K})
        _check.floating(self.op, {name: K})
        found = rows or (K.shape[1 if self.axes == 3 else 0] if K.ndim == self.axes else 0)
        if tuple(K.shape) != self._shape(found, columns) or not K.numel():
            words = ", ".join(map(str, self._shape(rows or "M", columns)))
            _check.refuse(self.op, name, f"have shape ({words})", tuple(K.shape), ValueError)
        return (flatten_outputs(K) if self.axes == 4 else K).detach().double()

    def rows(self, matrix: Tensor) -> int:
        """Points to which the rows of a matrix belong."""
        return matrix.shape[-2] // (self.outputs if self.axes == 4 else 1)

    def _shape(self, rows: int | str, columns: int) -> tuple[int | str, ...]:
        between = (self.outputs, self.outputs)
        return {
            2: (rows, columns),
            3: (self.outputs, rows, columns),
            4: (rows, columns, *between),
        }[self.axes]

    def kernel(self, matrices: Tensor) -> Tensor:
        """Matrices, with any axes before them, in the layout of K."""
        if self.axes < 4:
            return matrices
        *more, rows, columns = matrices.shape
        size = self.outputs
        split = matrices.reshape(*more, rows // size, size, columns // size, size)
        return split.transpose(-3, -2)


def _square(shape: tuple[int, ...]) -> bool:
    if len(shape) == 4:
        return 0 not in shape and shape[0] == shape[1] and shape[2] == shape[3]
    return len(shape) in (2, 3) and 0 not in shape and shape[-1] == shape[-2]
