"""Margins of the claims, from the records of one seed.

Each function returns a number above 0, or True, where its claim is supported, and None where the
measurements that it needs are absent. The claims say in words what is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from dlaccel.experiment import Records

from .._source_training.records import (
    UNRELIABLE_CDNV,
    by_classes,
    ends,
    fall,
    finals,
    rank_correlation,
    runs,
)

ROUNDING = 1e-9
"""Limit for what holds exactly but for float64 arithmetic on features read in float32."""

CORRELATION = 0.8
"""Spearman's correlation that target CDNV and error are claimed to pass."""


def main(records: Records) -> Records:
    """All checkpoints of the main recipe."""
    return records.select("checkpoint", recipe="main")


def falls(column: str, records: Records) -> float | None:
    """Least relative fall of a column from the untrained network to the last checkpoint."""
    falls = [fall(run[0][column], run[-1][column]) for run in runs(main(records))]
    return min(falls, default=None)


def order(others: bool, records: Records) -> float | None:
    """Least relative step from train to source test to target CDNV, over trained networks.

    Of the matched samples; of the main recipe or, with ``others``, of every other one.
    """
    rows = Records(
        row for row in records.select("checkpoint") if (row["recipe"] != "main") == others
    )
    steps = [
        row[after] / row[before] - 1
        for row in finals(rows)
        for before, after in pairwise(("matched_train", "matched_test", "matched_target"))
    ]
    return min(steps, default=None)


def gains(column: str, every_step: bool, records: Records) -> float | None:
    """Least gain of an accuracy: from each l to the next, or from the fewest to the most."""
    margins = []
    for _, rows in by_classes(finals(main(records))):
        seen = rows if every_step else [rows[0], rows[-1]]
        margins += [after[column] - before[column] for before, after in pairwise(seen)]
    return min(margins, default=None)


def carries_over(records: Records) -> float | None:
    """Least relative fall, fewest to most classes, of the 5-shot error and of target CDNV."""
    margins = []
    for task, first, last in ends(finals(main(records))):
        margins.append(fall(1 - first["ncc_5"], 1 - last["ncc_5"]))
        if task not in UNRELIABLE_CDNV:
            margins.append(fall(first["cdnv_target"], last["cdnv_target"]))
    return min(margins, default=None)


def correlation(records: Records) -> float | None:
    """Least rank correlation of target CDNV and 5-shot error over a task's cells, less 0.8."""
    margins = [
        rank_correlation(rows.column("cdnv_target"), [1 - a for a in rows.column("ncc_5")])
        for rows in main(records).group("task").values()
    ]
    return min(margins) - CORRELATION if margins else None


def beats(features: str, records: Records) -> float | None:
    """5-shot accuracy of trained features less that of others, nearest centre, least over tasks."""
    rows = records.select("heads", head="ncc", normalized=False, shots=5)
    margins = []
    for each in rows.group("task").values():
        accuracy = {row["features"]: row["accuracy"] for row in each}
        margins.append(accuracy["trained"] - accuracy[features])
    return min(margins, default=None)


def more_shots(records: Records) -> float | None:
    """Least gain of accuracy from one shot to five, over all checkpoints."""
    rows = records.select("checkpoint")
    return min((row["ncc_5"] - row["ncc_1"] for row in rows), default=None)


def new_samples(records: Records) -> bool | None:
    """Whether Proposition 1 holds for every pair of every checkpoint."""
    slack = records.select("checkpoint").column("p1_slack")
    return min(slack) >= -ROUNDING if slack else None


def new_classes(records: Records) -> float | None:
    """Least relative fall of the gap between target and source test CDNV over l."""
    margins = []
    for _, first, last in ends(finals(main(records))):
        gap = [row["matched_target"] - row["matched_test"] for row in (first, last)]
        margins.append(fall(*gap))
    return min(margins, default=None)


def bounded(bound: Callable[[float, int, int], float], records: Records) -> float | None:
    """Least difference of a bound and the measured error, over all checkpoints."""
    margins = [
        bound(row["cdnv_target"], row["ways"], shots) - (1 - row[f"ncc_{shots}"])
        for row in records.select("checkpoint")
        for shots in (1, 5)
    ]
    return min(margins, default=None)
