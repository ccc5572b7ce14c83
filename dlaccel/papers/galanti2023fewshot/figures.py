"""The figures of the report, each drawn from the records of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from dlaccel.experiment import Records, Row

from .._source_training.drawing import (
    REFERENCE,
    SET_COLOURS,
    SET_NAMES,
    integer_ticks,
    level,
    mean_and_dots,
    panels,
    scatter,
    shades,
    tasks_of,
    title,
)
from .._source_training.records import finals
from ..galanti2022transfer.theory import informative_cdnv, rederived_bound
from .evidence import main, shots_of
from .exponents import cdnv_gap, over_samples, pair_gap, transfer_gap
from .theory import pairwise_bound

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def source_classes(records: Records) -> Figure:
    """X2: pairwise error of source test and target against l, their gap, and 5-way error."""
    tasks = tasks_of(finals(main(records)))
    figure, axes = panels(3, len(tasks), width=3.6, height=2.8)
    for (left, middle, right), (task, rows) in zip(axes, tasks.items(), strict=True):
        untrained = main(records).select(task=task, step=0)
        for shots, line in ((1, "-"), (5, "--")):
            for name in ("test", "target"):
                style = {"color": SET_COLOURS[name], "linestyle": line}
                label = f"{SET_NAMES[name]}, n = {shots}"
                column = f"pair_{name}_{shots}"
                mean_and_dots(left, rows, "classes", column, label=label, **style)
            style = {"color": SET_COLOURS["target"], "linestyle": line}
            mean_and_dots(right, rows, "classes", f"way5_{shots}", label=f"n = {shots}", **style)
            named = {} if shots == 5 else {"untrained": "untrained", "pixels": "pixels"}
            seen = untrained.column(f"way5_{shots}")
            level(right, seen, named.get("untrained"), color="#7F7F7F", linestyle=line)
            pixels = _errors_of_pixels(records, task, shots)
            level(right, pixels, named.get("pixels"), color="#CC79A7", linestyle=line)
        mean_and_dots(middle, rows, "classes", transfer_gap, color="black", label="n = 1")
        left.set(yscale="log", ylabel=title(task), title="Pairwise error")
        middle.set(ylim=(0, None), title="Pairwise error, target - source test")
        right.set(title="5-way error, target")
        for axis in (left, middle, right):
            integer_ticks(axis, rows.column("classes"))
            axis.set_xlabel("source classes l")
            axis.legend(fontsize=6.5)
    return figure  # type: ignore[no-any-return]


def _errors_of_pixels(records: Records, task: str, shots: int) -> list[float]:
    rows = records.select(
        "heads", task=task, features="pixels", head="ncc", normalized=False, shots=shots
    )
    return [1 - accuracy for accuracy in rows.column("accuracy")]


def dynamics(records: Records) -> Figure:
    """X1: CDNV of the three sets and 5-way 5-shot error against steps, a curve for each l."""
    tasks = tasks_of(main(records))
    figure, axes = panels(4, len(tasks), width=3.1, height=2.6)
    for row, (task, rows) in zip(axes, tasks.items(), strict=True):
        colours = shades(rows.column("classes"))
        columns = [f"cdnv_{name}" for name in SET_NAMES] + ["way5_5"]
        for classes, each in rows.group("classes").items():
            style = {"color": colours[classes], "label": f"l = {classes}"}
            for axis, column in zip(row, columns, strict=True):
                mean_and_dots(axis, each, "step", column, **style)
        names = [f"CDNV, {name}" for name in SET_NAMES.values()] + ["5-way 5-shot error, target"]
        for axis, name in zip(row, names, strict=True):
            axis.set(xlabel="training steps", title=name)
        for axis in row[:3]:
            axis.set_yscale("log")
        row[0].set_ylabel(title(task))
        row[0].legend(fontsize=6.5)
    return figure  # type: ignore[no-any-return]


def cdnv_and_error(records: Records) -> Figure:
    """Target CDNV, and its directional kind, against 5-way 5-shot error over all checkpoints."""
    tasks = tasks_of(main(records))
    figure, axes = panels(2, len(tasks), width=4.0, height=2.9)
    for row, (task, rows) in zip(axes, tasks.items(), strict=True):
        colours = shades(rows.column("classes"))
        for axis, column in zip(row, ("cdnv_target", "directional_target"), strict=True):
            for classes, each in rows.group("classes").items():
                label = f"l = {classes}"
                points = (each.column(column), each.column("way5_5"))
                axis.scatter(*points, s=12, color=colours[classes], label=label)
            name = "CDNV" if column == "cdnv_target" else "directional CDNV"
            axis.set(xscale="log", xlabel=f"target {name}", title=title(task))
        row[0].set_ylabel("5-way 5-shot error")
        row[0].legend(fontsize=7)
    return figure  # type: ignore[no-any-return]


def bounds(records: Records) -> Figure:
    """X5: pairwise error against its bound T4, for every set of every checkpoint; single pairs."""
    tasks = tasks_of(main(records))
    figure, axes = panels(2, len(tasks), width=4.2, height=3.2)
    for (left, right), (task, rows) in zip(axes, tasks.items(), strict=True):
        for name, colour in SET_COLOURS.items():
            points = [_bound_and_error(row, name, shots) for row in rows for shots in (1, 5)]
            shown = [point for point in points if point[1]]
            label = f"{SET_NAMES[name]} ({len(points) - len(shown)} without an error)"
            scatter(left, shown, s=9, color=colour, label=label, alpha=0.7)
        _pair_bins(right, records.select("pairs", task=task))
        for axis in (left, right):
            ends = np.array([1e-4, 1])
            axis.plot(ends, ends, label="error = bound", **REFERENCE)
            axis.axvline(1, color="#7F7F7F", linewidth=0.8)
            axis.set(xscale="log", yscale="log", xlabel="16 (1 + 2/n) V, or of the pair")
            axis.legend(fontsize=7)
        left.set(title=f"{title(task)}: averages", ylabel="pairwise error")
        right.set(title="single target pairs, binned")
    return figure  # type: ignore[no-any-return]


def _bound_and_error(row: Row, name: str, shots: int) -> tuple[float, float]:
    error = row[f"pair_{name}_{shots}"]
    return pairwise_bound(row[f"cdnv_{name}"], shots), error or 0.0


def _pair_bins(axis: Axes, rows: Records) -> None:
    for (shots, each), shade in zip(
        rows.group("shots").items(), ("#0072B2", "#56B4E9", "#009E73", "#E69F00"), strict=False
    ):
        seen = [(row["bound"], row["error"]) for row in each if row["error"] > 0]
        scatter(axis, seen, s=9, color=shade, label=f"n = {shots}")


def gaussians(records: Records) -> Figure:
    """T4 on Gaussian classes: error, bounds, and the CDNV below which each bound says something."""
    rows = records.select("gaussian")
    shown = [shots for shots in (1, 5) if rows.select(shots=shots)]
    figure, axes = panels(len(shown), 1, width=4.6, height=3.8)
    for axis, shots in zip(axes[0], shown, strict=True):
        each = rows.select(shots=shots)
        colours = shades(each.column("p"))
        for p, points in each.group("p").items():
            mean_and_dots(axis, points, "cdnv", "error", color=colours[p], label=f"error, p = {p}")
        grid = np.geomspace(min(each.column("cdnv")), max(each.column("cdnv")), 50)
        axis.plot(grid, [pairwise_bound(v, shots) for v in grid], color="#D55E00", label="T4")
        closer = [rederived_bound(v, 2, shots) for v in grid]
        axis.plot(grid, closer, color="#E69F00", label="re-derived")
        many = each.select(p=max(each.column("p")))
        style = {"color": "#009E73", "label": f"directional, p = {many[0]['p']}"}
        mean_and_dots(axis, many, "cdnv", "directional_bound", **style)
        axis.axhline(1, **REFERENCE)
        axis.axvline(informative_cdnv(2, shots), **REFERENCE)
        axis.set(xscale="log", yscale="log", ylim=(1e-4, 1e2), xlabel="CDNV")
        axis.set_title(f"Two Gaussian classes, n = {shots}")
        axis.legend(fontsize=7)
    axes[0, 0].set_ylabel("pairwise error, bound")
    return figure  # type: ignore[no-any-return]


def distances(records: Records) -> Figure:
    """X3: least over mean distance of source class means against l, with random subsets beside."""
    tasks = tasks_of(records.select("distances"))
    figure, axes = panels(len(tasks), 1, width=4.6, height=3.4)
    for axis, (task, rows) in zip(axes[0], tasks.items(), strict=True):
        mean_and_dots(axis, rows, "classes", "ratio", color="#0072B2", label="trained on l classes")
        label = "random l classes of the largest network"
        mean_and_dots(axis, rows, "classes", "subset_ratio", color="#7F7F7F", label=label)
        places = sorted(set(rows.column("classes")))
        ends = [
            [float(np.mean(rows.select(classes=place).column(column))) for place in places]
            for column in ("subset_low", "subset_high")
        ]
        axis.fill_between(places, *ends, color="#7F7F7F", alpha=0.2, linewidth=0)
        axis.axhline(0.5, **REFERENCE)
        integer_ticks(axis, places)
        axis.set(ylim=(0, 1), xlabel="source classes l", title=title(task))
        axis.legend(fontsize=7)
    axes[0, 0].set_ylabel("least / mean distance of class means")
    return figure  # type: ignore[no-any-return]


def samples_and_shots(records: Records) -> Figure:
    """X4: gaps between train and test against m; pairwise error against n."""
    tasks = tasks_of(records.select("checkpoint"))
    figure, axes = panels(3, len(tasks), width=3.6, height=2.8)
    for (left, middle, right), (task, rows) in zip(axes, tasks.items(), strict=True):
        varied = over_samples(rows)
        for axis, gap, name in ((left, cdnv_gap, "CDNV"), (middle, pair_gap, "pairwise error")):
            mean_and_dots(axis, varied, "samples", gap, color="#0072B2", label="measured")
            _half_power(axis, varied, gap)
            axis.set(yscale="log", xlabel="samples of a class m")
            axis.set_title(f"{name}, |train - test|")
            integer_ticks(axis, [row["samples"] for row in varied])
            axis.legend(fontsize=7)
        left.set_ylabel(title(task))
        last = finals(rows.select(recipe="main"))
        colours = shades(last.column("classes"))
        for classes, each in last.group("classes").items():
            shots = shots_of(each[0])
            errors = [np.mean(each.column(f"pair_target_{n}")) for n in shots]
            right.plot(shots, errors, "o-", color=colours[classes], label=f"l = {classes}")
        integer_ticks(right, shots)
        right.set(yscale="log", xlabel="shots n", title="Pairwise error, target")
        right.legend(fontsize=7)
    return figure  # type: ignore[no-any-return]


def _half_power(axis: Axes, rows: list[Row], gap: Callable[[Row], float]) -> None:
    """m^(-1/2) through the mean of the first point."""
    least = min(row["samples"] for row in rows)
    first = float(np.mean([gap(row) for row in rows if row["samples"] == least]))
    m = np.array(sorted({row["samples"] for row in rows}))
    axis.plot(m, first * (m / least) ** -0.5, label="$m^{-1/2}$", **REFERENCE)


def rate(records: Records) -> Figure:
    """The deviation of the average CDNV of l random classes from that of the population."""
    figure, ((axis,),) = panels(1, width=4.8, height=3.4)
    rows = records.select("rate")
    colours = shades(rows.column("p"))
    for p, each in rows.group("p").items():
        mean_and_dots(axis, each, "classes", "deviation", color=colours[p], label=f"p = {p}")
    places = np.array(sorted(set(rows.column("classes"))))
    axis.plot(places, 0.5 * places**-0.5, label="$l^{-1/2}$", **REFERENCE)
    integer_ticks(axis, places.tolist())
    axis.set(yscale="log", xlabel="classes l", ylabel="relative deviation of Avg V from E V")
    axis.legend()
    return figure  # type: ignore[no-any-return]


FIGURES: dict[str, Callable[[Records], Figure]] = {
    "source_classes": source_classes,
    "dynamics": dynamics,
    "cdnv_and_error": cdnv_and_error,
    "bounds": bounds,
    "distances": distances,
    "samples_and_shots": samples_and_shots,
    "gaussians": gaussians,
    "rate": rate,
}
"""The figures of the report, in order."""
