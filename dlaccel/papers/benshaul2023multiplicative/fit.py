"""Experiment E7: polynomials fitted to a photograph, and their networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

from torch import Tensor

from dlaccel.experiment import Trial

from .photograph import Photograph, psnr
from .theory import CoefficientBall, emulate, index_set, least_squares
from .univariate import EMULATED_STEPS, Numbers, size

FITTED_SETS = ("total degree", "hyperbolic cross")


def measure_fit(trial: Trial) -> None:
    """Least squares in two index sets; then the largest total degree fit as networks."""
    config = trial.config
    photograph = cache(partial(Photograph.load, config.photograph, config.height, config.width))
    fits = cache(partial(_fit, photograph))
    for kind in FITTED_SETS:
        for n in config.fit_degrees:
            compute = partial(_quality, photograph, fits, kind, n)
            trial.measure("signal_fit", compute, once=True, index_set=kind, n=n)
    n = min(16, max(config.fit_degrees))
    for m in (None, *EMULATED_STEPS):
        compute = partial(_network, photograph, fits, n, m)
        trial.measure("signal_network", compute, once=True, n=n, m=m)


def _fit(photograph: Callable[[], Photograph], kind: str, n: int) -> tuple[Tensor, Tensor]:
    """Indices and coefficients."""
    indices = index_set(kind, 2, n)
    return indices, least_squares(indices, photograph().coordinates, photograph().grey)


def _quality(
    photograph: Callable[[], Photograph],
    fits: Callable[[str, int], tuple[Tensor, Tensor]],
    kind: str,
    n: int,
) -> Numbers:
    indices, coefficients = fits(kind, n)
    values = CoefficientBall(2).values(indices, coefficients[:, None], photograph().coordinates)
    return {"terms": len(indices), "psnr": psnr(values[:, 0] - photograph().grey)}


def _network(
    photograph: Callable[[], Photograph],
    fits: Callable[[str, int], tuple[Tensor, Tensor]],
    n: int,
    m: int | None,
) -> Numbers:
    indices, coefficients = fits("total degree", n)
    exact = CoefficientBall(2).network(indices, coefficients[:, None])
    network = exact if m is None else emulate(exact, m)
    x = photograph().coordinates
    direct = CoefficientBall(2).values(indices, coefficients[:, None], x)
    difference = float((network(x) - direct).abs().max())
    return {
        "terms": len(indices),
        "difference": difference,
        "relative": difference / float(direct.abs().max()),
        "psnr": psnr(network(x)[:, 0] - photograph().grey),
        **size(network),
    }
