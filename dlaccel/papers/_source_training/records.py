"""Rows of checkpoints, picked out for claims and figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dlaccel.experiment import Records, Row

UNRELIABLE_CDNV = ("digits",)
"""Tasks on which target CDNV does not fall reliably with l, and is not claimed to.

Four digits under four rotations are few classes, and some are close whatever is learned (an 8
upside down is an 8); the average over pairs is made of those.
"""

NETWORK = ("task", "recipe", "network", "rate", "classes", "samples")
"""Columns that tell one network of a seed from another, where there are such."""


def runs(rows: Records) -> Iterator[Records]:
    """The checkpoints of each network, by ascending step."""
    columns = [column for column in NETWORK if rows and column in rows[0]]
    for each in rows.group("seed", *columns).values():
        yield Records(sorted(each, key=lambda row: int(row["step"])))


def finals(rows: Records) -> Records:
    """The last checkpoint of each network."""
    return Records(run[-1] for run in runs(rows))


def by_classes(rows: Records) -> Iterator[tuple[str, list[Row]]]:
    """Each task's rows by ascending l."""
    for task, each in rows.group("task").items():
        yield task, sorted(each, key=lambda row: int(row["classes"]))


def ends(rows: Records) -> Iterator[tuple[str, Row, Row]]:
    """Each task's rows of the fewest and of the most source classes, where there are two."""
    for task, each in by_classes(rows):
        if len(each) > 1:
            yield task, each[0], each[-1]


def fall(first: float, last: float) -> float:
    """Relative fall, above 0 where ``last`` is the smaller."""
    return 1 - last / first


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's."""
    from scipy.stats import spearmanr

    return float(spearmanr(x, y).statistic)


def log_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Least squares slope of log y against log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
