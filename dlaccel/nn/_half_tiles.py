"""The gated MLP in bfloat16 or float16 where the processor has no such products.

There torch multiplies half types in scalar code. Here products convert panels of the weights on
their way into the registers (``ops/mixed_product.py``), and a tile of activations is gated while it
is in cache. The only other float32 tensors are as large as x and the result, which is rounded once,
and, in the backward pass, as a tile's share of the weights' gradients.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from .._op import as_tuple
from ..ops._glu_family import GLU_PACKED, GLU_PACKED_BIAS, Family
from ..ops.mixed_product import PROCEDURE as multiply

HIDDEN = 512
"""Rows of gate and value in a tile."""
ROWS = 512
"""Rows of x that go through a tile at a time: a tile of activations is 1 MB at most."""
LARGEST = 2**21
"""Elements of scratch that are worth keeping: 8 MB."""
FEWEST_ROWS = 4
"""Below this, converting the weights costs more than torch's slow product saves."""
VARIABLE = "DLACCEL_HALF_PRODUCT"

Scalars = tuple[int, float, float]


class Layer(NamedTuple):
    """gate and value (H, D), down (K, H), the two biases (H,) or none, down's bias (K,) or None."""

    gate: Tensor
    value: Tensor
    down: Tensor
    biases: tuple[Tensor, ...]
    down_bias: Tensor | None


class Needs(NamedTuple):
    """Which gradients are wanted: of x, of gate and value (with their biases), of down."""

    x: bool
    gate: bool
    down: bool


def pay(x: Tensor) -> bool:
    """Whether tiles are the faster way for rows x."""
    return (
        x.dtype in (torch.bfloat16, torch.float16)
        and x.is_cpu
        and x.shape[0] >= FEWEST_ROWS
        and torch_is_slow(x.dtype)
    )


@cache
def torch_is_slow(dtype: torch.dtype) -> bool:
    """Whether torch has no good product in ``dtype`` on this processor, decided once.

    Torch's product is oneDNN's where oneDNN says that it has the type. Elsewhere it is mostly
    scalar code, but not on every platform, so there it is timed: slow is over three times float32's
    time. Scalar code takes 6 to 200 times it, all else at most 2. The best of several takes on one
    thread is compared, so that a busy machine does not decide. The environment variable
    ``DLACCEL_HALF_PRODUCT`` overrides: ``tiles``, ``torch`` or ``auto``.

    Raises:
        ValueError: The variable holds something else.
    """
    choice = os.environ.get(VARIABLE, "auto")
    if choice not in ("auto", "tiles", "torch"):
        raise ValueError(f"{VARIABLE} must be one of auto, tiles, torch, got {choice!r}.")
    if choice != "auto":
        return choice == "tiles"
    return not _onednn_has(dtype) and _measured_slow(dtype)


def _onednn_has(dtype: torch.dtype) -> bool:
    name = "_is_mkldnn_bf16_supported" if dtype == torch.bfloat16 else "_is_mkldnn_fp16_supported"
    supported = getattr(torch.ops.mkldnn, name, None)
    return bool(torch.backends.mkldnn.enabled and supported is not None and supported())


def _measured_slow(dtype: torch.dtype) -> bool:
    wide = _scratch(128, 128).fill_(1)
    narrow = wide.to(dtype)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        takes = [(_seconds(narrow), _seconds(wide)) for _ in range(6)][1:]  # the first warms up
    finally:
        torch.set_num_threads(threads)
    return min(half for half, _ in takes) > 3 * min(single for _, single in takes)


def _seconds(matrix: Tensor) -> float:
    start = time.perf_counter()
    torch.mm(matrix, matrix)
    return time.perf_counter() - start


def _scratch(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")


_memory = threading.local()


def _kept(role: str, size: int) -> Tensor:
    """float32 scratch that this thread keeps for its next call, which so touches no fresh pages."""
    if size > LARGEST:
        return _scratch(size)
    held: Tensor | None = getattr(_memory, role, None)
    if held is None or held.numel() < size:
        held = _scratch(size)
        setattr(_memory, role, held)
    return held if held.numel() == size else held[:size]


def _spans(length: int, size: int) -> Iterator[slice]:
    """Nearly equal spans of at most ``size``."""
    count = -(-length // size)
    for i in range(count):
        yield slice(length * i // count, length * (i + 1) // count)


def _blocks(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """The tensors' rows in nearly equal blocks of at most ``ROWS``, side by side."""
    count = -(-len(tensors[0]) // ROWS)
    return list(zip(*(t.tensor_split(count) for t in tensors), strict=True))


def _family(layer: Layer) -> Family:
    return GLU_PACKED_BIAS if layer.biases else GLU_PACKED


def _tiles(
    layer: Layer,
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor, tuple[Tensor, ...]]]:
    """A span of h features: gate's and value's rows (h, D), down (K, h), the two's bias (2h,)."""
    gate, value, down, biases, _ = layer
    for span in _spans(gate.shape[0], HIDDEN):
        bias = (torch.cat([b[span] for b in biases]).float(),) if biases else ()
        yield span, gate[span], value[span], down[:, span], bias


def forward(
    x: Tensor, layer: Layer, scalars: Scalars, keep: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The result (N, K) for x (N, D); where ``keep``, the pre-activations (N, H), rounded."""
    wide = _kept("x", x.numel()).view(x.shape).copy_(x)
    y = _kept("y", x.shape[0] * layer.down.shape[0]).view(x.shape[0], layer.down.shape[0])
    hidden = layer.gate.shape[0]
    kept = tuple(x.new_empty(x.shape[0], hidden) for _ in range(2 * keep))
    largest = min(ROWS, x.shape[0]) * min(HIDDEN, hidden)
    pre_scratch, product_scratch = _kept("pre", 2 * largest), _kept("product", largest)
    family, blocks = _family(layer), _blocks(wide, y, *kept)
    for span, gate, value, down, bias in _tiles(layer):
        tile = len(gate)
        for x_rows, y_rows, *kept_rows in blocks:
            count = len(x_rows)
            pre = pre_scratch[: 2 * count * tile].view(count, 2 * tile)
            product = product_scratch[: count * tile].view(count, tile)
            halves = pre.chunk(2, 1)
            multiply(halves[0], x_rows, gate, 0)
            multiply(halves[1], x_rows, value, 0)
            family.forward.into(product, pre, *bias, *scalars, 1)
            multiply(y_rows, product, down, int(span.start > 0))
            for whole, part in zip(kept_rows, halves, strict=False):
                whole[:, span] = part
    if layer.down_bias is not None:
        y += layer.down_bias
    return y.to(x.dtype), kept


def backward(
    x: Tensor,
    dy: Tensor,
    layer: Layer,
    scalars: Scalars,
    kept: tuple[Tensor, ...],
    needs: Needs,
    gradients: tuple[Tensor, Tensor],
) -> tuple[Tensor | None, Tensor | None, tuple[Tensor, ...]]:
    """Gradients of x, down and the biases; those of gate and value go into ``gradients``."""
    wide, wide_dy = x.float(), dy.float()
    dx = torch.zeros_like(wide) if needs.x else None
    ddown = torch.empty_like(layer.down) if needs.down else None
    bias_gradients = tuple(torch.empty_like(bias) for bias in layer.biases)
    hidden, features = layer.gate.shape
    largest = min(HIDDEN, hidden)
    weight_sum, down_sum = _scratch(2 * largest, features), _scratch(len(layer.down) * largest)
    family = _family(layer)
    gradient = family.gradient_product if needs.down else family.gradient
    for span, gate, value, down, bias in _tiles(layer):
        tile = len(gate)
        dweight, ddown_tile = weight_sum[: 2 * tile], down_sum[: down.numel()].view(-1, tile)
        dbias = _scratch(2 * tile).zero_() if bias else None
        for rows in _spans(x.shape[0], ROWS):
            beta = int(rows.start > 0)  # the first product replaces what the scratch held
            if kept:
                pre = torch.cat([whole[rows, span] for whole in kept], 1).float()
            else:
                pre = _scratch(rows.stop - rows.start, 2 * tile)
                multiply(pre[:, :tile], wide[rows], gate, 0)
                multiply(pre[:, tile:], wide[rows], value, 0)
            dproduct = _scratch(len(pre), tile)
            multiply(dproduct, wide_dy[rows], down.T, 0)
            dpre, *rest = as_tuple(gradient(dproduct, pre, *bias, *scalars, 1))
            if dx is not None:
                multiply(dx[rows], dpre[:, :tile], gate.T, 1)
                multiply(dx[rows], dpre[:, tile:], value.T, 1)
            if needs.gate:
                dweight.addmm_(dpre.T, wide[rows], beta=beta)
            if needs.down:
                ddown_tile.addmm_(wide_dy[rows].T, rest[-1], beta=beta)
            if dbias is not None:
                dbias += rest[0]
        if needs.gate:
            gradients[0][span], gradients[1][span] = dweight.chunk(2)
        if ddown is not None:
            ddown[:, span] = ddown_tile
        if dbias is not None:
            bias_gradients[0][span], bias_gradients[1][span] = dbias.chunk(2)
    return (None if dx is None else dx.to(x.dtype)), ddown, bias_gradients
