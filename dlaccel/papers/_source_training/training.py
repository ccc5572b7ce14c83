"""Training of a source classifier, killed and resumed to the same bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from dlaccel.data import augment, channel_moments, standardise
from dlaccel.experiment import Row, Trial

from .network import Shape, make_network
from .tasks import Source, Task

Numbers = dict[str, float | int | str | None]

DIGITS = 8
"""Significant digits that the records keep of a checkpoint's numbers."""

MOMENTUM = 0.9
DECAY_FROM, DECAY = 0.75, 0.1
"""From this part of the steps on the rate is multiplied by DECAY, unless it is constant."""

PATCH, JITTER = 4, (0.4, 0.4, 0.4)
"""Pixels by which a random crop may shift an image; strengths of its random colours."""


@dataclass(frozen=True)
class Recipe:
    """How a source classifier is trained.

    Attributes:
        network: Its name.
        rate: Learning rate.
        schedule: ``"step"``, a tenth for the last quarter, or ``"constant"``.
        steps: Training steps.
        batch: Samples of a step.
        weight_decay: Weight decay.
    """

    network: str
    rate: float
    schedule: str
    steps: int
    batch: int
    weight_decay: float


@dataclass(frozen=True)
class SourceNetwork:
    """A classifier with the pixels' mean and deviation that it is used with.

    Attributes:
        network: The classifier.
        mean: Of each channel, over the source training samples of the whole task.
        deviation: Likewise.
    """

    network: nn.Module
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def inputs(self, images: Tensor) -> Tensor:
        """uint8 images as the network takes them, float32."""
        return standardise(images, self.mean, self.deviation)


def start(trial: Trial, task: Task, classes: int, name: str) -> SourceNetwork:
    """An untrained network for l classes of a task; below the head the same for every l."""
    generator = trial.generator("network", task.name, name)
    mean, deviation = channel_moments(task.source.images[~task.held_out])
    channels, side = task.source.images.shape[1:3]
    network = make_network(name, Shape(channels, side, classes), generator)
    return SourceNetwork(network, mean, deviation)


def train_source(
    trial: Trial,
    task: Task,
    source: Source,
    recipe: Recipe,
    records: int,
    evaluate: Callable[[SourceNetwork], Numbers],
    where: Mapping[str, Any],
) -> tuple[SourceNetwork, list[Row]]:
    """Trains on the source classes; ``evaluate`` is recorded as measurement ``checkpoint``.

    It is called for the untrained network (step 0) and ``records`` times, evenly, in evaluation
    mode. The order of the samples is a fresh permutation in each epoch; its last, incomplete batch
    is left out. Networks of one name start alike, whatever l.

    Args:
        trial: Whose seed, device and records.
        task: Where the classes are from.
        source: The classes and their samples.
        recipe: Network and optimiser.
        records: Checkpoints beside the untrained network.
        evaluate: The numbers of a checkpoint.
        where: Columns that tell this training from the others.

    Returns:
        The trained network, in evaluation mode, and the recorded rows.
    """
    classes = source.train.num_classes
    made = start(trial, task, classes, recipe.network)
    network = made.network.to(trial.device)
    images = source.train.images.to(trial.device)
    labels = source.train.labels.to(trial.device)
    optimizer = torch.optim.SGD(
        network.parameters(), recipe.rate, MOMENTUM, weight_decay=recipe.weight_decay
    )
    milestones = [round(DECAY_FROM * recipe.steps)] if recipe.schedule == "step" else []
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, DECAY)
    batches = max(1, len(labels) // recipe.batch)
    shifts = trial.generator("augment", *where.values())

    @lru_cache(1)
    def order(epoch: int) -> Tensor:
        generator = trial.generator("order", epoch, *where.values())
        return torch.randperm(len(labels), generator=generator).to(trial.device)

    def step(i: int) -> Mapping[str, Tensor]:
        network.train()
        epoch, place = divmod(i, batches)
        rows = order(epoch)[place * recipe.batch : (place + 1) * recipe.batch]
        x = images[rows]
        if task.augment:
            x = augment(x, shifts, crop=PATCH, rotate=0, jitter=JITTER)
        loss = nn.functional.cross_entropy(network(made.inputs(x)), labels[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        return {"loss": loss.detach()}

    def observe() -> Numbers:
        network.eval()
        return rounded(evaluate(made))

    untrained = trial.measure("checkpoint", observe, step=0, **where)
    rows = trial.train(
        "checkpoint",
        {"network": network, "optimizer": optimizer, "schedule": schedule, "shifts": shifts},
        recipe.steps,
        step,
        every=-(-recipe.steps // records),
        observe=observe,
        **where,
    )
    network.eval()
    return made, [untrained, *rows]


def rounded(numbers: Numbers) -> Numbers:
    """The same with ``DIGITS`` significant digits."""
    return {
        name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for name, value in numbers.items()
    }
