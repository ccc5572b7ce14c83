r"""A linear layer whose weights are a linear function of a code, without making the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _check
from ._hyper_ops import FORWARD, NAME, planned
from ._hyper_plan import ORDERS, Order, Plan, Problem
from ._paths import log_paths

__all__ = ["ORDERS", "Order", "Plan", "hyper_linear", "hyper_linear_plan", "log_paths"]

_GENERATING = (ORDERS.index("generate_tiles"), ORDERS.index("generate"))


def hyper_linear(
    x: Tensor,
    z: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    base_weight: Tensor | None = None,
    bias_weight: Tensor | None = None,
    z_index: Tensor | None = None,
    order: Order = "auto",
) -> Tensor:
    r"""A layer whose weights and bias a code z generates.

    .. math::

        y_o = \sum_{i,k} x_i z_k W_{oik} + \sum_i C_{oi} x_i + \sum_k D_{ok} z_k + b_o

    which is :math:`y = (H(z) + C) x + D z + b`, and with ``base_weight`` C and ``bias_weight`` D
    left out ``torch.nn.functional.bilinear(x, z, weight, bias)``: x is its first input, z its
    second. ``weight.view(O * I, K)`` is the matrix of a linear hypernetwork's last layer.

    Saved for the backward pass are the arguments alone; a tensor (B, I, O) is made by the order
    ``generate`` in the forward pass and by nothing else, and dx and dz come from one product.

    Args:
        x: (..., I), or (..., N, I): N rows for each code; or (T, I) with ``z_index``.
        z: Codes (..., K), whose leading axes are those of x, or all but the last of them.
        weight: W, (O, I, K).
        bias: b, (O,).
        base_weight: C, (O, I).
        bias_weight: D, (O, K).
        z_index: For every row of x its code, (T,) of int64 in [0, B), with codes z (B, K).
        order: How it is evaluated; ``auto`` takes what is predicted to be the fastest on this
            machine (:func:`hyper_linear_plan`, :func:`log_paths`).

    Returns:
        Of shape (..., O), (..., N, O) or (T, O).

    Raises:
        TypeError: Dtypes are not floating or differ; under autocast they are promoted.
        ValueError: Shapes or devices do not fit, an index is out of range, or a name is unknown.

    Source: Galanti and Wolf 2020, On the modularity of hypernetworks; orders of evaluation in
    ``_hyper_plan``.
    """
    named = {"x": x, "z": z, "weight": weight, "bias": bias, "base_weight": base_weight,
             "bias_weight": bias_weight}  # fmt: skip
    given = {name: value for name, value in named.items() if value is not None}
    _check.tensors(NAME, given)
    if torch.is_autocast_enabled(x.device.type):
        options: dict[str, Any] = {"z_index": z_index, "order": order}
        with torch.autocast(x.device.type, enabled=False):
            return hyper_linear(**_promoted(given), **options)
    _check_arguments(given, z_index)
    _check.choice(NAME, "order", order, ORDERS)
    number = ORDERS.index(order)
    outputs = len(weight)
    shape = (*x.shape[:-1], outputs)
    shared = None if bias_weight is None else F.linear(z, bias_weight, bias)
    if z_index is not None:
        y = _ragged(x, z, weight, base_weight, z_index, number)
        shared = None if shared is None else shared.index_select(0, z_index)
    else:
        y = FORWARD(*_canonical(x, z), weight, base_weight, number).reshape(shape)
        if shared is not None and shared.ndim < y.ndim:
            shared = shared.unsqueeze(-2)
    if shared is not None:
        return y + shared
    return y if bias is None else y + bias


def hyper_linear_plan(
    x: Tensor,
    z: Tensor,
    weight: Tensor,
    *,
    z_index: Tensor | None = None,
    order: Order = "auto",
) -> tuple[Plan, ...]:
    """How :func:`hyper_linear` and its backward pass evaluate these arguments, and why.

    Returns:
        The plans of the forward pass, of the inputs' gradients and of the weights' gradient.
    """
    _check.tensors(NAME, {"x": x, "z": z, "weight": weight})
    _check_arguments({"x": x, "z": z, "weight": weight}, z_index)
    _check.choice(NAME, "order", order, ORDERS)
    number = ORDERS.index(order)
    size = max(4, x.element_size())
    if z_index is None:
        rows, codes = math.prod(x.shape[:-1]), math.prod(z.shape[:-1])
        n = Problem(codes, rows // max(codes, 1), x.shape[-1], z.shape[-1], len(weight), size)
    else:
        n = _grouping(x, z, weight, number) or _by_row(x, z, weight)
    return tuple(
        planned(n, stage, number, x.device, x.dtype) for stage in ("forward", "inputs", "weight")
    )


def _promoted(given: dict[str, Tensor]) -> dict[str, Any]:
    """As autocast treats ``bilinear``: all in the widest dtype among them."""
    dtype = given["x"].dtype
    for value in given.values():
        dtype = torch.promote_types(dtype, value.dtype)
    return {name: value.to(dtype) for name, value in given.items()}


def _check_arguments(given: dict[str, Tensor], z_index: Tensor | None) -> None:
    _check.floating(NAME, given)
    x, z, weight = given["x"], given["z"], given["weight"]
    for name, value in given.items():
        if value.device != x.device:
            _check.refuse(NAME, name, f"be on x's device {x.device}", value.device, ValueError)
        if value.dtype != x.dtype:
            _check.dtype(NAME, {name: value}, x.dtype)
    _check.at_least_one_axis(NAME, "x", x)
    _check.at_least_one_axis(NAME, "z", z)
    if weight.ndim != 3:
        _check.refuse(NAME, "weight", "have three axes", tuple(weight.shape), ValueError)
    outputs, inputs, width = weight.shape
    for name, value, last in (("x", x, inputs), ("z", z, width)):
        if value.shape[-1] != last:
            rule = f"have a last axis of {last}"
            _check.refuse(NAME, name, rule, tuple(value.shape), ValueError)
    shapes = {"bias": (outputs,), "base_weight": (outputs, inputs), "bias_weight": (outputs, width)}
    for name, shape in shapes.items():
        if name in given and given[name].shape != shape:
            _check.refuse(NAME, name, f"have shape {shape}", tuple(given[name].shape), ValueError)
    if z_index is not None:
        _check_index(x, z, z_index)
    elif z.shape[:-1] not in (x.shape[:-1], x.shape[:-2]) or x.ndim - z.ndim not in (0, 1):
        lead = tuple(x.shape[:-1])
        rule = f"have leading axes {lead}" + (f" or {lead[:-1]}" if lead else "")
        _check.refuse(NAME, "z", rule, tuple(z.shape), ValueError)


def _check_index(x: Tensor, z: Tensor, z_index: Tensor) -> None:
    _check.tensors(NAME, {"z_index": z_index})
    _check.dtype(NAME, {"z_index": z_index}, torch.int64)
    for name, value in (("x", x), ("z", z)):
        if value.ndim != 2:
            rule = "have two axes where z_index is given"
            _check.refuse(NAME, name, rule, tuple(value.shape), ValueError)
    if z_index.device != x.device:
        rule = f"be on x's device {x.device}"
        _check.refuse(NAME, "z_index", rule, z_index.device, ValueError)
    if z_index.shape != (len(x),):
        rule = f"have shape ({len(x)},)"
        _check.refuse(NAME, "z_index", rule, tuple(z_index.shape), ValueError)
    if _check.has_values(z_index):
        wrong = (z_index < 0) | (z_index >= len(z))
        if wrong.any():
            place = int(wrong.nonzero()[0])
            got = f"{int(z_index[place])} at {place}"
            _check.refuse(NAME, "z_index", f"lie in [0, {len(z)})", got, ValueError)


def _canonical(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Both as an op has them: x (B, N, I) and z (B, K)."""
    codes = math.prod(z.shape[:-1])
    each = x.shape[-2] if x.ndim > z.ndim else 1
    return x.reshape(codes, each, x.shape[-1]), z.reshape(codes, z.shape[-1])


def _by_row(x: Tensor, z: Tensor, weight: Tensor) -> Problem:
    return Problem(len(x), 1, x.shape[1], z.shape[1], len(weight), max(4, x.element_size()))


def _grouping(x: Tensor, z: Tensor, weight: Tensor, order: int) -> Problem | None:
    """Chunks of rows of one code, where generating weights for each is worth it; else None."""
    rows, codes = len(x), len(z)
    if not rows or not codes:
        return None
    each = -(-rows // codes)
    size = max(4, x.element_size())
    n = Problem(codes + rows // each, each, x.shape[1], z.shape[1], len(weight), size)
    if order in _GENERATING:
        return n
    if order or each == 1:
        return None
    if torch.compiler.is_compiling():  # the break-even of the fused product, s R = 40 on a CPU
        return n if each * (n.width - 1) > n.width + 40 else None
    grouped = planned(n, "forward", _GENERATING[0], x.device, x.dtype).cost.seconds
    single = planned(_by_row(x, z, weight), "forward", 0, x.device, x.dtype).cost.seconds
    return n if grouped < single else None


def _ragged(
    x: Tensor, z: Tensor, weight: Tensor, base: Tensor | None, z_index: Tensor, order: int
) -> Tensor:
    n = _grouping(x, z, weight, order)
    if n is None:
        single: Tensor = FORWARD(x[:, None], z.index_select(0, z_index), weight, base, order)
        return single[:, 0]
    # Rows of a code fill chunks of n.each rows; there are n.codes chunks at most, whatever the
    # index is, so that nothing waits for its values. What stays empty is zero, with code 0.
    counts = z_index.new_zeros(len(z)).index_add(0, z_index, torch.ones_like(z_index))
    sort = z_index.argsort(stable=True)
    first = counts.cumsum(0) - counts
    rank = torch.empty_like(sort).scatter(0, sort, torch.arange(len(x), device=x.device))
    rank = rank - first.index_select(0, z_index)
    chunks = (counts + n.each - 1) // n.each
    first_chunk = chunks.cumsum(0) - chunks
    chunk = first_chunk.index_select(0, z_index) + rank // n.each
    place = chunk * n.each + rank % n.each
    code = z_index.new_zeros(n.codes).scatter(0, chunk, z_index)
    filled = x.new_zeros(n.codes * n.each, n.inputs).index_copy(0, place, x)
    y: Tensor = FORWARD(
        filled.view(n.codes, n.each, n.inputs), z.index_select(0, code), weight, base, order
    )
    return y.flatten(0, 1).index_select(0, place)
