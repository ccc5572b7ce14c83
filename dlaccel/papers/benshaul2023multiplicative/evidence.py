"""Margins of the claims, from the records of one seed.

Each function returns a number above 0, or True, where its claim is supported, and None where the
measurements that it needs are absent. The claims say in words what is measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from dlaccel.experiment import Records, Row

from .theory import RUNGE_RHO

SAME = ("ReLU",)
"""The ReLU family built like the multiplicative one."""

ANY_RELU = ("ReLU", "ReLU, one hidden layer")
"""All ReLU families."""

CLASSES = ("class A", "class B")
"""Of the paper; the functions of one variable are their building blocks."""

ROUNDING = 1e-12
"""Limit, set beforehand, for what is exact but for the rounding of float64."""


def _cells(records: Records) -> Iterator[dict[str, Row]]:
    """Networks by family, for each target, dimension and epsilon."""
    for rows in records.select("network").group("kind", "target", "d", "epsilon").values():
        yield {row["family"]: row for row in rows}


def _ratios(
    records: Records, column: str, families: tuple[str, ...], kind: str | None = None
) -> dict[tuple[object, ...], dict[float, float]]:
    """The smallest of the ReLU families over multiplicative, by target and epsilon."""
    ratios: dict[tuple[object, ...], dict[float, float]] = {}
    for cell in _cells(records):
        row = cell["multiplicative"]
        if kind in (None, row["kind"]):
            least = min(cell[family][column] for family in families if family in cell)
            target = (row["kind"], row["target"], row["d"])
            ratios.setdefault(target, {})[row["epsilon"]] = least / row[column]
    return ratios


def fewer(
    column: str,
    families: tuple[str, ...],
    smallest: bool,
    records: Records,
    kind: str | None = None,
) -> float | None:
    """Least ratio, less one: over the least epsilon of each target, or over every epsilon."""
    margins = [
        (ratios[min(ratios)] if smallest else min(ratios.values())) - 1
        for ratios in _ratios(records, column, families, kind).values()
    ]
    return min(margins) if margins else None


def reached(records: Records, classes: tuple[str, ...], family: str) -> float | None:
    """Least ``1 - error / epsilon`` over the networks of a family."""
    rows = [row for row in records.select("network") if row["kind"] in classes]
    margins = [
        1 - row["error"] / row["epsilon"] for row in rows if row["family"].startswith(family)
    ]
    return min(margins) if margins else None


def promise_kept(records: Records) -> bool | None:
    """Whether no sup error, and no error over a ball, exceeds what was proved for its network."""
    # Class A's promise is one of expectation, checked by reached.
    rows = [row for row in records.select("network") if row["kind"] != "class A"]
    kept = [row["error"] <= row["promised"] + ROUNDING for row in rows]
    return all(kept) if kept else None


def table_error(records: Records) -> float | None:
    """How far the exact Chebyshev tables stay below ``ROUNDING``."""
    errors = records.select("chebyshev_table", m=None).column("error")
    return ROUNDING - max(errors) if errors else None


def table_counts(records: Records) -> bool | None:
    """Whether the exact Chebyshev tables have the neurons and layers of P1."""
    rows = records.select("chebyshev_table", m=None)
    right = []
    for row in rows:
        n = row["n"]
        products = {"doubling": math.ceil(math.log2(n)), "recurrence": n - 1}[row["scheme"]]
        right.append(row["neurons"] == n - 1 and row["layers"] == 2 + products)
    return all(right) if right else None


def runge(records: Records) -> float | None:
    """Distance of the degrees per decade for the Runge function from theory, taken from 1."""
    degrees = {r["epsilon"]: r["degree"] for r in records.select("degree", function="1/(1+25t^2)")}
    if not degrees:
        return None
    per_decade = (degrees[1e-6] - degrees[1e-2]) / 4
    return float(1 - abs(per_decade - 1 / math.log10(RUNGE_RHO)))


def maurey_slope(records: Records) -> float | None:
    """Distance of the slopes in log N from the ends of [-0.6, -0.42]."""
    margins = []
    for rows in records.select("maurey").group("d").values():
        slope = np.polyfit(np.log(rows.column("terms")), np.log(rows.column("error")), 1)[0]
        margins += [slope + 0.6, -0.42 - slope]
    return float(min(margins)) if margins else None


def maurey_bound(records: Records) -> float | None:
    """Least ``1 - error / bound`` over N and d."""
    margins = [1 - row["error"] / row["bound"] for row in records.select("maurey")]
    return min(margins) if margins else None


def ridge_counts(records: Records) -> bool | None:
    """Whether the networks of class A have the neurons and layers of P4."""
    rows = records.select("network", kind="class A", family="multiplicative")
    right = [
        row["neurons"] == row["terms"] * (row["degree"] - 1)
        and row["layers"] == 2 + math.ceil(math.log2(row["degree"]))
        for row in rows
    ]
    return all(right) if right else None


def square_gate(records: Records) -> float | None:
    """Largest relative distance from ``4 ** -(m + 1)``, taken from 1 %."""
    scaled = records.select("product_gate", gate="square", family="ReLU").column("scaled")
    return 0.01 - max(abs(value - 1) for value in scaled) if scaled else None


def product_gate(records: Records) -> float | None:
    """Distance of the slope in m from that of ``4 ** -m``, taken from 1 %."""
    rows = records.select("product_gate", gate="product", family="ReLU")
    if len(rows) < 2:
        return None
    slope = np.polyfit(rows.column("m"), np.log(rows.column("error")) / math.log(4), 1)[0]
    return float(0.01 - abs(slope + 1))


def exact_gate(records: Records) -> bool | None:
    """Whether product gates have one neuron and no error but rounding."""
    rows = records.select("product_gate", family="multiplicative")
    return all(row["neurons"] == 1 and row["error"] < ROUNDING for row in rows) if rows else None


def lower_bound(records: Records) -> bool | None:
    """Whether every ReLU network has the neurons that its target asks for at least."""
    rows = [row for row in records.select("network") if row["family"].startswith("ReLU")]
    return all(row["neurons"] >= row["relu_at_least"] for row in rows) if rows else None


def fewer_everywhere(records: Records) -> float | None:
    """``fewer`` for layers and for neurons, over functions of one variable."""
    margins = [fewer(c, SAME, False, records, "one variable") for c in ("layers", "neurons")]
    known = [margin for margin in margins if margin is not None]
    return min(known) if known else None


def growing_ratio(records: Records) -> float | None:
    """How much the neuron ratio grows from the largest epsilon to the least, at least."""
    growth = [
        ratios[min(ratios)] / ratios[max(ratios)] - 1
        for ratios in _ratios(records, "neurons", SAME).values()
    ]
    return min(growth) if growth else None


def growing_exponent(records: Records) -> float | None:
    """Least difference of the exponents of ReLU and multiplicative neurons."""
    laws = records.select("law", kind="one variable").group("target").values()
    exponents = [{row["family"]: row["neurons_per_term"] for row in law} for law in laws]
    margins = [law["ReLU"] - law["multiplicative"] for law in exponents]
    return min(margins) if margins else None


def tree_counts(records: Records) -> bool | None:
    """Whether the networks of all index sets have the neurons of P7."""
    rows = [row for row in records.select("index_set") if row["neurons"] is not None]
    # d (n - 1) products in tables and one for each index with two degrees or more that are not 0.
    right = [row["neurons"] == row["terms"] - row["d"] - 1 for row in rows]
    return all(right) if right else None


def tree_depth(records: Records) -> bool | None:
    """Whether the networks of all index sets have the layers of P7."""
    right = []
    for row in records.select("index_set"):
        if row["layers"] is not None:
            depth = 2 + math.ceil(math.log2(row["n"])) + math.ceil(math.log2(row["d"]))
            full = row["index_set"] == "tensor"
            right.append(row["layers"] == depth if full else row["layers"] <= depth)
    return all(right) if right else None


def parseval(records: Records) -> float | None:
    """Largest relative distance of Monte Carlo from Parseval, taken from 2 %."""
    rows = [row for row in records.select("truncation") if row["parseval"] > 0]
    off = [abs(row["monte_carlo"] / row["parseval"] - 1) for row in rows]
    return 0.02 - max(off) if off else None


def truncation(records: Records) -> bool | None:
    """Whether no random element is cut with a larger error than the worst."""
    rows = [row for row in records.select("truncation") if row["worst"] is not None]
    return all(row["parseval"] <= row["worst"] for row in rows) if rows else None


def rate(records: Records) -> float | None:
    """Relative distance of the worst error's slope from -r, taken from 5 %."""
    rows = records.select("rate")
    margins = [0.05 - abs(row["slope"] / row["smoothness"] + 1) for row in rows]
    return min(margins) if margins else None


def signal_exact(records: Records) -> float | None:
    """How far the exact network of the fit stays below ``ROUNDING``."""
    rows = records.select("signal_network", m=None)
    return ROUNDING - max(rows.column("relative")) if rows else None


def signal_emulated(records: Records) -> float | None:
    """Distance of the slope in m from that of ``4 ** -m``, taken from 10 %."""
    rows = [row for row in records.select("signal_network") if row["m"] is not None]
    if not rows:
        return None
    errors = np.log([row["relative"] for row in rows]) / math.log(4)
    return float(0.1 - abs(np.polyfit([row["m"] for row in rows], errors, 1)[0] + 1))


def best_rates(rows: Records) -> Records:
    """The rows of each network's best learning rate: the highest mean PSNR at the last step."""
    last = max(rows.column("step"), default=0)
    best = {}
    for network, finals in rows.select(step=last).group("network").items():
        means = {
            rate: float(np.mean(at.column("psnr"))) for rate, at in finals.group("rate").items()
        }
        best[network] = max(means, key=lambda rate: means[rate])
    return Records(row for row in rows if row["rate"] == best[row["network"]])


def trained(other: str, records: Records) -> float | None:
    """PSNR of the multiplicative network less that of another, in dB, at the last step."""
    rows = best_rates(records.select("training"))
    if not rows:
        return None
    finals = rows.select(step=max(rows.column("step")))
    psnr = {row["network"]: row["psnr"] for row in finals}
    return float(psnr["multiplicative"] - psnr[other])
