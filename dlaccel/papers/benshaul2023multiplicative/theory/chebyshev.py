"""Polynomials and analytic functions of one variable by product networks (E2; P1, P2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor

from .circuit import Circuit, Form
from .networks import Affine, Array, MultiplicativeNetwork

Function = Callable[[Tensor], Tensor]

FUNCTIONS: dict[str, Function] = {
    "exp": torch.exp,
    "cos(5t)": lambda t: torch.cos(5 * t),
    "cos(20t)": lambda t: torch.cos(20 * t),
    "exp(-t^2/0.08)": lambda t: torch.exp(-(t**2) / 0.08),
    "1/(1+25t^2)": lambda t: 1 / (1 + 25 * t**2),
}
"""Analytic K on [-1, 1], from entire to barely analytic."""

RUNGE_RHO = (1 + math.sqrt(26)) / 5
"""The Bernstein ellipse through the poles +-i/5 of 1/(1+25t^2): 0.2 + sqrt(1 + 0.04)."""

_INTERPOLATION_DEGREE = 600


def chebyshev_table(circuit: Circuit, value: int, n: int, scheme: str = "doubling") -> list[Form]:
    """T_0 .. T_n of the unit ``value`` in [-1, 1], as forms of a circuit: ``n - 1`` new products.

    ``doubling``: ``T_{a+b} = 2 T_a T_b - T_{b-a}``, a = floor(k/2), b = ceil(k/2), in
    ``ceil(log2 n)`` product layers. ``recurrence``: ``T_{k+1} = 2 t T_k - T_{k-1}``, in n - 1.
    """
    split = _SPLITS[scheme]
    table = [Form(constant=1.0), Form(((value, 1.0),))]
    for k in range(2, n + 1):
        a, b = split(k)
        product = circuit.multiply(table[a], table[b])
        rest = table[b - a]
        if len(rest.terms) > 1:  # a form of a form would grow with k: hold it in one unit
            rest = Form(((circuit.carry(rest), 1.0),))
        negated = tuple((unit, -weight) for unit, weight in rest.terms)
        table.append(Form(((product, 2.0), *negated), -rest.constant))
    return table[: n + 1]


_SPLITS: dict[str, Callable[[int], tuple[int, int]]] = {
    "doubling": lambda k: (k // 2, k - k // 2),
    "recurrence": lambda k: (1, k - 1),
}
SCHEMES = tuple(_SPLITS)


def table_network(n: int, scheme: str = "doubling") -> MultiplicativeNetwork:
    """``t -> (T_0(t), .., T_n(t))``, ``[P, 1] -> [P, n + 1]`` (P1)."""
    circuit = Circuit(1)
    return circuit.network(Affine.identity(1), chebyshev_table(circuit, 0, n, scheme))


def series_network(
    coefficients: Sequence[float], scheme: str = "doubling"
) -> MultiplicativeNetwork:
    """``t -> sum_k c_k T_k(t)``, ``[P, 1] -> [P, 1]``: exact for every polynomial (P1)."""
    circuit = Circuit(1)
    table = chebyshev_table(circuit, 0, len(coefficients) - 1, scheme)
    return circuit.network(Affine.identity(1), [combination(table, coefficients)])


def combination(forms: Sequence[Form], weights: Sequence[float]) -> Form:
    """The form ``sum of weight * form``; like values are added up, weights of 0 left out."""
    total: dict[int, float] = {}
    constant = 0.0
    for form, weight in zip(forms, weights, strict=True):
        if weight:
            constant += weight * form.constant
            for value, factor in form.terms:
                total[value] = total.get(value, 0.0) + weight * factor
    return Form(tuple(total.items()), constant)


def chebyshev_coefficients(function: Function) -> Array:
    """Coefficients c_k of ``function`` on [-1, 1], by interpolation in 601 Chebyshev points."""

    def on_array(t: Array) -> Array:
        return function(torch.from_numpy(t)).numpy()

    coefficients: Array = chebyshev.chebinterpolate(on_array, _INTERPOLATION_DEGREE)
    return coefficients


def smallest_degree(coefficients: Array, epsilon: float) -> int:
    """The least n whose tail ``sum_{k > n} |c_k|``, a bound of the sup error, is at most epsilon.

    Rounding leaves about 1e-14 in the tail: ``epsilon`` must be well above.
    """
    tails = np.cumsum(np.abs(coefficients)[::-1])[::-1]  # tails[k] = sum from k on
    return int(np.argmax(np.append(tails[1:], 0.0) <= epsilon))


def degree_bound(bound: float, rho: float, epsilon: float) -> int:
    """Degree that suffices for K analytic with ``|K| <= bound`` in the rho ellipse (P2).

    From ``|c_k| <= 2 bound rho^-k``, the tail past n is at most ``2 bound rho^-n / (rho - 1)``.
    """
    return max(0, math.ceil(math.log(2 * bound / ((rho - 1) * epsilon)) / math.log(rho)))


def grid(points: int = 4001) -> Tensor:
    """Evenly spaced points of [-1, 1], float64 ``[points, 1]``."""
    return torch.linspace(-1, 1, points, dtype=torch.float64)[:, None]


def sup_error(network: Callable[[Tensor], Tensor], function: Function, points: Tensor) -> float:
    """Largest ``|network - function|`` over ``points`` ``[P, 1]``."""
    return float((network(points)[:, 0] - function(points[:, 0])).abs().max())
