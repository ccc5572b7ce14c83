"""Omniglot's official twenty runs of 20-way one-shot classification."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from dlaccel import data
from dlaccel.collapse import NearestCentre
from dlaccel.data import Images
from dlaccel.experiment import Trial

from .._source_training import Numbers, SourceNetwork, Task, embed, pixels_of, start

SIDE = 28
"""To which the runs' images are averaged, as the training images are."""


def measure_one_shot_runs(trial: Trial, task: Task, made: SourceNetwork, classes: int) -> None:
    """Every test image goes to the nearest of its run's twenty training images.

    The twenty characters of a run are of one alphabet, which makes it harder than episodes drawn
    from all evaluation characters.
    """
    images = cache(_images)
    untrained = start(trial, task, classes, trial.config.network)
    embeddings: dict[str, Callable[[Images], Tensor]] = {
        "pixels": lambda each: pixels_of(each, trial.device).features,
        "untrained": lambda each: embed(untrained, each, trial.device).features,
        "trained": lambda each: embed(made, each, trial.device).features,
    }
    for features, embedding in embeddings.items():
        compute = partial(_accuracy, images, embedding)
        trial.measure("one_shot_runs", compute, features=features, classes=classes)


def _images() -> tuple[Images, Tensor]:
    """All images, run after run, training then test in each, and the labels of the tests."""
    runs = data.one_shot_runs()
    pixels = torch.stack([runs.training, runs.test], dim=1)  # [R, 2, k, 1, H, W]
    flat = Images(
        pixels.flatten(0, 2), torch.zeros(pixels.shape[:3].numel(), dtype=torch.int64), ("any",)
    )
    return data.resize(flat, SIDE), runs.labels


def _accuracy(
    images: Callable[[], tuple[Images, Tensor]], embedding: Callable[[Images], Tensor]
) -> Numbers:
    pixels, labels = images()
    number, ways = labels.shape
    features = torch.unflatten(embedding(pixels), 0, (number, 2, ways))
    found = torch.stack([NearestCentre(training).predict(test) for training, test in features])
    right = (found.cpu() == labels).double().mean(1)
    return {
        "accuracy": float(right.mean()),
        "worst_run": float(right.min()),
        "best_run": float(right.max()),
    }
