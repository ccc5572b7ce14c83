"""Experiments E3 and E4: rotation prediction over width, depth and learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from dlaccel import data
from dlaccel.data import Images
from dlaccel.experiment import Trial

from .concentration import Numbers
from .published import rotation_accuracy
from .rotation_networks import RotationNetworks, descend, losses
from .rotation_task import Turned, majority_share

EVALUATED = 100
"""Test images of a forward pass."""


@dataclass(frozen=True)
class Task:
    """A data set's turned images."""

    name: str
    train: Turned
    test: Turned
    source: str


def measure_rotation(trial: Trial) -> None:
    """Every width and depth of the grid, then every rate."""
    config = trial.config
    for name in config.rotation_data:
        task = _load(trial, name)
        trial.measure("rotation_data", partial(_facts, trial, task), data=name)
        for width, depth in config.cells:
            _train(
                trial,
                "rotation",
                task,
                width,
                depth,
                (config.rotation_rate,),
                config.rotation_epochs,
            )
        _, first = config.cells[0]
        for width in config.sweep_widths:
            rates, epochs = config.sweep_rates, config.sweep_epochs
            _train(trial, "rate_sweep", task, width, first, rates, epochs)


def _load(trial: Trial, name: str) -> Task:
    config = trial.config
    train, test = (data.load(name, split) for split in ("train", "test"))
    drawn = torch.randperm(len(train), generator=trial.generator("rotation subset", name))
    subset = train.subset(drawn[: config.rotation_samples or None])
    make = partial(Turned.of, name=name, circular=config.circular_labels, device=trial.device)
    kept = test.subset(slice(config.rotation_tests or None))
    return Task(name, make(subset), make(kept), _source(train))


def _source(images: Images) -> str:
    return f"{len(images)} images{f', {images.note}' if images.note else ''}"


def _facts(trial: Trial, task: Task) -> Numbers:
    return {
        "train": len(task.train),
        "test": len(task.test),
        "of": task.source,
        "majority": majority_share(trial.config.circular_labels),
    }


def _train(
    trial: Trial,
    name: str,
    task: Task,
    width: int,
    depth: int,
    rates: tuple[float, ...],
    epochs: int,
) -> None:
    """All rates and repetitions of one architecture side by side, from the same starts."""
    config, device = trial.config, trial.device
    where: dict[str, Any] = {"data": task.name, "width": width, "depth": depth}
    draws = trial.generator(name, task.name, width, depth)
    networks = RotationNetworks(
        config.repetitions,
        task.train.inputs,
        width,
        depth,
        hidden=config.hidden,
        bottleneck=config.bottleneck,
        inner_relu=config.inner_relu,
        generator=draws,
    )
    for parameter in networks.parameters():
        parameter.data = parameter.data.repeat(len(rates), 1, 1)
    networks.to(device)
    each = torch.tensor(rates, device=device).repeat_interleave(config.repetitions)
    steps = len(task.train) // config.rotation_batch
    order = _Order(len(task.train), len(each), config.rotation_batch, draws)

    def step(place: int) -> dict[str, Tensor]:
        rows = order.rows(place % steps)
        x, y, labels = task.train.draw(rows, draws)
        loss = losses(networks(x, y), labels)
        loss.sum().backward()  # type: ignore[no-untyped-call]
        descend(networks, each)
        return {"loss": loss.detach().nan_to_num(nan=torch.inf).mean()}

    def observe() -> Numbers:
        accuracy = _accuracies(trial, networks, task)
        return {"accuracy": accuracy.mean().item(), "worst": accuracy.min().item()}

    every = max(1, steps * epochs // config.records)
    trial.train(
        f"{name}_training",
        {"networks": networks, "draws": draws, "order": order},
        steps * epochs,
        step,
        every=every,
        observe=observe,
        **where,
    )
    accuracies = _accuracies(trial, networks, task).view(len(rates), -1)
    for rate, of_rate in zip(rates, accuracies, strict=True):
        compute = partial(_accuracy, of_rate, rotation_accuracy(task.name, width, depth, epochs))
        trial.measure(name, compute, **where, rate=rate, epochs=epochs)


class _Order:
    """Which images a step takes: each network goes through its own order of them every epoch."""

    def __init__(self, images: int, networks: int, batch: int, draws: Generator) -> None:
        self.images, self.networks, self.batch = images, networks, batch
        self.draws = draws
        self.order = torch.empty(networks, 0, dtype=torch.long)

    def rows(self, place: int) -> Tensor:
        """Those of step ``place`` of its epoch, ``[R, B]``."""
        if place == 0:
            keys = torch.rand(self.networks, self.images, generator=self.draws)
            self.order = keys.argsort(1)
        return self.order[:, place * self.batch : (place + 1) * self.batch]

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {"order": self.order}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Goes on with a checkpoint's order."""
        self.order = state["order"]


def _accuracy(accuracies: Tensor, prototype: float | None) -> Numbers:
    spread = accuracies.std().item() if len(accuracies) > 1 else None
    return {"accuracy": accuracies.mean().item(), "deviation": spread, "prototype": prototype}


@torch.no_grad()
def _accuracies(trial: Trial, networks: RotationNetworks, task: Task) -> Tensor:
    """Test accuracy of each network, ``[R]``, every image turned once, alike for all."""
    draws = trial.generator("test turns", task.name)
    count = len(networks.weights[0])
    hits = torch.zeros(count, dtype=torch.long, device=trial.device)
    for rows in torch.split(torch.arange(len(task.test)), EVALUATED):
        x, y, labels = task.test.draw(rows[None], draws)
        logits = networks(x.expand(count, -1, -1), y.expand(count, -1, -1))
        hits += (logits.argmax(-1) == labels).sum(1)
    return (hits.double() / len(task.test)).cpu()
