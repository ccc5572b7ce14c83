"""The figures of the report, each drawn from the records of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlaccel.experiment import Records

from .evidence import depth_of
from .published import reference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASELINE: dict[str, Any] = {"color": "#7F7F7F", "linewidth": 1.2}
THEIRS: dict[str, Any] = {
    "marker": "D",
    "markersize": 6,
    "markerfacecolor": "none",
    "linestyle": "none",
}
DOTS: dict[str, Any] = {"marker": ".", "markersize": 5, "linestyle": "none", "alpha": 0.7}


def _axes(columns: int, rows: int = 1, width: float = 4.2, height: float = 3.4) -> Any:
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)


def _shades(values: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Each value with a colour, dark to light."""
    import matplotlib as mpl

    places = np.linspace(0.05, 0.85, max(2, len(values)))
    return list(zip(values, mpl.colormaps["viridis"](places), strict=False))


def _curve(axis: Axes, rows: Records, x: str, y: str, **style: Any) -> None:
    """The mean over seeds as a line, each seed as a dot."""
    at: dict[float, list[float]] = {}
    for row in rows:
        at.setdefault(row[x], []).append(row[y])
    places = sorted(at)
    axis.plot(places, [float(np.mean(at[place])) for place in places], **style)
    dots = {**DOTS, "color": style.get("color")}
    axis.plot([p for p in places for _ in at[p]], [v for p in places for v in at[p]], **dots)


def _last(rows: Records) -> Records:
    """The rows after the last epoch."""
    return rows.select(epoch=max(rows.column("epoch")))


def _sweeps(records: Records) -> list[tuple[str, str, Records]]:
    groups = records.select("depth_layer").group("network", "data")
    return [(network, data, rows) for (network, data), rows in groups.items()]


def _trivial(axis: Axes, records: Records, data: str, column: str) -> None:
    """Class centres of the images themselves, and chance."""
    for row in records.select("pixels", data=data):
        axis.axhline(row[column], linestyle="-.", label="pixels", **BASELINE)
        if column.startswith("ncc"):
            axis.axhline(1 / row["classes"], linestyle=":", label="chance", **BASELINE)


def _integers(axis: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def separation(records: Records) -> Figure:
    """G1, G3: accuracy of the nearest class centre by layer for every depth; effective depths."""
    sweeps = _sweeps(records)
    figure, axes = _axes(2, len(sweeps), width=5.0)
    for (network, data, rows), (left, right) in zip(sweeps, axes, strict=True):
        whose, theirs = reference(network, data)
        for depth, shade in _shades(sorted(set(rows.column("depth")))):
            of_depth = rows.select(depth=depth)
            untrained = of_depth.select(epoch=0)
            _untrained(left, untrained, "ncc_train")
            _curve(left, _last(of_depth), "layer", "ncc_train", color=shade, label=f"L = {depth}")
            if depth in theirs:
                left.plot(range(1, len(theirs[depth]) + 1), theirs[depth], color=shade, **THEIRS)
        if theirs:
            left.plot([], [], color="black", label=whose, **THEIRS)
        left.plot([], [], linestyle="--", label="untrained", **BASELINE)
        _trivial(left, records, data, "ncc_train")
        left.set(xlabel="layer", ylabel="nearest-centre accuracy, train", ylim=(0, 1.03))
        left.set_title(f"{network} on {data}")
        _integers(left)
        _depths(right, rows)
    _legend_below(figure, axes[:, 0])
    return figure  # type: ignore[no-any-return]


def _untrained(axis: Axes, rows: Records, column: str) -> None:
    mean = {layer: float(np.mean(at.column(column))) for layer, at in rows.group("layer").items()}
    places = sorted(mean)
    axis.plot(places, [mean[place] for place in places], linestyle="--", **BASELINE)


def _depths(axis: Axes, rows: Records) -> None:
    """Effective depth against L; a hollow mark where no layer reaches epsilon."""
    last = _last(rows)
    depths = sorted(set(last.column("depth")))
    axis.plot(depths, depths, label="all layers", linestyle=":", **BASELINE)
    for (epsilon, marker), (_, shade) in zip(
        ((0.05, "o"), (0.03, "s"), (0.01, "^")), _shades(range(3)), strict=True
    ):
        means = []
        for depth in depths:
            found = [
                depth_of(sorted(curve, key=lambda row: row["layer"]), epsilon)
                for curve in last.select(depth=depth).group("seed").values()
            ]
            means.append(float(np.mean(found)))
            for value in found:
                face = "none" if value > depth else shade
                axis.plot(depth, value, marker, color=shade, markerfacecolor=face, markersize=5)
        axis.plot(depths, means, color=shade, label=rf"$\epsilon$ = {epsilon}")
    axis.set(xlabel="depth L", ylabel="effective depth", ylim=(0, max(depths) + 1.5))
    axis.set_xticks(depths)
    axis.legend()


def by_epoch(records: Records) -> Figure:
    """G1: the accuracy of each layer's nearest class centre against the epoch."""
    sweeps = _sweeps(records)
    most = max(len(set(rows.column("depth"))) for _, _, rows in sweeps)
    figure, axes = _axes(most, len(sweeps), width=2.9, height=2.8)
    for (network, data, rows), line in zip(sweeps, axes, strict=True):
        _, theirs = reference(network, data)
        depths = sorted(set(rows.column("depth")))
        for axis in line[len(depths) :]:
            axis.set_axis_off()
        for depth, axis in zip(depths, line, strict=False):
            of_depth = rows.select(depth=depth)
            last = max(of_depth.column("epoch"))
            for layer, shade in _shades(range(1, depth + 1)):
                _curve(axis, of_depth.select(layer=layer), "epoch", "ncc_train", color=shade)
                if layer <= len(theirs.get(depth, ())):
                    axis.plot(last, theirs[depth][layer - 1], color=shade, **THEIRS)
            axis.set(xlabel="epoch", ylim=(0, 1.03))
            axis.set_title(f"{network} on {data}, L = {depth}", fontsize=8)
        line[0].set_ylabel("nearest-centre accuracy, train")
    return figure  # type: ignore[no-any-return]


def cdnv(records: Records) -> Figure:
    """G2: CDNV by layer, of the training samples and of the test samples."""
    sweeps = _sweeps(records)
    figure, axes = _axes(2, len(sweeps), width=5.0)
    for (network, data, rows), line in zip(sweeps, axes, strict=True):
        for part, axis in zip(("train", "test"), line, strict=True):
            for depth, shade in _shades(sorted(set(rows.column("depth")))):
                of_depth = rows.select(depth=depth)
                _untrained(axis, of_depth.select(epoch=0), f"cdnv_{part}")
                style = {"color": shade, "label": f"L = {depth}"}
                _curve(axis, _last(of_depth), "layer", f"cdnv_{part}", **style)
            axis.plot([], [], linestyle="--", label="untrained", **BASELINE)
            _trivial(axis, records, data, f"cdnv_{part}")
            axis.set(yscale="log", xlabel="layer", ylabel=f"CDNV, {part}")
            axis.set_title(f"{network} on {data}, {part}")
            _integers(axis)
    _legend_below(figure, axes[:, 0])
    return figure  # type: ignore[no-any-return]


def noise(records: Records) -> Figure:
    """G4: the layers under random labels, and what is learned of them."""
    rows = records.select("noise_layer")
    ends = records.select("noise")
    figure, ((accuracy, spread, whole),) = _axes(3)
    (network, depth, data), *_ = rows.group("network", "depth", "data")
    for q, shade in _shades(sorted(set(rows.column("q")))):
        style = {"color": shade, "label": f"q = {q:g}"}
        _curve(accuracy, _last(rows.select(q=q)), "layer", "ncc_train", **style)
        _curve(spread, _last(rows.select(q=q)), "layer", "cdnv_train", **style)
    _untrained(accuracy, rows.select(epoch=0, q=min(rows.column("q"))), "ncc_train")
    accuracy.plot([], [], linestyle="--", label="untrained", **BASELINE)
    _trivial(accuracy, records, data, "ncc_train")
    accuracy.set(xlabel="layer", ylabel="nearest-centre accuracy, train", ylim=(0, 1.03))
    accuracy.legend()
    spread.set(xlabel="layer", ylabel="CDNV, train", yscale="log")
    name, _, width = network.partition("-")
    spread.set_title(f"{name}-{depth}-{width} on {data}, a share q of labels redrawn")
    for part, color in (("train", "#0072B2"), ("test", "#D55E00")):
        _curve(whole, _last(ends), "q", f"accuracy_{part}", color=color, label=part)
    whole.set(xlabel="q", ylabel="accuracy of the network", ylim=(0, 1.03))
    whole.legend()
    for axis in (accuracy, spread):
        _integers(axis)
    return figure  # type: ignore[no-any-return]


def bound(records: Records) -> Figure:
    """G5: the estimate against L beside the test error, chance and bounds from norms."""
    groups = records.select("bound").group("network", "data")
    figure, axes = _axes(2, len(groups), width=5.0)
    for ((network, data), rows), (left, right) in zip(groups.items(), axes, strict=True):
        for column, color, label in (
            ("error_test", "#0072B2", "test error"),
            ("estimate", "#D55E00", "estimate of the bound"),
            ("chance", "#7F7F7F", "guessing"),
            ("frobenius", "#009E73", "Frobenius norms (Golowich et al.)"),
            ("spectral", "#CC79A7", "spectral norms (Bartlett et al.), leading term"),
        ):
            known = Records(row for row in rows if row[column] is not None)
            if known:
                _curve(left, known, "depth", column, color=color, label=label, marker="o")
        left.axhline(1, linestyle=":", **BASELINE)
        left.set(yscale="log", xlabel="depth L", ylabel="error, and bounds on it")
        left.set_title(f"{network} on {data}")
        left.set_xticks(sorted(set(rows.column("depth"))))
        at = records.select("bound_at", network=network, data=data)
        for depth, shade in _shades(sorted(set(at.column("depth")))):
            style = {"color": shade, "label": f"L = {depth}"}
            _curve(right, at.select(depth=depth), "p", "estimate", **style)
        shares = sorted(set(at.column("p")))
        right.plot(shares, shares, label="p", linestyle=":", **BASELINE)
        right.set(xlabel="share p of wrong labels in S2", ylabel="estimate at p", ylim=(0, None))
        right.legend()
    _legend_below(figure, axes[:, 0], columns=3)
    return figure  # type: ignore[no-any-return]


def assumptions(records: Records) -> Figure:
    """G6: whether more wrong labels need more depth, and whether mistakes are uniform."""
    groups = records.select("bound_at").group("network", "data")
    figure, axes = _axes(3, len(groups), width=4.0)
    for ((network, data), at), (depths, labels, shared) in zip(groups.items(), axes, strict=True):
        _curve(depths, at, "p", "minimal", color="#D55E00", label="least found, any L")
        for depth, shade in _shades(sorted(set(at.column("depth")))):
            mean = float(np.mean(at.select(depth=depth).column("effective")))
            depths.axhline(mean, color=shade, linestyle=":", label=f"on S1, L = {depth}")
        depths.set(xlabel="share p of wrong labels in S2", ylabel="effective depth", ylim=(0, None))
        depths.set_title(f"{network} on {data}")
        depths.legend()
        rows = records.select("mistakes", network=network, data=data)
        _curve(labels, rows, "depth", "labels", color="#0072B2", label="measured")
        _curve(labels, rows, "depth", "labels_uniform", label="as many uniform ones", **BASELINE)
        labels.set(ylabel="total variation from uniform", ylim=(0, 1))
        labels.set_title("Mistakes over pairs of classes")
        known = Records(row for row in rows if row["overlap"] is not None)
        _curve(shared, known, "depth", "overlap", color="#0072B2", label="measured")
        shared.axhline(1, label="by chance", **BASELINE)
        shared.set(ylabel="shared mistakes / chance", yscale="log")
        shared.set_title("Mistakes of two initialisations")
        for axis in (labels, shared):
            axis.set_xlabel("depth L")
            axis.set_xticks(sorted(set(rows.column("depth"))))
            axis.legend()
    return figure  # type: ignore[no-any-return]


def top_layers(records: Records) -> Figure:
    """G7: CDNV of all layers of networks with layers put on top, and linear probes on them."""
    rows = records.select("top_layer")
    probes = records.select("probe")
    figure, ((spread, probed),) = _axes(2, width=5.0)
    depths = sorted(set(rows.column("top_depth")))
    (network, data), *_ = rows.group("network", "data")
    for depth, shade in _shades(depths):
        last = _last(rows.select(top_depth=depth))
        style = {"color": shade, "label": f"{depth + 1} on top"}
        _curve(spread, last, "layer", "cdnv_train", **style)
        _curve(spread, last, "layer", "cdnv_test", linestyle="--", color=shade)
        _curve(probed, probes.select(top_depth=depth), "layer", "accuracy_test", **style)
    below = max(rows.select(top_depth=depths[0]).column("layer")) - depths[0] - 1
    for axis in (spread, probed):
        axis.axvline(below + 0.5, linestyle=":", **BASELINE)
        axis.set_xlabel("layer (dotted: what is put on top begins)")
        _integers(axis)
    spread.set(yscale="log", ylabel="CDNV (dashed: test)")
    spread.set_title(f"{network} on {data}")
    spread.legend()
    probed.set(ylabel="test accuracy of a linear probe")
    return figure  # type: ignore[no-any-return]


def _legend_below(figure: Figure, axes: Iterable[Axes], columns: int = 6) -> None:
    """One legend for all, each label once."""
    found: dict[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        for label, handle in zip(labels, handles, strict=True):
            found.setdefault(label, handle)
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=columns)


FIGURES: dict[str, Callable[[Records], Figure]] = {
    "separation": separation,
    "by_epoch": by_epoch,
    "cdnv": cdnv,
    "noise": noise,
    "bound": bound,
    "assumptions": assumptions,
    "top_layers": top_layers,
}
"""The figures of the report, in order."""
