"""Product gates, and any product network emulated by ReLU units (E1; P5, P6).

The square is Yarotsky's (2017): with the tooth ``g(t) = 2 relu(t) - 4 relu(t - 1/2)`` on [0, 1],
``f_m(u) = |u| - sum_{s=1..m} g^(s)(|u|) / 4^s`` interpolates ``u ** 2`` at the multiples of
``2 ** -m``. A product is ``a b = ((a + b) / 2) ** 2 - ((a - b) / 2) ** 2``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sparse

from .circuit import Circuit, Form
from .networks import (
    Affine,
    Array,
    Matrix,
    MultiplicativeNetwork,
    ProductLayer,
    ReLULayer,
    ReLUNetwork,
)

MOST_STEPS = 24
"""Sawtooth steps beyond which 4^-(m+1) is below the rounding of float64."""


def square_error(m: int) -> float:
    """Sup error on [-1, 1] of the square with ``m`` sawtooth steps: exactly ``4 ** -(m + 1)``."""
    return 4.0 ** -(m + 1)


def square_network() -> MultiplicativeNetwork:
    """``u -> u ** 2`` with one product neuron, ``[P, 1] -> [P, 1]``."""
    return _one_gate(1, 0, 0)


def product_network() -> MultiplicativeNetwork:
    """``(a, b) -> a b`` with one product neuron, ``[P, 2] -> [P, 1]``."""
    return _one_gate(2, 0, 1)


def _one_gate(inputs: int, left: int, right: int) -> MultiplicativeNetwork:
    circuit = Circuit(inputs)
    value = circuit.multiply(Form(((left, 1.0),)), Form(((right, 1.0),)))
    return circuit.network(Affine.identity(inputs), [Form(((value, 1.0),))])


def emulate(network: MultiplicativeNetwork, m: int) -> ReLUNetwork:
    """The ReLU network of the same structure, each product by sawtooth squares of ``m`` steps.

    Every factor of ``network`` must lie in [-1, 1] on its domain. Each product layer becomes ``m``
    hidden layers: the first holds ``relu(+-u)`` and ``relu(+-u - 1/2)``, so that ``|u|`` and its
    first tooth cost one layer together. A square takes ``2 m + 2`` neurons, a product of two
    different factors two squares, a product of a factor with itself one.

    A factor that the emulation pushes out of [-1, 1] by delta costs an error of delta / 2 at most
    in its square, not more: ``g`` as written above is negative past 1 and its own next tooth is 0.
    """
    if m < 1:
        raise ValueError(f"dlaccel.benshaul2023multiplicative: m must be at least 1, got {m}.")
    hidden: list[ReLULayer] = []
    values = network.input  # the product network's units, affine in the units of the ReLU layer
    bound = np.ones(len(values.bias))
    for layer in network.products:
        form_bound = abs(layer.forms.weight) @ bound + abs(layer.forms.bias)
        carried = form_bound[layer.carry]
        new, values = _emulated_layer(layer, layer.forms.after(values), carried, m)
        hidden += new
        bound = np.concatenate([np.full(len(layer.left), _PRODUCT_BOUND), carried])
    return ReLUNetwork(tuple(hidden), network.output.after(values))


def emulation_bound(network: MultiplicativeNetwork, m: int) -> Array:
    """Proved sup error of each output of ``emulate(network, m)``, ``[outputs]``.

    Errors delta of the factors u and v of a square change ``f_m`` by less than ``2 delta``, as its
    slopes are below 2. So a square of a factor is off by ``2 delta + 4 ** -(m + 1)`` at most and a
    product by ``2 (delta_a + delta_b) + 4 ** -(m + 1)``, the errors of two squares having one sign.
    """
    error = np.zeros(len(network.input.bias))
    for layer in network.products:
        form = abs(layer.forms.weight) @ error
        both = np.where(layer.left == layer.right, form[layer.left], 0.0)
        factors = form[layer.left] + form[layer.right] - both
        error = np.concatenate([2 * factors + square_error(m), form[layer.carry]])
    bound: Array = abs(network.output.weight) @ error
    return bound


def smallest_emulation(
    network: MultiplicativeNetwork, error: Callable[[ReLUNetwork], float], epsilon: float
) -> tuple[ReLUNetwork, int]:
    """The emulation with the fewest sawtooth steps whose measured ``error`` is at most ``epsilon``.

    Returns:
        The network and its number of steps m.

    Raises:
        ArithmeticError: No number of steps up to ``MOST_STEPS`` reaches ``epsilon``.
    """
    for m in range(1, MOST_STEPS + 1):
        candidate = emulate(network, m)
        if error(candidate) <= epsilon:
            return candidate, m
    raise ArithmeticError(
        f"dlaccel.benshaul2023multiplicative: epsilon must be reachable with {MOST_STEPS} sawtooth "
        f"steps, got {epsilon:g}."
    )


# An emulated product of factors in [-1, 1] lies in [-1 - 1/16, 1 + 1/16]; what is carried is moved
# by this much so that relu leaves it alone.
_PRODUCT_BOUND = 2.0


def _emulated_layer(
    layer: ProductLayer, forms: Affine, bound: Array, m: int
) -> tuple[list[ReLULayer], Affine]:
    """``m`` hidden layers, and the units of ``layer`` as affine forms of the last of them."""
    squared, signs = _polarised(layer)
    u = Affine(sparse.csr_array(squared @ forms.weight), squared @ forms.bias)
    carry = forms.rows(layer.carry)
    count, gates, kept = len(u.bias), len(layer.left), len(layer.carry)

    negative = Affine(-u.weight, -u.bias)
    units = Affine.stack(u, negative, _moved(u, -0.5), _moved(negative, -0.5), _moved(carry, bound))
    hidden = [ReLULayer(units, kept)]
    one = sparse.csr_array(sparse.eye(count))
    rest = sparse.csr_array((count, kept))
    tooth = sparse.hstack([2 * one, 2 * one, -4 * one, -4 * one, rest], format="csr")
    square = sparse.hstack([0.5 * one, 0.5 * one, one, one, rest], format="csr")  # |u| - g / 4
    product = Affine(sparse.csr_array(signs @ square), np.zeros(gates))
    carried = Affine(_last(kept, 4 * count + kept), -bound)

    for step in range(2, m + 1):
        teeth = Affine(sparse.csr_array(tooth), np.zeros(count))
        units = Affine.stack(
            teeth, _moved(teeth, -0.5), _moved(product, _PRODUCT_BOUND), _moved(carried, bound)
        )
        hidden.append(ReLULayer(units, gates + kept))
        width = 2 * count + gates + kept
        tooth = sparse.hstack(
            [2 * one, -4 * one, sparse.csr_array((count, gates + kept))], format="csr"
        )
        total = _last(gates, 2 * count + gates)
        total = sparse.hstack([total, sparse.csr_array((gates, kept))], format="csr")
        weight = sparse.csr_array(total - signs @ tooth / 4.0**step)
        product = Affine(weight, np.full(gates, -_PRODUCT_BOUND))
        carried = Affine(_last(kept, width), -bound)
    return hidden, Affine.stack(product, carried)


def _polarised(layer: ProductLayer) -> tuple[Matrix, Matrix]:
    """Matrices ``[squares, forms]`` and ``[gates, squares]``: products = signs @ squares."""
    forms: list[tuple[int, int, float]] = []  # row, form, weight
    signs: list[tuple[int, int, float]] = []  # gate, square, sign
    square = 0
    for gate, (left, right) in enumerate(zip(layer.left, layer.right, strict=True)):
        if left == right:
            forms.append((square, left, 1.0))
            signs.append((gate, square, 1.0))
            square += 1
            continue
        for sign in (1.0, -1.0):
            forms += [(square, left, 0.5), (square, right, 0.5 * sign)]
            signs.append((gate, square, sign))
            square += 1
    return (
        _sparse(forms, (square, len(layer.forms.bias))),
        _sparse(signs, (len(layer.left), square)),
    )


def _sparse(entries: list[tuple[int, int, float]], shape: tuple[int, int]) -> Matrix:
    rows, columns, weights = zip(*entries, strict=True) if entries else ((), (), ())
    return sparse.csr_array(
        sparse.coo_array((np.array(weights, dtype=np.float64), (rows, columns)), shape=shape)
    )


def _moved(affine: Affine, shift: float | Array) -> Affine:
    return Affine(affine.weight, affine.bias + shift)


def _last(count: int, width: int) -> Matrix:
    """Selects the last ``count`` of ``width`` units."""
    return sparse.csr_array(sparse.eye(count, width, k=width - count))
