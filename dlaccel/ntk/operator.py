"""Products of a tangent kernel with vectors, without the kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from .. import _check
from ._network import Network, constant, graph, networks
from ._survey import survey
from .empirical import checked_inputs


class Estimate(NamedTuple):
    """A random estimate.

    Attributes:
        value: Its mean.
        standard_error: Of the mean; NaN for a single sample.
    """

    value: float
    standard_error: float


class Operator:
    r"""The full tangent kernel as a linear map: K v = J_1 (J_2^T v), batch by batch.

    ``operator @ v`` takes v as (M, O), as (M O,) or as columns (M O, C), where entry m O + o is
    output o of sample m, and gives (N, O), (N O,) or (N O, C). Each product is a forward and a
    backward of ``x2`` and a forward-mode pass of ``x1`` for each column; it holds one vector of the
    parameters' size for each column. Products are constants to autograd.

    Attributes:
        shape: (N O, M O).
        dtype: Of the products.
        device: Where they are made.
    """

    def __init__(
        self,
        model: nn.Module,
        x1: Tensor,
        x2: Tensor | None = None,
        *,
        precision: torch.dtype | str | None = None,
        parameters: str | Sequence[str] | None = None,
        batch_size: int = 256,
    ) -> None:
        """Prepares the map; a few rows are run.

        Args:
            model: A module that treats each row alone, as for :func:`empirical`.
            x1: Inputs (N, ...).
            x2: Inputs (M, ...); None: those of ``x1``.
            precision: As for :func:`empirical`.
            parameters: As for :func:`empirical`.
            batch_size: Rows of a pass.

        Raises:
            TypeError: ``model`` is no module, or an input no tensor.
            ValueError: An argument is out of its rule, or the model is refused.
        """
        self._x1, self._x2 = x1, checked_inputs("ntk.Operator", x1, x2)
        self._symmetric = x2 is None
        if batch_size < 1:
            _check.refuse("ntk.Operator", "batch_size", "be at least 1", batch_size, ValueError)
        self._batch = batch_size
        (self._network,) = networks("ntk.Operator", model, x1, parameters, precision)
        with constant():
            probe = survey(self._network, self._network.cast(x1[:8]))
        self._count = probe.forward.out.shape[1]
        self.shape = (len(self._x1) * self._count, len(self._x2) * self._count)
        self.dtype, self.device = self._network.dtype, x1.device

    def __matmul__(self, vector: Tensor) -> Tensor:
        """K v.

        Raises:
            TypeError: ``vector`` is no tensor.
            ValueError: Its shape does not fit.
        """
        _check.tensors("ntk.Operator", {"vector": vector})
        others, count = len(self._x2), self._count
        flat = self.shape[1]
        if vector.shape != (others, count) and (vector.ndim not in (1, 2) or len(vector) != flat):
            rule = f"have shape ({others}, {count}), ({flat},) or ({flat}, C)"
            _check.refuse("ntk.Operator", "vector", rule, tuple(vector.shape), ValueError)
        by_output = vector.shape == (others, count)
        columns = vector if vector.ndim == 2 and not by_output else vector.reshape(flat, 1)
        columns = columns.detach().to(self.dtype).reshape(others, count, -1)
        with constant():
            directions = self._pulled_back(columns)
            found = self._pushed_forward(directions)
        if by_output:
            return found[..., 0]
        return found.flatten(0, 1).reshape(self.shape[0], *vector.shape[1:])

    def trace(self, samples: int = 32, *, seed: int = 0) -> Estimate:
        """Hutchinson's estimate of the trace: the mean of |J^T z|^2 over random signs z.

        Args:
            samples: Number of z.
            seed: Of the signs, which are drawn on the CPU.

        Raises:
            ValueError: The operator has a second input, or ``samples`` is below 1.

        Source: Hutchinson 1990, Communications in Statistics 19 (2).
        """
        if not self._symmetric:
            rule = "have no second input to have a trace"
            _check.refuse("ntk.Operator", "the operator", rule, self.shape, ValueError)
        if samples < 1:
            _check.refuse("ntk.Operator", "samples", "be at least 1", samples, ValueError)
        generator = torch.Generator().manual_seed(seed)
        shape = (len(self._x2), self._count)
        found = torch.empty(samples, dtype=torch.float64)
        for place in range(samples):
            signs = torch.randint(0, 2, shape, generator=generator, dtype=torch.int64) * 2 - 1
            columns = signs[..., None].to(self.device, self.dtype)
            with constant():
                (direction,) = self._pulled_back(columns)
            found[place] = sum(float(d.double().square().sum()) for d in direction.values())
        error = found.std() / samples**0.5 if samples > 1 else found.new_tensor(float("nan"))
        return Estimate(float(found.mean()), float(error))

    def _pulled_back(self, columns: Tensor) -> list[dict[str, Tensor]]:
        """J_2^T v for each column of (M, O, C), as parameters."""
        leaves = self._network.leaves
        found = [
            {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
            for _ in range(columns.shape[-1])
        ]
        for rows, x in _batches(self._network, self._x2, self._batch):
            with graph():
                out = self._network(x)
            for place, total in enumerate(found):
                gradients = torch.autograd.grad(
                    out,
                    list(leaves.values()),
                    columns[rows, :, place].contiguous(),
                    retain_graph=place + 1 < len(found),
                    allow_unused=True,
                )
                for (name, whole), part in zip(total.items(), gradients, strict=True):
                    if part is not None:
                        total[name] = whole.add_(part)
        return found

    def _pushed_forward(self, directions: list[dict[str, Tensor]]) -> Tensor:
        """J_1 u for each direction, (N, O, C)."""
        leaves = {name: leaf.detach() for name, leaf in self._network.leaves.items()}
        model = next(iter(leaves.values()))
        found = model.new_empty(len(self._x1), self._count, len(directions))
        for rows, x in _batches(self._network, self._x1, self._batch):
            for place, direction in enumerate(directions):
                # Fused attention has no forward mode.
                with sdpa_kernel(SDPBackend.MATH):
                    forward = partial(self._network, x)
                    found[rows, :, place] = jvp(forward, (leaves,), (direction,))[1]
        return found


def _batches(network: Network, x: Tensor, size: int) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, len(x), size):
        rows = slice(start, min(start + size, len(x)))
        yield rows, network.cast(x[rows])
