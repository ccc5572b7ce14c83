"""The gated MLP as one autograd function that saves no more than it needs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from .._op import as_tuple
from ..ops._glu_family import GLU, GLU_BIAS, GLU_PACKED, GLU_PACKED_BIAS, Family
from . import _half_tiles
from ._arrangement import Arrangement
from ._half_tiles import Needs, Scalars

_FAMILIES = {
    (False, False): GLU,
    (False, True): GLU_BIAS,
    (True, False): GLU_PACKED,
    (True, True): GLU_PACKED_BIAS,
}


@dataclass(frozen=True)
class Form:
    """What is no tensor: where the rows lie, the formula, and whether to keep pre-activations."""

    arrangement: Arrangement
    scalars: Scalars
    keep: bool

    @property
    def packed(self) -> bool:
        return self.arrangement.layout == "packed"

    def family(self, biased: bool) -> Family:
        return _FAMILIES[self.packed, biased]

    def operands(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Weights, or biases, as the products use them: one packed, otherwise gate and value."""
        return tensors if self.packed or not tensors else self.arrangement.rows(*tensors)

    def restored(self, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Gradients of operands as gradients of the parameters."""
        if self.arrangement.layout == "interleaved" and gradients:
            return self.arrangement.join(*gradients)
        return gradients

    def arguments(self, pre: tuple[Tensor, ...], biases: tuple[Tensor, ...]) -> tuple[Any, ...]:
        """Of the family's operators."""
        last = (int(self.arrangement.gate_first),) if self.packed else ()
        return (*pre, *self.operands(biases), *self.scalars, *last)


class Parameters(NamedTuple):
    """Weights of gate and value as they are arranged, their biases or none, and down's."""

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    down: Tensor
    down_bias: Tensor | None

    @property
    def flat(self) -> tuple[Tensor | None, ...]:
        return (*self.weights, *self.biases, self.down, self.down_bias)

    @staticmethod
    def of(flat: Sequence[Any], count: int) -> Parameters:
        """From ``flat``, where the first ``count`` are weights."""
        *first, down, down_bias = flat
        return Parameters(tuple(first[:count]), tuple(first[count:]), down, down_bias)


def gated_mlp(form: Form, x: Tensor, parameters: Parameters) -> Tensor:
    """down(a(gate(x)) * value(x)) for x (..., D)."""
    rows = x.reshape(-1, x.shape[-1])
    flat = parameters.flat
    wanted = any(t is not None and t.requires_grad for t in (rows, *flat))
    with without_autocast(x):
        if wanted and torch.is_grad_enabled():
            y = _GatedMLP.apply(form, len(parameters.weights), rows, *flat)  # type: ignore[no-untyped-call]
        else:
            y, _ = _forward(form, rows, parameters, keep=False)
    return y.reshape(*x.shape[:-1], y.shape[-1])  # type: ignore[no-any-return]


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Operands come in the dtype that is meant, and float32 tiles stay float32."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


class _GatedMLP(Function):
    @staticmethod
    def forward(ctx: Any, form: Form, count: int, x: Tensor, *flat: Any) -> Tensor:
        y, pre = _forward(form, x, Parameters.of(flat, count), form.keep)
        ctx.form, ctx.count, ctx.flat_count = form, count, len(flat)
        ctx.save_for_backward(x, *flat, *pre)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        x, *rest = ctx.saved_tensors
        parameters = Parameters.of(rest[: ctx.flat_count], ctx.count)
        pre = tuple(rest[ctx.flat_count :])
        _, _, need_x, *need_gate, need_down, need_down_bias = ctx.needs_input_grad
        needs = Needs(need_x, any(need_gate), need_down)
        with without_autocast(dy):
            down_bias = dy.sum(0) if need_down_bias else None
            # Where a graph is wanted, gradients must hang on x and weights, not on what was kept.
            graph = torch.is_grad_enabled()
            if _half_tiles.pay(x) and not graph:
                found = _tiled_gradients(ctx.form, x, dy, parameters, pre, needs)
            else:
                found = _gradients(ctx.form, x, dy, parameters, () if graph else pre, needs)
        dx, weights, biases, down = found
        return (None, None, dx, *weights, *biases, down, down_bias)


def _forward(
    form: Form, x: Tensor, parameters: Parameters, keep: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The result, and the pre-activations where ``keep``."""
    if _half_tiles.pay(x):
        return _half_tiles.forward(x, _layer(form, parameters), form.scalars, keep)
    weights, biases, down, down_bias = parameters
    pre = _pre_activations(form, x, weights)
    hidden = form.family(bool(biases)).forward(*form.arguments(pre, biases))
    return F.linear(hidden, down, down_bias), pre if keep else ()


def _pre_activations(form: Form, x: Tensor, weights: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(F.linear(x, weight) for weight in form.operands(weights))


def _layer(form: Form, parameters: Parameters) -> _half_tiles.Layer:
    gate, value = form.arrangement.rows(*parameters.weights)
    biases = form.arrangement.rows(*parameters.biases) if parameters.biases else ()
    return _half_tiles.Layer(gate, value, parameters.down, biases, parameters.down_bias)


# Gradients of x, of the weights and of the biases of gate and value, and of down's weight.
_Gradients = tuple[Tensor | None, tuple[Tensor | None, ...], tuple[Tensor, ...], Tensor | None]


def _tiled_gradients(
    form: Form,
    x: Tensor,
    dy: Tensor,
    parameters: Parameters,
    pre: tuple[Tensor, ...],
    needs: Needs,
) -> _Gradients:
    weights = tuple(torch.empty_like(w) for w in parameters.weights)
    dx, down, biases = _half_tiles.backward(
        x, dy, _layer(form, parameters), form.scalars, pre, needs, form.arrangement.rows(*weights)
    )
    joined = form.arrangement.join(*biases) if biases else ()
    return dx, weights if needs.gate else (None,) * len(weights), joined, down


def _gradients(
    form: Form,
    x: Tensor,
    dy: Tensor,
    parameters: Parameters,
    pre: tuple[Tensor, ...],
    needs: Needs,
) -> _Gradients:
    weights, biases, down, _ = parameters
    pre = pre or _pre_activations(form, x, weights)
    family = form.family(bool(biases))
    op = family.gradient_product if needs.down else family.gradient
    results = as_tuple(op(dy @ down, *form.arguments(pre, biases)))
    partials = results[: len(pre)]
    bias_gradients = form.restored(results[len(pre) : len(family.tensors)])
    dx: Tensor | None = None
    if needs.x:
        first, *others = zip(partials, form.operands(weights), strict=True)
        dx = first[0] @ first[1]
        for partial, weight in others:
            dx = dx.addmm_(partial, weight)
    dweights: tuple[Tensor | None, ...] = (None,) * len(weights)
    if needs.gate:
        dweights = form.restored(tuple(partial.T @ x for partial in partials))
    return dx, dweights, bias_gradients, dy.T @ results[-1] if needs.down else None
