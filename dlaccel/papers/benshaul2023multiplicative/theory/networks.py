"""The two families of networks, as explicit objects whose size is counted on the object itself.

Conventions (the paper's own could not be read, see D2 in the docs page):

- A multiplicative network is an affine input layer, product layers and an affine output layer. A
  neuron of a product layer multiplies two affine forms of the layer before.
  ``layers = 2 + product layers``.
- A ReLU network is a list of hidden layers ``relu(W z + b)`` and an affine output layer.
  ``layers = hidden layers + 1``.
- ``neurons`` are the units that compute: products, or ReLUs. ``carried`` are the units that only
  bring a value (or a running sum) to the next layer, needed where connections may not skip a layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sparse
import torch
from torch import Tensor

Matrix = Any  # scipy.sparse.csr_array: scipy ships no types
Array = np.ndarray[Any, np.dtype[Any]]
Index = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Affine:
    """The map ``z -> weight @ z + bias``, float64.

    ``weight`` is sparse ``[outputs, inputs]``, ``bias`` is ``[outputs]``.
    """

    weight: Matrix
    bias: Array

    def __call__(self, values: Array) -> Array:
        """Maps columns ``[inputs, P]`` to ``[outputs, P]``."""
        mapped: Array = self.weight @ values
        mapped += self.bias[:, None]
        return mapped

    def after(self, first: Affine) -> Affine:
        """The composition ``z -> self(first(z))``, again one affine map."""
        return Affine(
            sparse.csr_array(self.weight @ first.weight), self.weight @ first.bias + self.bias
        )

    def rows(self, index: Index) -> Affine:
        """The outputs named by ``index``."""
        return Affine(self.weight[index], self.bias[index])

    @property
    def parameters(self) -> int:
        """Weights and biases that are not zero."""
        return int(self.weight.count_nonzero()) + int(np.count_nonzero(self.bias))

    @staticmethod
    def identity(size: int) -> Affine:
        """The map that returns its input, ``[size] -> [size]``."""
        return Affine(sparse.csr_array(sparse.eye(size)), np.zeros(size))

    @staticmethod
    def dense(weight: Tensor, bias: Tensor | None = None) -> Affine:
        """From a dense weight ``[outputs, inputs]`` and bias ``[outputs]`` (zero by default)."""
        array = weight.detach().cpu().double().numpy()
        shift = np.zeros(len(array)) if bias is None else bias.detach().cpu().double().numpy()
        return Affine(sparse.csr_array(array), shift)

    @staticmethod
    def stack(*maps: Affine) -> Affine:
        """The outputs of all maps, one under another; the maps share their input."""
        weight = sparse.csr_array(sparse.vstack([each.weight for each in maps], format="csr"))
        return Affine(weight, np.concatenate([each.bias for each in maps]))


@dataclass(frozen=True)
class ProductLayer:
    """Neurons ``form[left] * form[right]``, then the carried ``form[carry]``.

    ``forms`` are affine in the units of the layer before.
    """

    forms: Affine
    left: Index
    right: Index
    carry: Index

    def __call__(self, values: Array) -> Array:
        """Maps ``[previous, P]`` to ``[neurons + carried, P]``."""
        form = self.forms(values)
        return np.concatenate([form[self.left] * form[self.right], form[self.carry]])


@dataclass(frozen=True)
class MultiplicativeNetwork:
    """A network of product gates: affine input layer, product layers, affine output layer."""

    input: Affine
    products: tuple[ProductLayer, ...]
    output: Affine

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluates float64 points ``[P, d]`` to ``[P, outputs]`` in float64."""
        return _in_chunks(self._columns, x, [z.forms for z in self.products])

    def _columns(self, values: Array) -> Array:
        values = self.input(values)
        for layer in self.products:
            values = layer(values)
        return self.output(values)

    @property
    def layers(self) -> int:
        """Affine input layer, product layers, affine output layer."""
        return 2 + len(self.products)

    @property
    def neurons(self) -> int:
        """Product neurons."""
        return sum(len(layer.left) for layer in self.products)

    @property
    def carried(self) -> int:
        """Units that only carry a value past a layer."""
        return sum(len(layer.carry) for layer in self.products)

    @property
    def parameters(self) -> int:
        """Weights and biases that are not zero."""
        maps = [self.input, *(layer.forms for layer in self.products), self.output]
        return sum(each.parameters for each in maps)


@dataclass(frozen=True)
class ReLULayer:
    """Units ``relu(affine(z))``, of which ``carried`` only bring a value to the next layer."""

    affine: Affine
    carried: int = 0

    def __call__(self, values: Array) -> Array:
        """Maps ``[previous, P]`` to ``[neurons + carried, P]``."""
        units = self.affine(values)
        return np.maximum(units, 0.0, out=units)

    @property
    def neurons(self) -> int:
        """Units that are not merely carried."""
        return len(self.affine.bias) - self.carried


@dataclass(frozen=True)
class ReLUNetwork:
    """A feed-forward ReLU network with explicit weights."""

    hidden: tuple[ReLULayer, ...]
    output: Affine

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluates float64 points ``[P, d]`` to ``[P, outputs]`` in float64."""
        return _in_chunks(self._columns, x, [z.affine for z in self.hidden])

    def _columns(self, values: Array) -> Array:
        for layer in self.hidden:
            values = layer(values)
        return self.output(values)

    @property
    def layers(self) -> int:
        """Hidden layers and the affine output layer."""
        return len(self.hidden) + 1

    @property
    def neurons(self) -> int:
        """ReLU units, without the carried ones."""
        return sum(layer.neurons for layer in self.hidden)

    @property
    def carried(self) -> int:
        """Units that only carry a value past a layer."""
        return sum(layer.carried for layer in self.hidden)

    @property
    def parameters(self) -> int:
        """Weights and biases that are not zero."""
        maps = [*(layer.affine for layer in self.hidden), self.output]
        return sum(each.parameters for each in maps)


Network = MultiplicativeNetwork | ReLUNetwork


def _in_chunks(columns: Callable[[Array], Array], x: Tensor, layers: list[Affine]) -> Tensor:
    """Evaluates a few points at a time: a chunk of the widest layer takes 2 MiB, about a cache."""
    if x.ndim != 2 or x.dtype != torch.float64:
        raise ValueError(
            "dlaccel.benshaul2023multiplicative: x must be a float64 tensor of shape [P, d], "
            f"got {x.dtype} of shape {tuple(x.shape)}."
        )
    points = x.detach().cpu().numpy()
    size = max(16, 2**18 // max([1, *(len(layer.bias) for layer in layers)]))
    chunks = [columns(points[i : i + size].T) for i in range(0, max(1, len(points)), size)]
    return torch.from_numpy(np.ascontiguousarray(np.concatenate(chunks, axis=1).T))
