"""Experiments X3 and X5: distances of class means over l, and single pairs against their bound."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from dlaccel.collapse import ClassGeometry, pairwise_errors
from dlaccel.experiment import Trial

from .._source_training import Embedded, Numbers, Task, embed, geometry_of
from .sweep import Trained

SUBSETS = 200
"""Random sets of classes of the reference."""

PAIR_CLASSES = 100
"""Target classes whose single pairs are looked at."""

BINS = 12
"""Bins of pairs, equally filled, by their bound."""


def measure_distances(trial: Trial, task: Task, trained: dict[int, Trained]) -> None:
    """X3: least over mean distance of source class means, for each l.

    The least of more pairs is smaller even if nothing else changes. So beside it stands the same
    ratio of random l classes of the network of the most classes.
    """
    geometries = {
        classes: cache(partial(_source_geometry, trial, each)) for classes, each in trained.items()
    }
    most = geometries[max(geometries)]
    for classes, geometry in geometries.items():
        compute = partial(_distances, trial, task.name, classes, geometry, most)
        trial.measure("distances", compute, task=task.name, classes=classes)


def _source_geometry(trial: Trial, trained: Trained) -> ClassGeometry:
    return geometry_of(embed(trained.made, trained.source.train, trial.device))


def _distances(
    trial: Trial,
    task: str,
    classes: int,
    geometry: Callable[[], ClassGeometry],
    most: Callable[[], ClassGeometry],
) -> Numbers:
    distances = most().distances().pairs.cpu()
    generator = trial.generator("subsets", task, classes)
    subsets = (torch.randperm(len(distances), generator=generator) for _ in range(SUBSETS))
    ratios = distances.new_tensor([_ratio(distances, each[:classes]) for each in subsets])
    own = geometry().distances()
    low, high = ratios.quantile(ratios.new_tensor([0.05, 0.95])).tolist()
    return {
        "min_distance": float(own.min),
        "mean_distance": float(own.mean),
        "ratio": float(own.min / own.mean),
        "subset_ratio": float(ratios.mean()),
        "subset_low": low,
        "subset_high": high,
    }


def _ratio(distances: Tensor, rows: Tensor) -> float:
    """Least over mean distance of some of the class means."""
    first, second = torch.triu_indices(len(rows), len(rows), 1)
    among = distances[rows[first], rows[second]]
    return float(among.min() / among.mean())


def measure_pairs(trial: Trial, task: Task, trained: Trained, classes: int) -> None:
    """X5: errors of single target pairs, in bins by their bound."""
    order = torch.randperm(task.target.num_classes, generator=trial.generator("pairs", task.name))
    images = task.target.of_classes(order[:PAIR_CLASSES])
    embedded = cache(lambda: embed(trained.made, images, trial.device))
    for shots in trial.config.shots:
        binned = cache(partial(_pairs, trial, task.name, embedded, shots))
        for place in range(BINS):
            trial.measure(
                "pairs",
                partial(_bin, binned, place),
                task=task.name,
                classes=classes,
                shots=shots,
                bin=place,
            )


def _pairs(
    trial: Trial, task: str, embedded: Callable[[], Embedded], shots: int
) -> tuple[Tensor, Tensor]:
    """Bound 16 (V_ij + (V_ij + V_ji) / n) and measured E_n(i, j) of all pairs, ascending."""
    features = embedded()
    cdnv = geometry_of(features).cdnv(one_sided=True).pairs
    bound = 16 * (cdnv + (cdnv + cdnv.T) / shots)
    errors = pairwise_errors(
        features.features,
        features.labels,
        shots=shots,
        draws=trial.config.draws,
        seed=trial.generator("pairwise errors", task, shots).initial_seed(),
    )
    kept = bound.isfinite()
    ordered, order = bound[kept].sort()
    return ordered, errors[kept][order]


def _bin(binned: Callable[[], tuple[Tensor, Tensor]], place: int) -> Numbers:
    bound, errors = (each.tensor_split(BINS)[place] for each in binned())
    return {"pairs": len(bound), "bound": float(bound.mean()), "error": float(errors.mean())}
