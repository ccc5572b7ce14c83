"""CIFAR-10 and CIFAR-100, python and binary versions, packed or extracted.

An image is 3072 bytes: its red, green and blue planes of 32x32, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..images import Unread, column
from ..outside import Array, Bytes, refuse
from ..tree import Tree, open_tree
from ..unpickle import unpickle

PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Version:
    """The names that one of the two sets uses."""

    classes: int
    batches: dict[str, tuple[str, ...]]
    """Files of each split, without the binary version's ``.bin``."""
    columns: tuple[str, ...]
    """Label bytes before each image in the binary version, and keys in the python version."""
    names: tuple[str, str, str]
    """File with the class names: python version, its key, binary version."""


CIFAR10 = Version(
    10,
    {"train": tuple(f"data_batch_{k}" for k in range(1, 6)), "test": ("test_batch",)},
    ("labels",),
    ("batches.meta", "label_names", "batches.meta.txt"),
)
CIFAR100 = Version(
    100,
    {"train": ("train",), "test": ("test",)},
    ("coarse_labels", "fine_labels"),
    ("meta", "fine_label_names", "fine_label_names.txt"),
)


def cifar(path: Path, split: str = "train", version: Version = CIFAR10) -> Unread:
    """One split, in its original order; CIFAR-100's coarse labels are the group ``superclass``.

    Raises:
        DataError: when a file is missing or not of the format.
    """
    if split not in version.batches:
        refuse(path, "be asked for split 'train' or 'test'", repr(split))
    tree = open_tree(path)
    places = {name.rpartition("/")[2]: name for name in tree.sizes}
    binary = f"{version.batches[split][0]}.bin" in places
    suffix, read = (".bin", _binary) if binary else ("", _python)
    files = [name + suffix for name in version.batches[split]]
    for name in files:
        if name not in places:
            refuse(path, f"hold {', '.join(files)}", f"no {name}")
    batches = [
        read(source, data, version) for source, data in tree.read(places[name] for name in files)
    ]
    images = torch.from_numpy(np.concatenate([batch[0] for batch in batches]))
    columns = [
        column(np.concatenate([batch[1][k] for batch in batches]), str(path), name)
        for k, name in enumerate(version.columns)
    ]
    return Unread(
        labels=columns[-1],
        class_names=_class_names(tree, places, version),
        pixels=lambda: images.view(-1, 3, 32, 32),
        source=str(path),
        groups={"superclass": columns[0]} if len(columns) == 2 else {},
    )


def _python(source: str, data: bytes, version: Version) -> tuple[Bytes, list[Array]]:
    """Pixels (N, 3072) and label columns of a pickled batch."""
    batch = unpickle(source, data)
    pixels: Any = batch.get("data")
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != PIXELS:
        got = pixels.shape if isinstance(pixels, np.ndarray) else type(pixels).__name__
        refuse(source, f"hold data as an array (N, {PIXELS})", got)
    columns = []
    for name in version.columns:
        values = batch.get(name)
        if not isinstance(values, list) or not all(type(value) is int for value in values):
            refuse(source, f"hold {name} as a list of integers", type(values).__name__)
        if len(values) != len(pixels):
            refuse(source, f"hold a label in {name} for each of {len(pixels)} images", len(values))
        columns.append(_bytes(source, name, values))
    return pixels, columns


def _bytes(source: str, name: str, values: list[int]) -> Array:
    for place, value in enumerate(values):
        if not 0 <= value < 256:
            refuse(source, f"hold {name} in [0, 256)", f"{value} at {place}")
    return np.array(values, np.uint8)


def _binary(source: str, data: bytes, version: Version) -> tuple[Bytes, list[Array]]:
    """Pixels (N, 3072) and label columns of records: the label bytes, then the pixels."""
    labels = len(version.columns)
    if len(data) % (labels + PIXELS):
        refuse(source, f"hold whole records of {labels + PIXELS} bytes", f"{len(data)} bytes")
    records = np.frombuffer(data, np.uint8).reshape(-1, labels + PIXELS)
    return records[:, labels:], [records[:, k] for k in range(labels)]


def _class_names(tree: Tree, places: dict[str, str], version: Version) -> tuple[str, ...]:
    python, key, binary = version.names
    names: object = range(version.classes)
    source = python if python in places else binary
    if python in places:
        names = unpickle(f"{tree.path}/{python}", tree.one(places[python])).get(key)
    elif binary in places:
        names = tree.one(places[binary]).split()
    if not isinstance(names, list | range) or len(names) != version.classes:
        got = len(names) if isinstance(names, list) else type(names).__name__
        refuse(f"{tree.path}/{source}", f"name {version.classes} classes", got)
    return tuple(n.decode("latin-1") if isinstance(n, bytes) else str(n) for n in names)
