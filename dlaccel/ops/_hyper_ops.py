r"""The trilinear form and its two gradients as operators, each one's derivatives by the others.

With :math:`T(dy, x, z, W) = \sum dy_{bno} x_{bni} z_{bk} W_{oik}` the operators are derivatives of
T: by dy the layer itself, by x and z at once, and by W. T is linear in each, so that derivatives of
every order are these three again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from .. import _check, _core
from .._op import Op, as_tuple, is_plainly_eager
from . import _hyper_orders as orders
from ._hyper_plan import ORDERS, Plan, Problem, Stage, plan
from ._machine import fastest, machine
from ._paths import record

NAME = "hyper_linear"
Optional = Tensor | None
_HALF = (torch.bfloat16, torch.float16)
# A flop rate is asked of the kernel on 8 panels, some hundred microseconds of work.
_SIZE = Problem(256, 1, 16, 16, 96)


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Half types are computed in float32."""
    return torch.float32 if dtype in _HALF else dtype


def planned(
    problem: Problem, stage: Stage, order: int, device: torch.device, dtype: torch.dtype
) -> Plan:
    """The plan of an evaluation on ``device``, by the order's place in ``ORDERS``."""
    dtype = compute_dtype(dtype)
    kernel = _core.kernel(NAME, device.type)
    return plan(problem, stage, ORDERS[order], machine(device, dtype, _measure(kernel, dtype)))


def _measure(kernel: Callable[..., None] | None, dtype: torch.dtype) -> Callable[[], float] | None:
    if kernel is None:
        return None
    n = _SIZE

    def rate() -> float:
        x, z = torch.ones(n.codes, 1, n.inputs, dtype=dtype), torch.ones(n.codes, n.width).to(dtype)
        weight = torch.ones(n.outputs, n.inputs, n.width, dtype=dtype)
        y, lane = x.new_empty(n.codes, 1, n.outputs), torch.get_num_threads()
        return 2 * n.rows * n.depth * n.outputs / fastest(lambda: kernel(lane, y, x, z, weight), 8)

    return rate


def _check_forward(x: Tensor, z: Tensor, weight: Tensor, base: Optional, order: int) -> None:
    for name, value, axes in (("x", x, 3), ("z", z, 2), ("weight", weight, 3)):
        if value.ndim != axes:
            _check.refuse(NAME, name, f"have {axes} axes", tuple(value.shape), ValueError)
    shapes = {
        "z": (z, (x.shape[0], z.shape[1])),
        "weight": (weight, (weight.shape[0], x.shape[2], z.shape[1])),
        "base_weight": (base, (weight.shape[0], x.shape[2])),
    }
    for name, (given, shape) in shapes.items():
        if given is not None and given.shape != shape:
            _check.refuse(NAME, name, f"have shape {shape}", tuple(given.shape), ValueError)


def _check_inputs(
    dy: Tensor, x: Tensor, z: Tensor, weight: Tensor, base: Optional, order: int
) -> None:
    _check_forward(x, z, weight, base, order)
    _check_cotangent(dy, x, len(weight))


def _check_weight(dy: Tensor, x: Tensor, z: Tensor, order: int) -> None:
    _check_cotangent(dy, x, dy.shape[-1])


def _check_cotangent(dy: Tensor, x: Tensor, outputs: int) -> None:
    shape = (*x.shape[:2], outputs)
    if dy.shape != shape:
        _check.refuse(NAME, "dy", f"have shape {shape}", tuple(dy.shape), ValueError)


def _forward(kernel: Any, lane: int, outputs: Any, arguments: tuple[Any, ...]) -> None:
    (y,), (x, z, weight, base, order) = outputs, arguments
    n = orders.problem_of(x, z, len(weight))
    chosen = planned(n, "forward", order, x.device, x.dtype)
    record(chosen)
    if chosen.order in ("generate", "generate_tiles") and y.numel() and n.inputs:
        orders.generate(y, x, z, weight, base, whole=chosen.order == "generate")
        return
    if not (y.numel() and n.depth):
        y.zero_()
    elif chosen.kernel and kernel is not None:
        kernel(lane, y, x, z, weight.contiguous())
    else:
        orders.FORWARD[chosen.order](y, x, z, weight.contiguous())
    if base is not None:
        y.flatten(0, 1).addmm_(x.flatten(0, 1), base.T)


def _inputs(kernel: Any, lane: int, outputs: Any, arguments: tuple[Any, ...]) -> None:
    (dx, dz), (dy, x, z, weight, base, order) = outputs, arguments
    n = orders.problem_of(x, z, len(weight))
    chosen = planned(n, "inputs", order, x.device, x.dtype)
    record(chosen)
    if chosen.order == "generate_tiles" and n.rows and weight.numel():
        orders.inputs_generated(dx, dz, dy, x, z, weight, base)
        return
    if not (n.rows and weight.numel()):
        dx.zero_(), dz.zero_()
    elif chosen.kernel and kernel is not None:
        by_row = dz[:, None] if n.each == 1 else dz.new_empty(*x.shape[:2], n.width)
        kernel(lane, dx, by_row, dy, x, z, weight.contiguous())
        if n.each > 1:
            torch.sum(by_row, 1, out=dz)
    else:
        orders.inputs_outer(dx, dz, dy, x, z, weight.contiguous())
    if base is not None:
        dx.flatten(0, 1).addmm_(dy.flatten(0, 1), base)


def _weight(kernel: Any, lane: int, outputs: Any, arguments: tuple[Any, ...]) -> None:
    (dw,), (dy, x, z, order) = outputs, arguments
    n = orders.problem_of(x, z, dy.shape[2])
    chosen = planned(n, "weight", order, x.device, x.dtype)
    record(chosen)
    if not (n.rows and dw.numel()):
        dw.zero_()
    elif chosen.order == "generate_tiles":
        orders.weight_generated(dw, dy, x, z)
    elif chosen.kernel and kernel is not None:
        kernel(lane, dw, dy, x, z)
    else:
        orders.weight_outer(dw, dy, x, z)


Evaluate = Callable[[Any, int, Any, tuple[Any, ...]], None]


def _evaluated(evaluate: Evaluate, kernel: Any, lane: int, outputs: Any, arguments: Any) -> None:
    """Autocast would cut products inside; the arguments have the dtype that is wanted."""
    device = outputs[0].device.type
    with (
        torch.no_grad(),
        torch.autocast(device, enabled=False)
        if torch.is_autocast_enabled(device)
        else nullcontext(),
    ):
        evaluate(kernel, lane, outputs, arguments)


def _launch(evaluate: Evaluate) -> Callable[..., None]:
    """Half types go through float32 copies."""

    def launch(kernel: Any, lane: int, outputs: Any, arguments: tuple[Any, ...]) -> None:
        if outputs[0].dtype not in _HALF:
            _evaluated(evaluate, kernel, lane, outputs, arguments)
            return
        wide = tuple(a.float() if isinstance(a, Tensor) else a for a in arguments)
        made = tuple(o.float() for o in outputs)
        _evaluated(evaluate, kernel, lane, made, wide)
        for output, result in zip(outputs, made, strict=True):
            output.copy_(result)

    return launch


def _reference(evaluate: Evaluate, empty: Callable[..., tuple[Tensor, ...]]) -> Callable[..., Any]:
    """The orders without a kernel; arguments are real tensors, of float32 or float64."""

    def reference(*arguments: Any) -> Any:
        outputs = empty(*arguments)
        _evaluated(evaluate, None, 0, outputs, arguments)
        return outputs[0] if len(outputs) == 1 else outputs

    return reference


def _empty_forward(
    x: Tensor, z: Tensor, weight: Tensor, base: Optional, order: int
) -> tuple[Tensor, ...]:
    return (x.new_empty(x.shape[0], x.shape[1], weight.shape[0]),)


def _empty_inputs(dy: Tensor, x: Tensor, z: Tensor, *others: Any) -> tuple[Tensor, ...]:
    return x.new_empty(x.shape), z.new_empty(z.shape)


def _empty_weight(dy: Tensor, x: Tensor, z: Tensor, order: int) -> tuple[Tensor, ...]:
    return (x.new_empty(dy.shape[2], x.shape[2], z.shape[1]),)


def _wanted(*tensors: Optional) -> list[bool]:
    """Of eager tensors it is known which gradients are of no use; of others, all are made."""
    if not is_plainly_eager(*tensors):
        return [True] * len(tensors)
    return [t is not None and t.requires_grad for t in tensors]


def _rows_product(dy: Tensor, x: Tensor) -> Tensor:
    return dy.flatten(0, 1).T @ x.flatten(0, 1)


def _pull_forward(cotangents: tuple[Any, ...], arguments: tuple[Any, ...]) -> list[Optional]:
    (dy,), (x, z, weight, base, order) = cotangents, arguments
    of_x, of_z, of_weight, of_base = _wanted(x, z, weight, base)
    dx, dz = INPUTS(dy, x, z, weight, base, order) if of_x or of_z else (None, None)
    return [
        dx,
        dz,
        WEIGHT(dy, x, z, order) if of_weight else None,
        _rows_product(dy, x) if of_base and base is not None else None,
    ]


def _pull_inputs(cotangents: tuple[Any, ...], arguments: tuple[Any, ...]) -> list[Optional]:
    # <gx, dx> + <gz, dz> = T(dy, gx, z, W) + T(dy, x, gz, W) + dy base gx, by each of the arguments
    (gx, gz), (dy, x, z, weight, base, order) = cotangents, arguments
    of_x, of_z = INPUTS(dy, gx, gz, weight, None, order)
    return [
        FORWARD(gx, z, weight, base, order) + FORWARD(x, gz, weight, None, order),
        of_x,
        of_z,
        WEIGHT(dy, gx, z, order) + WEIGHT(dy, x, gz, order),
        None if base is None else _rows_product(dy, gx),
    ]


def _pull_weight(cotangents: tuple[Any, ...], arguments: tuple[Any, ...]) -> list[Optional]:
    (gw,), (dy, x, z, order) = cotangents, arguments
    return [FORWARD(x, z, gw, None, order), *INPUTS(dy, x, z, gw, None, order)]


def _sum(terms: Sequence[Any], like: Any) -> Any:
    if not terms:
        return torch.zeros_like(like)
    total, *others = terms
    for term in others:
        total = total + term
    return total


def _push_forward(tangents: tuple[Any, ...], arguments: tuple[Any, ...]) -> Tensor:
    (tx, tz, tw, tb), (x, z, weight, base, order) = tangents, arguments
    terms = []
    if tx is not None:
        terms.append(FORWARD(tx, z, weight, base, order))
    if tz is not None:
        terms.append(FORWARD(x, tz, weight, None, order))
    if tw is not None or tb is not None:
        terms.append(FORWARD(x, z, torch.zeros_like(weight) if tw is None else tw, tb, order))
    return _sum(terms, _empty_forward(*arguments)[0])  # type: ignore[no-any-return]


def _push_inputs(tangents: tuple[Any, ...], arguments: tuple[Any, ...]) -> tuple[Tensor, ...]:
    (ty, tx, tz, tw, tb), (dy, x, z, weight, base, order) = tangents, arguments
    terms = []
    if ty is not None:
        terms.append(INPUTS(ty, x, z, weight, base, order))
    if tx is not None or tz is not None:  # dx has no x in it, and dz no z
        moved = [torch.zeros_like(v) if t is None else t for t, v in ((tx, x), (tz, z))]
        terms.append(INPUTS(dy, *moved, weight, None, order))
    if tw is not None or tb is not None:
        terms.append(INPUTS(dy, x, z, torch.zeros_like(weight) if tw is None else tw, tb, order))
    return _sum([t[0] for t in terms], x), _sum([t[1] for t in terms], z)


def _push_weight(tangents: tuple[Any, ...], arguments: tuple[Any, ...]) -> Tensor:
    factors, order = arguments[:3], arguments[3]
    terms = [
        WEIGHT(*factors[:place], tangent, *factors[place + 1 :], order)
        for place, tangent in enumerate(tangents)
        if tangent is not None
    ]
    return _sum(terms, _empty_weight(*arguments)[0])  # type: ignore[no-any-return]


def _fold(shared: slice) -> Callable[..., Any]:
    """Batches become more codes, unless an argument in ``shared`` has a batch: then one by one."""

    def vmap(op: Op, size: int, in_dims: tuple[int | None, ...], arguments: Any) -> Any:
        count = op.tensor_count
        moved = [
            a if d is None or a is None else a.movedim(d, 0)
            for a, d in zip(arguments, in_dims, strict=True)
        ]
        if all(d is None for d in in_dims[shared]):
            for place in set(range(count)) - set(range(count)[shared]):
                value = moved[place]
                if in_dims[place] is None:
                    value = value.expand(size, *value.shape)
                moved[place] = value.flatten(0, 1)
            result = op(*moved)
            split = [r.reshape(size, len(r) // size, *r.shape[1:]) for r in as_tuple(result)]
            return tuple(split) if isinstance(result, tuple) else split[0]
        each = [
            op(*(a if d is None else a[i] for a, d in zip(moved, in_dims, strict=True)))
            for i in range(size)
        ]
        if isinstance(each[0], tuple):
            return tuple(torch.stack(parts) for parts in zip(*each, strict=True))
        return torch.stack(each)

    return vmap


FORWARD = Op(
    name="hyper_linear",
    schema="Tensor x, Tensor z, Tensor weight, Tensor? base_weight, int order",
    returns=1,
    outputs=_empty_forward,
    reference=_reference(_forward, _empty_forward),
    check=_check_forward,
    pullback=_pull_forward,
    pushforward=_push_forward,
    launch=_launch(_forward),
    vmap=_fold(slice(2, 4)),
)
INPUTS = Op(
    name="hyper_linear_inputs",
    schema="Tensor dy, Tensor x, Tensor z, Tensor weight, Tensor? base_weight, int order",
    returns=2,
    outputs=_empty_inputs,
    reference=_reference(_inputs, _empty_inputs),
    check=_check_inputs,
    pullback=_pull_inputs,
    pushforward=_push_inputs,
    launch=_launch(_inputs),
    vmap=_fold(slice(3, 5)),
)
WEIGHT = Op(
    name="hyper_linear_weight",
    schema="Tensor dy, Tensor x, Tensor z, int order",
    returns=1,
    outputs=_empty_weight,
    reference=_reference(_weight, _empty_weight),
    check=_check_weight,
    pullback=_pull_weight,
    pushforward=_push_weight,
    launch=_launch(_weight),
    vmap=_fold(slice(0, 3)),
)
