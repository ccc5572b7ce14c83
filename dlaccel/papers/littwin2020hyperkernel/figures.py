"""The figures of the report, each drawn from the records of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlaccel.experiment import Records

from .completion import from_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CASES = {"both": "#0072B2", "f only": "#E69F00", "g only": "#D55E00"}
METHODS = {
    "hyperkernel": "#0072B2",
    "hyperkernel as released": "#56B4E9",
    "NNGP": "#009E73",
    "NNGP as released": "#8FD19E",
    "trained": "#D55E00",
    "mean image": "#7F7F7F",
}
BASELINE: dict[str, Any] = {"color": "#7F7F7F", "linewidth": 1.2, "linestyle": "--"}
THEORY: dict[str, Any] = {"color": "black", "linewidth": 1.2, "linestyle": ":"}
THEIRS: dict[str, Any] = {
    "marker": "D",
    "markersize": 5,
    "markerfacecolor": "none",
    "linestyle": "none",
}


def _axes(columns: int, rows: int = 1, width: float = 3.8, height: float = 3.3) -> Any:
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)


def _shades(values: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Each value with a colour, dark to light."""
    import matplotlib as mpl

    places = np.linspace(0.05, 0.85, max(2, len(values)))
    return list(zip(values, mpl.colormaps["viridis"](places), strict=False))


def _means(rows: Records, x: str, y: str) -> tuple[list[float], list[float]]:
    """Means over seeds, against another column in ascending order; None is left out."""
    at: dict[float, list[float]] = {}
    for row in rows:
        if row[y] is not None:
            at.setdefault(row[x], []).append(row[y])
    places = sorted(at)
    return places, [float(np.mean(at[place])) for place in places]


def _curve(axis: Axes, rows: Records, x: str, y: str, **style: Any) -> None:
    axis.plot(*_means(rows, x, y), marker=".", **style)


def _widths(axis: Axes, rows: Records) -> None:
    """A logarithmic axis whose ticks are the widths measured."""
    from matplotlib.ticker import NullLocator

    widths = sorted(set(rows.column("width")))
    axis.set_xscale("log", base=2)
    axis.set_xticks(widths, [str(width) for width in widths])
    axis.xaxis.set_minor_locator(NullLocator())


def kernel(records: Records) -> Figure:
    """E1: the spread of the kernel against width, and the kernel against the angle of z'."""
    figure, ((spread, *panels),) = _axes(1 + len(CASES), width=3.4)
    rows = records.select("kernel")
    for case, colour in CASES.items():
        of_case = rows.select(case=case)
        _curve(spread, of_case, "width", "iqr", color=colour, label=case)
        spread.plot(*_means(of_case, "width", "prototype_iqr"), color=colour, **THEIRS)
    spread.plot([], [], color="black", label="prototype", **THEIRS)
    spread.set(yscale="log", xlabel="width", ylabel="inter-quartile range of the kernel")
    spread.set_title("One entry of the kernel")
    _widths(spread, rows)
    spread.legend()
    widest = max(rows.column("width"))
    for (case, colour), axis in zip(CASES.items(), panels, strict=True):
        if axis is not panels[0]:
            axis.sharey(panels[0])
        curve = records.select("kernel_curve", case=case)
        angles, low = _means(curve, "angle", "low")
        degrees = np.degrees(angles)
        axis.fill_between(degrees, low, _means(curve, "angle", "high")[1], color=colour, alpha=0.25)
        axis.plot(degrees, _means(curve, "angle", "median")[1], color=colour, label="median")
        axis.plot(degrees, _means(curve, "angle", "theory")[1], label="hyperkernel", **THEORY)
        axis.set(xlabel="angle of z'", title=f"{case} wide: {widest}")
        axis.set_xticks((-90, -45, 0, 45, 90))
    panels[0].set_ylabel("kernel, quartiles")
    panels[0].legend()
    return figure  # type: ignore[no-any-return]


def gaussian(records: Records) -> Figure:
    """E1: excess kurtosis of h at the start."""
    figure, ((axis,),) = _axes(1, width=4.5)
    rows = records.select("gaussian")
    names = list(dict.fromkeys(f"n = {row['n']}\nm = {row['m']}" for row in rows))
    groups = rows.group("n", "m").values()
    axis.plot(names, [np.mean(g.column("excess_kurtosis")) for g in groups], "o", color="#0072B2")
    known = [(name, g[0]["prototype_kurtosis"]) for name, g in zip(names, groups, strict=True)]
    theirs = [(name, value) for name, value in known if value is not None]
    if theirs:
        axis.plot(*zip(*theirs, strict=True), color="black", label="prototype", **THEIRS)
        axis.legend()
    axis.axhline(0, **THEORY)
    axis.set(ylabel="excess kurtosis of h", yscale="symlog")
    return figure  # type: ignore[no-any-return]


def terms(records: Records) -> Figure:
    """E2: Taylor terms of h at the start against width, a panel for each kind of network."""
    groups = records.select("term").group("network")
    figure, (axes,) = _axes(len(groups), width=3.2, height=4.4)
    for (name, rows), axis in zip(groups.items(), axes, strict=True):
        for order, shade in _shades(sorted(set(rows.column("order")))):
            places, sizes = _means(rows.select(order=order), "width", "size")
            if not all(sizes):
                continue  # identically zero: h is a polynomial of lower degree
            slopes = records.select("slope", network=name, order=order)
            found = [slope for slope in slopes.column("slope") if slope is not None]
            theory = slopes[0]["theory"]
            label = f"r = {order}" + (f": {np.mean(found):.2f}" if found else "")
            if theory is not None:
                label += f" (theory {theory:.0f})"
                line = sizes[0] * (np.array(places) / places[0]) ** theory
                axis.plot(places, line, **{**THEORY, "color": shade})
            axis.plot(places, sizes, marker=".", color=shade, label=label)
        axis.set(yscale="log", xlabel="width", title=name)
        _widths(axis, rows)
        axis.legend(title="slope", loc="upper center", bbox_to_anchor=(0.5, -0.2))
    axes[0].set_ylabel("median |K^(r)|")
    return figure  # type: ignore[no-any-return]


def path(records: Records) -> Figure:
    """E2 along SGD: the cost's second term beyond linear and its third, at the recorded steps."""
    groups = records.select("path_term").group("network")
    panels = ((2, "beyond_linear", "second, beyond linear"), (3, "cost_term", "third"))
    figure, axes = _axes(len(groups), len(panels), width=3.6, height=2.9)
    for (order, column, title), line in zip(panels, axes, strict=True):
        for (name, rows), axis in zip(groups.items(), line, strict=True):
            if axis is not line[0]:
                axis.sharey(line[0])
            for step, shade in _shades(sorted(set(rows.column("at_step")))):
                of_step = rows.select(order=order, at_step=step)
                _curve(axis, of_step, "width", column, color=shade, label=f"step {step}")
            axis.set(yscale="log", xlabel="width", title=f"{name}: {title}")
            _widths(axis, rows)
        line[0].set_ylabel("median size of the cost's term")
    axes[0, 0].legend()
    return figure  # type: ignore[no-any-return]


def lazy(records: Records) -> Figure:
    """Largest deviation from linearised training against width."""
    figure, ((axis,),) = _axes(1, width=4.5)
    rows = records.select("lazy")
    for case, of_case in rows.group("case").items():
        _curve(axis, of_case, "width", "deviation", color=CASES[case], label=f"{case} wide")
        axis.plot(*_means(of_case, "width", "prototype"), color=CASES[case], **THEIRS)
    axis.plot([], [], color="black", label="prototype", **THEIRS)
    axis.set(yscale="log", xlabel="width", ylabel="largest deviation over training")
    axis.set_title("Trained beside its linearisation")
    _widths(axis, rows)
    axis.legend()
    return figure  # type: ignore[no-any-return]


def rotation(records: Records) -> Figure:
    """E3: test accuracy over training, and at its end against width."""
    groups = records.select("rotation").group("data")
    figure, axes = _axes(2, len(groups), width=4.6)
    for (data, rows), (left, right) in zip(groups.items(), axes, strict=True):
        (facts, *_) = records.select("rotation_data", data=data)
        first = min(rows.column("depth"))
        training = records.select("rotation_training", data=data)
        for width, shade in _shades(sorted(set(rows.select(depth=first).column("width")))):
            curve = training.select(width=width, depth=first)
            _curve(left, curve, "step", "accuracy", color=shade, label=f"m = {width}")
        left.set(xlabel="step", ylabel="test accuracy", title=f"{data}, depth {first}")
        for depth, shade in _shades(sorted(set(rows.column("depth")))):
            of_depth = rows.select(depth=depth)
            _curve(right, of_depth, "width", "accuracy", color=shade, label=f"depth {depth}")
            right.plot(*_means(of_depth, "width", "prototype"), color=shade, **THEIRS)
        right.set(xlabel="width m of g", title=f"{data}, at the end")
        _widths(right, rows)
        for axis in (left, right):
            axis.axhline(facts["majority"], label="most frequent class", **BASELINE)
            axis.set_ylim(0, None)
            axis.legend()
    return figure  # type: ignore[no-any-return]


def rate_sweep(records: Records) -> Figure:
    """E4: test accuracy against the learning rate."""
    groups = records.select("rate_sweep").group("data")
    figure, (axes,) = _axes(max(1, len(groups)), width=4.5)
    for (data, rows), axis in zip(groups.items(), axes, strict=False):
        for width, shade in _shades(sorted(set(rows.column("width")))):
            of_width = rows.select(width=width)
            _curve(axis, of_width, "rate", "accuracy", color=shade, label=f"m = {width}")
        (facts, *_) = records.select("rotation_data", data=data)
        axis.axhline(facts["majority"], label="most frequent class", **BASELINE)
        axis.set(xscale="log", xlabel="learning rate", ylabel="test accuracy", title=data)
        axis.legend()
    return figure  # type: ignore[no-any-return]


def regression(records: Records) -> Figure:
    """E5, E6: mean squared error against the number of images."""
    groups = records.select("regression").group("data", "task")
    figure, (axes,) = _axes(len(groups), width=4.5)
    for ((data, task), rows), axis in zip(groups.items(), axes, strict=True):
        for method, of_method in rows.group("method").items():
            colour = METHODS[method]
            _curve(axis, of_method, "images", "error", color=colour, label=method)
            axis.plot(*_means(of_method, "images", "prototype"), color=colour, **THEIRS)
        axis.plot([], [], color="black", label="prototype", **THEIRS)
        axis.set(xscale="log", xlabel="training images N", title=f"{task} of {data}")
        counts = sorted(set(rows.column("images")))
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.minorticks_off()
    axes[0].set_ylabel("mean squared error")
    axes[0].legend()
    return figure  # type: ignore[no-any-return]


def pictures(records: Records) -> Figure:
    """E5, E6: test images, what f sees of them, and predictions with the most images."""
    groups = records.select("picture").group("task")
    order = ("truth", "seen", *METHODS)
    figure, (axes,) = _axes(len(groups), width=4.8, height=3.4)
    for (task, rows), axis in zip(groups.items(), axes, strict=True):
        found = {row["method"]: row for row in rows}
        names = [name for name in order if name in found]
        strips = [_strip(from_text(found[n]["bytes"], found[n]["side"])) for n in names]
        axis.imshow(np.concatenate(strips), cmap="gray", interpolation="nearest")
        height = len(strips[0])
        axis.set_yticks([height * (place + 0.5) for place in range(len(names))], names)
        axis.set_xticks([])
        axis.grid(False)
        axis.set_title(task)
    return figure  # type: ignore[no-any-return]


def _strip(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Images beside each other, a pixel apart."""
    framed: Iterable[np.ndarray[Any, Any]] = (np.pad(i, 1, constant_values=90) for i in images)
    return np.concatenate(list(framed), axis=1)


FIGURES: dict[str, Callable[[Records], Figure]] = {
    "kernel": kernel,
    "terms": terms,
    "path": path,
    "lazy": lazy,
    "gaussian": gaussian,
    "rotation": rotation,
    "rate_sweep": rate_sweep,
    "regression": regression,
    "pictures": pictures,
}
"""The figures of the report, in order."""
