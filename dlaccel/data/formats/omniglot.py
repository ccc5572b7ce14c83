"""Omniglot's official zips, or the folders extracted from them: characters and one-shot runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..decode import decode
from ..images import Unread
from ..outside import refuse
from ..tree import Tree, open_tree

CHARACTER = re.compile(r"(?:.*/)?([^/]+)/(character\d+)/\d+_(\d+)\.png")
RUN = re.compile(r"(?:.*/)?run\d+/class_labels\.txt")


def omniglot(path: Path, split: str = "train") -> Unread:
    """The characters of one zip, such as images_background.zip, in the order of their names.

    Ink is 255 on 0, as in MNIST; the files have it black on white. Groups are ``alphabet``, in the
    order of the names, and ``drawer``, from 0. The zip is the split, so ``split`` is not looked at.

    Raises:
        DataError: when there are no images at ALPHABET/characterNN/NNNN_NN.png.
    """
    tree = open_tree(path)
    found = [(name, match) for name in tree.sizes if (match := CHARACTER.fullmatch(name))]
    if not found:
        refuse(path, "hold images as ALPHABET/characterNN/NNNN_NN.png", "none")
    found.sort(key=lambda pair: (pair[1][1], pair[1][2], int(pair[1][3])))
    classes = [f"{match[1]}/{match[2]}" for _, match in found]
    return Unread(
        labels=_places(classes),
        class_names=tuple(dict.fromkeys(classes)),
        pixels=lambda: 255 - decode(tree.read(name for name, _ in found), len(found)),
        source=str(path),
        groups={
            "alphabet": _places([match[1] for _, match in found]),
            "drawer": torch.tensor([int(match[3]) - 1 for _, match in found]),
        },
    )


@dataclass(frozen=True, eq=False)
class OneShotRuns:
    """The official runs of 20-way one-shot classification; R runs of k images each.

    Lake, Salakhutdinov, Tenenbaum, Science 350 (2015): in every run each test image belongs to
    the character of one training image.
    """

    training: Tensor
    """(R, k, 1, H, W) uint8, one image of each class; ink is 255."""
    test: Tensor
    """(R, k, 1, H, W) uint8."""
    labels: Tensor
    """(R, k) int64: the training image that each test image belongs to."""
    source: str


def one_shot_runs(path: Path) -> OneShotRuns:
    """Reads the runs of all_runs.zip or the folder extracted from it.

    Raises:
        DataError: when a run's class_labels.txt names a file that is not there, or runs differ in
            size.
    """
    tree = open_tree(path)
    tables = [name for name in tree.sizes if RUN.fullmatch(name)]
    if not tables:
        refuse(path, "hold runs as runNN/class_labels.txt", "none")
    runs = [_run(tree, table) for table in tables]
    ways = len(runs[0][0])
    for table, (training, _, _) in zip(tables, runs, strict=True):
        if len(training) != ways:
            rule = f"name {ways} test images, as the first run does"
            refuse(f"{path}/{table}", rule, len(training))
    names = [name for training, test, _ in runs for name in (*training, *test)]
    ink = 255 - decode(tree.read(names), len(names))
    pixels = ink.view(len(runs), 2, ways, *ink.shape[1:])
    labels = torch.tensor([labels for _, _, labels in runs])
    return OneShotRuns(pixels[:, 0], pixels[:, 1], labels, str(path))


def _run(tree: Tree, table: str) -> tuple[list[str], list[str], list[int]]:
    """Training files, test files, and for each test file the place of its training file."""
    source, folder = f"{tree.path}/{table}", table.removesuffix("class_labels.txt")
    root = "".join(f"{part}/" for part in table.split("/")[:-2])
    training = [name for name in tree.sizes if name.startswith(f"{folder}training/")]
    place = {name: k for k, name in enumerate(training)}
    test, labels = [], []
    for line in tree.one(table).decode("utf-8", "replace").splitlines():
        files = [root + word for word in line.split()]
        if len(files) != 2 or files[0] not in tree.sizes or files[1] not in place:
            refuse(source, "name a test file and its training file in each line", repr(line))
        test.append(files[0])
        labels.append(place[files[1]])
    if len(test) != len(training):
        refuse(source, f"name a test file for each of {len(training)} training files", len(test))
    return training, test, labels


def _places(names: list[str]) -> Tensor:
    """Each name's place among the different names."""
    place = {name: k for k, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([place[name] for name in names])
