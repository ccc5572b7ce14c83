"""Margins of the claims, from the records of one seed.

Each function returns a number above 0, or True, where its claim is supported, and None where the
measurements that it needs are absent. The claims say in words what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from dlaccel.experiment import Records, Row

from .._source_training import SETS
from .._source_training.records import UNRELIABLE_CDNV, ends, fall, finals, log_slope, runs
from ..galanti2022transfer.theory import rederived_bound
from .exponents import cdnv_gap, over_samples, transfer_gap
from .theory import pairwise_bound, union_bound

ROUNDING = 2e-7
"""The records keep eight digits of each error, at most 1; (k - 1) of them are added, k <= 20."""

SHARE = 0.5
"""Least over mean distance of source class means stays above it."""

EXPONENTS = (-0.9, -0.2)
"""Where the exponent of a gap in m is accepted; -1/2 is expected."""

SLOPES = (-0.65, -0.35)
"""Where the exponent of the deviation over l random classes is accepted; -1/2 is expected."""

MONTE_CARLO = 4.5
"""Standard errors: under 1e-5 for each of a few dozen normal tests."""


def main(records: Records) -> Records:
    """All checkpoints on all samples."""
    return records.select("checkpoint", recipe="main")


def shots_of(row: Row) -> list[int]:
    """The numbers of shots of a row, ascending."""
    found = (column.removeprefix("pair_target_") for column in row if "pair_target_" in column)
    return sorted(map(int, found))


def _k_way(row: Row) -> Iterator[tuple[int, int, float, float]]:
    """k, n, the k-way error and the average pairwise one on the same draws."""
    for column in row:
        if column.startswith("way"):
            ways, shots = map(int, column.removeprefix("way").split("_"))
            yield ways, shots, row[column], row[f"pair_target_{shots}"]


def union(records: Records) -> float | None:
    """T2: least (k - 1) pairwise - k-way over k > 2, at every checkpoint."""
    margins = [
        union_bound(pair, ways) - error + ROUNDING
        for row in records.select("checkpoint")
        for ways, _, error, pair in _k_way(row)
        if ways > 2
    ]
    return min(margins, default=None)


def union_equal(records: Records) -> float | None:
    """T2: how far the two errors of k = 2 stay below ``ROUNDING`` apart."""
    off = [
        abs(error - pair)
        for row in records.select("checkpoint")
        for ways, _, error, pair in _k_way(row)
        if ways == 2
    ]
    return ROUNDING - max(off) if off else None


def _pairs(row: Row) -> Iterator[tuple[str, int, float]]:
    """Set, n and average pairwise error, where there were samples enough."""
    for name in SETS:
        for shots in shots_of(row):
            error = row[f"pair_{name}_{shots}"]
            if error is not None:
                yield name, shots, error


def bounded(bound: Callable[[float, int], float], records: Records) -> float | None:
    """T4: least bound - pairwise error on every set of every checkpoint."""
    margins = [
        bound(row[f"cdnv_{name}"], shots) - error
        for row in records.select("checkpoint")
        for name, shots, error in _pairs(row)
    ]
    return min(margins, default=None)


def rederived(cdnv: float, shots: int) -> float:
    """4 (1 + n^(-1/2))^2 V."""
    return rederived_bound(cdnv, 2, shots)


def whole(records: Records) -> float | None:
    """T2 and T4 together: least (k - 1) 16 (1 + 2/n) V - k-way error on the target."""
    margins = [
        union_bound(pairwise_bound(row["cdnv_target"], shots), ways) - error
        for row in records.select("checkpoint")
        for ways, shots, error, _ in _k_way(row)
    ]
    return min(margins, default=None)


def more_shots(records: Records) -> float | None:
    """Least fall of the target's pairwise error from each n to the next, trained networks."""
    margins = []
    for row in finals(main(records)):
        errors = [row[f"pair_target_{shots}"] for shots in shots_of(row)]
        margins += [before - after for before, after in pairwise(errors)]
    return min(margins, default=None)


def target_falls(records: Records) -> float | None:
    """X2: least relative fall of the target's pairwise error and, but for some tasks, CDNV."""
    margins = []
    for task, first, last in ends(finals(main(records))):
        columns = [f"pair_target_{shots}" for shots in shots_of(first)]
        columns += [] if task in UNRELIABLE_CDNV else ["cdnv_target"]
        margins += [fall(first[column], last[column]) for column in columns]
    return min(margins, default=None)


def gap_falls(records: Records) -> float | None:
    """X2: least relative fall of the gap between target and source test pairwise error."""
    margins = [
        fall(transfer_gap(first), transfer_gap(last))
        for _, first, last in ends(finals(main(records)))
    ]
    return min(margins, default=None)


def collapses(column: str, records: Records) -> float | None:
    """X1: least relative fall of a column from the untrained network to the last checkpoint."""
    return min((fall(run[0][column], run[-1][column]) for run in runs(main(records))), default=None)


def apart(records: Records) -> float | None:
    """X3: least of min / mean distance, less a half."""
    ratios = records.select("distances").column("ratio")
    return min(ratios) - SHARE if ratios else None


def samples_help(records: Records) -> float | None:
    """X4: least relative fall of the CDNV gap from the smallest m to the largest."""
    margins = [
        fall(cdnv_gap(seen[0]), cdnv_gap(seen[-1]))
        for each in records.select("checkpoint").group("task").values()
        if len(seen := over_samples(each)) > 1
    ]
    return min(margins, default=None)


def samples_exponent(records: Records) -> float | None:
    """X4: distance of the exponents of the CDNV gap in m from the ends of [-0.9, -0.2]."""
    slopes = records.select("exponent", gap="CDNV, train to test").column("slope")
    return _inside([slope for slope in slopes if slope is not None], EXPONENTS)


def first_term(records: Records) -> float | None:
    """X5: 1 - (k - 1) Avg V of the source training sample, k = 5, at the fewest classes."""
    margins = [1 - 4 * first["cdnv_train"] for _, first, _ in ends(finals(main(records)))]
    return min(margins, default=None)


def gaussian_bounded(column: str, records: Records) -> float | None:
    """T4: least bound - error over the Gaussian classes."""
    rows = records.select("gaussian")
    return min((row[column] - row["error"] for row in rows), default=None)


def dimensions_help(records: Records) -> float | None:
    """T4: least relative fall of the error from the least p to the largest, V and n fixed."""
    margins = []
    for rows in records.select("gaussian").group("cdnv", "shots").values():
        by_p = {row["p"]: row["error"] for row in rows}
        margins.append(fall(by_p[min(by_p)], by_p[max(by_p)]))
    return min(margins, default=None)


def squared_margins(records: Records) -> float | None:
    """T5: how far the means stay within ``MONTE_CARLO`` standard errors."""
    off = [
        abs(row["mean"] - row["expected"]) / row["standard_error"]
        for row in records.select("squared_margin")
    ]
    return MONTE_CARLO - max(off) if off else None


def rate(records: Records) -> float | None:
    """Distance of the slopes in log l from the ends of [-0.65, -0.35]."""
    slopes = [
        log_slope(rows.column("classes"), rows.column("deviation"))
        for rows in records.select("rate").group("p").values()
    ]
    return _inside(slopes, SLOPES)


def _inside(values: list[float], ends: tuple[float, float]) -> float | None:
    low, high = ends
    margins = [min(value - low, high - value) for value in values]
    return min(margins, default=None)
