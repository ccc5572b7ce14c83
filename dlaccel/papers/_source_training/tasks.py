"""Classes to learn from and classes to transfer to, drawn once from a data set."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import torch
from torch import Generator, Tensor

from dlaccel import data
from dlaccel.data import Images
from dlaccel.experiment import Trial

SETS = ("train", "test", "target")
"""Source samples that were trained on, other samples of the same classes, target samples."""

SOURCE_DIGITS = 6
"""Of the ten digits; the other four are the target."""

HELD_OUT_DRAWINGS = 5
"""Of the 20 drawings of a character: never trained on."""

SHARES = (0.64, 0.16)
"""Shares of a set's classes that are source and validation; the rest is the target."""

SPLIT_SEED = 2112
"""Classes without a published split are split by this seed, the same for all seeds of a run."""

MOST_LISTED = 200
"""Classes up to which a split is recorded by their names."""


@dataclass(frozen=True)
class Task:
    """Classes of one data set, split into source, target and, where there are some, validation.

    Attributes:
        name: As in the configuration.
        source: Images of all source classes.
        held_out: Which of them are never trained on, bool (N,).
        target: Images of the target classes, which no training sees.
        validation: Images of classes that are neither, for the choice of a checkpoint.
        augment: Whether training crops, mirrors and recolours at random.
    """

    name: str
    source: Images
    held_out: Tensor
    target: Images
    validation: Images | None = None
    augment: bool = False


@dataclass(frozen=True)
class Source:
    """l source classes with m training samples each; labels 0 .. l - 1 in both.

    Attributes:
        train: Samples to train on.
        test: Other samples of the same classes.
    """

    train: Images
    test: Images


def draw_source(task: Task, classes: int, samples: int | None, generator: Generator) -> Source:
    """Draws l classes and m samples of each.

    A generator in the same state gives nested sets of classes for growing l.

    Args:
        task: Where from.
        classes: l.
        samples: m; None takes all that are not held out.
        generator: Decides the classes and the samples.
    """
    order = torch.randperm(task.source.num_classes, generator=generator)
    seed = int(torch.randint(2**62, (), generator=generator))
    train, test = (
        task.source.subset(rows).of_classes(order[:classes])
        for rows in (~task.held_out, task.held_out)
    )
    return Source(train if samples is None else train.per_class(samples, seed), test)


def resolved_classes(task: Task, numbers: Sequence[int]) -> tuple[int, ...]:
    """The numbers of source classes that the task has: ascending, more than all stand for all."""
    return tuple(sorted({min(number, task.source.num_classes) for number in numbers}))


def load_task(name: str, generator: Generator) -> Task:
    """Reads a data set and splits its classes.

    Args:
        name: A name in ``TASKS``, or the path of an image folder or an npz file.
        generator: Decides what the set itself leaves open.

    Raises:
        dlaccel.data.DataError: when the data are missing or damaged.
    """
    return TASKS[name](generator) if name in TASKS else _own(name, generator)


def load_tasks(trial: Trial) -> list[Task]:
    """All tasks of the configuration, before anything is trained on the first.

    Raises:
        dlaccel.data.DataError: when the data of one are missing or damaged.
    """
    return [load_task(name, trial.generator("task", name)) for name in trial.config.tasks]


def _digits(generator: Generator) -> Task:
    """Six digits under the eight symmetries of the square; the other four under four rotations."""
    order = torch.randperm(10, generator=generator)
    known, new = order[:SOURCE_DIGITS], order[SOURCE_DIGITS:]
    parts = [data.load("digits", split) for split in ("train", "test")]
    train, test = (data.symmetries(part.of_classes(known)) for part in parts)
    source = _joined([train, test])
    held_out = torch.arange(len(source)) >= len(train)
    return Task("digits", source, held_out, data.rotations(_joined(parts).of_classes(new)))


def _omniglot(generator: Generator) -> Task:
    """The background alphabets are the source, the evaluation alphabets the target."""
    source, target = (data.load("omniglot_28", split) for split in ("train", "test"))
    return Task("omniglot", source, drawn_samples(source, HELD_OUT_DRAWINGS, generator), target)


def _tiny_imagenet(generator: Generator) -> Task:
    """At 32 x 32; validation files are the source test samples."""
    parts = [data.load("tiny_imagenet", split) for split in ("train", "test")]
    images = data.resize(_joined(parts), 32)
    return _split("tiny_imagenet", images, torch.arange(len(images)) >= len(parts[0]))


def _cifar100(by: str, generator: Generator) -> Task:
    """Split by class, as CIFAR-FS is, or by superclass, as FC-100 is; not their own splits."""
    images = _joined([data.load("cifar100", split) for split in ("train", "test")])
    held_out = drawn_samples(images, _sixth(images), generator)
    kinds = torch.arange(100) if by == "class" else _kinds(images)
    return _split("cifar100" if by == "class" else "cifar100_superclasses", images, held_out, kinds)


def _kinds(images: Images) -> Tensor:
    """The superclass of each class."""
    kinds = torch.zeros(images.num_classes, dtype=torch.int64)
    kinds[images.labels] = images.groups["superclass"]
    return kinds


def _own(name: str, generator: Generator) -> Task:
    """A user's images: classes split by their folders train, val and test, else by ``SHARES``.

    Splits that hold the same classes are no split of classes; their samples are put together.
    """
    found = []
    for split in ("train", "val", "test"):
        with contextlib.suppress(data.DataError):
            found.append(_present(data.load(name, split)))
    if not found:
        data.load(name)  # says what is wrong with it
    names = [each.class_names for each in found]
    if len(found) > 1 and len(set(chain(*names))) == sum(map(len, names)):
        source, *others, target = found
        held_out = drawn_samples(source, _sixth(source), generator)
        return Task(name, source, held_out, target, others[0] if others else None, augment=True)
    images = _joined(found)
    return _split(name, images, drawn_samples(images, _sixth(images), generator))


def _present(images: Images) -> Images:
    """Only the classes that have images."""
    return images.of_classes(torch.nonzero(images.counts())[:, 0])


def _sixth(images: Images) -> int:
    """Samples of a class that are held out: 100 of 600."""
    return max(1, int(images.counts().min()) // 6)


TASKS: dict[str, Callable[[Generator], Task]] = {
    "digits": _digits,
    "omniglot": _omniglot,
    "tiny_imagenet": _tiny_imagenet,
    "cifar100": partial(_cifar100, "class"),
    "cifar100_superclasses": partial(_cifar100, "superclass"),
}
"""Readers by the name of their data."""


def is_path(name: str) -> bool:
    """Whether ``name`` reads as a path rather than as a word."""
    return "/" in name or name.endswith(".npz")


def _split(name: str, images: Images, held_out: Tensor, kinds: Tensor | None = None) -> Task:
    """Splits the classes by ``SHARES``, whole kinds of classes together where they are given."""
    kinds = torch.arange(images.num_classes) if kinds is None else kinds
    count = len(torch.unique(kinds))
    first, second = (round(share * count) for share in SHARES)
    parts = data.split_classes(count, (first, second, count - first - second), SPLIT_SEED)
    known, chosen, new = (torch.nonzero(torch.isin(kinds, part))[:, 0] for part in parts)
    kept = torch.isin(images.labels, known)
    return Task(
        name,
        images.of_classes(known),
        held_out[kept],
        images.of_classes(new),
        images.of_classes(chosen),
        augment=True,
    )


def drawn_samples(images: Images, count: int, generator: Generator) -> Tensor:
    """``count`` samples of each class, all of one that has fewer, as a mask."""
    mask = torch.zeros(len(images), dtype=torch.bool)
    for label in range(images.num_classes):
        rows = torch.nonzero(images.labels == label)[:, 0]
        mask[rows[torch.randperm(len(rows), generator=generator)[:count]]] = True
    return mask


def _joined(parts: Sequence[Images]) -> Images:
    """Images of the same classes as one set."""
    groups = {key: torch.cat([part.groups[key] for part in parts]) for key in parts[0].groups}
    return replace(
        parts[0],
        images=torch.cat([part.images for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
        groups=groups,
    )


def measure_split(trial: Trial, task: Task) -> None:
    """Records which classes are what, for as far as the set does not say so itself."""
    validation = None if task.validation is None else _listed(task.validation)
    trial.measure(
        "split",
        lambda: {
            "source": _listed(task.source),
            "validation": validation,
            "target": _listed(task.target),
        },
        task=task.name,
    )


def _listed(images: Images) -> str:
    """The names of a few classes, or how many there are."""
    names = images.class_names
    return ", ".join(names) if len(names) <= MOST_LISTED else f"{len(names)} classes"
