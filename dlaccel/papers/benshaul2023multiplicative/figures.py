"""The figures of the report, each drawn from the records of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from dlaccel.experiment import Records, Row

from .evidence import best_rates
from .photograph import from_jpeg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One colour and marker a family, the same in every figure (Okabe and Ito's colours).
_STYLE: dict[str, dict[str, Any]] = {
    "multiplicative": {"color": "#D55E00", "marker": "o"},
    "multiplicative, recurrence": {"color": "#E69F00", "marker": "v"},
    "ReLU": {"color": "#0072B2", "marker": "s"},
    "ReLU, one hidden layer": {"color": "#56B4E9", "marker": "D"},
    "sine": {"color": "#009E73", "marker": "^"},
    "Fourier filters": {"color": "#CC79A7", "marker": "P"},
    "Gabor filters": {"color": "#7F7F7F", "marker": "X"},
}
_BOUND: dict[str, Any] = {"color": "black", "linestyle": ":", "linewidth": 1.2}


def _axes(columns: int, rows: int = 1, width: float = 4.0, height: float = 3.4) -> Any:
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)


def _panels(count: int, most: int, **size: float) -> tuple[Any, list[Axes]]:
    """``count`` axes in rows of at most ``most``; what is left of the last row stays empty."""
    columns = min(most, count)
    figure, axes = _axes(columns, -(-count // columns), **size)
    for axis in axes.flat[count:]:
        axis.set_axis_off()
    return figure, list(axes.flat[:count])


def _shades() -> Iterator[str]:
    return cycle(("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F"))


def _mean(rows: Sequence[Row], x: str, y: str) -> tuple[list[float], list[float]]:
    """Means of a column over seeds, against another column in ascending order."""
    at: dict[float, list[float]] = {}
    for row in rows:
        if row[y] is not None:
            at.setdefault(row[x], []).append(row[y])
    places = sorted(at)
    return places, [float(np.mean(at[place])) for place in places]


def _epsilons(axis: Axes, rows: Records, label: str) -> None:
    """A logarithmic axis of falling epsilon, with ticks where networks were built."""
    ticks = sorted(set(rows.column("epsilon")))
    axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{epsilon:g}" for epsilon in ticks])
    axis.set_xticks([], minor=True)
    axis.invert_xaxis()
    axis.set_xlabel(label)


def product_gates(records: Records) -> Figure:
    """E1: errors of the ReLU square, the ReLU product and emulated Chebyshev tables against m."""
    figure, ((left, right),) = _axes(2, width=4.7)
    for gate, style in (("square", "o-"), ("product", "s")):
        rows = records.select("product_gate", gate=gate, family="ReLU")
        hollow = {"markerfacecolor": "none", "markersize": 9} if gate == "product" else {}
        left.plot(*_mean(rows, "m", "error"), style, label=f"{gate} by ReLU", **hollow)
    steps = np.array(sorted(set(records.select("product_gate").column("m"))))
    left.plot(steps, 4.0 ** -(steps + 1), label="$4^{-(m+1)}$", **_BOUND)
    left.set(yscale="log", xlabel="sawtooth steps m", ylabel="sup error")
    left.set_title("Gates (a product neuron: error 0)")
    left.legend()
    table = records.select("chebyshev_table", scheme="doubling")
    for shade, (n, rows) in zip(_shades(), table.group("n").items(), strict=False):
        emulated = [row for row in rows if row["m"] is not None]
        right.plot(*_mean(emulated, "m", "error"), "s-", color=shade, label=f"ReLU, n = {n}")
        exact = [row["error"] for row in rows if row["m"] is None]
        right.axhline(exact[0], color=shade, linewidth=0.9, linestyle="--")
    right.set(yscale="log", xlabel="sawtooth steps m", ylabel="sup error of $T_0, ..., T_n$")
    right.set_title("Chebyshev tables (dashed: products)")
    right.legend()
    return figure  # type: ignore[no-any-return]


def one_variable(records: Records) -> Figure:
    """E2: layers and neurons against log(1/epsilon), with the least that any ReLU network has."""
    networks = records.select("network", kind="one variable").group("target")
    figure, axes = _axes(len(networks), 2, width=4.2, height=3.0)
    for column, (target, rows) in enumerate(networks.items()):
        for size, axis in zip(("layers", "neurons"), axes[:, column], strict=True):
            for family, built in rows.group("family").items():
                axis.plot(*_mean(built, "epsilon", size), label=family, **_STYLE[family])
            axis.set_ylabel(size)
            _epsilons(axis, rows, r"sup error $\epsilon$")
        least = [row for row in rows if row["relu_at_least"] > 0]
        label = "any ReLU network: at least"
        axes[1, column].plot(*_mean(least, "epsilon", "relu_at_least"), label=label, **_BOUND)
        axes[1, column].set_yscale("log")
        axes[0, column].set_ylim(bottom=0)
        axes[0, column].set_title(f"K(t) = {target}")
    _legend_below(figure, axes[1, 0])
    return figure  # type: ignore[no-any-return]


def maurey(records: Records) -> Figure:
    """E3: the L2 error of sums of N ridges, over dimensions."""
    figure, ((axis,),) = _axes(1, width=5.2, height=3.8)
    for shade, (d, rows) in zip(
        _shades(), records.select("maurey").group("d").items(), strict=False
    ):
        x, y = _mean(rows, "terms", "error")
        slope = np.polyfit(np.log(x), np.log(y), 1)[0]
        axis.plot(x, y, "o-", color=shade, label=f"d = {d}, slope {slope:.2f}")
    terms = np.array(sorted(set(records.select("maurey").column("terms"))))
    axis.plot(terms, terms**-0.5, label=r"bound $C_F C_K / \sqrt{N}$", **_BOUND)
    axis.set(xscale="log", yscale="log", xlabel="ridge terms N", ylabel="L2 error")
    axis.set_title("Class A: the rate does not depend on d")
    axis.legend()
    return figure  # type: ignore[no-any-return]


def classes(records: Records) -> Figure:
    """E3, E4: neurons of whole networks for both classes against epsilon."""
    panels = [
        (kind, target, d, rows)
        for kind in ("class A", "class B")
        for (target, d), rows in records.select("network", kind=kind).group("target", "d").items()
    ]
    figure, axes = _panels(len(panels), 4, width=3.3, height=2.8)
    for axis, (kind, target, d, rows) in zip(axes, panels, strict=True):
        for family, built in rows.group("family").items():
            axis.plot(*_mean(built, "epsilon", "neurons"), label=family, **_STYLE[family])
        axis.set(yscale="log", ylabel="neurons")
        _epsilons(axis, rows, r"L2 error $\epsilon$")
        axis.set_title(f"{kind}: {target}, d = {d}")
    _legend_below(figure, axes[0])
    return figure  # type: ignore[no-any-return]


_SET_MARKERS = {"tensor": "s", "total degree": "o", "hyperbolic cross": "^"}


def index_sets(records: Records) -> Figure:
    """E4: truncation error against terms, and the depth of the product tree against d."""
    groups = records.select("truncation").group("weighting", "d")
    figure, (*errors, depth) = _panels(len(groups) + 1, 3, width=4.2, height=3.2)
    for axis, ((weighting, d), rows) in zip(errors, groups.items(), strict=True):
        for shade, (kind, cut) in zip(_shades(), rows.group("index_set").items(), strict=False):
            style: dict[str, Any] = {"marker": _SET_MARKERS[kind], "color": shade}
            axis.plot(*_mean(cut, "terms", "worst"), label=f"{kind}, worst", **style)
            random = [row for row in cut if row["parseval"] > 0]
            x, y = _mean(random, "terms", "parseval")
            axis.plot(x, y, "--", label=f"{kind}, random", markerfacecolor="none", **style)
        axis.set(xscale="log", yscale="log", xlabel=r"terms $|\Lambda|$", ylabel="L2 error")
        axis.set_title(f"Class B: {weighting}, d = {d}")
    _draw_depths(depth, records.select("index_set"))
    _legend_below(figure, errors[0])
    return figure  # type: ignore[no-any-return]


def _draw_depths(axis: Axes, rows: Records) -> None:
    """Layers of the networks built (markers) and of the formula for the tensor set (lines)."""
    degrees = sorted(set(rows.column("n")))
    dimensions = sorted(set(rows.column("d")))
    for shade, n in zip(_shades(), degrees, strict=False):
        formula = [2 + np.ceil(np.log2(n)) + np.ceil(np.log2(d)) for d in dimensions]
        axis.plot(dimensions, formula, color=shade, label=f"n = {n}")
        for kind, marker in _SET_MARKERS.items():
            x, y = _mean(rows.select(n=n, index_set=kind), "d", "layers")
            axis.plot(x, y, marker, color=shade, markerfacecolor="none", markersize=8)
    axis.set_xscale("log", base=2)
    axis.set(xlabel="d", ylabel="layers", ylim=(1, None), title="Depth (lines: the bound)")
    axis.legend(ncols=2)


def signal(records: Records) -> Figure:
    """E7: polynomials fitted to the photograph, and how far the ReLU emulation is off."""
    figure, ((left, right),) = _axes(2)
    for kind, rows in records.select("signal_fit").group("index_set").items():
        left.plot(*_mean(rows, "terms", "psnr"), "o-", label=kind)
    left.set(xscale="log", xlabel="terms", ylabel="PSNR [dB]", title="Least squares fit")
    left.legend()
    rows = records.select("signal_network")
    emulated = [row for row in rows if row["m"] is not None]
    right.plot(*_mean(emulated, "m", "relative"), label="ReLU network", **_STYLE["ReLU"])
    (exact,) = {row["relative"] for row in rows if row["m"] is None}
    right.axhline(exact, label="multiplicative network", color=_STYLE["multiplicative"]["color"])
    right.set(yscale="log", xlabel="sawtooth steps m", ylabel="relative sup difference")
    right.set_title("The fitted polynomial as a network")
    right.legend()
    return figure  # type: ignore[no-any-return]


def training(records: Records) -> Figure:
    """E6: PSNR against steps and against time, at each network's best rate; band: all seeds."""
    figure, ((steps, seconds),) = _axes(2, width=4.6, height=3.8)
    rows = best_rates(records.select("training"))
    for name, curve in rows.group("network").items():
        color = _STYLE[name]["color"]
        x, y = _mean(curve, "step", "psnr")
        low, high = (
            [pick(row["psnr"] for row in curve.select(step=step)) for step in x]
            for pick in (min, max)
        )
        steps.plot(x, y, color=color, label=name)
        steps.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
        steps.plot(*_mean(curve, "step", "psnr_held_out"), color=color, linestyle=":")
        seconds.plot(_mean(curve, "step", "seconds")[1], y, color=color)
    steps.set(xlabel="training steps", ylabel="PSNR [dB]")
    steps.set_title("Against steps (dotted: held-out pixels)")
    seconds.set(xlabel="training time [s]", ylabel="PSNR [dB]", xscale="log")
    seconds.set_title("Against time")
    _legend_below(figure, steps, columns=5)
    return figure  # type: ignore[no-any-return]


def photographs(records: Records) -> Figure:
    """E6: the photograph and what each network made of it (seed 0, best rate)."""
    pictures = records.select("picture")
    fitted = best_rates(records.of_seed(0).select("training"))
    last = max(fitted.column("step"), default=0)
    shown = [("photograph", pictures.select(network="")[0])]
    for row in fitted.select(step=last):
        (picture,) = pictures.select(network=row["network"], rate=row["rate"])
        shown.append((f"{row['network']}\n{row['psnr']:.1f} dB", picture))
    figure, axes = _panels(len(shown), 3, width=3.2, height=2.6)
    for axis, (title, picture) in zip(axes, shown, strict=True):
        axis.set_axis_off()
        axis.imshow(from_jpeg(picture["jpeg"]), interpolation="nearest")
        axis.set_title(title)
    return figure  # type: ignore[no-any-return]


def _legend_below(figure: Figure, axis: Axes, columns: int = 3) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


FIGURES: dict[str, Callable[[Records], Figure]] = {
    "product_gates": product_gates,
    "one_variable": one_variable,
    "maurey": maurey,
    "classes": classes,
    "index_sets": index_sets,
    "signal": signal,
    "training": training,
    "photographs": photographs,
}
"""The figures of the report, in order."""
