"""Few-shot error from a source sample to new classes: inequalities, observables, rates.

Galanti, György, Hutter, "Generalization Bounds for Few-Shot Transfer Learning with Pretrained
Classifiers", arXiv 2212.12532. The differences D1, D2, ... from the paper stand in
docs/papers/galanti2023fewshot.md.
"""

from __future__ import annotations

from dlaccel.experiment import Trial

from .._source_training import load_tasks, measure_heads, measure_split
from .claims import CLAIMS
from .config import PROFILES, SEEDS, Config
from .distances import measure_distances, measure_pairs
from .exponents import measure_exponents
from .figures import FIGURES
from .sweep import measure_sweep
from .synthetic import measure_gaussians, measure_margins, measure_rate
from .terms import measure_terms

_COLUMNS = {
    "checkpoint": "task recipe classes samples step cdnv_train cdnv_test cdnv_target median_target "
    "matched_train matched_test matched_target "
    "pair_train_1 pair_test_1 pair_target_1 pair_target_5 way5_1 way5_5 "
    "min_distance_train mean_distance_train max_norm log10_spectral_product",
    "terms": "task classes samples ways shots error union t4 rederived directional_bound collapse "
    "scale samples_rate classes_rate log10_spectral_product",
    "distances": "task classes min_distance mean_distance ratio subset_ratio subset_low "
    "subset_high",
    "pairs": "task classes shots bin pairs bound error",
    "exponent": "task gap over slope",
    "heads": "task features head normalized shots accuracy interval classes_low classes_high",
    "gaussian": "p cdnv shots error t4 t4_spherical rederived directional_bound",
    "squared_margin": "p shots mean standard_error expected",
    "rate": "p classes deviation",
    "split": "task source validation target",
}
TABLES = {name: tuple(columns.split()) for name, columns in _COLUMNS.items()}
"""Measurements shown in the report, with their columns in order."""


def run(trial: Trial) -> None:
    """All experiments of one seed, X1 to X6."""
    tasks = load_tasks(trial)
    measure_gaussians(trial)
    measure_margins(trial)
    measure_rate(trial)
    for task in tasks:
        measure_split(trial, task)
        trained, rows = measure_sweep(trial, task)
        most = max(trained)
        measure_terms(trial, rows)
        measure_exponents(trial, rows, task.name)
        measure_distances(trial, task, trained)
        measure_pairs(trial, task, trained[most], most)
        measure_heads(trial, task, trained[most].made, most)


__all__ = ["CLAIMS", "FIGURES", "PROFILES", "SEEDS", "TABLES", "Config", "run"]
