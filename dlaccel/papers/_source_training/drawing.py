"""How curves over l, seeds and baselines look in the figures of both papers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlaccel.experiment import Records, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SET_COLOURS = {"train": "#0072B2", "test": "#E69F00", "target": "#D55E00"}
SET_NAMES = {"train": "source train", "test": "source test", "target": "target"}
REFERENCE: dict[str, Any] = {"color": "black", "linestyle": ":", "linewidth": 1.2}
TITLES = {
    "digits": "digits under symmetries",
    "omniglot": "Omniglot",
    "tiny_imagenet": "Tiny ImageNet",
}

Column = str | Callable[[Row], float]


def panels(columns: int, rows: int = 1, width: float = 3.4, height: float = 2.9) -> Any:
    """A figure and its axes ``[rows, columns]``."""
    import matplotlib.pyplot as plt

    size = (width * columns, height * rows)
    return plt.subplots(rows, columns, figsize=size, squeeze=False)


def title(task: str) -> str:
    """A task's name as a figure shows it."""
    return TITLES.get(task, task)


def shades(numbers: Iterable[int]) -> dict[int, Any]:
    """A colour for each l, from dark to light as l grows."""
    import matplotlib as mpl

    ordered = sorted(set(numbers))
    map_ = mpl.colormaps["viridis"]
    span = max(1, len(ordered) - 1)
    return {number: map_(0.9 * place / span) for place, number in enumerate(ordered)}


def value(row: Row, column: Column) -> float | None:
    """A column of a row, or what a function makes of the row."""
    found = column(row) if callable(column) else row.get(column)
    return None if found is None else float(found)


def mean_and_dots(axis: Axes, rows: Sequence[Row], x: str, y: Column, **style: Any) -> None:
    """The mean over seeds as a line, every seed as a dot."""
    at: dict[float, list[float]] = {}
    for row in rows:
        found = value(row, y)
        if found is not None:
            at.setdefault(row[x], []).append(found)
    places = sorted(at)
    line = {"marker": None, **style}
    axis.plot(places, [float(np.mean(at[place])) for place in places], **line)
    x_dots = [place for place in places for _ in at[place]]
    y_dots = [each for place in places for each in at[place]]
    colour = axis.lines[-1].get_color()
    axis.scatter(x_dots, y_dots, s=9, color=colour, alpha=0.7, linewidths=0, zorder=3)


def scatter(axis: Axes, points: Sequence[tuple[float, float]], **style: Any) -> None:
    """Points (x, y); none is fine."""
    if points:
        x, y = zip(*points, strict=True)
        axis.scatter(x, y, **style)


def level(axis: Axes, values: Sequence[float], label: str | None, **style: Any) -> None:
    """A baseline: a line at the mean over seeds."""
    if values:
        axis.axhline(float(np.mean(values)), label=label, linewidth=1.1, **style)


def integer_ticks(axis: Axes, numbers: Iterable[int]) -> None:
    """A logarithmic axis of integers with a tick at each."""
    ticks = sorted(set(numbers))
    axis.set_xscale("log")
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.set_xticks([], minor=True)


def legend_below(figure: Figure, axis: Axes, columns: int = 5) -> None:
    """One legend for all panels, from the handles of one of them."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def tasks_of(rows: Records) -> dict[str, Records]:
    """Rows by task."""
    found: dict[str, Records] = rows.group("task")
    return found
