"""Gated linear units: ``glu`` on two tensors, ``glu_packed`` on one that holds both halves."""

from __future__ import annotations

import functools
import math
from typing import Literal

import torch
from torch import Tensor

from .. import _check
from .._spec import Bad, OpSpec
from ._glu_family import (
    ACTIVATIONS,
    CODES,
    GLU,
    GLU_BIAS,
    GLU_PACKED,
    GLU_PACKED_BIAS,
    Activation,
    gated_product,
)


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
    code = _PLAIN.get(activation)
    if code is None:
        code = _code("glu", activation, limit)
    if gate_bias is None and value_bias is None:
        try:
            mixed = gate.dtype is not value.dtype
        except AttributeError:
            mixed = True
        if mixed:
            gate, value = _promoted("glu", gate=gate, value=value)
        if out is None:
            return _glu(gate, value, code, alpha, limit)  # type: ignore[no-any-return]
        return GLU.call((gate, value, code, alpha, limit), out)
    _check.tensors("glu", {"gate": gate, "value": value})
    _check.at_least_one_axis("glu", "gate", gate)
    zeros = gate.new_zeros(gate.shape[-1])
    gate, value, gate_bias, value_bias = _promoted(
        "glu",
        gate=gate,
        value=value,
        gate_bias=zeros if gate_bias is None else gate_bias,
        value_bias=zeros if value_bias is None else value_bias,
    )
    return GLU_BIAS.call((gate, value, gate_bias, value_bias, code, alpha, limit), out)


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
    code = _code("glu_packed", activation, limit)
    _check.choice("glu_packed", "gate", gate, ("first", "last"))
    first = int(gate == "first")
    if bias is None:
        return GLU_PACKED.call((x, code, alpha, limit, first), out)
    x, bias = _promoted("glu_packed", x=x, bias=bias)
    return GLU_PACKED_BIAS.call((x, bias, code, alpha, limit, first), out)


# Activations whose name is all there is to check.
_PLAIN = {name: code for name, code in CODES.items() if name != "clamped"}
_glu = GLU.forward._call


def _code(op: str, activation: str, limit: float) -> int:
    _check.choice(op, "activation", activation, ACTIVATIONS)
    if activation == "clamped" and not limit > 0:
        _check.refuse(op, "limit", "be positive", limit, ValueError)
    return CODES[activation]


def _promoted(op: str, **named: Tensor) -> tuple[Tensor, ...]:
    _check.tensors(op, named)
    _check.floating(op, named)
    dtype = functools.reduce(torch.promote_types, (value.dtype for value in named.values()))
    return tuple(value.to(dtype) for value in named.values())


def glu_reference(
    gate: Tensor,
    value: Tensor,
    activation: Activation = "silu",
    *,
    gate_bias: Tensor | None = None,
    value_bias: Tensor | None = None,
    alpha: float = 1.702,
    limit: float = 7.0,
) -> Tensor:
    """:func:`glu` in plain torch."""
    gate = gate if gate_bias is None else gate + gate_bias
    value = value if value_bias is None else value + value_bias
    return gated_product(gate, value, CODES[activation], alpha, limit)


def glu_packed_reference(
    x: Tensor,
    activation: Activation = "silu",
    *,
    gate: str = "first",
    bias: Tensor | None = None,
    alpha: float = 1.702,
    limit: float = 7.0,
) -> Tensor:
    """:func:`glu_packed` in plain torch."""
    left, right = (x if bias is None else x + bias).chunk(2, -1)
    first, second = (left, right) if gate == "first" else (right, left)
    return gated_product(first, second, CODES[activation], alpha, limit)


_SIZES = ((0, 5), (3, 0), (1,), (1, 1), (7, 129), (3, 5, 17), (257, 64), (2, 4099))
_BENCH = {
    "cpu": ((64, 64), (256, 2048), (2048, 2816), (4096, 431)),
    "gpu": (
        (16, 14336), (512, 704), (2048, 11008), (8192, 14336), (8192, 2048), (9456, 4096),
        (8192, 3420), (4096, 431), (65536, 64), (1, 1048577),
    ),
}  # fmt: skip
# exp, tanh and erf are 2 ulp, that is 4 roundings; around them stand at most 8 operations. In the
# negative tail of gelu 1 + erf cancels, but what is lost there is far below the tensor's norm.
_ROUNDINGS = 12

SPECS = (
    OpSpec(
        name="glu",
        function=glu,
        reference=glu_reference,
        sample=lambda size, make: (make(*size), make(*size)),
        variants={name: {"activation": name} for name in ACTIVATIONS},
        sizes=_SIZES,
        bench_sizes=_BENCH,
        bytes_moved=lambda tensors, result: 3 * result.nbytes,
        grad_bytes_moved=lambda tensors, result: 5 * result.nbytes,
        flops=lambda tensors: 20 * tensors[0].numel(),
        roundings=_ROUNDINGS,
        source="Shazeer 2020, arXiv 2002.05202",
        bad={
            "not a tensor": Bad(
                lambda make: glu(make(2, 3), [1.0]),  # type: ignore[arg-type]
                TypeError,
                "dlaccel.glu: value must be a torch.Tensor, got list.",
            ),
            "shape": Bad(
                lambda make: glu(make(4, 3), make(4, 2)),
                ValueError,
                "dlaccel.glu: value must have the shape of gate (4, 3), got (4, 2).",
            ),
            "dtype": Bad(
                lambda make: glu(make(2, 3).long(), make(2, 3).long()),
                TypeError,
                "dlaccel.glu: gate must have dtype float64, float32, bfloat16 or float16, got "
                "int64.",
            ),
            "device": Bad(
                lambda make: glu(make(2, 3), make(2, 3).to("meta")),
                ValueError,
                "dlaccel.glu: value must be on gate's device {device}, got meta.",
            ),
            "layout": Bad(
                lambda make: glu(make(2, 3).to_sparse(), make(2, 3)),
                TypeError,
                "dlaccel.glu: gate must be a strided tensor, got torch.sparse_coo.",
            ),
            "scalar": Bad(
                lambda make: glu(make(), make(), gate_bias=make(1)),
                ValueError,
                "dlaccel.glu: gate must have at least one axis, got a scalar tensor.",
            ),
            "activation": Bad(
                lambda make: glu(make(2, 3), make(2, 3), "swish"),  # type: ignore[arg-type]
                ValueError,
                "dlaccel.glu: activation must be one of 'identity', 'sigmoid', 'silu', 'gelu', "
                "'gelu_tanh', 'quick_gelu', 'relu', 'relu_squared', 'tanh', 'clamped', got "
                "'swish'.",
            ),
            "limit": Bad(
                lambda make: glu(make(2, 3), make(2, 3), "clamped", limit=-1.0),
                ValueError,
                "dlaccel.glu: limit must be positive, got -1.0.",
            ),
            "bias": Bad(
                lambda make: glu(make(2, 3), make(2, 3), gate_bias=make(2)),
                ValueError,
                "dlaccel.glu: gate_bias must have shape (3,), got (2,).",
            ),
            "out shape": Bad(
                lambda make: glu(make(2, 3), make(2, 3), out=make(3, 2)),
                ValueError,
                "dlaccel.glu: out must have shape (2, 3), got (3, 2).",
            ),
            "out overlaps": Bad(
                lambda make: _shifted(make(8)),
                ValueError,
                "dlaccel.glu: out must share no memory with the inputs but exactly an input's own, "
                "got a tensor that overlaps one in part.",
            ),
            "out expanded": Bad(
                lambda make: glu(make(2, 3), make(2, 3), out=make(3).expand(2, 3)),
                ValueError,
                "dlaccel.glu: out must not hold an element twice, got strides (0, 1) for shape "
                "(2, 3).",
            ),
            "out wants grad": Bad(
                lambda make: glu(make(2, 3).requires_grad_(), make(2, 3), out=make(2, 3)),
                RuntimeError,
                "dlaccel.glu: out= must not be used where a gradient is wanted, got a tensor that "
                "requires grad.",
            ),
        },
    ),
    OpSpec(
        name="glu biased",
        function=lambda gate, value, p, q, **k: glu(gate, value, gate_bias=p, value_bias=q, **k),
        reference=lambda gate, value, p, q, **k: glu_reference(
            gate, value, gate_bias=p, value_bias=q, **k
        ),
        sample=lambda size, make: (make(*size), make(*size), make(size[-1]), make(size[-1])),
        variants={name: {"activation": name} for name in ("silu", "gelu", "clamped")},
        sizes=_SIZES,
        bench_sizes=_BENCH,
        bytes_moved=lambda tensors, result: 3 * result.nbytes,
        grad_bytes_moved=lambda tensors, result: 5 * result.nbytes,
        flops=lambda tensors: 22 * tensors[0].numel(),
        roundings=_ROUNDINGS + 2,
        reduces=lambda size: math.prod(size[:-1]) or 1,
        source="Shazeer 2020, arXiv 2002.05202",
    ),
    OpSpec(
        name="glu_packed",
        function=glu_packed,
        reference=glu_packed_reference,
        sample=lambda size, make: (make(*size[:-1], 2 * size[-1]),),
        variants={
            "silu": {"activation": "silu"},
            "gelu": {"activation": "gelu", "gate": "last"},
            "sigmoid last": {"activation": "sigmoid", "gate": "last"},
        },
        sizes=_SIZES,
        bench_sizes=_BENCH,
        bytes_moved=lambda tensors, result: 3 * result.nbytes,
        grad_bytes_moved=lambda tensors, result: 5 * result.nbytes,
        flops=lambda tensors: 10 * tensors[0].numel(),
        roundings=_ROUNDINGS,
        source="Dauphin et al. 2017, arXiv 1612.08083",
        bad={
            "odd": Bad(
                lambda make: glu_packed(make(2, 3)),
                ValueError,
                "dlaccel.glu_packed: x must have an even last axis, got (2, 3).",
            ),
            "gate": Bad(
                lambda make: glu_packed(make(2, 4), gate="left"),  # type: ignore[arg-type]
                ValueError,
                "dlaccel.glu_packed: gate must be one of 'first', 'last', got 'left'.",
            ),
        },
    ),
    OpSpec(
        name="glu_packed biased",
        function=lambda x, bias, **k: glu_packed(x, bias=bias, **k),
        reference=lambda x, bias, **k: glu_packed_reference(x, bias=bias, **k),
        sample=lambda size, make: (make(*size[:-1], 2 * size[-1]), make(2 * size[-1])),
        variants={"silu": {"activation": "silu", "gate": "last"}},
        sizes=_SIZES,
        bench_sizes=_BENCH,
        bytes_moved=lambda tensors, result: 3 * result.nbytes,
        grad_bytes_moved=lambda tensors, result: 5 * result.nbytes,
        flops=lambda tensors: 11 * tensors[0].numel(),
        roundings=_ROUNDINGS + 2,
        reduces=lambda size: math.prod(size[:-1]) or 1,
        source="Dauphin et al. 2017, arXiv 1612.08083",
    ),
)


def _shifted(memory: Tensor) -> Tensor:
    return glu(memory[:6], memory[:6], out=memory[1:7])
