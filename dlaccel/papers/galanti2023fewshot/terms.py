"""X5: the terms of T1 and the bounds T2 and T4, beside the measured error of trained networks."""

from __future__ import annotations

from functools import partial

from dlaccel.experiment import Records, Row, Trial

from .._source_training import Numbers
from ..galanti2022transfer.theory import directional_bound, rederived_bound
from .exponents import over_classes
from .theory import main_bound, pairwise_bound, union_bound

WAYS = (2, 5)


def measure_terms(trial: Trial, rows: Records) -> None:
    """One row for each l, k and n in {1, 5}."""
    for row in over_classes(rows):
        for ways in WAYS:
            for shots in (1, 5):
                trial.measure(
                    "terms",
                    partial(_terms, row, ways, shots),
                    task=row["task"],
                    classes=row["classes"],
                    samples=row["samples"],
                    ways=ways,
                    shots=shots,
                )


def _terms(row: Row, ways: int, shots: int) -> Numbers:
    cdnv = row["cdnv_target"]
    terms = main_bound(
        row["cdnv_train"],
        row["min_distance_train"],
        ways=ways,
        shots=shots,
        samples=row["samples"],
        source_classes=row["classes"],
    )
    return {
        "error": row.get(f"way{ways}_{shots}"),
        "union": union_bound(row[f"pair_target_{shots}"], ways),
        "t4": union_bound(pairwise_bound(cdnv, shots), ways),
        "rederived": rederived_bound(cdnv, ways, shots),
        "directional_bound": directional_bound(row["directional_target"], cdnv, ways, shots),
        "collapse": terms.collapse,
        "scale": terms.scale,
        "samples_rate": terms.samples,
        "classes_rate": terms.classes,
        "log10_spectral_product": row["log10_spectral_product"],
    }
