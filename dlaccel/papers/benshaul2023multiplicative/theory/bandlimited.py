"""Class A, generalised bandlimited functions, by sums of ridge networks (E3; P3, P4, P6).

``f(x) = C_F E_w[K(w . x)]`` with w drawn from ``|F| / C_F`` on [-M, M]^d and x in [-1, 1]^d. Here
F is uniform and ``C_F = 1``, for which f has a closed form: a product over coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
import torch
from torch import Tensor

from .bounds import POINTS
from .networks import (
    Affine,
    Array,
    MultiplicativeNetwork,
    Network,
    ProductLayer,
    ReLULayer,
    ReLUNetwork,
)


@dataclass(frozen=True)
class Kernel:
    """An analytic K whose mean over a uniform frequency is a product of ``factor``.

    ``E_w K(w . x) = prod_j factor(M x_j)``; ``second`` is K'';
    ``largest`` bounds ``|K|`` on [-R, R].
    """

    value: Callable[[Tensor], Tensor]
    second: Callable[[Tensor], Tensor]
    factor: Callable[[Tensor], Tensor]
    largest: Callable[[float], float]


KERNELS = {
    "cos": Kernel(
        value=torch.cos,
        second=lambda s: -torch.cos(s),
        factor=lambda s: torch.sinc(s / torch.pi),
        largest=lambda r: 1.0,
    ),
    "exp": Kernel(
        value=torch.exp,
        second=torch.exp,
        factor=lambda s: torch.where(s == 0, 1.0, torch.sinh(s) / s),
        largest=math.exp,
    ),
}


@dataclass(frozen=True)
class Bandlimited:
    """The class A function of kernel K, band M and dimension d with F uniform on [-M, M]^d."""

    dimension: int
    band: float = 3.0
    kernel: str = "cos"

    def __call__(self, x: Tensor) -> Tensor:
        """Values at points ``[P, d]``, ``[P]``."""
        return KERNELS[self.kernel].factor(self.band * x).prod(-1)

    def frequencies(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws w from ``|F| / C_F``: float64 ``[count, d]``."""
        uniform = torch.rand(count, self.dimension, generator=generator, dtype=torch.float64)
        return self.band * (2 * uniform - 1)

    def points(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws x from the uniform measure of the cube: float64 ``[count, d]``."""
        uniform = torch.rand(count, self.dimension, generator=generator, dtype=torch.float64)
        return 2 * uniform - 1

    def ridge_sum(self, frequencies: Tensor, x: Tensor) -> Tensor:
        """``mean_i K(w_i . x)`` at points ``[P, d]``, ``[P]``: the Maurey approximation (P3)."""
        value = KERNELS[self.kernel].value
        parts = _parts(x, len(frequencies))
        return torch.cat([value(part @ frequencies.T).mean(1) for part in parts])

    def terms(self, epsilon: float) -> int:
        """Ridge terms after which the L2 error is at most epsilon in expectation (P3).

        ``N = ceil((C_F C_K / epsilon) ** 2)``, for any dimension.
        """
        largest = KERNELS[self.kernel].largest(self.dimension * self.band)
        return math.ceil((largest / epsilon) ** 2)

    def curvature(self, x: Tensor) -> Tensor:
        """Second derivative along the first axis, at ``POINTS`` points of the lines through ``x``.

        ``[lines, d] -> [lines, POINTS]``, for ``l2_neurons``. The mean of ``u^2 M^2 K''(M u t)``
        over u in [-1, 1] is a Gauss-Legendre sum, exact to rounding.
        """
        t = torch.linspace(-1, 1, POINTS, dtype=torch.float64)
        nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(64))
        kernel, scaled = KERNELS[self.kernel], self.band * nodes
        along = kernel.second(t[:, None] * scaled) @ (scaled**2 * weights / 2)
        return kernel.factor(self.band * x[:, 1:]).prod(-1)[:, None] * along

    def unit(self, radius: float) -> Callable[[Tensor], Tensor]:
        """``t -> K(radius t)`` on [-1, 1], what one ridge unit approximates."""
        value = KERNELS[self.kernel].value
        return lambda t: value(radius * t)


def radius(frequencies: Tensor) -> float:
    """The least R with ``|w_i . x| <= R`` on the cube for all i: the largest 1-norm of a row."""
    return float(frequencies.abs().sum(1).max())


def l2_error(approximation: Tensor, values: Tensor) -> float:
    """Root mean square difference over sample points ``[P]``: a Monte Carlo L2 norm."""
    return float((approximation - values).square().mean().sqrt())


@dataclass(frozen=True)
class RidgeNetwork:
    """``x -> sum_i weight_i unit(argument_i(x))``: N copies of a network of one variable.

    Counts are those of ``explicit()``, which writes the N copies out; evaluation reuses the unit.

    Attributes:
        arguments: Affine ``[d] -> [N]``; its values must lie in the domain of the unit.
        unit: A network ``[P, 1] -> [P, 1]``.
        weights: float64 ``[N]``.
    """

    arguments: Affine
    unit: Network
    weights: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluates float64 points ``[P, d]`` to ``[P, 1]``."""
        count = len(self.weights)
        sums = []
        for part in _parts(x, count):
            arguments = torch.from_numpy(self.arguments(part.numpy().T).T.copy())
            sums.append(self.unit(arguments.reshape(-1, 1)).reshape(-1, count) @ self.weights)
        return torch.cat(sums)[:, None]

    @property
    def layers(self) -> int:
        """Those of the unit: its input layer takes the arguments in."""
        return self.unit.layers

    @property
    def neurons(self) -> int:
        """N times those of the unit."""
        return len(self.weights) * self.unit.neurons

    @property
    def carried(self) -> int:
        """N times those of the unit."""
        return len(self.weights) * self.unit.carried

    def explicit(self) -> Network:
        """The whole network as one object of the unit's family."""
        unit, count = self.unit, len(self.weights)
        if isinstance(unit, ReLUNetwork):
            hidden = [_copies(layer.affine, count) for layer in unit.hidden]
            hidden[0] = hidden[0].after(self.arguments)
            layers = zip(hidden, unit.hidden, strict=True)
            return ReLUNetwork(
                tuple(ReLULayer(affine, count * layer.carried) for affine, layer in layers),
                self._read(_copies(unit.output, count)),
            )
        before = _copies(unit.input, count).after(self.arguments)
        order = np.arange(
            count * len(unit.input.bias)
        )  # unit j of copy i stands at order[i * n + j]
        products = []
        for layer in unit.products:
            forms = _reordered(_copies(layer.forms, count), order)
            products.append(
                ProductLayer(
                    forms,
                    _shifted(layer.left, layer, count),
                    _shifted(layer.right, layer, count),
                    _shifted(layer.carry, layer, count),
                )
            )
            order = _places(len(layer.left), len(layer.carry), count)
        output = self._read(_reordered(_copies(unit.output, count), order))
        return MultiplicativeNetwork(before, tuple(products), output)

    def _read(self, outputs: Affine) -> Affine:
        weights = self.weights.numpy()[None]
        return Affine(sparse.csr_array(weights @ outputs.weight), weights @ outputs.bias)


def ridge_network(frequencies: Tensor, scale: float, unit: Network) -> RidgeNetwork:
    """``mean_i unit(w_i . x / scale)`` (P4 with a multiplicative unit, P6 with a ReLU unit)."""
    count = len(frequencies)
    weights = torch.full((count,), 1 / count, dtype=torch.float64)
    return RidgeNetwork(Affine.dense(frequencies / scale), unit, weights)


def _parts(x: Tensor, count: int) -> Sequence[Tensor]:
    """Points in parts of which each makes at most 2^22 values of ``count`` ridges."""
    return x.chunk(math.ceil(len(x) * count / 2**22))


def _copies(affine: Affine, count: int) -> Affine:
    weight = sparse.kron(sparse.eye(count), affine.weight, format="csr")
    return Affine(sparse.csr_array(weight), np.tile(affine.bias, count))


def _shifted(index: Array, layer: ProductLayer, count: int) -> Array:
    """The rows ``index`` of every copy's forms, copy by copy."""
    return (np.arange(count)[:, None] * len(layer.forms.bias) + index).ravel()


def _places(gates: int, carried: int, count: int) -> Array:
    """Where a product layer of all copies puts the units of each: all products come first."""
    copy = np.arange(count)[:, None]
    products = copy * gates + np.arange(gates)
    rest = count * gates + copy * carried + np.arange(carried)
    return np.concatenate([products, rest], axis=1).ravel()


def _reordered(affine: Affine, order: Array) -> Affine:
    entries = affine.weight.tocoo()
    moved = sparse.coo_array((entries.data, (entries.row, order[entries.col])), entries.shape)
    return Affine(sparse.csr_array(moved), affine.bias)
