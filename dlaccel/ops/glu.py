"""Gated linear units: ``glu`` on two tensors, ``glu_packed`` on one that holds both halves.

One C++ formula serves four families of operators (two tensors or one, with biases or without), each
a forward, a gradient, and a gradient that also gives the product again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _check
from .._op import Op, as_tuple, batch_first


# The order is that of the codes in csrc/ops/glu/glu.h.
_FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "relu_squared": lambda x: F.relu(x).square(),
    "tanh": torch.tanh,
}
Activation = Literal[
    "identity", "sigmoid", "silu", "gelu", "gelu_tanh", "quick_gelu",
    "relu", "relu_squared", "tanh", "clamped",
]  # fmt: skip
ACTIVATIONS = (*_FORMULAS, "clamped")
_CODES = {name: code for code, name in enumerate(ACTIVATIONS)}
_CLAMPED = _CODES["clamped"]


def glu(
    gate: Tensor,
    value: Tensor,
    activation: Activation = "silu",
    *,
    gate_bias: Tensor | None = None,
    value_bias: Tensor | None = None,
    alpha: float = 1.702,
    limit: float = 7.0,
    out: Tensor | None = None,
) -> Tensor:
    r"""Gates ``value`` by ``gate``: :math:`y = a(g + p) \, (v + q)`.

    ``"clamped"`` is :math:`y = c \, \sigma(\alpha c) \, (1 + \mathrm{clamp}(v, -l, l))` with
    :math:`c = \min(g, l)`.

    Args:
        gate: Pre-activations :math:`g`, shape (..., D), any strides: no view is copied.
        value: :math:`v`, shaped like ``gate``; dtypes promote as in ``gate * value``.
        activation: :math:`a`: identity (bilinear), sigmoid, silu, gelu (exact), gelu_tanh,
            quick_gelu, relu, relu_squared, tanh, or clamped.
        gate_bias: :math:`p`, shape (D,); its gradient is summed in the same pass.
        value_bias: :math:`q`, shape (D,).
        alpha: :math:`\alpha` of the clamped form.
        limit: :math:`l` of the clamped form, positive.
        out: Takes the result; must not require a gradient.

    Returns:
        The product, shaped like ``gate``. Half types are computed in float32 and rounded once.

    Raises:
        TypeError: An argument is not a tensor, or its dtype is not floating.
        ValueError: Shapes, devices or names do not fit; ``out`` overlaps an input in part.

    Source: Shazeer 2020 (arXiv 2002.05202), eq. 5 and 6; the clamped form is that of gpt-oss.
    """
    code = _code("glu", activation, alpha, limit)
    if gate_bias is None and value_bias is None:
        try:
            mixed = gate.dtype is not value.dtype
        except AttributeError:
            mixed = True
        if mixed:
            gate, value = _promoted("glu", gate=gate, value=value)
        if out is None:
            return GLU.forward._call(gate, value, code, alpha, limit)  # type: ignore[no-any-return]
        family, arguments = GLU, (gate, value, code, alpha, limit)
    else:
        _check.tensors("glu", {"gate": gate, "value": value})
        _check.at_least_one_axis("glu", "gate", gate)
        width = gate.shape[-1]
        zeros = gate.new_zeros(width) if gate_bias is None or value_bias is None else None
        gate, value, gate_bias, value_bias = _promoted(
            "glu",
            gate=gate,
            value=value,
            gate_bias=zeros if gate_bias is None else gate_bias,
            value_bias=zeros if value_bias is None else value_bias,
        )
        family = GLU_BIAS
        arguments = (gate, value, gate_bias, value_bias, code, alpha, limit)
    return family.call(arguments, out)


def glu_packed(
    x: Tensor,
    activation: Activation = "silu",
    *,
    gate: Literal["first", "last"] = "first",
    bias: Tensor | None = None,
    alpha: float = 1.702,
    limit: float = 7.0,
    out: Tensor | None = None,
) -> Tensor:
    r"""The gated linear unit of the two halves of ``x``; see :func:`glu`.

    ``F.glu(x)`` is ``glu_packed(x, "sigmoid", gate="last")``.

    Args:
        x: Both halves side by side, shape (..., 2D). The halves are read in place.
        activation: As in :func:`glu`.
        gate: Which half is the gate.
        bias: Added to ``x`` first, shape (2D,); its gradient is summed in the same pass.
        alpha: As in :func:`glu`.
        limit: As in :func:`glu`.
        out: Takes the result, shape (..., D).

    Returns:
        Shape (..., D).

    Raises:
        TypeError: As in :func:`glu`.
        ValueError: As in :func:`glu`, or the last axis is odd.
    """
    code = _code("glu_packed", activation, alpha, limit)
    _check.choice("glu_packed", "gate", gate, ("first", "last"))
    first = int(gate == "first")
    if bias is None:
        return GLU_PACKED.call((x, code, alpha, limit, first), out)
    x, bias = _promoted("glu_packed", x=x, bias=bias)
    return GLU_PACKED_BIAS.call((x, bias, code, alpha, limit, first), out)


def _code(op: str, activation: str, alpha: float, limit: float) -> int:
    code = _CODES.get(activation)
    if code is None:
        _check.choice(op, "activation", activation, ACTIVATIONS)
    if code == _CLAMPED and not limit > 0:
        _check.refuse(op, "limit", "be positive", limit, ValueError)
    return code  # type: ignore[return-value]


def _promoted(op: str, **named: Tensor | None) -> tuple[Any, ...]:
    _check.tensors(op, named)
    dtype = torch.float16
    values: list[Tensor] = [v for v in named.values() if v is not None]
    _check.floating(op, dict(zip(named, values, strict=True)))
    dtype = values[0].dtype
    for value in values[1:]:
        dtype = torch.promote_types(dtype, value.dtype)
    return tuple(value.to(dtype) for value in values)


def _product(gate: Tensor, value: Tensor, code: int, alpha: float, limit: float) -> Tensor:
    if code == _CLAMPED:
        clipped = gate.clamp(max=limit)
        return clipped * torch.sigmoid(alpha * clipped) * (1 + value.clamp(-limit, limit))
    return _FORMULAS[ACTIVATIONS[code]](gate) * value


@dataclass(frozen=True)
class _Family:
    """The operators over one arrangement of the arguments.

    Arguments are (gate, value) or (x,), then (gate_bias, value_bias) or (bias,) where ``biased``, then
    activation code, alpha, limit and, where ``packed``, whether the gate is the first half.
    """

    packed: bool
    biased: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "gradient", self._gradient_op(product=False))
        object.__setattr__(self, "gradient_product", self._gradient_op(product=True))
        object.__setattr__(self, "forward", self._forward_op())

    forward: Op = None  # type: ignore[assignment]
    gradient: Op = None  # type: ignore[assignment]
    gradient_product: Op = None  # type: ignore[assignment]

    @property
    def name(self) -> str:
        return "glu" + "_packed" * self.packed + "_bias" * self.biased

    @property
    def tensors(self) -> tuple[str, ...]:
        if self.packed:
            return ("x", "bias") if self.biased else ("x",)
        return ("gate", "value", "gate_bias", "value_bias") if self.biased else ("gate", "value")

    def schema(self) -> str:
        scalars = "int activation, float alpha, float limit" + ", int gate_first" * self.packed
        return ", ".join(f"Tensor {name}" for name in self.tensors) + ", " + scalars

    def call(self, arguments: tuple[Any, ...], out: Tensor | None) -> Tensor:
        if out is None:
            return self.forward(*arguments)  # type: ignore[no-any-return]
        self.check(*arguments)
        gate, value, _, _ = self.operands(arguments)
        _check.destination(self.public, out, tuple(gate.shape), gate, gate, value)
        return self.forward.into(out, *arguments)

    @property
    def public(self) -> str:
        return "glu_packed" if self.packed else "glu"

    def halves(self, x: Tensor, first: int) -> tuple[Tensor, Tensor]:
        width = x.shape[-1] // 2
        left, right = x.narrow(-1, 0, width), x.narrow(-1, width, width)
        return (left, right) if first else (right, left)

    def operands(self, arguments: tuple[Any, ...]) -> tuple[Any, Any, Any, Any]:
        """(gate, value, gate bias or None, value bias or None)."""
        if not self.packed:
            return arguments[:4] if self.biased else (*arguments[:2], None, None)
        gate, value = self.halves(arguments[0], arguments[-1])
        if not self.biased:
            return gate, value, None, None
        return gate, value, *self.halves(arguments[1], arguments[-1])

    def scalars(self, arguments: tuple[Any, ...]) -> tuple[int, float, float]:
        return arguments[len(self.tensors) : len(self.tensors) + 3]  # type: ignore[return-value]

    def reference(self, *arguments: Any) -> Tensor:
        gate, value, gate_bias, value_bias = self.operands(arguments)
        if self.biased:
            gate, value = gate + gate_bias, value + value_bias
        return _product(gate, value, *self.scalars(arguments))

    def gradient_reference(self, dy: Tensor, *arguments: Any, product: bool) -> tuple[Tensor, ...]:
        count = len(self.tensors)

        def forward(*tensors: Tensor) -> Tensor:
            return self.reference(*tensors, *arguments[count:])

        y, pull = torch.func.vjp(forward, *arguments[:count])
        return (*pull(dy), y) if product else pull(dy)

    def outputs(self, first: Tensor, *_: Any) -> tuple[Tensor, ...]:
        if self.packed:
            return (first.new_empty((*first.shape[:-1], first.shape[-1] // 2)),)
        return (torch.empty_like(first),)

    def gradient_outputs(self, dy: Tensor, *arguments: Any, product: bool) -> tuple[Tensor, ...]:
        gradients = tuple(torch.empty_like(a) for a in arguments[: len(self.tensors)])
        return (*gradients, *self.outputs(*arguments)) if product else gradients

    def check(self, *arguments: Any) -> None:
        op, named = self.public, dict(zip(self.tensors, arguments, strict=False))
        _check.tensors(op, named)
        _check.floating(op, named)
        first = self.tensors[0]
        _check.at_least_one_axis(op, first, named[first])
        width = named[first].shape[-1]
        if self.packed and width % 2:
            _check.refuse(op, "x", "have an even last axis", tuple(named["x"].shape), ValueError)
        if not self.packed:
            _check.same(op, "gate", {name: named[name] for name in ("gate", "value")})
        for name in self.tensors[1 if self.packed else 2 :]:
            _check.row(op, name, named[name], width, named[first])

    def gradient_check(self, dy: Tensor, *arguments: Any) -> None:
        self.check(*arguments)
        gate, _, _, _ = self.operands(arguments)
        _check.tensors(self.public, {"dy": dy})
        _check.same(self.public, "the result", {"the result": gate, "dy": dy})

    def launch(self, kernel: Any, lane: int, outputs: Any, arguments: Any) -> None:
        kernel(lane, outputs[0], *self.operands(arguments), *self.scalars(arguments))

    def gradient_launch(
        self, kernel: Any, lane: int, outputs: Any, arguments: Any, product: bool
    ) -> None:
        dy, *rest = arguments
        count = len(self.tensors)
        gradients = self.operands((*outputs[:count], *rest[count:]))
        again = outputs[count] if product else None
        kernel(
            lane, *gradients[:2], again, *gradients[2:], dy, *self.operands(tuple(rest)),
            *self.scalars(tuple(rest)),
        )  # fmt: skip

    def pullback(self, cotangents: Any, arguments: Any) -> tuple[Tensor, ...]:
        return self.gradient(cotangents[0], *arguments)  # type: ignore[no-any-return]

    def pushforward(self, tangents: Any, arguments: Any) -> Tensor:
        """The formula is element-wise: its partial derivatives are the gradient at dy = 1."""
        gate, _, _, _ = self.operands(arguments)
        ones = gate.new_ones(()).expand(gate.shape)
        partials = as_tuple(self.gradient(ones, *arguments))
        count = len(self.tensors)
        scalars = arguments[count:]
        filled = tuple(
            torch.zeros_like(a) if t is None else t
            for t, a in zip(tangents, arguments[:count], strict=True)
        )
        dgate, dvalue, _, _ = self.operands((*partials, *scalars))
        tgate, tvalue, tgate_bias, tvalue_bias = self.operands((*filled, *scalars))
        if self.biased:
            tgate, tvalue = tgate + tgate_bias, tvalue + tvalue_bias
        return dgate * tgate + dvalue * tvalue  # type: ignore[no-any-return]

    def unbiased(self, tensors: list[Tensor]) -> list[Tensor]:
        """Batched operands with their batched rows added: what is left needs no bias."""
        half = len(self.tensors) // 2
        return [
            t + b.reshape(b.shape[0], *[1] * (t.ndim - 2), b.shape[-1])
            for t, b in zip(tensors[:half], tensors[half:], strict=True)
        ]

    def bias_vmap(self, op: Op, size: int, in_dims: Any, arguments: Any) -> Tensor:
        moved = batch_first(size, in_dims, arguments)
        count = len(self.tensors)
        plain = GLU_PACKED if self.packed else GLU
        return plain.forward(*self.unbiased(moved[:count]), *moved[count:])  # type: ignore[no-any-return]

    def bias_gradient_vmap(
        self, op: Op, size: int, in_dims: Any, arguments: Any, product: bool
    ) -> tuple[Tensor, ...]:
        dy, *moved = batch_first(size, in_dims, arguments)
        count = len(self.tensors)
        plain = GLU_PACKED if self.packed else GLU
        gradient = plain.gradient_product if product else plain.gradient
        results = as_tuple(gradient(dy, *self.unbiased(moved[:count]), *moved[count:]))
        gradients = results[: count // 2]
        sums = tuple(g.sum(tuple(range(1, g.ndim - 1))) if g.ndim > 2 else g for g in gradients)
        return (*gradients, *sums, *results[count // 2 :])

    def _forward_op(self) -> Op:
        common = not (self.packed or self.biased)
        return Op(
            name=self.name, schema=self.schema(), returns=1, kernel="glu",
            outputs=self.outputs, reference=self.reference, check=self.check,
            pullback=self.pullback, pushforward=self.pushforward,
            launch=_plain_launch if common else self.launch,
            vmap=self.bias_vmap if self.biased else None,
        )  # fmt: skip

    def _gradient_op(self, product: bool) -> Op:
        bind = partial(partial, product=product)
        return Op(
            name=f"{self.name}_grad" + "_product" * product,
            schema=f"Tensor dy, {self.schema()}",
            returns=len(self.tensors) + product, kernel="glu_grad",
            outputs=bind(self.gradient_outputs), reference=bind(self.gradient_reference),
            check=self.gradient_check, launch=bind(self.gradient_launch),
            vmap=bind(self.bias_gradient_vmap) if self.biased else None,
        )  # fmt: skip


def _plain_launch(kernel: Any, lane: int, outputs: Any, arguments: Any) -> None:
    gate, value, code, alpha, limit = arguments
    kernel(lane, outputs[0], gate, value, None, None, code, alpha, limit)


GLU = _Family(packed=False, biased=False)
GLU_BIAS = _Family(packed=False, biased=True)
GLU_PACKED = _Family(packed=True, biased=False)
GLU_PACKED_BIAS = _Family(packed=True, biased=True)
