"""Experiment E3: bandlimited functions, as sums of ridges and as networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache, partial

from torch import Tensor

from dlaccel.experiment import Row, Trial

from .theory import Bandlimited, l2_error, l2_neurons, radius, ridge_network
from .univariate import FAMILIES, LINES, Built, Numbers, build, size

EXP_BAND = 1.5
"""Band of the target with K = exp, for which C_K = exp(1.5)."""


def measure_maurey(trial: Trial) -> None:
    """E3: the L2 error of sums of N ridges against N, in every dimension (P3)."""
    for d in trial.config.dimensions:
        for terms in trial.config.ridge_counts:
            trial.measure("maurey", partial(_maurey, trial, d, terms), d=d, terms=terms)


def _maurey(trial: Trial, d: int, terms: int) -> Numbers:
    config, target = trial.config, Bandlimited(d, trial.config.band)
    generator = trial.generator("maurey", d, terms)
    x = target.points(config.ridge_points, generator).to(trial.device)
    values = target(x)
    squares = [
        l2_error(target.ridge_sum(target.frequencies(terms, generator).to(x), x), values) ** 2
        for _ in range(config.repetitions)
    ]
    return {"error": math.sqrt(math.fsum(squares) / len(squares)), "bound": terms**-0.5}


def measure_bandlimited(trial: Trial) -> list[Row]:
    """E3: whole networks of class A functions for given L2 errors, in every dimension (P4, P6)."""
    config = trial.config
    rows = []
    # With the band M / sqrt(d) the norm of f stays away from 0 as d grows; with M it falls like
    # 2 ** (-d / 2), below every epsilon here (D5).
    targets = [Bandlimited(d, config.band / math.sqrt(d)) for d in config.dimensions]
    for target in [*targets, Bandlimited(1, EXP_BAND, "exp")]:
        for epsilon in config.ridge_epsilons:
            key = ("bandlimited", target.kernel, target.dimension, epsilon)
            ridges = cache(partial(_ridges, trial, target, epsilon, key))
            for family in FAMILIES:
                row = trial.measure(
                    "network",
                    partial(_bandlimited, trial, target, epsilon, key, ridges, family),
                    kind="class A",
                    target=f"K = {target.kernel}",
                    d=target.dimension,
                    epsilon=epsilon,
                    family=family,
                )
                rows.append(row)
    return rows


def _ridges(
    trial: Trial, target: Bandlimited, epsilon: float, key: tuple[object, ...]
) -> tuple[Tensor, float, int, Mapping[str, Built]]:
    """Frequencies of a ridge sum, its R, the number of draws, and units, each within epsilon / 2.

    The error of the sum is at most epsilon / 2 in expectation, so that some draw attains it (P3):
    draws are repeated until one does.
    """
    generator = trial.generator(*key)
    x = target.points(trial.config.ridge_points, generator)
    values = target(x)
    for draw in range(1, 101):
        frequencies = target.frequencies(target.terms(epsilon / 2), generator)
        if l2_error(target.ridge_sum(frequencies, x), values) <= epsilon / 2:
            scale = radius(frequencies)
            return frequencies, scale, draw, build(target.unit(scale), epsilon / 4, epsilon / 2)
    raise ArithmeticError(
        "dlaccel.benshaul2023multiplicative: one draw of the frequencies in 100 must attain the "
        f"expected error, got none for d = {target.dimension}, epsilon = {epsilon:g}."
    )


def _bandlimited(
    trial: Trial,
    target: Bandlimited,
    epsilon: float,
    key: tuple[object, ...],
    ridges: Callable[[], tuple[Tensor, float, int, Mapping[str, Built]]],
    family: str,
) -> Numbers:
    frequencies, scale, draw, units = ridges()
    generator = trial.generator(*key, "test")
    x = target.points(trial.config.network_points, generator)
    network = ridge_network(frequencies, scale, units[family].network)
    curvature = target.curvature(target.points(LINES, generator))
    return {
        "terms": len(frequencies),
        "draws": draw,
        **units[family].facts,
        **size(network),
        "promised": epsilon / 2 + units[family].promised,
        "error": l2_error(network(x)[:, 0], target(x)),
        "norm": float(target(x).square().mean().sqrt()),
        "relu_at_least": l2_neurons(curvature, 0.5, epsilon),
    }
