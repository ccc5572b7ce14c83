"""From a set's name or a path to its images: which file, and how complete it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from .fetch import remedy
from .formats.cifar import cifar
from .formats.folder import SPLIT_WORDS
from .formats.folder import folder as image_folder
from .formats.idx import idx
from .formats.npz import npz
from .formats.omniglot import OneShotRuns
from .formats.omniglot import one_shot_runs as read_runs
from .formats.tiny_imagenet import tiny_imagenet
from .images import Images, Unread
from .outside import DataError, NotFoundError, intact, refuse
from .sets import ONE_SHOT, SETS, Reader, Set

NAMES = tuple(SETS)
DEPTH = 4
"""Levels below the data folder that are looked at."""


def load(name: str, split: str = "train", folder: str | Path | None = None) -> Images:
    """Reads a set of images.

    Args:
        name: one of ``NAMES``, found by its files' usual names up to four levels below the folder;
            or the path of a file or folder in one of the formats of docs/data.md.
        split: ``train`` or ``test``, or the set's own word.
        folder: where to look; None for the environment's ``DLACCEL_DATA``.

    Returns:
        The images of the complete file where there is one, else of the largest; ``source`` says
        which, ``note`` what it lacks.

    Raises:
        DataError: when there is no such set, split or file, or the file is damaged or foreign.
    """
    return find(name, split, folder).read()


def find(name: str, split: str = "train", folder: str | Path | None = None) -> Unread:
    """Like ``load``, but leaves the pixels where they are if the format allows."""
    if name not in SETS:
        if not name or not Path(name).exists():
            known = ", ".join(NAMES)
            refuse("name", f"be one of {known}, or the path of a file or folder", repr(name))
        return recognise(Path(name), split)
    entry = SETS[name]
    split = entry.aliases.get(split, split)
    if split not in entry.sizes:
        words = ", ".join([*entry.sizes, *entry.aliases])
        refuse(name, f"be asked for one of the splits {words}", repr(split))
    if entry.bundled is not None:
        return entry.bundled(split)
    root = data_folder(folder)
    if root is None:
        raise DataError(f"dlaccel.data: {name} needs a folder: set DLACCEL_DATA or pass one.")
    best: Unread | None = None
    for path, reader, note in _candidates(entry, root, split):
        found = _noted(entry, split, reader(path, split), note)
        if len(found.labels) == entry.sizes[split]:
            return found
        if best is None or len(found.labels) > len(best.labels):
            best = found
    if best is None:
        raise NotFoundError(
            f"dlaccel.data: {name} ({split}) is not below {root}: {remedy(name, split, root)}."
        )
    return best


def recognise(path: Path, split: str = "train") -> Unread:
    """Reads a path by its name, else by what it holds."""
    for entry in SETS.values():
        own = entry.aliases.get(split, split)
        for layout in entry.layouts:
            if layout.matches(path.absolute(), own):
                return layout.read(path, own)
    for fits, reader in FORMATS:
        if fits(path):
            return reader(path, split)
    return image_folder(path, split)


def one_shot_runs(folder: str | Path | None = None) -> OneShotRuns:
    """Omniglot's official one-shot runs, from all_runs.zip or one_shot_all_runs.zip.

    Args:
        folder: where to look, or the file; None for ``DLACCEL_DATA``.

    Raises:
        DataError: when there is no such file or it is damaged.
    """
    root = data_folder(folder)
    if root is None:
        raise DataError("dlaccel.data: one_shot_runs needs a folder: set DLACCEL_DATA or pass one.")
    for path in [root] if root.is_file() else walk(root):
        if ONE_SHOT.fullmatch(path.name):
            return read_runs(path)
    raise NotFoundError(f"dlaccel.data: all_runs.zip of Omniglot is not below {root}.")


def data_folder(folder: str | Path | None) -> Path | None:
    """The folder given, else that of the environment.

    Raises:
        DataError: when it is not there.
    """
    named = folder or os.environ.get("DLACCEL_DATA")
    if not named:
        return None
    root = Path(named).expanduser().absolute()
    if not root.exists():
        refuse("folder", "exist", repr(str(named)))
    return root


def walk(root: Path) -> Iterator[Path]:
    """Paths below a folder, nearest first.

    A set's own folder is not entered, nor a split of an image folder, which may hold millions.
    """
    level = [root]
    for _ in range(DEPTH):
        deeper: list[Path] = []
        for place in level:
            with intact(place, "folder"):
                paths = sorted(place.iterdir())
            for path in paths:
                if path.name.startswith("."):
                    continue
                yield path
                if path.is_dir() and path.name not in SPLIT_WORDS and not _is_a_set(path):
                    deeper.append(path)
        level = deeper


def _is_a_set(path: Path) -> bool:
    layouts = (layout for entry in SETS.values() for layout in entry.layouts)
    words = ("train", "test", "val", "small1", "small2")
    return any(layout.matches(path, word) for layout in layouts for word in words)


def _candidates(entry: Set, root: Path, split: str) -> Iterator[tuple[Path, Reader, str]]:
    paths = list(walk(root))
    for layout in entry.layouts:
        for path in paths:
            if layout.matches(path, split):
                yield path, layout.read, layout.note


def _noted(entry: Set, split: str, found: Unread, note: str) -> Unread:
    """With the set's class names, and what to know before comparing numbers."""
    names = entry.class_names or found.class_names
    found = replace(found, class_names=names)
    count, size = len(found.labels), entry.sizes[split]
    notes = [found.note, note]
    if count != size:
        notes.append(f"{count} of {size} images")
    elif found.labels.bincount(minlength=len(names)).tolist() != _counts(entry, split, len(names)):
        notes.append("class counts are not the published ones")
    if bool((found.labels.diff() >= 0).all()):
        notes.append("sorted by class")
    return replace(found, note="; ".join(filter(None, notes)))


def _counts(entry: Set, split: str, classes: int) -> list[int]:
    return list(entry.counts.get(split) or (entry.sizes[split] // classes,) * classes)


def _holds(*names: str) -> Callable[[Path], bool]:
    return lambda path: any((path / name).is_file() for name in names)


IDX = replace(SETS["mnist"].layouts[0], family="")


def _idx_file(path: Path, split: str) -> Unread:
    """A file of images, which is one split: another is read only if the name says so."""
    if split != "train" and not IDX.matches(path, split):
        refuse(path, f"be named as split {split!r}", repr(path.name))
    return idx(path)


def _idx_in(path: Path, split: str) -> Unread:
    """The only pair of IDX files of a split in a folder."""
    found = [file for file in sorted(path.iterdir()) if IDX.matches(file, split)]
    if len(found) != 1:
        refuse(path, f"hold one IDX file of images for split {split!r}", len(found))
    return idx(found[0])


def _tiny_imagenet(path: Path, split: str) -> Unread:
    return tiny_imagenet(path, SETS["tiny_imagenet"].aliases.get(split, split))


FORMATS: tuple[tuple[Callable[[Path], bool], Reader], ...] = (
    (lambda path: path.suffix == ".npz", npz),
    (lambda path: path.is_file() and "idx3" in path.name, _idx_file),
    (_holds("data_batch_1", "data_batch_1.bin"), cifar),
    (_holds("wnids.txt"), _tiny_imagenet),
    (lambda path: path.is_dir() and any(path.glob("*images?idx3*")), _idx_in),
)
"""What a path looks like, and what reads it; the rest are image folders."""
