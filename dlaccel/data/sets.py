"""The sets by name: how their files are called, how large they are, what reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath

from .formats.cifar import CIFAR100, cifar
from .formats.digits import digits
from .formats.idx import idx
from .formats.npz import npz
from .formats.omniglot import omniglot
from .formats.tiny_imagenet import tiny_imagenet
from .images import Unread
from .transforms import resize

Reader = Callable[[Path, str], Unread]


@dataclass(frozen=True)
class Layout:
    """One way in which a set lies on a disk."""

    pattern: str
    """Regular expression of the file's or folder's name; ``{split}`` is the word for the split."""
    read: Reader
    words: Mapping[str, str] = field(default_factory=dict)
    """Splits that it may hold, and what ``{split}`` stands for; empty: any split."""
    family: str = ""
    """Tells apart sets whose files have the same names, by the folders above."""
    note: str = ""

    def matches(self, path: PurePath, split: str) -> bool:
        """Whether the path may hold this split."""
        if self.words and split not in self.words:
            return False
        pattern = self.pattern.replace("{split}", self.words.get(split, split))
        named = re.fullmatch(pattern, path.name, re.IGNORECASE) is not None
        return named and self.family in ("", family(path))


@dataclass(frozen=True)
class Set:
    """A set of images."""

    sizes: Mapping[str, int]
    """Images of each split of the complete set."""
    layouts: tuple[Layout, ...] = ()
    """In the order of preference."""
    class_names: tuple[str, ...] = ()
    """Empty where the files name the classes."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other words for the splits."""
    counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Images of each class in the complete set; the same for all classes where nothing is said."""
    bundled: Callable[[str], Unread] | None = None
    """Reads a set that needs no file."""


def family(path: PurePath) -> str:
    """Which set of the MNIST family a path speaks of; the nearest folder decides."""
    for part in reversed(path.parts):
        for word, name in FAMILIES.items():
            if word in part.lower():
                return name
    return "mnist"


FAMILIES = {
    "notmnist": "notmnist",
    "fashion": "fashion_mnist",
    "kmnist": "kmnist",
    "kuzushiji": "kmnist",
    "emnist": "emnist",
    "qmnist": "qmnist",
    "mnist": "mnist",
}


def _idx(path: Path, split: str) -> Unread:
    return idx(path)


def _small(read: Reader, path: Path, split: str) -> Unread:
    """28x28 from 105x105, by the filter that the npz file of that size was made with."""
    whole = read(path, split)
    return replace(whole, pixels=lambda: resize(whole.read(), 28).images)


def _mnist_family(name: str) -> tuple[Layout, ...]:
    pattern = r"({split})[^/]*images[-.]idx3-ubyte(\.gz)?"
    words = {"train": "train", "test": "t10k|test"}
    archive = Layout(r"[^/]*mnist[^/]*\.npz", npz, family=name)
    return Layout(pattern, _idx, words, family=name), archive


CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

OMNIGLOT_WORDS = {"train": "background", "test": "evaluation"}
SMALL_WORDS = {"small1": "background_small1", "small2": "background_small2"}
OMNIGLOT_NPZ = Layout(r"omniglot(?!_28)[^/]*\.npz", npz, OMNIGLOT_WORDS)
OMNIGLOT_ZIP = Layout(r"images_({split})(\.zip)?", omniglot, OMNIGLOT_WORDS | SMALL_WORDS)
OMNIGLOT = Set(
    {"train": 19280, "test": 13180, "small1": 2720, "small2": 3120},
    (OMNIGLOT_NPZ, OMNIGLOT_ZIP),
    aliases={word: split for split, word in (OMNIGLOT_WORDS | SMALL_WORDS).items()},
)
SMALLER = "box-filtered to 28x28"

SETS = {
    "digits": Set({"train": 1280, "test": 517}, bundled=digits),
    "mnist": Set(
        {"train": 60000, "test": 10000},
        _mnist_family("mnist"),
        tuple("0123456789"),
        counts={
            "train": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
            "test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
        },
    ),
    "fashion_mnist": Set(
        {"train": 60000, "test": 10000},
        _mnist_family("fashion_mnist"),
        FASHION,
    ),
    "cifar10": Set(
        {"train": 50000, "test": 10000},
        (
            Layout(r"cifar-10-(python|binary)\.tar(\.gz)?", cifar),
            Layout(r"cifar-10-batches-(py|bin)", cifar),
            Layout(r"cifar-?10(?!0)(?![^/]*jpe?g)[^/]*\.npz", npz),
        ),
        CIFAR10_CLASSES,
    ),
    "cifar10_jpeg": Set(
        {"train": 50000, "test": 10000},
        (Layout(r"cifar-?10(?!0)[^/]*jpe?g[^/]*\.npz", npz, note="JPEG, lossy"),),
        CIFAR10_CLASSES,
    ),
    "cifar100": Set(
        {"train": 50000, "test": 10000},
        (Layout(r"cifar-100-(python|binary)(\.tar(\.gz)?)?", partial(cifar, version=CIFAR100)),),
    ),
    "omniglot": OMNIGLOT,
    "omniglot_28": replace(
        OMNIGLOT,
        layouts=(
            Layout(r"omniglot_28[^/]*\.npz", npz, OMNIGLOT_WORDS, note=SMALLER),
            *(
                replace(layout, read=partial(_small, layout.read), note=SMALLER)
                for layout in OMNIGLOT.layouts
            ),
        ),
    ),
    "tiny_imagenet": Set(
        {"train": 100000, "val": 10000},
        (
            Layout(r"tiny-imagenet-200(\.zip)?", tiny_imagenet),
            Layout(r"tiny_imagenet(?!_awa)[^/]*\.npz", npz),
        ),
        aliases={"test": "val"},
    ),
}

ONE_SHOT = re.compile(r"(one_shot_)?all_runs(\.zip)?", re.IGNORECASE)
