"""What a measured network looks like, layer by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from torch import Tensor

from .. import _check
from .depth import effective_depth
from .geometry import ClassGeometry

# Column of the printed table -> field of Layer.
COLUMNS = {
    "layer": "name",
    "width": "width",
    "CDNV": "cdnv",
    "median": "cdnv_median",
    "test CDNV": "cdnv_test",
    "directional": "directional_cdnv",
    "NC1": "nc1",
    "NCC train": "ncc_train",
    "NCC test": "ncc_test",
    "NC4 train": "nc4_train",
    "NC4 test": "nc4_test",
}


@dataclass(frozen=True)
class Layer:
    """One layer's classes; centres are those of the training samples.

    Attributes:
        name: Of the module.
        width: D, the numbers of a sample.
        cdnv: Class-distance normalised variance, the mean over pairs of classes.
        cdnv_median: The median over pairs.
        directional_cdnv: The mean over pairs, of the variance along the line of the two centres.
        variance: Trace of the covariance within a class, the mean over classes.
        distance: The least distance of two centres.
        nc1: Tr(Sigma_W Sigma_B^+) / C.
        ncc_train: Accuracy of the nearest class centre on the training samples.
        nc4_train: Share of them that the nearest centre and the network call differently; None for
            a network whose output is not (N, C).
        cdnv_test: The mean CDNV of the test samples about their own means.
        ncc_test: Accuracy of the nearest training centre on the test samples.
        nc4_test: Share of the test samples that it and the network call differently.
        geometry: Of the training samples; ``geometry.means`` are the centres.
    """

    name: str
    width: int
    cdnv: float
    cdnv_median: float
    directional_cdnv: float
    variance: float
    distance: float
    nc1: float
    ncc_train: float
    nc4_train: float | None
    cdnv_test: float | None
    ncc_test: float | None
    nc4_test: float | None
    geometry: ClassGeometry = field(repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The numbers by name, without the geometry."""
        names = (part.name for part in dataclasses.fields(self) if part.name != "geometry")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Layers(Sequence[Layer]):
    """A sequence of :class:`Layer`, from the input up; ``layers["name"]`` finds one by its name.

    Attributes:
        rows: The measured layers.
        penultimate: The input of the head, measured beside them where the model names it
            (``model.penultimate``) and ``layers`` was not given; else None.
        num_classes: C.
        accuracy_train: Of the network itself; None where its output is not (N, C).
        accuracy_test: The same on the test samples.
    """

    rows: tuple[Layer, ...]
    penultimate: Layer | None
    num_classes: int
    accuracy_train: float | None
    accuracy_test: float | None

    @overload
    def __getitem__(self, index: int | str) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Layer, ...]: ...
    def __getitem__(self, index: int | str | slice) -> Layer | tuple[Layer, ...]:
        if not isinstance(index, str):
            return self.rows[index]
        for row in self.rows:
            if row.name == index:
                return row
        raise KeyError(f"no layer {index!r}; there are: {', '.join(row.name for row in self)}")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.rows)

    @property
    def errors(self) -> tuple[float, ...]:
        """Training error of the nearest class centre, layer after layer."""
        return tuple(1 - row.ncc_train for row in self)

    @overload
    def effective_depth(self, epsilon: float) -> int | None: ...
    @overload
    def effective_depth(self, epsilon: Sequence[float] | Tensor) -> tuple[int | None, ...]: ...
    def effective_depth(
        self, epsilon: float | Sequence[float] | Tensor
    ) -> int | tuple[int | None, ...] | None:
        """The first layer, from 1, whose nearest centre errs on at most ``epsilon`` of the samples.

        None when no layer does; see :func:`dlaccel.collapse.depth.effective_depth`.
        """
        return effective_depth(self.errors, epsilon)

    def column(self, name: str) -> tuple[Any, ...]:
        """One field of :class:`Layer`, layer after layer.

        Raises:
            ValueError: There is no such field.
        """
        _check.choice("Layers", "column", name, [part.name for part in dataclasses.fields(Layer)])
        return tuple(getattr(row, name) for row in self)

    def table(self) -> str:
        """Aligned text: a line for each layer, the columns that were measured."""
        shown = {
            title: [_text(value) for value in self.column(name)]
            for title, name in COLUMNS.items()
            if any(value is not None for value in self.column(name))
        }
        parts = []
        for title, cells in shown.items():
            width = max(map(len, [title, *cells]))
            pad = str.ljust if title == "layer" else str.rjust
            parts.append([pad(cell, width) for cell in (title, "-" * width, *cells)])
        return "\n".join("  ".join(line).rstrip() for line in zip(*parts, strict=True))

    __str__ = table


def _text(value: str | float | None) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.4g}"
        case int():
            return f"{value:,}"
    return value
