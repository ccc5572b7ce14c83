"""Collapse of source classes, of their fresh samples, of new classes, and few-shot accuracy.

Galanti, György, Hutter, "On the Role of Neural Collapse in Transfer Learning", ICLR 2022,
arXiv 2112.15121. The differences D1, D2, ... from the paper stand in
docs/papers/galanti2022transfer.md.
"""

from __future__ import annotations

from dlaccel.experiment import Trial

from .._source_training import load_tasks, measure_heads, measure_split
from .bounds import measure_bounds
from .claims import CLAIMS
from .config import PROFILES, SEEDS, Config
from .figures import FIGURES
from .one_shot import measure_one_shot_runs
from .sweep import measure_sweep
from .table import measure_published, measure_table

_COLUMNS = {
    "checkpoint": "task recipe network rate classes step cdnv_train cdnv_test cdnv_target "
    "matched_train matched_test matched_target directional_target ncc_1 ncc_5 ridge_5 "
    "source_accuracy_test nc1 nc4_test p1_a p1_b",
    "bound": "task classes shots error cdnv informative_below proposition3 rederived directional "
    "directional_bound source_cdnv pairs_informative_below source_pairs source_pairs_directional",
    "table1": "task method shots accuracy published published_on status",
    "heads": "task features head normalized shots accuracy interval classes_low classes_high",
    "one_shot_runs": "features classes accuracy worst_run best_run",
    "published": "method data shots accuracy interval status",
    "split": "task source validation target",
}
TABLES = {name: tuple(columns.split()) for name, columns in _COLUMNS.items()}
"""Measurements shown in the report, with their columns in order."""


def run(trial: Trial) -> None:
    """All experiments of one seed, E1 to E4."""
    tasks = load_tasks(trial)
    measure_published(trial)
    for task in tasks:
        measure_split(trial, task)
        made, rows = measure_sweep(trial, task)
        finals = rows.select(recipe="main", step=trial.config.steps)
        measure_bounds(trial, finals)
        measure_table(trial, rows, task.name)
        classes = finals[-1]["classes"]
        measure_heads(trial, task, made, classes)
        if task.name == "omniglot":
            measure_one_shot_runs(trial, task, made, classes)


__all__ = ["CLAIMS", "FIGURES", "PROFILES", "SEEDS", "TABLES", "Config", "run"]
