"""Margins of the claims, from the records of one seed.

Each function returns a number above 0 where its claim is supported, and None where the measurements
that it needs are absent. The claims say in words what is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from itertools import pairwise

from dlaccel.experiment import Records

from .rates import log_slope

PRINTED = 5.001e-6
"""Half a unit of the last place of the note's constants."""

ROUNDING = 1e-12
"""Limit for eigenvalues and asymmetry relative to the largest eigenvalue, float64, 200 rows."""

FIRST_SLOPE_WIDTH = 16
"""Narrower networks are left out of the slopes of the kernel's spread."""

Margin = Callable[[Records], float | None]


def margin(*names: str) -> Callable[[Callable[[Records], Sequence[float]]], Margin]:
    """The least of the margins; None without the measurements of these names, NaN with a NaN."""

    def decorate(function: Callable[[Records], Sequence[float]]) -> Margin:
        @wraps(function)
        def evidence(records: Records) -> float | None:
            if not all(records.select(name) for name in names):
                return None
            margins = function(records)
            return math.nan if any(map(math.isnan, margins)) else min(margins, default=None)

        return evidence

    return decorate


def _number(value: float | None) -> float:
    """A slope that is no number supports nothing."""
    return math.nan if value is None else value


# Closed forms


@margin("closed_form")
def constants(records: Records) -> list[float]:
    """Rounding of the note's constants less the largest difference from them."""
    return [
        PRINTED - abs(row[name] - row[f"note_{name}"])
        for row in records.select("closed_form")
        for name in ("gp", "tangent")
        if row[f"note_{name}"] is not None
    ]


@margin("kernel_matrix")
def positive(records: Records) -> list[float]:
    """Least eigenvalue and minus asymmetry, with rounding added."""
    (row,) = records.select("kernel_matrix", backward_scale=True)
    return [
        ROUNDING + sign * row[f"{kernel}_{column}"]
        for kernel in ("gp", "tangent")
        for sign, column in ((1, "least"), (-1, "asymmetry"))
    ]


@margin("autograd_kernel")
def autograd(records: Records) -> list[float]:
    """3 less the standard errors from the theory; those from the form without s less 6."""
    (row,) = records.select("autograd_kernel")
    right, wrong = (
        abs(row["mean"] - row[column]) / row["standard_error"]
        for column in ("theory", "without_scale")
    )
    return [3 - right, wrong - 6]


# E1


def _kernel_slope(records: Records, case: str) -> float:
    rows = (r for r in records.select("kernel", case=case) if r["width"] >= FIRST_SLOPE_WIDTH)
    return _number(log_slope(Records(rows), "iqr"))


@margin("kernel")
def concentrates(records: Records) -> list[float]:
    """-.35 less the slope with both wide."""
    return [-0.35 - _kernel_slope(records, "both")]


@margin("kernel")
def stays_random(records: Records) -> list[float]:
    """The slope with g alone wide, and .15."""
    return [_kernel_slope(records, "g only") + 0.15]


@margin("kernel")
def ordered(records: Records) -> list[float]:
    """Differences of the spreads at the largest width, in the order both, f, g."""
    widest = max(records.select("kernel").column("width"))
    spreads = [
        records.select("kernel", case=case, width=widest)[0]["iqr"]
        for case in ("both", "f only", "g only")
    ]
    return [right - left for left, right in pairwise(spreads)]


@margin("gaussian")
def normal(records: Records) -> list[float]:
    """Ratio of each kurtosis with a narrow network to that of the widest pair, less 2."""
    *narrow, _, widest = records.select("gaussian")
    return [row["excess_kurtosis"] / abs(widest["excess_kurtosis"]) - 2 for row in narrow]


@margin("gaussian")
def covariance(records: Records) -> list[float]:
    """3 less the standard errors between the covariance of the widest pair and K_GP."""
    row = records.select("gaussian")[-1]
    return [3 - abs(row["covariance"] - row["theory"]) / row["standard_error"]]


# E2


def _slopes(records: Records, network: str) -> dict[int, float]:
    rows = records.select("slope", network=network)
    return {row["order"]: _number(row["slope"]) for row in rows}


@margin("slope")
def plain_rates(records: Records) -> list[float]:
    """.25 less the distance of the slopes r = 1 .. 4 of L = 4 from 1 - r."""
    slopes = _slopes(records, "plain, L = 4")
    return [0.25 - abs(slopes[r] - (1 - r)) for r in range(1, 5)] if slopes else []


@margin("slope")
def second_term_stays(records: Records) -> list[float]:
    """Slope of r = 2 and .3; -.3 less that of r = 3; f wide, H = 2."""
    slopes = _slopes(records, "f wide, H = 2")
    return [slopes[2] + 0.3, -0.3 - slopes[3]]


@margin("term")
def second_term_size(records: Records) -> list[float]:
    """Logarithm of |K^(2)| at the largest width over that at the smallest, with log 1.5 added."""
    rows = records.select("term", network="f wide, H = 2", order=2)
    return [math.log(1.5 * rows[-1]["size"] / rows[0]["size"])]


@margin("slope")
def third_term_stays(records: Records) -> list[float]:
    """Slope of r = 3 and .5; -.5 less that of r = 4; f wide, H = 3."""
    slopes = _slopes(records, "f wide, H = 3")
    return [slopes[3] + 0.5, -0.5 - slopes[4]]


@margin("slope")
def both_wide_rates(records: Records) -> list[float]:
    """Slope of r = 1 less that of r = 2; -.5 less that of r = 3."""
    slopes = _slopes(records, "both wide, H = 3")
    return [slopes[1] - slopes[2], -0.5 - slopes[3]]


def _path(records: Records, network: str, order: int, column: str) -> list[float]:
    """A slope at every recorded step."""
    rows = records.select("path_slope", network=network, order=order)
    return [_number(row[column]) for row in rows]


@margin("path_slope")
def plain_path(records: Records) -> list[float]:
    """How far slopes are below the middle between a plain network's and a hypernetwork's."""
    name = "plain, L = 4"
    return [
        *(-0.5 - slope for slope in _path(records, name, 2, "beyond_linear")),
        *(-0.5 - slope for slope in _path(records, name, 3, "cost")),
        *(-1.0 - slope for slope in _path(records, name, 4, "cost")),
    ]


@margin("path_slope")
def hyper_path(records: Records) -> list[float]:
    """How far they are above it."""
    name = "f wide, H = 2"
    return [
        *(slope + 0.5 for slope in _path(records, name, 2, "beyond_linear")),
        *(slope + 0.5 for slope in _path(records, name, 3, "cost")),
        *(slope + 1.0 for slope in _path(records, name, 4, "cost")),
    ]


@margin("path_slope")
def both_wide_path(records: Records) -> list[float]:
    """How much steeper the first term beyond linear falls with both wide than with f alone."""
    alone, both = (
        _path(records, f"{which} wide, H = 2", 2, "beyond_linear") for which in ("f", "both")
    )
    return [one - two for one, two in zip(alone, both, strict=True)]


# Lazy dynamics


def _deviations(records: Records, case: str) -> list[float]:
    rows = sorted(records.select("lazy", case=case), key=lambda row: row["width"])
    return [row["deviation"] for row in rows]


@margin("lazy")
def lazy(records: Records) -> list[float]:
    """Relative falls of the deviation from a width to the next, both wide."""
    return [1 - right / left for left, right in pairwise(_deviations(records, "both"))]


@margin("lazy")
def not_lazy(records: Records) -> list[float]:
    """Deviation at the largest width, f alone: over half of that at the smallest, twice both's."""
    alone, both = (_deviations(records, case) for case in ("f only", "both"))
    return [alone[-1] / alone[0] - 0.5, alone[-1] / both[-1] - 2]


# E3, E4


def _accuracies(rows: Records) -> dict[int, dict[int, float]]:
    """Test accuracies by depth and width, both ascending."""
    found: dict[int, dict[int, float]] = {}
    for row in sorted(rows, key=lambda row: (row["depth"], row["width"])):
        found.setdefault(row["depth"], {})[row["width"]] = row["accuracy"]
    return found


def _majority(records: Records, data: str) -> float:
    share: float = records.select("rotation_data", data=data)[0]["majority"]
    return share


@margin("rotation")
def wider_is_better(records: Records) -> list[float]:
    """Gains from the smallest width to the next and to the largest; the latter over guessing."""
    margins = []
    for data, rows in records.select("rotation").group("data").items():
        accuracies = next(iter(_accuracies(rows).values()))
        values = list(accuracies.values())
        if len(values) > 1:
            path = values[:2] if len(values) == 2 else [*values[:2], values[-1]]
            margins += [right - left for left, right in pairwise(path)]
            margins.append(values[-1] - _majority(records, data))
    return margins


@margin("rotation")
def deeper_is_harder(records: Records) -> list[float]:
    """Accuracy at the smallest depth less that at the largest, at each width that has both."""
    margins = []
    for rows in records.select("rotation").group("data").values():
        accuracies = _accuracies(rows)
        shallow, deep = accuracies[min(accuracies)], accuracies[max(accuracies)]
        if len(accuracies) > 1:
            margins += [shallow[width] - deep[width] for width in shallow.keys() & deep.keys()]
    return margins


@margin("rotation")
def width_rescues(records: Records) -> list[float]:
    """Gain from the smallest to the largest width at the second depth."""
    margins = []
    for rows in records.select("rotation").group("data").values():
        _, *deeper = _accuracies(rows).values()
        for of_depth in deeper[:1]:
            if len(of_depth) > 1:
                margins.append(of_depth[max(of_depth)] - of_depth[min(of_depth)])
    return margins


@margin("rate_sweep")
def wider_at_every_rate(records: Records) -> list[float]:
    """Gain from the smallest to the largest width at each rate at which one beats guessing."""
    margins = []
    for (data, _), rows in records.select("rate_sweep").group("data", "rate").items():
        (of_depth,) = _accuracies(rows).values()
        if len(of_depth) > 1 and max(of_depth.values()) > _majority(records, data):
            margins.append(of_depth[max(of_depth)] - of_depth[min(of_depth)])
    return margins


# E5, E6


def _errors(records: Records) -> list[dict[str, dict[int, float]]]:
    """For each task the errors by method and number of images."""
    found = []
    for rows in records.select("regression").group("data", "task").values():
        errors: dict[str, dict[int, float]] = {}
        for row in sorted(rows, key=lambda row: row["images"]):
            errors.setdefault(row["method"], {})[row["images"]] = row["error"]
        found.append(errors)
    return found


COMPARED = ("hyperkernel", "NNGP")


@margin("regression")
def more_images(records: Records) -> list[float]:
    """Falls of the error from a number of images to the next, relative."""
    return [
        1 - right / left
        for errors in _errors(records)
        for method in COMPARED
        if method in errors
        for left, right in pairwise(errors[method].values())
    ]


@margin("regression")
def beats_mean(records: Records) -> list[float]:
    """1 less the error over that of the mean image, with the most images."""
    margins = []
    for errors in _errors(records):
        most = max(errors["mean image"])
        mean = errors["mean image"][most]
        margins += [1 - errors[m][most] / mean for m in COMPARED if m in errors]
    return margins


@margin("regression")
def beats_trained(records: Records) -> list[float]:
    """1 less the hyperkernel's error over the trained network's, for the most images of both."""
    margins = []
    for errors in _errors(records):
        if "trained" in errors and "hyperkernel" in errors:
            most = max(errors["trained"])
            margins.append(1 - errors["hyperkernel"][most] / errors["trained"][most])
    return margins
