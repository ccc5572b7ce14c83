"""Margins of the claims, from the records of one seed.

Each function returns a number above 0 where its claim is supported, and None where the measurements
that it needs are absent. The claims say in words what is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from dlaccel.experiment import Records, Row

from .theory import depth_or_beyond

Curves = dict[float, list[Row]]
"""Layers of trained networks in order, by depth L or by share q of redrawn labels."""

Margin = Callable[[Row, Row], float]

ONE_LAYER = 1.5
"""A spread of depths that is at most one layer, or one step, is below it."""


def least(margins: Sequence[float]) -> float | None:
    """The smallest, None of none, NaN when one is NaN, so that it supports nothing."""
    if any(map(math.isnan, margins)):
        return math.nan
    return min(margins, default=None)


def trained(records: Records, name: str, by: str) -> Iterator[Curves]:
    """Curves of the last epoch, for each network and data set."""
    for rows in records.select(f"{name}_layer").group("network", "data").values():
        last = rows.select(epoch=max(rows.column("epoch")))
        curves = last.group(by)
        yield {key: sorted(curves[key], key=lambda row: row["layer"]) for key in sorted(curves)}


def depth_of(curve: Sequence[Row], epsilon: float) -> int:
    """Effective depth of a network, L + 1 where there is none."""
    return depth_or_beyond([1 - row["ncc_train"] for row in curve], epsilon)


def settled(curves: Curves, epsilon: float) -> list[int]:
    """Effective depths of the networks at least as deep as L0, that of the deepest network."""
    least = depth_of(curves[max(curves)], epsilon)
    return [depth_of(curve, epsilon) for depth, curve in curves.items() if depth >= least]


def same_depth(epsilon: float, limit: float, records: Records) -> float | None:
    """``limit`` less the spread of the settled depths; -1 where fewer than two have settled."""
    margins = []
    for curves in trained(records, "depth", "depth"):
        depths = settled(curves, epsilon)
        margins.append(limit - (max(depths) - min(depths)) if len(depths) > 1 else -1.0)
    return least(margins)


def lower_layers(records: Records) -> float | None:
    """Spread over L of the accuracies of the first and of the second layer, taken from .05."""
    margins = []
    for curves in trained(records, "depth", "depth"):
        for place in (0, 1):
            values = [curve[place]["ncc_train"] for curve in curves.values()]
            margins.append(0.05 - (max(values) - min(values)))
    return least(margins)


def rising_accuracy(records: Records) -> float | None:
    """Least gain in accuracy from a layer to the next, with .01 added."""
    return _least_step(records, lambda low, high: high["ncc_train"] - low["ncc_train"] + 0.01)


def falling_cdnv(records: Records) -> float | None:
    """Least 1.05 - ratio of a layer's CDNV to that of the one below."""
    return _least_step(records, lambda low, high: 1.05 - high["cdnv_train"] / low["cdnv_train"])


def _least_step(records: Records, margin: Margin) -> float | None:
    """Over the pairs of neighbouring layers of all networks."""
    margins = [
        margin(low, high)
        for curves in trained(records, "depth", "depth")
        for curve in curves.values()
        for low, high in pairwise(curve)
    ]
    return least(margins)


def deeper_collapse(records: Records) -> float | None:
    """Least 1 - ratio of the last layer's CDNV to that of the next shallower network."""
    margins = [
        1 - deep[-1]["cdnv_train"] / shallow[-1]["cdnv_train"]
        for curves in trained(records, "depth", "depth")
        for shallow, deep in pairwise(curves.values())
    ]
    return least(margins)


def noise_accuracy(records: Records) -> float | None:
    """Least fall of a layer's accuracy from one q to the next."""
    return _least_change(records, lambda less, more: less["ncc_train"] - more["ncc_train"])


def noise_cdnv(records: Records) -> float | None:
    """Least relative rise of a layer's CDNV from one q to the next."""
    return _least_change(records, lambda less, more: more["cdnv_train"] / less["cdnv_train"] - 1)


def _least_change(records: Records, margin: Margin) -> float | None:
    """Over the layers of all pairs of networks with neighbouring q."""
    margins = [
        margin(less, more)
        for curves in trained(records, "noise", "q")
        for lower, upper in pairwise(curves.values())
        for less, more in zip(lower, upper, strict=True)
    ]
    return least(margins)


def noise_depth(records: Records) -> float | None:
    """Least growth of the effective depth at .05 from one q to the next, plus half a layer."""
    margins = [
        depth_of(upper, 0.05) - depth_of(lower, 0.05) + 0.5
        for curves in trained(records, "noise", "q")
        for lower, upper in pairwise(curves.values())
    ]
    return least(margins)


def noise_fit(records: Records) -> float | None:
    """The lesser of: least training accuracy above .97, least fall of the test accuracy in q."""
    rows = records.select("noise")
    if not rows:
        return None
    ends = sorted(rows.select(epoch=max(rows.column("epoch"))), key=lambda row: row["q"])
    fitted: list[float] = [row["accuracy_train"] - 0.97 for row in ends]
    fallen: list[float] = [
        less["accuracy_test"] - more["accuracy_test"] for less, more in pairwise(ends)
    ]
    return min(fitted + fallen)


def bounded(records: Records) -> float | None:
    """Least difference of the estimate and the measured test error."""
    rows = records.select("bound")
    return least([row["estimate"] - row["error_test"] for row in rows])


def same_estimate(records: Records) -> float | None:
    """Spread over L of the place of the best p in its grid, taken from 1.5."""
    margins = []
    for rows in records.select("bound").group("network", "data").values():
        places = rows.column("place")
        margins.append(ONE_LAYER - (max(places) - min(places)))
    return least(margins)
