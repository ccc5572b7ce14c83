"""Experiments X1, X2, X4: source classifiers over l and m, and q1 to q5 of each checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch

from dlaccel.collapse import centre_errors
from dlaccel.experiment import Records, Row, Trial

from .._source_training import (
    SETS,
    Embedded,
    Numbers,
    Probe,
    Recipe,
    Source,
    SourceNetwork,
    Task,
    draw_source,
    geometry_of,
    probe_of,
    resolved_classes,
    set_numbers,
    spectral_norms,
    take_checkpoint,
    train_source,
)


@dataclass(frozen=True)
class Trained:
    """A trained network and what it was trained on."""

    made: SourceNetwork
    source: Source


def measure_sweep(trial: Trial, task: Task) -> tuple[dict[int, Trained], Records]:
    """Trains for every l with all samples, then for every smaller m with one l.

    Returns:
        The networks of the first kind by l; the rows of all checkpoints.
    """
    config = trial.config
    rows: list[Row] = []
    trained = {
        classes: _train(trial, task, "main", classes, None, rows)
        for classes in resolved_classes(task, config.source_classes)
    }
    (classes,) = resolved_classes(task, [config.samples_classes])
    most = int(task.source.subset(~task.held_out).counts().min())
    for samples in config.samples:
        if samples < most:
            _train(trial, task, "samples", classes, samples, rows)
    return trained, Records(rows)


def _train(
    trial: Trial, task: Task, kind: str, classes: int, samples: int | None, rows: list[Row]
) -> Trained:
    config = trial.config
    source = draw_source(task, classes, samples, trial.generator("source", task.name))
    probe = probe_of(
        task,
        source,
        config.probed_classes,
        config.matched_samples,
        trial.generator("probe", task.name),
    )
    recipe = Recipe(
        config.network, config.rate, "step", config.steps, config.batch, config.weight_decay
    )
    made, seen = train_source(
        trial,
        task,
        source,
        recipe,
        config.records,
        partial(_evaluate, trial, task.name, probe),
        {
            "task": task.name,
            "recipe": kind,
            "classes": classes,
            "samples": int(source.train.counts().min()),
        },
    )
    rows += seen
    return Trained(made, source)


def _evaluate(trial: Trial, task: str, probe: Probe, made: SourceNetwork) -> Numbers:
    checkpoint = take_checkpoint(made, probe, trial.device)
    numbers: Numbers = {}
    for name in SETS:
        embedded = checkpoint[name]
        matched = probe.matched.get(name)
        numbers |= set_numbers(name, embedded, geometry_of(embedded), matched)
        for shots in trial.config.shots:
            numbers |= _errors(trial, task, name, embedded, shots)
    norms = spectral_norms(made.network).values()
    return {
        **numbers,
        "max_norm": float(checkpoint["train"].features.norm(dim=1).max()),
        "log10_spectral_product": math.fsum(map(math.log10, norms)),
    }


def _errors(trial: Trial, task: str, name: str, embedded: Embedded, shots: int) -> Numbers:
    """q2 of a set and, of the target, q3 on the same draws; None without samples enough."""
    column = f"pair_{name}_{shots}"
    if int(torch.bincount(embedded.labels).min()) <= shots:
        return {column: None}
    found = centre_errors(
        embedded.features,
        embedded.labels,
        shots=shots,
        draws=trial.config.draws,
        seed=trial.generator("draws", task, name, shots).initial_seed(),
    )
    numbers: Numbers = {column: float(found.pairs.nanmean())}
    if name == "target":
        for ways in trial.config.numbers_of_ways:
            if ways <= embedded.classes:
                numbers[f"way{ways}_{shots}"] = float(found.k_way(ways).mean())
    return numbers
