"""Experiments E5 and E6: images represented, and completed from their upper halves."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial

import numpy as np
import torch
from torch import Tensor

from dlaccel import data
from dlaccel.experiment import Trial

from .concentration import Numbers
from .published import regression_error
from .regression import Grid, Pairs, fit, gram, predict
from .trained import train_hypernetwork

TASKS = ("representation", "completion")
"""f sees the whole image, or its upper half."""

TABLE = 2**25
"""Kernel entries between test and training images that are held at a time."""

SHOWN = 8
"""Test images whose predictions the records keep."""


@dataclass(frozen=True)
class Pixels:
    """Grey images as rows in [0, 1], float64, training images first in their file's order."""

    train: Tensor
    test: Tensor
    side: int
    mean: Tensor

    def seen(self, images: Tensor, task: str) -> Tensor:
        """What f sees of them."""
        kept = images.clone()
        if task == "completion":
            kept[:, images.shape[1] // 2 :] = 0
        return kept


def load_pixels(trial: Trial) -> Pixels:
    """The first images of the data set's two splits."""
    config = trial.config
    train, test = (data.load(config.image_data, split) for split in ("train", "test"))
    grey = [
        images.images.to(trial.device, torch.float64).mean(1).flatten(1) / 255
        for images in (train, test)
    ]
    used = grey[0][config.skipped_images :]
    return Pixels(used, grey[1][: config.test_images], train.images.shape[-1], grey[0].mean(0))


def measure_completion(trial: Trial) -> None:
    """Mean squared errors at all pixels of test images, of every method with N images."""
    config = trial.config
    pixels = load_pixels(trial)
    trial.measure("image_data", partial(_facts, pixels), data=config.image_data)
    for task in TASKS:
        for count in config.image_counts:
            setting = Setting(trial, pixels, task, count)
            for method in config.kernels:
                _measure(setting, method, cache(partial(setting.regression, method)))
            if count in config.trained_counts:
                _measure(setting, "trained", partial(_known, setting.trained()))
            mean = pixels.mean.expand(len(pixels.test), -1)
            _measure(setting, "mean image", partial(_known, mean))


def _known(predictions: Tensor) -> tuple[Tensor, Numbers]:
    return predictions, {}


def _measure(
    setting: Setting, method: str, predictions: Callable[[], tuple[Tensor, Numbers]]
) -> None:
    """The error, and for the most images the first predictions themselves."""
    trial, pixels, task = setting.trial, setting.pixels, setting.task
    name, count = trial.config.image_data, setting.count

    def error() -> Numbers:
        values, facts = predictions()
        found = (values - pixels.test).square().mean().item()
        prototype = regression_error(name, task, method, count)
        return {"error": found, "prototype": prototype, **facts}

    where = {"data": name, "task": task, "method": method}
    trial.measure("regression", error, **where, images=count)
    if trial.seed == 0 and count == max(trial.config.image_counts):
        trial.measure("picture", lambda: _picture(predictions()[0], pixels.side), **where)
        if method == "mean image":
            shown = {"truth": pixels.test, "seen": setting.test}
            for label, images in shown.items():
                compute = partial(_picture, images, pixels.side)
                trial.measure("picture", compute, **{**where, "method": label})


def _picture(images: Tensor, side: int) -> Numbers:
    return {"side": side, "bytes": to_text(images)}


def to_text(images: Tensor) -> str:
    """The first images as bytes, in base64."""
    levels = (images[:SHOWN].clamp(0, 1) * 255).round().to(torch.uint8)
    return base64.b64encode(levels.cpu().numpy().tobytes()).decode()


def from_text(text: str, side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Images of :func:`to_text`, ``[K, side, side]``."""
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(-1, side, side)


def _facts(pixels: Pixels) -> Numbers:
    return {"train": len(pixels.train), "test": len(pixels.test), "side": pixels.side}


@dataclass(frozen=True)
class Setting:
    """One task with the first N training images."""

    trial: Trial
    pixels: Pixels
    task: str
    count: int

    @cached_property
    def grid(self) -> Grid:
        """Of the pixels."""
        config = self.trial.config
        return Grid(self.pixels.side, config.bandwidth, config.shrink)

    @cached_property
    def train(self) -> Tensor:
        """What f sees of the training images."""
        return self.pixels.seen(self.pixels.train[: self.count], self.task)

    @cached_property
    def test(self) -> Tensor:
        """What f sees of the test images."""
        return self.pixels.seen(self.pixels.test, self.task)

    def pairs(self, draw: int) -> Pairs:
        """Random pixels of each image, drawn with replacement, with their values."""
        draws = self.trial.generator("pixels", self.task, self.count, draw)
        images = self.pixels.train[: self.count]
        shape = len(images), self.trial.config.image_pixels
        drawn = torch.randint(images.shape[1], shape, generator=draws).to(images.device)
        return Pairs(drawn, images.gather(1, drawn))

    def regression(self, kernel: str) -> tuple[Tensor, Numbers]:
        """Averages over draws of pixels, at all pixels of the test images, ``[T, side^2]``.

        And the largest residual and condition number of the systems solved.
        """
        config, grid = self.trial.config, self.grid
        table = grid.table(kernel, self.train, self.train)
        fitted: list[tuple[Pairs, Tensor]] = []
        residual = condition = 0.0
        for pairs in (self.pairs(draw) for draw in range(config.image_draws)):
            found = fit(gram(grid, table, pairs), pairs, config.ridge)
            fitted.append((pairs, found.dual))
            residual = max(residual, found.residual)
            condition = max(condition, found.condition or 0.0)
        most = max(1, TABLE // table[0].numel())
        predictions = []
        for part in torch.split(self.test, most):
            across = grid.table(kernel, part, self.train)
            terms = [predict(grid, across, pairs, dual) for pairs, dual in fitted]
            predictions.append(torch.stack(terms).mean(0))
        return torch.cat(predictions), {"residual": residual, "condition": condition}

    def trained(self) -> Tensor:
        """Predictions of a hypernetwork trained on the points of the first draw."""
        side, epochs = self.pixels.side, self.trial.config.trained_epochs
        where = {"data": self.trial.config.image_data, "task": self.task, "images": self.count}
        pairs = self.pairs(0)
        return train_hypernetwork(self.trial, self.train, pairs, side, self.test, epochs, where)
