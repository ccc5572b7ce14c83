"""Tiny ImageNet as Stanford's CS231n serves it, zipped or extracted."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from ..decode import decode
from ..images import Unread
from ..outside import refuse
from ..tree import Tree, open_tree

TRAIN = re.compile(r"(?:.*/)?train/(n\d+)/images/[^/]+\.JPEG")
VAL = re.compile(r"(?:.*/)?val/images/([^/]+\.JPEG)")
SPLITS = ("train", "val")


def tiny_imagenet(path: Path, split: str = "train") -> Unread:
    """``train`` or ``val``: a label is the place of the image's wnid among the sorted wnids.

    The images of ``test`` have no public labels.

    Raises:
        DataError: when a file is missing, or an annotation names an unknown class or image.
    """
    if split not in SPLITS:
        refuse(path, f"be asked for split {' or '.join(map(repr, SPLITS))}", repr(split))
    tree = open_tree(path)
    wnids = sorted(_text(tree, "wnids.txt").split())
    number = {wnid: k for k, wnid in enumerate(wnids)}
    labelled = (_train if split == "train" else _val)(tree)
    for name, wnid in labelled:
        if wnid not in number:
            refuse(f"{path}/{name}", "belong to a class of wnids.txt", repr(wnid))
    names = [name for name, _ in labelled]
    words = dict(line.split("\t", 1) for line in _lines(tree, "words.txt") if "\t" in line)
    return Unread(
        labels=torch.tensor([number[wnid] for _, wnid in labelled], dtype=torch.int64),
        class_names=tuple(words.get(wnid, wnid) for wnid in wnids),
        pixels=lambda: decode(tree.read(names), len(names)),
        source=str(path),
    )


def _train(tree: Tree) -> list[tuple[str, str]]:
    """Names with wnids, by class and in it by number."""
    found = [(name, match[1]) for name in tree.sizes if (match := TRAIN.fullmatch(name))]
    if not found:
        refuse(tree.path, "hold images as train/WNID/images/NAME.JPEG", "none")
    return sorted(found, key=lambda pair: (pair[1], _number(pair[0])))


def _val(tree: Tree) -> list[tuple[str, str]]:
    """Names with wnids, in the order of the annotations."""
    places = {match[1]: name for name in tree.sizes if (match := VAL.fullmatch(name))}
    found = []
    for line in _lines(tree, "val/val_annotations.txt"):
        image, _, rest = line.partition("\t")
        if image not in places:
            refuse(f"{tree.path}/val/val_annotations.txt", "name images of val/images", repr(image))
        found.append((places[image], rest.partition("\t")[0]))
    return found


def _number(name: str) -> int:
    """The number in train/n01443537/images/n01443537_12.JPEG; 0 where there is none."""
    digits = re.search(r"(\d+)\.JPEG$", name)
    return int(digits[1]) if digits else 0


def _lines(tree: Tree, name: str) -> list[str]:
    return [line for line in _text(tree, name).splitlines() if line.strip()]


def _text(tree: Tree, name: str) -> str:
    for place in tree.sizes:
        if place == name or place.endswith(f"/{name}"):
            return tree.one(place).decode("utf-8", "replace")
    refuse(tree.path, f"hold {name}", "no such file")
