"""Experiment E4: balls of coefficients, cut to index sets and built as networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from dlaccel.experiment import Row, Trial

from .theory import (
    BASES,
    INDEX_SETS,
    CoefficientBall,
    Network,
    emulate,
    emulation_bound,
    index_set,
    is_in,
    l2_error,
    l2_neurons,
    smallest_emulation,
    total_degree_error,
)
from .univariate import LINES, Numbers, size

BUILT_SETS = {"mixed": "hyperbolic cross", "isotropic": "total degree", "operator": "total degree"}
"""The index set that suits each weight."""

DEPTH_DIMENSIONS = (1, 2, 4, 8)
"""Dimensions in which the index sets are counted, besides those of the balls."""

MOST_TERMS_BUILT = 2000
"""Terms up to which the network of an index set is built to be counted."""

RATE_DEGREES = tuple(2**i for i in range(4, 11))
"""Degrees over which the slope of the worst error is fitted: its ``1 +`` and lattice are small."""


def measure_index_sets(trial: Trial) -> None:
    """E4: how many terms the three index sets have, and the size of their networks (P7)."""
    for d in sorted({*DEPTH_DIMENSIONS, *trial.config.ball_dimensions}):
        for n in sorted({1, *trial.config.cut_degrees}):
            for kind in INDEX_SETS:
                compute = partial(_index_set, kind, d, n)
                trial.measure("index_set", compute, once=True, d=d, index_set=kind, n=n)


def _index_set(kind: str, d: int, n: int) -> Numbers:
    terms = _terms(kind, d, n)
    if terms > MOST_TERMS_BUILT:
        return {"terms": terms, "layers": None, "neurons": None, "carried": None}
    indices = index_set(kind, d, n)
    network = CoefficientBall(d).network(indices, torch.ones(terms, 1, dtype=torch.float64))
    return {"terms": terms, **size(network)}


def _terms(kind: str, d: int, n: int) -> int:
    known = {"tensor": (n + 1) ** d, "total degree": math.comb(n + d, d)}
    return known[kind] if kind in known else len(index_set(kind, d, n))


def measure_truncation(trial: Trial) -> None:
    """E4: the error of random elements of the balls, cut to an index set (P8)."""
    config = trial.config
    for weighting in config.weightings:
        for d in config.ball_dimensions:
            ball = CoefficientBall(d, config.smoothness, weighting)
            cuts = [(kind, n) for kind in INDEX_SETS for n in config.cut_degrees]
            errors = cache(partial(_truncated, trial, ball, cuts))
            for place, (kind, n) in enumerate(cuts):
                trial.measure(
                    "truncation",
                    partial(_truncation, ball, kind, n, errors, place),
                    weighting=weighting,
                    d=d,
                    index_set=kind,
                    n=n,
                )


def _truncated(
    trial: Trial, ball: CoefficientBall, cuts: list[tuple[str, int]]
) -> tuple[Tensor, Tensor]:
    """Errors of all cuts of one element: by Parseval's identity and by Monte Carlo, ``[cuts]``."""
    generator = trial.generator("truncation", ball.weighting, ball.dimension)
    indices = index_set("total degree", ball.dimension, trial.config.ball_degree)
    element = ball.element(indices, generator)
    left_out = torch.stack([~is_in(kind, n, indices) for kind, n in cuts], dim=1)
    tails = element[:, None] * left_out
    x = BASES[ball.basis].sample(trial.config.points, ball.dimension, generator)
    sampled = ball.values(indices, tails, x)
    return tails.norm(dim=0), sampled.square().mean(0).sqrt()


def _truncation(
    ball: CoefficientBall,
    kind: str,
    n: int,
    errors: Callable[[], tuple[Tensor, Tensor]],
    place: int,
) -> Numbers:
    parseval, sampled = errors()
    terms = _terms(kind, ball.dimension, n)
    few = terms <= 10**6
    return {
        "terms": terms,
        "parseval": float(parseval[place]),
        "monte_carlo": float(sampled[place]),
        "worst": ball.worst_error(index_set(kind, ball.dimension, n)) if few else None,
    }


def measure_rates(trial: Trial) -> None:
    """E4: the slope of the isotropic ball's worst error over total degrees n (P8)."""
    for d in trial.config.ball_dimensions:
        trial.measure("rate", partial(_rate, d, trial.config.smoothness), once=True, d=d)


def _rate(d: int, r: float) -> Numbers:
    errors = [total_degree_error(d, n, r) for n in RATE_DEGREES]
    slope = np.polyfit(np.log([n + 1 for n in RATE_DEGREES]), np.log(errors), 1)[0]
    return {"slope": float(slope), "smoothness": r}


def measure_balls(trial: Trial) -> list[Row]:
    """E4: whole networks of random elements for given L2 errors (P7)."""
    rows = []
    for weighting in trial.config.weightings:
        for d in trial.config.ball_dimensions:
            ball = CoefficientBall(d, trial.config.smoothness, weighting)
            for epsilon in trial.config.ball_epsilons:
                built = cache(partial(_built, trial, ball, epsilon))
                for family in ("multiplicative", "ReLU"):
                    row = trial.measure(
                        "network",
                        partial(_ball, built, family),
                        kind="class B",
                        target=f"{weighting}, r = {ball.smoothness:g}",
                        d=d,
                        epsilon=epsilon,
                        family=family,
                    )
                    rows.append(row)
    return rows


def _built(trial: Trial, ball: CoefficientBall, epsilon: float) -> dict[str, Numbers]:
    """Networks that serve the whole ball, in both families, and one random element in each.

    The series is cut at the least n whose worst error is epsilon / 2 or less. The error of a family
    is that worst error plus the largest that the emulated products add to any element of the ball:
    a spectral norm, as both are linear in the coefficients.
    """
    kind, d = BUILT_SETS[ball.weighting], ball.dimension
    n = 1
    while ball.worst_error(index_set(kind, d, n)) > epsilon / 2:
        n += 1
    cut = index_set(kind, d, n)
    truncation, heaviest = ball.worst_error(cut), ball.weight(cut).rsqrt()
    generator = trial.generator("ball", ball.weighting, d, epsilon)
    features = ball.network(cut, torch.eye(len(cut), dtype=torch.float64))
    # Eight points a term: the spectral norm of a sample is then too large by a third at most.
    points = max(trial.config.network_points, 8 * len(cut))
    x = BASES[ball.basis].sample(points, d, generator)
    exact = ball.values(cut, torch.eye(len(cut), dtype=torch.float64), x)

    def worst(network: Network) -> float:
        off = (network(x) - exact) * heaviest
        added = torch.linalg.eigvalsh(off.T @ off)[-1].clamp(min=0) / points
        return truncation + float(added.sqrt())

    relu, m = smallest_emulation(features, worst, epsilon)
    proved = np.linalg.norm(emulation_bound(features, m) * heaviest.numpy())

    indices = index_set(kind, d, 2 * n)
    element = ball.element(indices, generator)
    values = ball.values(indices, element[:, None], x)[:, 0]
    multiplicative = ball.network(cut, element[is_in(kind, n, indices), None])
    lines = BASES[ball.basis].sample(LINES, d, generator)
    least = max(_least_neurons(ball, k, lines, epsilon) for k in range(2, n + 1))

    def numbers(network: Network, steps: int | None, promised: float, error: float) -> Numbers:
        return {
            "degree": n,
            "terms": len(cut),
            "m": steps,
            **size(network),
            "promised": promised,
            "error": error,
            "element_error": l2_error(network(x)[:, 0], values),
            "relu_at_least": least,
        }

    return {
        "multiplicative": numbers(multiplicative, None, truncation, worst(features)),
        "ReLU": numbers(emulate(multiplicative, m), m, truncation + float(proved), worst(relu)),
    }


def _least_neurons(ball: CoefficientBall, k: int, lines: Tensor, epsilon: float) -> int:
    """ReLU neurons that the element of degree k in the first coordinate alone asks for (P5)."""
    index = torch.zeros(1, ball.dimension, dtype=torch.int64)
    index[0, 0] = k
    curvature = ball.curvature(index, ball.weight(index).rsqrt(), lines)
    return l2_neurons(curvature, BASES[ball.basis].density, epsilon)


def _ball(built: Callable[[], dict[str, Numbers]], family: str) -> Numbers:
    return built()[family]
