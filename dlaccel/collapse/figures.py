"""Collapse by layer, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .layers import Layers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN, TEST, MARK = "#1f5fa8", "#d1702e", "#6b7280"


def by_layer(layers: Layers, *, epsilon: Sequence[float] = (0.05, 0.01)) -> Figure:
    """CDNV (log axis), accuracy of the nearest centre, and the effective depth, by layer.

    Args:
        layers: What :func:`dlaccel.collapse.network.measure` gave.
        epsilon: Errors whose effective depths are marked.

    Returns:
        A matplotlib figure that pyplot does not know of.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: an epsilon is negative.
    """
    from matplotlib.figure import Figure

    depths = layers.effective_depth(tuple(epsilon))
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    spread, calls = figure.subplots(1, 2, sharex=True)
    _lines(spread, layers, "cdnv", "cdnv_test")
    spread.set(yscale="log", ylabel="CDNV, mean over pairs", title="Spread of the classes")
    _lines(calls, layers, "ncc_train", "ncc_test")
    calls.set(ylabel="accuracy", title="Nearest class centre")
    for limit, depth in zip(epsilon, depths, strict=True):
        calls.axhline(1 - limit, color=MARK, linewidth=0.8, linestyle=":")
        if depth is not None:
            calls.axvline(depth, color=MARK, linewidth=0.8, linestyle="--")
    found = ", ".join(
        f"{depth if depth is not None else 'none'} at ε = {limit:g}"
        for limit, depth in zip(epsilon, depths, strict=True)
    )
    calls.set_xlabel(f"layer (effective depth {found})")
    spread.set_xlabel("layer")
    if layers.accuracy_train is not None:
        calls.axhline(layers.accuracy_train, color=TRAIN, linewidth=0.8, label="network, train")
    if layers.accuracy_test is not None:
        calls.axhline(layers.accuracy_test, color=TEST, linewidth=0.8, label="network, test")
    for axes in (spread, calls):
        axes.set_xticks(range(1, len(layers) + 1))
        axes.legend()
    return figure


def _lines(axes: Axes, layers: Layers, train: str, test: str) -> None:
    for name, label, colour in ((train, "train", TRAIN), (test, "test", TEST)):
        values = layers.column(name)
        if any(value is not None for value in values):
            axes.plot(range(1, len(values) + 1), values, "o-", color=colour, label=label, ms=4)
