"""What Proposition 3 says about the trained networks, and where it begins to say something."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from dlaccel.experiment import Row, Trial

from .._source_training import Numbers
from .theory import directional_bound, few_shot_bound, informative_cdnv, rederived_bound


def measure_bounds(trial: Trial, finals: Iterable[Row]) -> None:
    """k-way bounds on the target beside the measured error, and the pairwise one on the source."""
    for row in finals:
        for shots in trial.config.shots:
            trial.measure(
                "bound",
                partial(_bounds, row, trial.config.ways, shots),
                task=row["task"],
                classes=row["classes"],
                shots=shots,
            )


def _bounds(row: Row, ways: int, shots: int) -> Numbers:
    cdnv, directional = row["cdnv_target"], row["directional_target"]
    return {
        "error": 1 - row[f"ncc_{shots}"],
        "cdnv": cdnv,
        "informative_below": informative_cdnv(ways, shots),
        "proposition3": few_shot_bound(cdnv, ways, shots),
        "rederived": rederived_bound(cdnv, ways, shots),
        "directional": directional,
        "directional_bound": directional_bound(directional, cdnv, ways, shots),
        "source_cdnv": row["cdnv_train"],
        "pairs_informative_below": informative_cdnv(2, shots),
        "source_pairs": few_shot_bound(row["cdnv_train"], 2, shots),
        "source_pairs_directional": directional_bound(
            row["directional_train"], row["cdnv_train"], 2, shots
        ),
    }
