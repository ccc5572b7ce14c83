"""Watches a forward for the calls that use parameters, module or not.

A parameter is known by its identity, so a weight that two modules share, or that one module uses
twice, is seen twice. What is not seen here is found missing in the graph (``_survey.py``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .. import _check
from ._sample_axis import SampleAxis
from ._unfold import columns_of
from ._uses import Call, Elementwise, Lookup, Product, Use, rows_of

Function = Callable[..., Any]


class Recorder(TorchFunctionMode):
    """Runs every call as it is and keeps the uses of the ``leaves``.

    Attributes:
        uses: In the order of the forward.
    """

    def __init__(self, op: str, leaves: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.op = op
        self.uses: list[Use] = []
        self._names = {id(value): name for name, value in leaves.items()}

    def __torch_function__(
        self, func: Function, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """The call itself, watched where its function has a rule."""
        rule = RULES.get(func)
        if rule is None:
            return func(*args, **(kwargs or {}))
        return rule(self, func, *args, **(kwargs or {}))

    def name(self, value: object) -> str | None:
        """The name of a leaf."""
        return self._names.get(id(value))

    def called(self, function: str, out: Tensor, *candidates: int) -> Call | None:
        """The call that made ``out``, where a gradient can reach it."""
        if out.grad_fn is None:
            return None
        return Call(function, get_gradient_edge(out), tuple(out.shape), candidates)

    def refuse(self, rule: str, got: str) -> None:
        """Raises ValueError about the model."""
        _check.refuse(self.op, "model", rule, got, ValueError)

    def linear(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        names: tuple[str | None, str | None] | None = None,
        rows: tuple[int, int] | None = None,
    ) -> Tensor:
        """``F.linear`` of a leaf, or of these rows of the leaves that ``names`` tells."""
        out = F.linear(x, weight, bias)
        weight_name, bias_name = names or (self.name(weight), self.name(bias))
        call = self.called("linear", out, *range(out.ndim - 1))
        if call and weight_name:
            widths = (weight.shape[0], weight.shape[1])
            self.uses.append(Product(weight_name, rows, call, x, _rows, widths, bias=bias_name))
        if call and bias_name:
            aligned = (1,) * (out.ndim - 1) + (out.shape[-1],)
            self.uses.append(Elementwise(bias_name, rows, call, None, aligned))
        return out


def _rows(x: Tensor, axis: SampleAxis) -> Tensor:
    return rows_of(axis, x)


@cache
def _signature(function: Function) -> inspect.Signature:
    return inspect.signature(function)


def _bound(function: Function, *args: Any, **kwargs: Any) -> inspect.BoundArguments:
    bound = _signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound


def _linear(
    seen: Recorder, func: Function, input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Any:
    return seen.linear(input, weight, bias)


def _matmul(seen: Recorder, func: Function, *args: Any, **kwargs: Any) -> Any:
    out = func(*args, **kwargs)
    if len(args) == 2 and not kwargs and (name := seen.name(args[1])):
        x, weight = args
        call = seen.called("matmul", out, *range(out.ndim - 1))
        if call and weight.ndim == 2 and x.ndim > 1 and seen.name(x) is None:
            widths = (weight.shape[1], weight.shape[0])
            seen.uses.append(Product(name, None, call, x, _rows, widths, transposed=True))
    return out


def _convolution(seen: Recorder, func: Function, *args: Any, **kwargs: Any) -> Any:
    out = func(*args, **kwargs)
    named = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    given = dict(zip(named, args, strict=False)) | kwargs
    weight, bias, groups = given["weight"], given.get("bias"), given.get("groups", 1)
    call = seen.called(func.__name__, out, 0)
    if call is None or out.ndim != weight.ndim:  # a single sample without an axis for it
        return out
    bias_name = seen.name(bias)
    if name := seen.name(weight):
        columns = columns_of(
            weight.shape[2:],
            given.get("stride", 1),
            given.get("padding", 0),
            given.get("dilation", 1),
            groups,
        )
        x, widths = given["input"], (len(weight) // groups, weight[0].numel())
        seen.uses.append(
            Product(name, None, call, x, columns, widths, groups, bias_name, outputs_axis=1)
        )
    if bias_name:
        aligned = (1, out.shape[1], *(1,) * (out.ndim - 2))
        seen.uses.append(Elementwise(bias_name, None, call, None, aligned))
    return out


def _embedding(seen: Recorder, func: Function, *args: Any, **kwargs: Any) -> Any:
    given = _bound(func, *args, **kwargs).arguments
    weight, ids = given["weight"], given["input"]
    if given["max_norm"] is not None:
        seen.refuse("leave its weights alone", "an embedding with max_norm, which changes them")
    out = func(*args, **kwargs)
    name, call = seen.name(weight), seen.called("embedding", out, *range(out.ndim - 1))
    if name and call:
        padding = given["padding_idx"]
        padding = padding + len(weight) if padding is not None and padding < 0 else padding
        size = (weight.shape[0], weight.shape[1])
        seen.uses.append(Lookup(name, None, call, ids, size, padding))
    return out


def _norm(seen: Recorder, func: Function, *args: Any, **kwargs: Any) -> Any:
    """Normalisation without parameters, then a scale and a bias."""
    bound = _bound(func, *args, **kwargs)
    given = bound.arguments
    if given.get("training"):
        seen.refuse(
            "treat each sample alone",
            "batch normalisation in training mode, which couples the samples of a batch (call "
            "model.eval() first, with running statistics)",
        )
    out = func(*args, **kwargs)
    weight, bias = given.get("weight"), given.get("bias")
    if "normalized_shape" in given:
        width = len(given["normalized_shape"])
        call = seen.called(func.__name__, out, *range(out.ndim - width))
        aligned = (1,) * (out.ndim - width) + tuple(out.shape[out.ndim - width :])
    else:
        call = seen.called(func.__name__, out, 0)
        aligned = (1, out.shape[1], *(1,) * (out.ndim - 2))
    x = given["input"]

    def normalised() -> Tensor:
        given.update({"input": x.detach()})
        given.update(dict.fromkeys({"weight", "bias"} & set(given)))
        if given.get("use_input_stats"):
            given.update(running_mean=None, running_var=None)
        bare = func(*bound.args, **bound.kwargs)
        assert isinstance(bare, Tensor)
        return bare

    if call and (name := seen.name(weight)):
        seen.uses.append(Elementwise(name, None, call, x, aligned, normalised))
    if call and (name := seen.name(bias)):
        seen.uses.append(Elementwise(name, None, call, None, aligned))
    return out


def _broadcast(sign: Callable[[int], float] | None) -> Function:
    """A rule for sums (with the sign of each place) or, for None, products."""

    def rule(seen: Recorder, func: Function, *args: Any, **kwargs: Any) -> Any:
        out = func(*args, **kwargs)
        leaves = [place for place, value in enumerate(args) if seen.name(value)]
        if len(args) != 2 or kwargs or len(leaves) != 1:
            return out
        place = leaves[0]
        leaf, other = args[place], args[1 - place]
        aligned = (1,) * (out.ndim - leaf.ndim) + tuple(leaf.shape)
        free = [axis for axis, size in enumerate(aligned) if size == 1]
        call = seen.called(func.__name__, out, *free)
        if call is None:
            return out
        name = seen.name(leaf)
        assert name is not None
        operand, factor = None, None
        if sign is None:
            operand = other if isinstance(other, Tensor) else torch.tensor(float(other))
            value = operand.detach()
            factor = lambda: value  # noqa: E731
        elif sign(place) != 1:
            value = torch.tensor(sign(place), dtype=out.dtype, device=out.device)
            factor = lambda: value  # noqa: E731
        seen.uses.append(Elementwise(name, None, call, operand, aligned, factor))
        return out

    return rule


def _expand(seen: Recorder, func: Function, *args: Any, **kwargs: Any) -> Any:
    out = func(*args, **kwargs)
    if args and (name := seen.name(args[0])):
        leaf = args[0]
        aligned = (1,) * (out.ndim - leaf.ndim) + tuple(leaf.shape)
        free = [axis for axis, size in enumerate(aligned) if size == 1]
        if call := seen.called("expand", out, *free):
            seen.uses.append(Elementwise(name, None, call, None, aligned))
    return out


def _random(seen: Recorder, func: Function, *args: Any, **kwargs: Any) -> Any:
    given = _bound(func, *args, **kwargs).arguments
    if given["training"] and given.get("p", 1):
        seen.refuse("be a fixed function", f"{func.__name__} in training mode (use model.eval())")
    return func(*args, **kwargs)


def _attention(seen: Recorder, func: Function, *args: Any, **kwargs: Any) -> Any:
    rate = kwargs.get("dropout_p", args[4] if len(args) > 4 else 0)
    if rate:
        seen.refuse("be a fixed function", f"attention with a dropout of {rate}")
    return func(*args, **kwargs)


def _multi_head(seen: Recorder, func: Function, *args: Any, **kwargs: Any) -> Any:
    """The four projections on their own; torch's function does the rest with identities.

    ``out_proj`` is used without its module being called, and the fused ``in_proj`` may be applied
    to one, two or three tensors: each is a product with some rows of the weight.
    """
    bound = _bound(func, *args, **kwargs)
    given = bound.arguments
    if given["training"] and given["dropout_p"]:
        seen.refuse("be a fixed function", "attention with dropout in training mode")
    if given["static_k"] is not None or given["static_v"] is not None:
        return func(*args, **kwargs)
    width = given["embed_dim_to_check"]
    inputs = [given[n] for n in ("query", "key", "value")]
    fused, bias = given["in_proj_weight"], given["in_proj_bias"]
    one = inputs[0] is inputs[1] and inputs[1] is inputs[2]
    if fused is not None and not given["use_separate_proj_weight"] and one:
        projected = seen.linear(inputs[0], fused, bias).chunk(3, -1)
    else:
        separate = [given[f"{n}_proj_weight"] for n in "qkv"]
        projected = tuple(
            _project(seen, x, fused, separate[i], bias, (i * width, (i + 1) * width))
            for i, x in enumerate(inputs)
        )
    eye = torch.eye(width, dtype=inputs[0].dtype, device=inputs[0].device)
    given.update(zip(("query", "key", "value"), projected, strict=True))
    given.update({f"{n}_proj_weight": eye for n in "qkv"})
    given.update(in_proj_weight=None, in_proj_bias=None, use_separate_proj_weight=True)
    weight, bias = given["out_proj_weight"], given["out_proj_bias"]
    given.update(out_proj_weight=eye, out_proj_bias=None)
    attended, shares = func(*bound.args, **bound.kwargs)
    return seen.linear(attended, weight, bias), shares


def _project(
    seen: Recorder,
    x: Tensor,
    fused: Tensor | None,
    own: Tensor | None,
    bias: Tensor | None,
    rows: tuple[int, int],
) -> Tensor:
    span = slice(*rows)
    part = None if bias is None else bias[span]
    if own is None:
        assert fused is not None
        return seen.linear(x, fused[span], part, (seen.name(fused), seen.name(bias)), rows)
    out = seen.linear(x, own, None, (seen.name(own), None))
    if part is None:
        return out
    out = out + part
    call = seen.called("add", out, *range(out.ndim - 1))
    if call and (name := seen.name(bias)):
        aligned = (1,) * (out.ndim - 1) + (out.shape[-1],)
        seen.uses.append(Elementwise(name, rows, call, None, aligned))
    return out


_T = Tensor
_PRODUCTS = (torch.mul, torch.multiply, _T.mul, _T.multiply, _T.__mul__, _T.__rmul__)
_SUMS = (torch.add, _T.add, _T.__add__, _T.__radd__, _T.__iadd__, _T.add_)
_DIFFERENCES = (torch.sub, torch.subtract, _T.sub, _T.subtract, _T.__sub__)
_NORMS = (F.layer_norm, F.rms_norm, F.group_norm, F.batch_norm, F.instance_norm)
_NOISE = (
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
    F.rrelu,
)

RULES: dict[Function, Function] = {
    F.linear: _linear,
    F.conv1d: _convolution,
    F.conv2d: _convolution,
    F.embedding: _embedding,
    F.multi_head_attention_forward: _multi_head,
    F.scaled_dot_product_attention: _attention,
    _T.expand: _expand,
    **dict.fromkeys((torch.matmul, torch.mm, _T.matmul, _T.mm, _T.__matmul__), _matmul),
    **dict.fromkeys(_NORMS, _norm),
    **dict.fromkeys(_PRODUCTS, _broadcast(None)),
    **dict.fromkeys(_SUMS, _broadcast(lambda place: 1.0)),
    **dict.fromkeys(_DIFFERENCES, _broadcast(lambda place: 1.0 - 2 * place)),
    **dict.fromkeys(_NOISE, _random),
}
