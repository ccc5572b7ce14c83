"""The operators behind ``glu`` and ``glu_packed``.

One C++ formula serves four families (two tensors or one that holds both halves, with biases or
without), each a forward, a gradient, and a gradient that also gives the product again.
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
from .._op import Op, as_tuple, batch_first, vjp

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
CODES = {name: code for code, name in enumerate(ACTIVATIONS)}
CLAMPED = CODES["clamped"]


def gated_product(gate: Tensor, value: Tensor, code: int, alpha: float, limit: float) -> Tensor:
    if code == CLAMPED:
        clipped = gate.clamp(max=limit)
        return clipped * torch.sigmoid(alpha * clipped) * (1 + value.clamp(-limit, limit))
    return _FORMULAS[ACTIVATIONS[code]](gate) * value


@dataclass(frozen=True)
class Family:
    """The operators over one arrangement of the arguments.

    Arguments are (gate, value) or (x,), then (gate_bias, value_bias) or (bias,) where ``biased``,
    then activation code, alpha, limit and, where ``packed``, whether the gate is the first half.
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
        gate, _, _, _ = self.operands(arguments)
        _check.destination(self.public, out, tuple(gate.shape), gate)
        return self.forward.into(out, *arguments)

    def overlap(self, out: Tensor, arguments: tuple[Any, ...]) -> None:
        gate, value, _, _ = self.operands(arguments)
        _check.overlap(self.public, out, gate, value)

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
        return arguments[len(self.tensors) : len(self.tensors) + 3]

    def reference(self, *arguments: Any) -> Tensor:
        gate, value, gate_bias, value_bias = self.operands(arguments)
        if self.biased:
            gate, value = gate + gate_bias, value + value_bias
        return gated_product(gate, value, *self.scalars(arguments))

    def gradient_reference(self, dy: Tensor, *arguments: Any, product: bool) -> tuple[Tensor, ...]:
        count = len(self.tensors)

        def forward(*tensors: Tensor) -> Tensor:
            return self.reference(*tensors, *arguments[count:])

        y, pull = vjp(forward, *arguments[:count])
        return (*pull(dy), y) if product else pull(dy)

    @property
    def outputs(self) -> Callable[..., tuple[Tensor, ...]]:
        return _half_of_first if self.packed else _like_first

    def gradient_outputs(self, dy: Tensor, *arguments: Any, product: bool) -> tuple[Tensor, ...]:
        gradients = tuple(torch.empty_like(a) for a in arguments[: len(self.tensors)])
        return (*gradients, *self.outputs(*arguments)) if product else gradients

    def check(self, *arguments: Any) -> None:
        op, count = self.public, len(self.tensors)
        named = dict(zip(self.tensors, arguments[:count], strict=True))
        _check.tensors(op, named)
        _check.floating(op, named)
        first = self.tensors[0]
        if self.packed or self.biased:
            _check.at_least_one_axis(op, first, named[first])
        width = named[first].shape[-1] if named[first].ndim else 1
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

    def bias_launch(self, kernel: Any, lane: int, outputs: Any, arguments: Any) -> None:
        """The kernels take their biases last."""
        count = len(self.tensors)
        half = count // 2
        kernel(lane, outputs[0], *arguments[:half], *arguments[count:], *arguments[half:count])

    def gradient_launch(
        self, kernel: Any, lane: int, outputs: Any, arguments: Any, product: bool
    ) -> None:
        dy, *rest = arguments
        count, operands = len(self.tensors), 1 if self.packed else 2
        gradients, again = outputs[:count], outputs[count] if product else None
        missing = () if self.biased else (None,) * operands
        scratch = _sum_scratch(dy) if self.biased and dy.is_cuda else ()
        kernel(
            lane, *gradients[:operands], again, *gradients[operands:], *missing,
            dy, *rest[:count], *missing, *rest[count:], *scratch,
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
        return Op(
            name=self.name, schema=self.schema(), returns=1, kernel="glu" + "_packed" * self.packed,
            outputs=self.outputs, reference=self.reference, check=self.check,
            pullback=self.pullback, pushforward=self.pushforward,
            launch=self.bias_launch if self.biased else None,
            vmap=self.bias_vmap if self.biased else None, overlap=self.overlap,
        )  # fmt: skip

    def _gradient_op(self, product: bool) -> Op:
        bind = partial(partial, product=product)
        return Op(
            name=f"{self.name}_grad" + "_product" * product,
            schema=f"Tensor dy, {self.schema()}",
            returns=len(self.tensors) + product, 
            kernel="glu" + "_packed" * self.packed + "_grad",
            outputs=bind(self.gradient_outputs), reference=bind(self.gradient_reference),
            check=self.gradient_check, launch=bind(self.gradient_launch),
            vmap=bind(self.bias_gradient_vmap) if self.biased else None,
        )  # fmt: skip


def _like_first(first: Tensor, *_: Any, empty_like: Any = torch.empty_like) -> tuple[Tensor, ...]:
    return (empty_like(first),)


def _half_of_first(first: Tensor, *_: Any) -> tuple[Tensor, ...]:
    return (first.new_empty((*first.shape[:-1], first.shape[-1] // 2)),)


def _sum_scratch(dy: Tensor) -> tuple[Tensor, ...]:
    """Room for the sums of blocks of rows, so that a tall tensor occupies the whole GPU.

    The number of blocks fixes the order of the sums: it follows from the shape alone.
    """
    width = max(dy.shape[-1], 1)
    blocks = min(dy.numel() // width // 16, 2**18 // width, 4096)
    dtype = torch.float64 if dy.dtype == torch.float64 else torch.float32
    return (dy.new_empty((blocks, 2, width), dtype=dtype),) if blocks > 1 else ()


GLU = Family(packed=False, biased=False)
GLU_BIAS = Family(packed=False, biased=True)
GLU_PACKED = Family(packed=True, biased=False)
GLU_PACKED_BIAS = Family(packed=True, biased=True)
