"""The figures of the report, each drawn from the records of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dlaccel.experiment import Records, Row

from .._source_training.drawing import (
    REFERENCE,
    SET_COLOURS,
    SET_NAMES,
    integer_ticks,
    legend_below,
    level,
    mean_and_dots,
    panels,
    scatter,
    shades,
    tasks_of,
    title,
)
from .._source_training.records import finals
from .evidence import main
from .theory import directional_bound, few_shot_bound, informative_cdnv, rederived_bound

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BASELINES: dict[str, dict[str, Any]] = {
    "untrained": {"color": "#7F7F7F", "linestyle": "--"},
    "pixels": {"color": "#CC79A7", "linestyle": "-."},
}


def dynamics(records: Records) -> Figure:
    """E2: CDNV of the three sets and 5-shot accuracy against steps, a curve for each l."""
    tasks = tasks_of(main(records))
    figure, axes = panels(4, len(tasks), width=3.1, height=2.6)
    for row, (task, rows) in zip(axes, tasks.items(), strict=True):
        colours = shades(rows.column("classes"))
        for classes, each in rows.group("classes").items():
            style = {"color": colours[classes], "label": f"l = {classes}"}
            for axis, name in zip(row[:3], SET_NAMES, strict=True):
                mean_and_dots(axis, each, "step", f"cdnv_{name}", **style)
            mean_and_dots(row[3], each, "step", "ncc_5", color=colours[classes])
        for axis, name in zip(row[:3], SET_NAMES.values(), strict=True):
            axis.set(yscale="log", xlabel="training steps", title=f"CDNV, {name}")
        row[0].set_ylabel(title(task))
        row[0].legend(fontsize=6.5)
        _baselines(row[3], records, task, 5)
        row[3].set(xlabel="training steps", title="5-shot accuracy, target")
        row[3].legend(fontsize=6.5)
    return figure  # type: ignore[no-any-return]


def source_classes(records: Records) -> Figure:
    """E4: CDNV and accuracy at the end of training against l, with untrained network and pixels."""
    tasks = tasks_of(finals(main(records)))
    figure, axes = panels(3, len(tasks), width=3.6, height=2.8)
    for (left, middle, right), (task, rows) in zip(axes, tasks.items(), strict=True):
        for name, colour in SET_COLOURS.items():
            label = SET_NAMES[name]
            mean_and_dots(left, rows, "classes", f"cdnv_{name}", color=colour, label=label)
        untrained = [row["cdnv_target"] for row in main(records).select(task=task, step=0)]
        level(left, untrained, "target, untrained", **_BASELINES["untrained"])
        left.set(yscale="log", ylabel=f"{title(task)}: CDNV", title="Collapse")
        left.legend(fontsize=7)
        for axis, shots in ((middle, 1), (right, 5)):
            for head, colour in (("ncc", "#0072B2"), ("ridge", "#009E73")):
                column = f"{head}_{shots}"
                mean_and_dots(axis, rows, "classes", column, color=colour, label=_HEADS[head])
            _baselines(axis, records, task, shots)
            axis.set_title(f"{shots}-shot accuracy, target")
            axis.legend(fontsize=7)
        for axis in (left, middle, right):
            integer_ticks(axis, rows.column("classes"))
            axis.set_xlabel("source classes l")
    return figure  # type: ignore[no-any-return]


_HEADS = {"ncc": "nearest centre", "ridge": "ridge", "logistic": "logistic"}


def _baselines(axis: Axes, records: Records, task: str, shots: int) -> None:
    """Accuracy of the untrained network and of raw pixels by the nearest centre."""
    for features, style in _BASELINES.items():
        rows = records.select(
            "heads", task=task, features=features, head="ncc", normalized=False, shots=shots
        )
        level(axis, rows.column("accuracy"), features, **style)


def bounds(records: Records) -> Figure:
    """P3: k-way error against target CDNV with its bounds; the pairwise bound on source samples.

    Left, the target: where bounds begin to say something, and where the networks are. Right, pairs
    of source classes over training, the first for which the bound comes below 1.
    """
    tasks = tasks_of(main(records))
    figure, axes = panels(2, len(tasks), width=4.6, height=3.5)
    for (left, right), (task, rows) in zip(axes, tasks.items(), strict=True):
        ways, shots = rows[0]["ways"], 5
        grid = np.geomspace(1e-3, max(rows.column("cdnv_target")) * 1.3, 60)
        proposition = [few_shot_bound(v, ways, shots) for v in grid]
        left.plot(grid, proposition, label="Proposition 3, s = 1", color="#D55E00")
        closer = [rederived_bound(v, ways, shots) for v in grid]
        left.plot(grid, closer, label="re-derived", color="#E69F00")
        _directional(left, rows, shots)
        colours = shades(rows.column("classes"))
        for classes, each in rows.group("classes").items():
            points = [(row["cdnv_target"], 1 - row["ncc_5"]) for row in each]
            label = f"error, l = {classes}"
            scatter(left, points, s=14, color=colours[classes], label=label)
            style = {"color": colours[classes], "label": f"l = {classes}"}
            mean_and_dots(right, each, "step", _source_pairs, **style)
            mean_and_dots(right, each, "step", _source_pairs_directional, **style | _DASHED)
        threshold = informative_cdnv(ways, shots)
        left.axvline(threshold, **REFERENCE)
        left.text(
            threshold, 0.03, " informative below", fontsize=7, transform=left.get_xaxis_transform()
        )
        left.set(xscale="log", yscale="log", xlabel="target CDNV", title=title(task))
        left.set_ylabel(f"{ways}-way 5-shot error, bound")
        left.legend(fontsize=6.5)
        right.set(yscale="log", xlabel="training steps", ylabel="bound on the 5-shot error")
        right.set_title("Pairs of source classes (dashed: directional)")
        right.legend(fontsize=6.5)
        for axis in (left, right):
            axis.axhline(1, **REFERENCE)
    return figure  # type: ignore[no-any-return]


_DASHED: dict[str, Any] = {"linestyle": "--", "label": None}


def _source_pairs(row: Row) -> float:
    return few_shot_bound(row["cdnv_train"], 2, 5)


def _source_pairs_directional(row: Row) -> float:
    return directional_bound(row["directional_train"], row["cdnv_train"], 2, 5)


def _directional(axis: Axes, rows: Records, shots: int) -> None:
    """The directional bound of each checkpoint, at its CDNV."""
    points = [
        (
            row["cdnv_target"],
            directional_bound(row["directional_target"], row["cdnv_target"], row["ways"], shots),
        )
        for row in rows
    ]
    style: dict[str, Any] = {"marker": "x", "s": 14, "color": "#009E73", "linewidths": 0.9}
    scatter(axis, points, label="directional bound", **style)


def heads(records: Records) -> Figure:
    """E1: every head on trained features, untrained ones and pixels; ticks: L2-normalised."""
    tasks = tasks_of(records.select("heads"))
    figure, axes = panels(2, len(tasks), width=4.6, height=2.7)
    for row, (task, rows) in zip(axes, tasks.items(), strict=True):
        for axis, shots in zip(row, (1, 5), strict=True):
            for place, (head, each) in enumerate(rows.select(shots=shots).group("head").items()):
                for features, colour in _FEATURES.items():
                    for normalized in (False, True):
                        _dots(axis, each, head, place, features, colour, normalized)
            names = [_HEADS[head] for head in rows.group("head")]
            axis.set_xticks(range(len(names)), names)
            axis.set(title=f"{title(task)}, {shots}-shot accuracy")
    legend_below(figure, axes[0, 0], columns=3)
    return figure  # type: ignore[no-any-return]


_FEATURES = {"pixels": "#CC79A7", "untrained": "#7F7F7F", "trained": "#0072B2"}


def _dots(
    axis: Axes,
    rows: Records,
    head: str,
    place: int,
    features: str,
    colour: str,
    normalized: bool,
) -> None:
    seen = rows.select(features=features, normalized=normalized).column("accuracy")
    label = features + (", L2-normalised" if normalized else "")
    shift = 0.08 if normalized else -0.08
    axis.scatter(
        [place + shift] * len(seen),
        seen,
        s=16,
        facecolors="none" if normalized else colour,
        edgecolors=colour,
        label=label if head == "ncc" else None,
    )


def other_recipes(records: Records) -> Figure:
    """E3: dynamics of other learning rates and networks, most source classes."""
    tasks = tasks_of(records.select("checkpoint"))
    figure, axes = panels(3, len(tasks), width=3.6, height=2.8)
    for row, rows in zip(axes, tasks.values(), strict=True):
        most = rows.select(classes=max(rows.column("classes")))
        for (recipe, network, rate), each in most.group("recipe", "network", "rate").items():
            label = _recipe_name(recipe, network, rate)
            for axis, column in zip(row, ("cdnv_train", "cdnv_target", "ncc_5"), strict=True):
                mean_and_dots(axis, each, "step", column, label=label)
        names = ("CDNV, source train", "CDNV, target", "5-shot accuracy")
        for axis, name in zip(row, names, strict=True):
            axis.set(xlabel="training steps", title=name)
        row[0].set(yscale="log", ylabel=title(most[0]["task"]))
        row[1].set_yscale("log")
        row[2].legend(fontsize=7)
    return figure  # type: ignore[no-any-return]


def _recipe_name(recipe: str, network: str, rate: float) -> str:
    names = {"main": network, "constant": "constant rate", "rate": f"rate {rate:g}"}
    return names.get(recipe, network)


def collapse(records: Records) -> Figure:
    """NC1, NC2, NC3 and NC4 of the source training samples against steps."""
    tasks = tasks_of(main(records))
    columns = {
        "nc1": "NC1",
        "nc2_angles": "NC2, spread of angles",
        "nc3": "NC3",
        "nc4_test": "NC4, source test",
    }
    figure, axes = panels(4, len(tasks), width=3.1, height=2.6)
    for row, (task, rows) in zip(axes, tasks.items(), strict=True):
        colours = shades(rows.column("classes"))
        for axis, (column, name) in zip(row, columns.items(), strict=True):
            for classes, each in rows.group("classes").items():
                style = {"color": colours[classes], "label": f"l = {classes}"}
                mean_and_dots(axis, each, "step", column, **style)
            axis.set(xlabel="training steps", title=name)
        row[0].set(yscale="log", ylabel=title(task))
        row[0].legend(fontsize=6.5)
    return figure  # type: ignore[no-any-return]


def table(records: Records) -> Figure:
    """E1: our rows of Table 1 and, where there is one, the paper's value as it is remembered."""
    rows = [row for row in records.select("table1") if row["accuracy"] is not None]
    names = list(dict.fromkeys((row["task"], row["method"], row["shots"]) for row in rows))
    figure, ((axis,),) = panels(1, width=6.4, height=0.28 * len(names) + 1.1)
    place = {name: len(names) - k for k, name in enumerate(names)}
    at = [place[(row["task"], row["method"], row["shots"])] for row in rows]
    ours = [row["accuracy"] for row in rows]
    axis.scatter(ours, at, s=16, color="#0072B2", label="ours, a dot a seed")
    known = [(row["published"], y) for row, y in zip(rows, at, strict=True) if row["published"]]
    if known:
        label = "the paper's, recalled, unverified, on other data"
        scatter(axis, known, s=26, marker="|", color="#D55E00", label=label)
    labels = [f"{title(task)}, {method}, {shots}-shot" for task, method, shots in names]
    axis.set_yticks(list(place.values()), labels)
    axis.set(xlabel="5-way accuracy [%], ridge head")
    axis.legend(fontsize=7)
    return figure  # type: ignore[no-any-return]


FIGURES: dict[str, Callable[[Records], Figure]] = {
    "dynamics": dynamics,
    "source_classes": source_classes,
    "bounds": bounds,
    "heads": heads,
    "table_1": table,
    "other_recipes": other_recipes,
    "collapse": collapse,
}
"""The figures of the report, in order."""
