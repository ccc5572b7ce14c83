"""Experiments E2, E3 and E4: source classifiers over l, watched as they are trained."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import Tensor

from dlaccel.collapse import ClassGeometry, nc4
from dlaccel.experiment import Records, Row, Trial

from .._source_training import (
    SETS,
    Embedded,
    Numbers,
    Probe,
    Recipe,
    SourceNetwork,
    Task,
    accuracy,
    draw_source,
    geometry_of,
    probe_of,
    resolved_classes,
    set_numbers,
    take_checkpoint,
    train_source,
)
from .theory import new_samples


def measure_sweep(trial: Trial, task: Task) -> tuple[SourceNetwork, Records]:
    """Trains the main recipe for every l, then others with the most classes.

    The constant rate is for Table 1; E3's rates and networks are tried on the first task alone.

    Returns:
        The main recipe's network of the most source classes, and the rows of all checkpoints.
    """
    rows: list[Row] = []
    config = trial.config
    main = Recipe(
        config.network, config.rate, "step", config.steps, config.batch, config.weight_decay
    )
    for classes in resolved_classes(task, config.source_classes):
        made = _train(trial, task, main, "main", classes, rows)
    others = [("constant", replace(main, schedule="constant"))]
    if task.name == config.tasks[0]:
        others += [("rate", replace(main, rate=rate)) for rate in config.other_rates]
        others += [("network", replace(main, network=name)) for name in config.other_networks]
    for kind, recipe in others:
        _train(trial, task, recipe, kind, classes, rows)
    return made, Records(rows)


def _train(
    trial: Trial, task: Task, recipe: Recipe, kind: str, classes: int, rows: list[Row]
) -> SourceNetwork:
    source = draw_source(task, classes, None, trial.generator("source", task.name))
    config = trial.config
    probe = probe_of(
        task,
        source,
        config.probed_classes,
        config.matched_samples,
        trial.generator("probe", task.name),
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
            "network": recipe.network,
            "rate": recipe.rate,
        },
    )
    rows += seen
    return made


def _evaluate(trial: Trial, task: str, probe: Probe, made: SourceNetwork) -> Numbers:
    checkpoint = take_checkpoint(made, probe, trial.device)
    geometries = {
        name: geometry_of(checkpoint[name], "pooled" if name == "train" else "trace")
        for name in SETS
    }
    numbers: Numbers = {}
    for name in SETS:
        matched = probe.matched.get(name)
        numbers |= set_numbers(name, checkpoint[name], geometries[name], matched)
    return {
        **numbers,
        **_source_numbers(made, checkpoint, geometries["train"]),
        **_new_samples(geometries["train"], geometries["test"]),
        **_few_shot(trial, task, checkpoint),
    }


def _source_numbers(
    made: SourceNetwork, checkpoint: dict[str, Embedded], geometry: ClassGeometry
) -> Numbers:
    """Accuracy of the classifier itself, and NC1 to NC4 of the probed source classes."""
    train, test = checkpoint["train"], checkpoint["test"]
    weight = made.network.get_submodule("head").weight
    assert isinstance(weight, Tensor)
    nc2 = geometry.nc2()
    return {
        "source_accuracy_train": _accuracy(train),
        "source_accuracy_test": _accuracy(test),
        "nc1": float(geometry.nc1()),
        "nc2_norms": float(nc2.norms),
        "nc2_angles": float(nc2.angles),
        "nc3": float(geometry.nc3(weight[: train.classes]).distance),
        "nc4_train": _disagreement(train, geometry),
        "nc4_test": _disagreement(test, geometry),
    }


def _accuracy(embedded: Embedded) -> float:
    assert embedded.logits is not None
    return float((embedded.logits.argmax(1) == embedded.labels).double().mean())


def _disagreement(embedded: Embedded, geometry: ClassGeometry) -> float:
    """NC4 among the probed classes, which are the first of the source classes."""
    assert embedded.logits is not None
    return float(nc4(embedded.features, embedded.logits[:, : embedded.classes], geometry))


def _new_samples(train: ClassGeometry, test: ClassGeometry) -> Numbers:
    """Proposition 1: averages of A and B, and the least of bound / V - 1 over pairs."""
    found = new_samples(train, test)
    slack = found.bound / found.fresh - 1
    return {
        "p1_a": float(found.a.nanmean()),
        "p1_b": float(found.b.nanmean()),
        "p1_slack": float(slack[slack.isfinite()].min()),
    }


def _few_shot(trial: Trial, task: str, checkpoint: dict[str, Embedded]) -> Numbers:
    """Accuracy on target classes by two heads, and on validation classes by the second."""
    target, validation = checkpoint["target"], checkpoint.get("validation")
    numbers: Numbers = {"ways": min(trial.config.ways, target.classes)}
    for shots in trial.config.shots:
        for head in ("ncc", "ridge"):
            numbers[f"{head}_{shots}"] = float(accuracy(trial, task, target, head, shots).mean)
        if validation is not None:
            found = accuracy(trial, task, validation, "ridge", shots)
            numbers[f"validation_{shots}"] = float(found.mean)
    return numbers
