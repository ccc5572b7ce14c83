"""Classes whose means and variances are known: T4, T5, the gain from p, and the rate in l."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from dlaccel.collapse import ClassGeometry
from dlaccel.experiment import Trial

from .._source_training import Numbers
from ..galanti2022transfer.theory import directional_bound, rederived_bound
from .theory import gaussian_class_cdnv, pairwise_bound, spherical_bound, squared_margin

SIGMA = 1.0
"""Deviation of the noise around the random class means, in every direction."""

CHUNK = 2**22
"""Numbers of a draw that are held at a time."""


def measure_gaussians(trial: Trial) -> None:
    """T4: error of two isotropic Gaussian classes of given CDNV, with every bound on it."""
    for p in trial.config.gaussian_dimensions:
        for cdnv in trial.config.gaussian_cdnv:
            for shots in trial.config.shots:
                compute = partial(_gaussian, trial, p, cdnv, shots)
                trial.measure("gaussian", compute, p=p, cdnv=cdnv, shots=shots)


def _gaussian(trial: Trial, p: int, cdnv: float, shots: int) -> Numbers:
    random = np.random.default_rng(trial.generator("gaussian", p, cdnv, shots).initial_seed())
    return {
        "error": gaussian_error(p, cdnv, shots, trial.config.gaussian_draws, random),
        "t4": pairwise_bound(cdnv, shots),
        "t4_spherical": spherical_bound(cdnv, shots, p),
        "rederived": rederived_bound(cdnv, 2, shots),
        # Isotropic: the variance along the line of the means is Var / p.
        "directional_bound": directional_bound(cdnv / p, cdnv, 2, shots),
    }


def gaussian_error(
    p: int, cdnv: float, shots: int, draws: int, random: np.random.Generator
) -> float:
    """E_n of two classes N(mu, sigma^2 I_p) at distance 1, with p sigma^2 = V.

    The sample means differ by u ~ N(e_1, 2 sigma^2 / n), and x lies off their middle, which does
    not depend on u, by w ~ N(-e_1 / 2, sigma^2 (1 + 1 / (2 n))); x goes astray when <w, u> >= 0.
    Given u, of which only u_1 and |u| count, that is a normal tail, which is averaged over u.
    """
    from scipy.special import ndtr

    sigma = math.sqrt(cdnv / p)
    spread = sigma * math.sqrt(2 / shots)
    first = 1 + spread * random.standard_normal(draws)
    others = spread**2 * random.chisquare(p - 1, draws) if p > 1 else 0.0
    length = np.sqrt(first**2 + others)
    return float(ndtr(-first / (2 * sigma * math.sqrt(1 + 0.5 / shots) * length)).mean())


def squared_margins(
    p: int, sigma_i: float, sigma_j: float, shots: int, draws: int, generator: torch.Generator
) -> Tensor:
    """|x - mu(S_j)|^2 - |x - mu(S_i)|^2 over draws of x, S_i, S_j at distance 1, float64."""
    found = []
    left = draws
    while left:
        now = min(left, max(1, CHUNK // p))
        x, i, j = (torch.randn(now, p, generator=generator, dtype=torch.float64) for _ in range(3))
        x = sigma_i * x
        i = sigma_i * shots**-0.5 * i
        j = sigma_j * shots**-0.5 * j
        j[:, 0] += 1
        found.append((x - j).square().sum(1) - (x - i).square().sum(1))
        left -= now
    return torch.cat(found)


def measure_margins(trial: Trial) -> None:
    """T5: the mean squared margin of Gaussian classes of unequal variance."""
    for p in trial.config.gaussian_dimensions:
        for shots in trial.config.shots:
            compute = partial(_margin, trial, p, shots)
            trial.measure("squared_margin", compute, p=p, shots=shots)


def _margin(trial: Trial, p: int, shots: int) -> Numbers:
    sigma_i, sigma_j = math.sqrt(0.5 / p), math.sqrt(2 / p)
    draws = trial.config.gaussian_draws
    found = squared_margins(p, sigma_i, sigma_j, shots, draws, trial.generator("margin", p, shots))
    return {
        "mean": float(found.mean()),
        "standard_error": float(found.std()) / math.sqrt(draws),
        "expected": squared_margin(1.0, p * sigma_i**2, p * sigma_j**2, shots),
    }


def measure_rate(trial: Trial) -> None:
    """How the average CDNV of l random classes tends to that of the population."""
    config = trial.config
    for p in config.rate_dimensions:
        deviations = cache(partial(_deviations, trial, p))
        for classes in config.rate_classes:
            compute = partial(_deviation, deviations, classes)
            trial.measure("rate", compute, p=p, classes=classes)


def _deviation(deviations: Callable[[], dict[int, float]], classes: int) -> Numbers:
    return {"deviation": deviations()[classes]}


def _deviations(trial: Trial, p: int) -> dict[int, float]:
    """Root mean square over repeats of Avg V - E V, relative to E V, by l."""
    config, expected = trial.config, gaussian_class_cdnv(p, SIGMA)
    generator = trial.generator("rate", p)
    found = {}
    for classes in config.rate_classes:
        off = [
            float(_random_classes(p, classes, generator).cdnv().mean) / expected - 1
            for _ in range(config.rate_repeats)
        ]
        found[classes] = math.sqrt(math.fsum(each**2 for each in off) / len(off))
    return found


def _random_classes(p: int, classes: int, generator: torch.Generator) -> ClassGeometry:
    """Means from N(0, I_p), the population's own variance p sigma^2."""
    means = torch.randn(classes, p, generator=generator, dtype=torch.float64)
    many = torch.full((classes,), 1000.0, dtype=torch.float64)
    variances = torch.full((classes,), p * SIGMA**2, dtype=torch.float64)
    return ClassGeometry(counts=many, means=means, variances=variances)
