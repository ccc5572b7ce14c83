"""Experiment E1: our rows of Table 1, and what is remembered of the others."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

from dlaccel.experiment import Records, Row, Trial

from .._source_training import Numbers
from .published import PUBLISHED

STAND_INS = {
    "tiny_imagenet": "CIFAR-FS",
    "cifar_fs.npz": "CIFAR-FS",
    "mini_imagenet.npz": "mini-ImageNet",
    "fc100.npz": "FC-100",
}
"""The data set of Table 1 beside which a task's rows are shown."""

METHODS = {"simple": "constant", "rate schedule": "main", "model selection": "main"}
"""The paper's own rows of Table 1, and the recipe of each."""


def measure_table(trial: Trial, rows: Records, task: str) -> None:
    """Table 1: the three rows that are the paper's own, ridge head, most source classes.

    ``model selection`` takes the checkpoint at which the validation classes are classified best.
    """
    most = rows.select(classes=max(rows.column("classes")))
    for method, recipe in METHODS.items():
        seen = [row for row in most.select(recipe=recipe) if row["step"] > 0]
        for shots in trial.config.shots:
            trial.measure(
                "table1",
                partial(_table_row, seen, method, task, shots),
                task=task,
                method=method,
                shots=shots,
            )


def _table_row(seen: list[Row], method: str, task: str, shots: int) -> Numbers:
    row = seen[-1]
    if method == "model selection":
        if f"validation_{shots}" not in row:
            return {"accuracy": None, "published": None, "published_on": None, "status": None}
        row = max(seen, key=lambda each: float(each[f"validation_{shots}"]))
    beside = {(each.method, each.data, each.shots): each for each in PUBLISHED}
    published = beside.get((f"WRN-28-4, {method}", STAND_INS.get(task, ""), shots))
    return {
        "accuracy": 100 * row[f"ridge_{shots}"],
        "published": None if published is None else published.accuracy,
        "published_on": None if published is None else published.data,
        "status": None if published is None else published.status,
    }


def measure_published(trial: Trial) -> None:
    """What is remembered of Table 1, other methods included."""
    for row in PUBLISHED:
        place: dict[str, Any] = {"method": row.method, "data": row.data, "shots": row.shots}
        numbers = {name: each for name, each in asdict(row).items() if name not in place}
        trial.measure("published", numbers.copy, once=True, **place)
