"""Experiment E5: the comparison table is the measurement ``network``; here are its laws."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from dlaccel.experiment import Records, Row, Trial

from .theory.networks import Array
from .univariate import Numbers


def measure_laws(trial: Trial, rows: Sequence[Row]) -> None:
    """Exponents p of ``size ~ log(1 / epsilon) ** p`` for each target, dimension and family."""
    groups = Records(rows).group("kind", "target", "d", "family")
    for (kind, target, d, family), sizes in groups.items():
        compute = partial(_law, sizes)
        trial.measure("law", compute, kind=kind, target=target, d=d, family=family)


def _law(sizes: Records) -> Numbers:
    log = np.log(np.log(1 / np.array(sizes.column("epsilon"))))
    neurons = np.array(sizes.column("neurons")) / np.array(sizes.column("terms"))
    return {
        "neurons_per_term": _slope(log, np.log(neurons)),
        "layers": _slope(log, np.log(sizes.column("layers"))),
    }


def _slope(x: Array, y: Array) -> float:
    """Least squares slope; what is rounding of a constant is 0."""
    return round(float(np.polyfit(x, y, 1)[0]), 9) + 0.0
