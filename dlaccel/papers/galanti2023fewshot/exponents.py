"""q7: how the gaps between the sets shrink with m and with l."""

from __future__ import annotations

from functools import partial

from dlaccel.experiment import Records, Row, Trial

from .._source_training import Numbers
from .._source_training.records import finals, log_slope


def over_samples(rows: Records) -> list[Row]:
    """Trained networks of the l at which m is varied, by ascending m.

    Without those whose m is less than the number of matched samples.
    """
    last = Records(row for row in finals(rows) if row["matched_train"] is not None)
    varied = {row["classes"] for row in last if row["recipe"] == "samples"}
    return sorted(
        (row for row in last if row["classes"] in varied), key=lambda row: int(row["samples"])
    )


def over_classes(rows: Records) -> list[Row]:
    """Trained networks on all samples, by ascending l."""
    last = finals(rows.select(recipe="main"))
    return sorted(last, key=lambda row: int(row["classes"]))


def cdnv_gap(row: Row) -> float:
    """|source train - source test| of the CDNV of equally many samples of each class."""
    return abs(float(row["matched_train"]) - float(row["matched_test"]))


def pair_gap(row: Row) -> float:
    """|source train - source test| of the pairwise one-shot error."""
    return abs(float(row["pair_train_1"]) - float(row["pair_test_1"]))


def transfer_gap(row: Row) -> float:
    """Target less source test pairwise one-shot error."""
    return float(row["pair_target_1"]) - float(row["pair_test_1"])


def measure_exponents(trial: Trial, rows: Records, task: str) -> None:
    """Slopes of the logarithms of the gaps."""
    for gap, of, over in (
        ("CDNV, train to test", cdnv_gap, "m"),
        ("pairwise error, train to test", pair_gap, "m"),
        ("pairwise error, test to target", transfer_gap, "l"),
    ):
        seen = over_samples(rows) if over == "m" else over_classes(rows)
        column = "samples" if over == "m" else "classes"
        compute = partial(_slope, [(row[column], of(row)) for row in seen])
        trial.measure("exponent", compute, task=task, gap=gap, over=over)


def _slope(points: list[tuple[int, float]]) -> Numbers:
    """None where a gap is not positive or there is one point only."""
    if len(points) < 2 or min(gap for _, gap in points) <= 0:
        return {"slope": None}
    x, y = zip(*points, strict=True)
    return {"slope": log_slope(x, y)}
