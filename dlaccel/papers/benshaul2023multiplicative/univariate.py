"""Experiments E1 and E2: product gates, Chebyshev tables, analytic functions of one variable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from dlaccel.experiment import Row, Trial

from .theory import (
    FUNCTIONS,
    SCHEMES,
    MultiplicativeNetwork,
    Network,
    RidgeNetwork,
    chebyshev_coefficients,
    emulate,
    emulation_bound,
    grid,
    product_network,
    series_network,
    smallest_degree,
    smallest_emulation,
    smallest_interpolant,
    square_error,
    square_network,
    sup_error,
    sup_neurons,
    table_network,
)

Numbers = dict[str, float | int | str | None]

FAMILIES = (
    "multiplicative",
    "multiplicative, recurrence",
    "ReLU",
    "ReLU, one hidden layer",
)
"""The families that are built for functions of one variable and for sums of ridges."""

DEGREE_EPSILONS = (1e-2, 1e-4, 1e-6, 1e-8, 1e-10)
"""Errors for which degrees are listed."""

EMULATED_STEPS = (4, 8, 12, 16)
"""Sawtooth steps of the emulated Chebyshev tables and of the fitted photograph."""


LINES = 256
"""Lines over which the curvature of a function of several variables is averaged (P5)."""


def size(network: Network | RidgeNetwork) -> Numbers:
    """Layers, neurons and carried units, counted on the network that was built."""
    return {
        "layers": network.layers,
        "neurons": network.neurons,
        "carried": network.carried,
    }


def measure_gates(trial: Trial) -> None:
    """E1: the sup error of squares and products against the number of sawtooth steps m."""
    for gate in _GATES:
        for m in range(1, trial.config.gate_steps + 1):
            for family in ("multiplicative", "ReLU"):
                compute = partial(_gate, gate, m, family)
                trial.measure("product_gate", compute, once=True, gate=gate, m=m, family=family)


def _gate(gate: str, m: int, family: str) -> Numbers:
    exact, points = _GATES[gate]
    x = points(m)
    network = emulate(exact(), m) if family == "ReLU" else exact()
    error = float((network(x)[:, 0] - x[:, 0] * x[:, -1]).abs().max())
    return {"error": error, "scaled": error / square_error(m), **size(network)}


def _square_points(m: int) -> Tensor:
    """The knots of the sawtooth and the points between them, where its error is largest."""
    return torch.linspace(-1, 1, 2 ** (m + 2) + 1, dtype=torch.float64)[:, None]


def _product_points(m: int) -> Tensor:
    """A 2-D grid on which one of the two squares is at a knot and the other is between knots."""
    step = torch.arange(-64, 65, dtype=torch.float64) / 64
    both = torch.cat([step, step + 2.0 ** -(m + 1)])
    side = both[both.abs() <= 1]
    return torch.cartesian_prod(side, side)


_GATES: dict[str, tuple[Callable[[], MultiplicativeNetwork], Callable[[int], Tensor]]] = {
    "square": (square_network, _square_points),
    "product": (product_network, _product_points),
}


def measure_tables(trial: Trial) -> None:
    """P1: the Chebyshev table by both schemes, exact (m none) and emulated."""
    n = 2
    while n <= trial.config.table_degree:
        for scheme in SCHEMES:
            for m in (None, *EMULATED_STEPS):
                compute = partial(_table, scheme, n, m)
                trial.measure("chebyshev_table", compute, once=True, scheme=scheme, n=n, m=m)
        n *= 2


def _table(scheme: str, n: int, m: int | None) -> Numbers:
    table, points = table_network(n, scheme), grid()
    network = table if m is None else emulate(table, m)
    exact = torch.cos(torch.arange(n + 1) * torch.arccos(points))
    return {"error": float((network(points) - exact).abs().max()), **size(network)}


def measure_degrees(trial: Trial) -> None:
    """P2: the degree that analytic functions need."""
    for name in trial.config.functions:
        for epsilon in DEGREE_EPSILONS:
            compute = partial(_degree, name, epsilon)
            trial.measure("degree", compute, once=True, function=name, epsilon=epsilon)


def _degree(name: str, epsilon: float) -> Numbers:
    return {"degree": smallest_degree(chebyshev_coefficients(FUNCTIONS[name]), epsilon)}


@dataclass(frozen=True)
class Built:
    """A network with what is known of it before it is tried.

    Attributes:
        network: ``[P, 1] -> [P, 1]``.
        promised: The sup error proved for it.
        facts: Its degree and sawtooth steps, where it has them.
    """

    network: Network
    promised: float
    facts: Numbers


def build(
    function: Callable[[Tensor], Tensor], degree_error: float, epsilon: float
) -> Mapping[str, Built]:
    """Networks of one variable within sup error epsilon of ``function``, by family.

    The first three share the degree n, the least whose tail is at most ``degree_error``; the ReLU
    network has the structure of the first and the fewest sawtooth steps that reach epsilon.
    """
    points = grid()
    coefficients = chebyshev_coefficients(function)
    n = smallest_degree(coefficients, degree_error)
    tail = float(abs(coefficients[n + 1 :]).sum())
    doubling, recurrence = (series_network(coefficients[: n + 1].tolist(), s) for s in SCHEMES)
    relu, m = smallest_emulation(doubling, lambda z: sup_error(z, function, points), epsilon)
    proved = tail + float(emulation_bound(doubling, m)[0])
    straight = smallest_interpolant(function, epsilon)
    built = (
        Built(doubling, tail, {"degree": n, "m": None}),
        Built(recurrence, tail, {"degree": n, "m": None}),
        Built(relu, proved, {"degree": n, "m": m}),
        Built(straight, epsilon, {"degree": None, "m": None}),
    )
    return dict(zip(FAMILIES, built, strict=True))


def measure_functions(trial: Trial) -> list[Row]:
    """E2: networks of functions of one variable, with the least size that any ReLU network has."""
    rows = []
    for name in trial.config.functions:
        for epsilon in trial.config.epsilons:
            networks = cache(partial(build, FUNCTIONS[name], epsilon / 2, epsilon))
            for family in FAMILIES:
                row = trial.measure(
                    "network",
                    partial(_function, name, epsilon, networks, family),
                    once=True,
                    kind="one variable",
                    target=name,
                    d=1,
                    epsilon=epsilon,
                    family=family,
                )
                rows.append(row)
    return rows


def _function(
    name: str, epsilon: float, networks: Callable[[], Mapping[str, Built]], family: str
) -> Numbers:
    built, function = networks()[family], FUNCTIONS[name]
    return {
        "terms": 1,
        **built.facts,
        **size(built.network),
        "promised": built.promised,
        "error": sup_error(built.network, function, grid()),
        "relu_at_least": sup_neurons(function, epsilon),
    }
