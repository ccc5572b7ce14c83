"""Images in NumPy's npz: raw arrays, JPEG bytes with offsets, or packed bits (docs/data.md)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..arrays import Arrays
from ..decode import decode
from ..images import Unread, column, numbered
from ..outside import limited, refuse

# Names of arrays, in the order in which they are looked for; those of one split alone come first.
LABELS, SHARED_LABELS = ("{split}_labels", "y_{split}"), ("labels", "class_id")
IMAGES = ("{split}_images", "x_{split}", "images")
JPEGS = ("{split}_jpeg_bytes", "jpeg_bytes")
BITS = ("{split}_ink_bits", "ink_bits")
NAMES = ("class_names", "words", "wnids")
GROUPS = {"alphabet_id": "alphabet", "drawer": "drawer"}
SPLIT = {"train": 0, "test": 1}
"""Values of the column ``split`` in a file whose arrays hold all splits."""


def npz(path: Path, split: str = "train") -> Unread:
    """One split of an npz file in one of the layouts of docs/data.md.

    Raises:
        DataError: when the file is in none of them, or its arrays do not fit together.
    """
    arrays, source = Arrays(path), str(path)
    own = arrays.first(_of(LABELS, split))
    name = own or arrays.first(SHARED_LABELS)
    if name is None:
        wanted = ", ".join((*_of(LABELS, split), *SHARED_LABELS))
        refuse(path, f"hold labels for split {split!r} ({wanted})", arrays.listing())
    labels = column(arrays[name], source, name)
    if f"original_order_{split}_labels" in arrays:
        rows = _restored(arrays, name, f"original_order_{split}_labels")
    else:
        rows = torch.arange(len(labels)) if own else _rows(arrays, split, len(labels))
    groups = {}
    for key in arrays.names:
        if key in GROUPS or key.startswith("group_"):
            group = column(arrays[key], source, key)
            _same_count(arrays, key, len(labels), len(group))
            groups[GROUPS.get(key) or key.removeprefix("group_")] = group[rows]
    found = Unread(
        labels[rows],
        _class_names(arrays) or numbered(labels, source),
        _pixels(arrays, split, rows, len(labels)),
        source,
        groups,
    )
    return found if own or "split" not in arrays else _compact(found)


def _class_names(arrays: Arrays) -> tuple[str, ...]:
    key = arrays.first(NAMES)
    if key is None:
        return ()
    names = arrays[key]
    if names.dtype.kind != "U" or names.ndim != 1:
        got = f"{names.dtype} of shape {names.shape}"
        refuse(arrays.path, f"hold {key} as a column of text", got)
    return tuple(names.tolist())


def _rows(arrays: Arrays, split: str, count: int) -> Tensor:
    """The rows of a split, where all splits share the arrays."""
    if split not in SPLIT:
        refuse(arrays.path, f"be asked for split {' or '.join(map(repr, SPLIT))}", repr(split))
    if "split" not in arrays:
        if split != "train":
            refuse(arrays.path, f"hold a column 'split' to tell {split!r}", arrays.listing())
        return torch.arange(count)
    told = column(arrays["split"], str(arrays.path), "split")
    _same_count(arrays, "split", count, len(told))
    return torch.nonzero(told == SPLIT[split]).flatten()


def _restored(arrays: Arrays, name: str, original: str) -> Tensor:
    """Rows of a file sorted by class, in the order in which ``original`` lists the labels.

    Inside a class the order is the original one already, so the k-th label c is the k-th row of c.
    """
    labels, order = arrays[name], arrays[original]
    if order.shape != labels.shape or not np.array_equal(np.sort(order), np.sort(labels)):
        refuse(arrays.path, f"hold in {original} the labels of {name}", "others")
    rows = np.empty(len(labels), np.int64)
    rows[np.argsort(order, kind="stable")] = np.argsort(labels, kind="stable")
    return torch.from_numpy(rows)


def _pixels(arrays: Arrays, split: str, rows: Tensor, count: int) -> Callable[[], Tensor]:
    for names, read in ((IMAGES, _raw), (JPEGS, _jpegs), (BITS, _bits)):
        name = arrays.first(_of(names, split))
        if name is not None:
            return partial(read, arrays, name, rows, count)
    wanted = ", ".join(_of((*IMAGES, *JPEGS, *BITS), split))
    refuse(arrays.path, f"hold images ({wanted})", arrays.listing())


def _raw(arrays: Arrays, name: str, rows: Tensor, count: int) -> Tensor:
    """From (N, H, W) or (N, H, W, c)."""
    images = arrays[name]
    shape = images.shape
    grey = len(shape) == 3
    if images.dtype != np.uint8 or not (grey or (len(shape) == 4 and shape[3] in (1, 3))):
        rule = f"hold {name} as uint8 (N, H, W) or (N, H, W, c) with c 1 or 3"
        refuse(arrays.path, rule, f"{images.dtype} of shape {shape}")
    _same_count(arrays, name, count, shape[0])
    chosen = torch.from_numpy(images)[rows]
    return chosen.unsqueeze(1) if grey else chosen.permute(0, 3, 1, 2).contiguous()


def _jpegs(arrays: Arrays, name: str, rows: Tensor, count: int) -> Tensor:
    """From a run of bytes (B,) and offsets (N + 1,): file k is bytes[offsets[k]:offsets[k+1]]."""
    key = name.replace("jpeg_bytes", "offsets")
    offsets, data = column(arrays[key], str(arrays.path), key), arrays[name]
    if data.dtype != np.uint8 or data.ndim != 1:
        got = f"{data.dtype} of shape {data.shape}"
        refuse(arrays.path, f"hold {name} as a column of uint8", got)
    _same_count(arrays, key, count + 1, len(offsets))
    ends = (int(offsets[0]), int(offsets[-1]))
    if ends != (0, len(data)) or bool((offsets.diff() < 0).any()):
        rule = f"hold {key} that rise from 0 to {len(data)}, the length of {name}"
        got = f"{ends[0]} to {ends[1]}" if ends != (0, len(data)) else "some that fall"
        refuse(arrays.path, rule, got)
    edges = offsets.tolist()
    files = (
        (f"image {row} of {arrays.path}", data[edges[row] : edges[row + 1]].tobytes())
        for row in rows.tolist()
    )
    return decode(files, len(rows))


def _bits(arrays: Arrays, name: str, rows: Tensor, count: int) -> Tensor:
    """From rows of bits, the first in a byte's highest: square images, 1 is 255."""
    bits = arrays[name]
    if bits.dtype != np.uint8 or bits.ndim != 2:
        got = f"{bits.dtype} of shape {bits.shape}"
        refuse(arrays.path, f"hold {name} as rows of uint8", got)
    _same_count(arrays, name, count, len(bits))
    room = 8 * bits.shape[1]
    side = math.isqrt(room)
    if room - side * side >= 8:
        rule = f"hold square images in {name}, padded to whole bytes"
        refuse(arrays.path, rule, f"{room} bits a row")
    limited(arrays.path, len(rows) * side * side)
    images = np.unpackbits(bits[rows.numpy()], axis=1, count=side * side)
    images *= 255
    return torch.from_numpy(images).view(-1, 1, side, side)


def _same_count(arrays: Arrays, name: str, wanted: int, got: int) -> None:
    if got != wanted:
        refuse(arrays.path, f"hold {wanted} rows in {name}, as its labels say", got)


def _compact(found: Unread) -> Unread:
    """Only the classes and groups of the split, numbered from 0 in their order."""
    classes, labels = np.unique(found.labels.numpy(), return_inverse=True)
    names = tuple(found.class_names[c] for c in classes)
    groups = {
        key: torch.from_numpy(np.unique(group.numpy(), return_inverse=True)[1])
        for key, group in found.groups.items()
    }
    return replace(found, labels=torch.from_numpy(labels), class_names=names, groups=groups)


def _of(names: tuple[str, ...], split: str) -> tuple[str, ...]:
    return tuple(name.format(split=split) for name in names)
