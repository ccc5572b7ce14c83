"""The orders of evaluation in torch's products, on tiles, with our loops on a tile in the cache.

Shapes: x (B, N, I), z (B, K), weight (O, I, K), base (O, I) or None, dy (B, N, O). Everything is
contiguous or a view; nothing here is differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ._hyper_plan import TILE_BYTES, TILE_ROWS, Order, Problem, codes_of_a_tile


def problem_of(x: Tensor, z: Tensor, outputs: int) -> Problem:
    """The sizes."""
    codes, each, inputs = x.shape
    return Problem(codes, each, inputs, z.shape[1], outputs, max(4, x.element_size()))


def _spans(count: int, step: int) -> Iterator[slice]:
    for start in range(0, count, max(1, step)):
        yield slice(start, min(start + step, count))


def _flat(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Rows t of x, and for each its code."""
    codes, each, _ = x.shape
    rows = z if each == 1 else z[:, None].expand(codes, each, -1).reshape(codes * each, -1)
    return x.flatten(0, 1), rows


def _outer_tiles(x: Tensor, z: Tensor) -> Iterator[tuple[slice, slice, Callable[[], Tensor]]]:
    """Rows, columns of weight as (O, I K), and the outer products there, formed when called."""
    rows, inputs = x.shape
    width = z.shape[1]
    room = max(1, TILE_BYTES // x.element_size())
    step = min(rows, max(TILE_ROWS, room // max(1, inputs * width)))
    features = max(1, min(inputs, room // max(1, step * width)))
    memory = x.new_empty(step * features * width)
    for part in _spans(inputs, features):
        columns = slice(part.start * width, part.stop * width)
        for span in _spans(rows, step):
            shape = span.stop - span.start, part.stop - part.start, width
            tile = memory[: shape[0] * shape[1] * width].view(shape)

            def form(tile: Tensor = tile, span: slice = span, part: slice = part) -> Tensor:
                torch.mul(x[span, part, None], z[span, None], out=tile)
                return tile.view(len(tile), -1)

            yield span, columns, form


def outer(y: Tensor, x: Tensor, z: Tensor, weight: Tensor) -> None:
    """The outer products as rows of one product."""
    rows, codes = _flat(x, z)
    to, matrix = y.flatten(0, 1), weight.flatten(1)
    for span, columns, form in _outer_tiles(rows, codes):
        torch.addmm(
            to[span], form(), matrix[:, columns].T, beta=int(columns.start > 0), out=to[span]
        )


def input_first(y: Tensor, x: Tensor, z: Tensor, weight: Tensor) -> None:
    """The product with x, then a contraction with the code."""
    rows, codes = _flat(x, z)
    outputs, inputs, width = weight.shape
    matrix = weight.transpose(0, 1).reshape(inputs, outputs * width)
    step = max(64, TILE_BYTES // (weight.element_size() * outputs * width))
    made = rows.new_empty(min(step, len(rows)), outputs * width)
    to = y.flatten(0, 1)[..., None]
    for span in _spans(len(rows), step):
        part = made[: span.stop - span.start]
        torch.mm(rows[span], matrix, out=part)
        torch.bmm(part.view(-1, outputs, width), codes[span, :, None], out=to[span])


def scaled(y: Tensor, x: Tensor, z: Tensor, weight: Tensor) -> None:
    """The sum over k of z_k (x H_k^T): neither outer products nor weights are made."""
    rows, codes = _flat(x, z)
    to, matrices = y.flatten(0, 1), weight.permute(2, 1, 0).contiguous()
    step = max(64, TILE_BYTES // (weight.element_size() * max(1, weight.shape[0])))
    made = to.new_empty(min(step, len(rows)), weight.shape[0])
    for span in _spans(len(rows), step):
        part, sums = made[: span.stop - span.start], to[span].zero_()
        for k, matrix in enumerate(matrices):
            torch.mm(rows[span], matrix, out=part)
            sums.addcmul_(part, codes[span, k : k + 1])


def generate(
    y: Tensor, x: Tensor, z: Tensor, weight: Tensor, base: Tensor | None, *, whole: bool
) -> None:
    """Weights of some codes, or of all, by one product; then one batched product applies them."""
    step = len(x) if whole else codes_of_a_tile(problem_of(x, z, len(weight)))
    for span in _spans(len(x), step):
        made = _weights(z[span], weight, base)
        torch.bmm(x[span], made.transpose(1, 2), out=y[span])


def _weights(z: Tensor, weight: Tensor, base: Tensor | None) -> Tensor:
    matrix = weight.flatten(0, 1).T
    made = z @ matrix if base is None else torch.addmm(base.flatten(), z, matrix)
    return made.view(len(z), *weight.shape[:2])


FORWARD: dict[Order, Callable[[Tensor, Tensor, Tensor, Tensor], None]] = {
    "outer": outer,
    "input_first": input_first,
    "scaled": scaled,
}


def inputs_outer(dx: Tensor, dz: Tensor, dy: Tensor, x: Tensor, z: Tensor, weight: Tensor) -> None:
    """V = dy W, some rows and columns at a time, which meets z and x while it is in the cache."""
    rows, codes = _flat(x, z)
    width = z.shape[1]
    down, to, matrix = dy.flatten(0, 1), dx.flatten(0, 1), weight.flatten(1)
    sums = codes.new_zeros(codes.shape)
    for span, columns, _ in _outer_tiles(rows, codes):
        part = slice(columns.start // width, columns.stop // width)
        v = (down[span] @ matrix[:, columns]).view(span.stop - span.start, -1, width)
        to[span, part] = torch.bmm(v, codes[span, :, None])[..., 0]
        sums[span] += torch.bmm(rows[span, None, part], v)[:, 0]
    torch.sum(sums.view(*x.shape[:2], width), 1, out=dz)


def inputs_generated(
    dx: Tensor, dz: Tensor, dy: Tensor, x: Tensor, z: Tensor, weight: Tensor, base: Tensor | None
) -> None:
    """Through the weights of some codes and their gradients."""
    matrix = weight.flatten(0, 1)
    for span in _spans(len(x), codes_of_a_tile(problem_of(x, z, len(weight)))):
        torch.bmm(dy[span], _weights(z[span], weight, base), out=dx[span])
        torch.mm(torch.bmm(dy[span].transpose(1, 2), x[span]).flatten(1), matrix, out=dz[span])


def weight_outer(dw: Tensor, dy: Tensor, x: Tensor, z: Tensor) -> None:
    """The transpose of dy times the outer products."""
    rows, codes = _flat(x, z)
    down, to = dy.flatten(0, 1), dw.view(len(dw), -1)
    for span, columns, form in _outer_tiles(rows, codes):
        part = to[:, columns]
        torch.addmm(part, down[span].T, form(), beta=int(span.start > 0), out=part)


def weight_generated(dw: Tensor, dy: Tensor, x: Tensor, z: Tensor) -> None:
    """The gradients of some codes' weights, each times its code."""
    to = dw.view(-1, dw.shape[2])
    for span in _spans(len(x), codes_of_a_tile(problem_of(x, z, len(dw)))):
        made = torch.bmm(dy[span].transpose(1, 2), x[span]).flatten(1)
        torch.addmm(to, made.T, z[span], beta=int(span.start > 0), out=to)
