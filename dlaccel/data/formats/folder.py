"""Image folders: root/class/image.png, or root/split/class/image.png; a zip of one will do."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch

from ..decode import SUFFIXES, decode
from ..images import Unread
from ..outside import refuse
from ..tree import Tree, open_tree

SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation"),
    "val": ("val", "valid", "validation"),
}
"""Folders in which a split is looked for, in this order."""

SPLIT_WORDS = {word for words in SPLITS.values() for word in words}


def folder(path: Path, split: str = "train", size: int | None = None) -> Unread:
    """Images whose folder is their class; classes are numbered in the order of their names.

    A folder without split folders is one split, ``train``. Classes are those of all splits.

    Args:
        path: folder or zip.
        split: ``train``, ``test`` or ``val``.
        size: side to which every image is cropped and resampled; None when they agree already.

    Raises:
        DataError: when images lie at no such places, or there are none.
    """
    tree = open_tree(path)
    places = _placed(tree)
    top = _split_folder(path, {parts[0] for _, parts in places if len(parts) == 3}, split)
    classes = sorted({parts[-2] for _, parts in places})
    chosen = [(name, parts[-2]) for name, parts in places if top is None or parts[0] == top]
    number = {name: k for k, name in enumerate(classes)}
    names = [name for name, _ in chosen]
    return Unread(
        labels=torch.tensor([number[label] for _, label in chosen], dtype=torch.int64),
        class_names=tuple(classes),
        pixels=lambda: decode(tree.read(names), len(names), size),
        source=str(path if top is None else path / top),
    )


def _placed(tree: Tree) -> list[tuple[str, tuple[str, ...]]]:
    """Every image with the parts of its place, [split], class, file, below the folders above."""
    images = [name for name in tree.sizes if name.lower().endswith(SUFFIXES)]
    if not images:
        refuse(tree.path, f"hold images ({', '.join(SUFFIXES)})", "none")
    parts = [tuple(name.removeprefix("./").split("/")) for name in images]
    while len(parts[0]) > 2 and len({p[0] for p in parts}) == 1 and parts[0][0] not in SPLIT_WORDS:
        parts = [p[1:] for p in parts]
    depth = {2} if len(parts[0]) == 2 else {3}
    for name, place in zip(images, parts, strict=True):
        if {len(place)} != depth or (len(place) == 3 and place[0] not in SPLIT_WORDS):
            refuse(tree.path, "hold all images as CLASS/IMAGE or SPLIT/CLASS/IMAGE", repr(name))
    return list(zip(images, parts, strict=True))


def _split_folder(path: Path, found: Collection[str], split: str) -> str | None:
    """The folder of a split; None where no folder tells splits."""
    if split not in SPLITS:
        refuse(path, f"be asked for split {', '.join(SPLITS)}", repr(split))
    if not found:
        if split != "train":
            refuse(path, f"have a folder for split {split!r}", "none")
        return None
    for word in SPLITS[split]:
        if word in found:
            return word
    refuse(path, f"have a folder {' or '.join(SPLITS[split])}", ", ".join(sorted(found)))
