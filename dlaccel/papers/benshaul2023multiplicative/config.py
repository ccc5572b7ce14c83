"""What a run may be asked for, and the three sizes that it comes in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .theory import FUNCTIONS, WEIGHTS

PHOTOGRAPHS = ("china.jpg", "flower.jpg")
"""Photographs that scikit-learn bundles, 427 x 640."""


@dataclass(frozen=True)
class Config:
    """Sizes of the experiments E1 to E7; see the paper's page in the docs for each."""

    gate_steps: int = 10
    """E1: sawtooth steps m of the ReLU square and product, from 1 to this."""
    table_degree: int = 32
    """E1: largest degree n of the Chebyshev tables, which double from 2."""
    functions: tuple[str, ...] = tuple(FUNCTIONS)
    """E2: functions of one variable, by the names in the theory's FUNCTIONS."""
    epsilons: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
    """E2: sup errors for which networks are built."""
    dimensions: tuple[int, ...] = (1, 2, 5, 10, 20, 50)
    """E3: dimensions d of the bandlimited functions."""
    band: float = 3.0
    """E3: M, frequencies lie in [-M, M]^d."""
    ridge_counts: tuple[int, ...] = (16, 64, 256, 1024, 4096)
    """E3: numbers N of ridge terms over which the Maurey rate is fitted."""
    repetitions: int = 20
    """E3: draws of the frequencies for each N."""
    ridge_epsilons: tuple[float, ...] = (0.2, 0.1, 0.05)
    """E3: L2 errors for which networks of the bandlimited functions are built."""
    ball_dimensions: tuple[int, ...] = (2, 3, 4)
    """E4: dimensions d of the balls of coefficients."""
    weightings: tuple[str, ...] = tuple(WEIGHTS)
    """E4: weights of the balls: mixed (B1), isotropic (B2), operator (B3)."""
    smoothness: float = 3.0
    """E4: r, the smoothness of the balls."""
    ball_degree: int = 24
    """E4: largest total degree of the random elements whose truncation is measured."""
    cut_degrees: tuple[int, ...] = (2, 4, 8, 12)
    """E4: n of the index sets to which they are cut."""
    ball_epsilons: tuple[float, ...] = (0.1, 0.03, 0.01)
    """E4: L2 errors for which networks of elements of the balls are built."""
    ridge_points: int = 4000
    """E3: Monte Carlo points of the error of a sum of ridges."""
    points: int = 40_000
    """E4: Monte Carlo points of the error of a truncated series."""
    network_points: int = 300
    """E3, E4: Monte Carlo points of an error of an explicit network."""
    photograph: str = "china.jpg"
    """E6, E7: the photograph: china.jpg or flower.jpg."""
    height: int = 128
    """E6, E7: rows of the photograph after averaging it down."""
    width: int = 192
    """E6, E7: columns of the photograph after averaging it down."""
    fit_degrees: tuple[int, ...] = (4, 8, 16, 24)
    """E7: n of the index sets fitted to the photograph."""
    parameters: int = 30_000
    """E6: parameters of each trained network, as nearly as a whole width allows."""
    hidden_layers: int = 3
    """E6: hidden layers of each trained network."""
    steps: int = 2000
    """E6: training steps."""
    batch: int = 4096
    """E6: pixels of a training step, drawn anew each step."""
    record_every: int = 100
    """E6: steps between two measured PSNR."""
    rate_factors: tuple[float, ...] = (0.3, 1.0, 3.0)
    """E6: factors on each network's learning rate; the best at the last step counts."""

    def __post_init__(self) -> None:
        """Refuses a field out of range with one sentence.

        Raises:
            ValueError: Naming the field, the rule and the value.
        """
        for names, rule, holds in _RULES:
            for name in names:
                value = getattr(self, name)
                if not holds(value):
                    raise ValueError(
                        f"dlaccel.benshaul2023multiplicative: {name} must {rule}, got {value!r}."
                    )
                if isinstance(value, tuple) and len(set(value)) < len(value):
                    raise ValueError(
                        f"dlaccel.benshaul2023multiplicative: {name} must hold each value once, "
                        f"got {value!r}."
                    )


def _between(low: float, high: float = math.inf) -> Callable[[float], bool]:
    return lambda value: low <= value <= high and value < math.inf


def _each(holds: Callable[[Any], bool], count: int = 1) -> Callable[[Any], bool]:
    return lambda values: len(values) >= count and all(map(holds, values))


# Fields, the rule in words, the rule.
_RULES: tuple[tuple[tuple[str, ...], str, Callable[[Any], bool]], ...] = (
    (
        (
            "repetitions",
            "ridge_points",
            "points",
            "network_points",
            "hidden_layers",
            "batch",
            "record_every",
            "steps",
        ),
        "be at least 1",
        _between(1),
    ),
    (("table_degree",), "be at least 2", _between(2)),
    (("parameters",), "be at least 100", _between(100)),
    (("gate_steps",), "be between 2 and 16", _between(2, 16)),
    (("ball_degree",), "be between 1 and 100", _between(1, 100)),
    (("height",), "be between 8 and 427", _between(8, 427)),
    (("width",), "be between 8 and 640", _between(8, 640)),
    (("band", "smoothness"), "be between 0.1 and 20", _between(0.1, 20)),
    (("rate_factors",), "be one or more numbers from 1e-3 to 1e3", _each(_between(1e-3, 1e3))),
    (
        ("dimensions", "ball_dimensions", "cut_degrees", "fit_degrees"),
        "be one or more integers from 1",
        _each(_between(1)),
    ),
    (("ridge_counts",), "be two or more integers from 1", _each(_between(1), 2)),
    (("epsilons",), "be two or more numbers from 1e-10 to 0.5", _each(_between(1e-10, 0.5), 2)),
    (
        ("ridge_epsilons", "ball_epsilons"),
        "be two or more numbers from 1e-3 to 0.5",
        _each(_between(1e-3, 0.5), 2),
    ),
    (
        ("functions",),
        f"be one or more of {', '.join(FUNCTIONS)}",
        _each(FUNCTIONS.__contains__),
    ),
    (("weightings",), f"be one or more of {', '.join(WEIGHTS)}", _each(WEIGHTS.__contains__)),
    (("photograph",), f"be one of {', '.join(PHOTOGRAPHS)}", PHOTOGRAPHS.__contains__),
)

PROFILES: dict[str, Config] = {
    "smoke": Config(
        gate_steps=8,
        functions=("cos(5t)", "1/(1+25t^2)"),
        epsilons=(1e-2, 1e-4, 1e-6),
        dimensions=(1, 5, 10),
        ridge_counts=(16, 64, 256, 1024),
        repetitions=200,
        ridge_epsilons=(0.2, 0.1, 0.05),
        ball_dimensions=(2, 3),
        weightings=("mixed", "isotropic"),
        ball_epsilons=(0.03, 0.01, 0.003),
        ridge_points=500,
        network_points=200,
        height=64,
        width=96,
        fit_degrees=(4, 8, 16),
        parameters=8000,
        steps=500,
        batch=1024,
        record_every=25,
        rate_factors=(1.0,),
    ),
    "medium": Config(),
    "paper": Config(
        gate_steps=16,
        ridge_counts=tuple(4**i for i in range(2, 10)),
        ridge_epsilons=(0.2, 0.1, 0.05, 0.025),
        network_points=1000,
        ridge_points=1_000_000,
        points=1_000_000,
        height=427,
        width=640,
        parameters=200_000,
        steps=20_000,
        batch=65_536,
        record_every=500,
    ),
}
"""smoke: about a minute on two cores; medium: about an hour; paper: the full size, on a GPU."""

SEEDS: dict[str, int] = {"smoke": 3, "medium": 3, "paper": 5}
"""Seeds of each profile."""
