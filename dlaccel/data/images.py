"""Labelled images: what every loader gives and every transform takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from .outside import Array, refuse

CLASS_LIMIT = 2**20
"""Labels at or above it are taken for something else."""


@dataclass(frozen=True, eq=False)
class Images:
    """N labelled images and where they come from.

    Raises:
        DataError: when the parts do not fit together or a label names no class.
    """

    images: Tensor
    """(N, c, H, W) uint8, 0..255; c is 1 or 3."""
    labels: Tensor
    """(N,) int64 in [0, C)."""
    class_names: tuple[str, ...]
    """C names."""
    groups: Mapping[str, Tensor] = field(default_factory=dict)
    """Further (N,) int64 partitions of the images, such as drawer and alphabet."""
    source: str = "images"
    """The file that was read."""
    note: str = ""
    """What to know before comparing numbers: a subset, a lossy copy."""

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if self.images.dtype != torch.uint8:
            refuse(self.source, "hold uint8 images", self.images.dtype)
        if len(shape) != 4 or shape[1] not in (1, 3):
            refuse(self.source, "hold images of shape (N, c, H, W) with c 1 or 3", shape)
        check_labels(self.labels, self.class_names, self.groups, self.source)
        if len(self.labels) != shape[0]:
            refuse(self.source, f"hold a label for each of {shape[0]} images", len(self.labels))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    def counts(self) -> Tensor:
        """(C,) int64: how many images each class has."""
        return torch.bincount(self.labels, minlength=self.num_classes)

    def subset(self, rows: Tensor | slice) -> Images:
        """The images of these rows (indices, a mask or a slice); the classes stay as they are."""
        groups = {name: group[rows] for name, group in self.groups.items()}
        return replace(self, images=self.images[rows], labels=self.labels[rows], groups=groups)

    def of_classes(self, classes: Sequence[int] | Tensor) -> Images:
        """The images of these classes, which are numbered anew in the order given."""
        chosen = [int(c) for c in classes]
        number = torch.full((self.num_classes,), -1)
        number[chosen] = torch.arange(len(chosen))
        kept = self.subset(number[self.labels] >= 0)
        names = tuple(self.class_names[c] for c in chosen)
        return replace(kept, labels=number[kept.labels], class_names=names)

    def per_class(self, count: int, seed: int) -> Images:
        """``count`` images of each class drawn without replacement, in the order of the rows.

        Raises:
            DataError: when a class has fewer.
        """
        counts = self.counts()
        if len(counts) and int(counts.min()) < count:
            short = int(counts.argmin())
            rule = f"have {count} images of class {self.class_names[short]!r}"
            refuse(self.source, rule, int(counts[short]))
        generator = torch.Generator().manual_seed(seed)
        shuffled = torch.randperm(len(self), generator=generator)
        by_class = shuffled[self.labels[shuffled].argsort(stable=True)]
        starts = counts.cumsum(0) - counts
        rows = by_class[(starts[:, None] + torch.arange(count)).flatten()]
        return self.subset(rows.sort().values)


@dataclass(frozen=True, eq=False)
class Unread:
    """Images whose labels are known and whose pixels may still be in their file."""

    labels: Tensor
    class_names: tuple[str, ...]
    pixels: Callable[[], Tensor]
    """Gives (N, c, H, W) uint8."""
    source: str
    groups: Mapping[str, Tensor] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        check_labels(self.labels, self.class_names, self.groups, self.source)

    def read(self) -> Images:
        """Reads the pixels."""
        return Images(
            self.pixels(), self.labels, self.class_names, self.groups, self.source, self.note
        )


def check_labels(
    labels: Tensor, class_names: Sequence[str], groups: Mapping[str, Tensor], source: str
) -> None:
    """Labels and groups are (N,) int64, and a label names a class."""
    for name, column in {"labels": labels, **groups}.items():
        if column.dtype != torch.int64 or column.ndim != 1 or len(column) != len(labels):
            got = f"{str(column.dtype).removeprefix('torch.')} of shape {tuple(column.shape)}"
            refuse(f"{name} of {source}", f"be int64 of shape ({len(labels)},)", got)
    outside = (labels < 0) | (labels >= len(class_names))
    if outside.any():
        place = int(outside.int().argmax())
        rule = f"lie in [0, {len(class_names)})"
        refuse(f"labels of {source}", rule, f"{int(labels[place])} at {place}")


def column(values: Array, source: str, name: str) -> Tensor:
    """A column of integers of a file as (N,) int64."""
    if values.dtype.kind not in "iu" or values.ndim != 1:
        got = f"{values.dtype} of shape {values.shape}"
        refuse(source, f"hold {name} as a column of integers", got)
    if values.dtype == np.uint64 and values.size and int(values.max()) >= 2**63:
        refuse(source, f"hold {name} below 2^63", int(values.max()))
    return torch.from_numpy(values.astype(np.int64))


def numbered(labels: Tensor, source: str) -> tuple[str, ...]:
    """Names for classes that have none: their numbers, up to the largest label."""
    count = int(labels.max()) + 1 if len(labels) else 0
    if count > CLASS_LIMIT:
        refuse(f"labels of {source}", f"be less than {CLASS_LIMIT}", count - 1)
    return tuple(map(str, range(count)))
