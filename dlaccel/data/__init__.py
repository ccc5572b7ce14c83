"""Real images: loaders for the standard file formats, and transforms on tensors (docs/data.md)."""

from __future__ import annotations

from pathlib import Path as _Path

from .augmentation import augment
from .finding import NAMES, load, one_shot_runs
from .formats import folder as _folder
from .formats import npz as _npz
from .formats.omniglot import OneShotRuns
from .images import Images
from .outside import DataError
from .transforms import (
    channel_moments,
    resize,
    rotations,
    split_classes,
    standardise,
    symmetries,
)

__all__ = [
    "NAMES",
    "DataError",
    "Images",
    "OneShotRuns",
    "augment",
    "channel_moments",
    "folder",
    "load",
    "npz",
    "one_shot_runs",
    "resize",
    "rotations",
    "split_classes",
    "standardise",
    "symmetries",
]


def folder(path: str | _Path, split: str = "train", size: int | None = None) -> Images:
    """Images in folders named by their classes; see ``formats.folder.folder``."""
    return _folder.folder(_Path(path), split, size).read()


def npz(path: str | _Path, split: str = "train") -> Images:
    """Images in NumPy's npz, in one of the layouts of docs/data.md; see ``formats.npz.npz``."""
    return _npz.npz(_Path(path), split).read()
