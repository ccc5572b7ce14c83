"""The kernel of two sets of rows from their factors, block by block.

The kernel is (B, R, S): R = N F rows and S = M F columns, the output fastest. Where both sets are
the same rows, the lower triangle is computed and mirrored at the end, so it is symmetric to the
bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..ops.ntk_hadamard import ntk_hadamard
from ._factors import Factor
from ._forms import Block

PANEL = 1 << 25  # bytes of the per-sample gradients that are made at once
LEAST = 64  # rows of a block of the lower triangle
NARROW = 256  # dense gradients that are fused with the layers of one place


def contract(
    blocks: Sequence[Block], count: int, first: list[Factor], second: list[Factor]
) -> Tensor:
    """The kernel (B, R, S) of O = ``count`` outputs; symmetric if ``second`` is ``first``."""
    model = first[0].cotangent
    shape = [len(model), *(f[0].cotangent.shape[1:3].numel() for f in (first, second))]
    out = model.new_zeros(shape)
    fused = []
    for block, f1, f2 in zip(blocks, first, second, strict=True):
        if block.form == "Gram-Hadamard" or _is_narrow(f1):
            fused.append((float(block.bias or f1.operand is None), f1, f2))
        elif block.form == "read-out":
            _read_out(out, block.bias, count, f1, f2)
        elif block.form == "block sum":
            _block_sum(out, block.bias, f1, f2)
        elif block.form == "lookup":
            _lookup(out, f1, f2)
        else:
            for left, right in _panels(f1, f2):
                _add_product(out, left, right)
    if fused:
        _hadamard(out, fused)
    elif second is first:
        _mirror(out)
    return out


def _rows(cotangent: Tensor) -> Tensor:
    """(B, N, F, 1, w) as (B, N F, w)."""
    return cotangent.flatten(3).flatten(1, 2)


def _is_narrow(factor: Factor) -> bool:
    """Whether dense gradients are so few that the passes over the kernel would cost most."""
    return factor.operand is None and factor.cotangent.shape[-1] <= NARROW


def _hadamard(out: Tensor, fused: list[tuple[float, Factor, Factor]]) -> None:
    """All layers of one place at once; dense gradients are layers without inputs."""
    biases = [bias for bias, _, _ in fused]
    first = [f for _, f, _ in fused]
    second = [f for _, _, f in fused]
    a1, g1 = _side_by_side(first, len(out))
    a2, g2 = (None, None) if first == second else _side_by_side(second, len(out))
    widths = [
        (0 if f.operand is None else f.operand.shape[-1], f.cotangent.shape[-1]) for f in first
    ]
    ntk_hadamard(out, a1, g1, a2, g2, widths, biases)


def _side_by_side(factors: list[Factor], kernels: int) -> tuple[Tensor, Tensor]:
    """Operands (B, N, sum of a) and cotangents (B, N F, sum of g)."""
    g = _joined([_rows(f.cotangent) for f in factors])
    operands = [f.operand.flatten(1) for f in factors if f.operand is not None]
    a = _joined(operands) if operands else g.new_empty(factors[0].cotangent.shape[1], 0)
    return a.expand(kernels, *a.shape), g


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def _read_out(out: Tensor, bias: bool, count: int, f1: Factor, f2: Factor) -> None:
    """(a a' + b) I: the outputs of a last layer do not meet; of their trace there are O."""
    assert f1.operand is not None
    assert f2.operand is not None
    gram = f1.operand.flatten(1) @ f2.operand.flatten(1).mT + float(bias)
    b, n, f, _, _ = f1.cotangent.shape
    if f == count:
        out.view(n, f, -1, f).diagonal(dim1=1, dim2=3).add_(gram[..., None])
    else:
        out += gram if b == count else count * gram


def _panels(f1: Factor, f2: Factor) -> Iterator[tuple[Tensor, Tensor]]:
    """Per-sample gradients (B, R, p) and (B, S, p) of some rows of the parameter at a time."""
    if f1.operand is None or f2.operand is None:
        yield _rows(f1.cotangent), _rows(f2.cotangent)
        return
    a = f1.operand.shape[2]
    width = f1.cotangent.shape[-1]
    each = f1.cotangent.numel() // (f1.cotangent.shape[3] * width) * a * f1.cotangent.itemsize
    step = max(1, PANEL // max(each, 1))
    for start in range(0, width, step):
        span = slice(start, start + step)
        left = _panel(f1, span)
        yield left, (left if f2 is f1 else _panel(f2, span))


def _panel(factor: Factor, span: slice) -> Tensor:
    """The gradients (B, N F, w a) of some rows of a weight."""
    assert factor.operand is not None
    g = factor.cotangent[..., span]
    b, n, f, t, w = g.shape
    # A product for each sample: the outputs and rows of the weight side by side.
    left = g.permute(1, 0, 2, 4, 3).reshape(n, b * f * w, t)
    made = left @ factor.operand
    return made.view(n, b, f, -1).transpose(0, 1).reshape(b, n * f, -1)


def _add_product(out: Tensor, left: Tensor, right: Tensor) -> None:
    """Adds left right^T; of a symmetric product the lower triangle, in blocks of rows."""
    for o, a, b in zip(out, left, right, strict=True):
        if right is not left:
            o.addmm_(a, b.mT)
            continue
        step = max(LEAST, -(-len(a) // 8))
        for start in range(0, len(a), step):
            end = min(start + step, len(a))
            o[start:end, :end].addmm_(a[start:end], a[:end].mT)


def _block_sum(out: Tensor, bias: bool, f1: Factor, f2: Factor) -> None:
    """The products of the two Grams, summed over all pairs of places."""
    assert f1.operand is not None
    assert f2.operand is not None
    b, n, f, s, _ = f1.cotangent.shape
    m, t = f2.operand.shape[:2]
    pair = b * f * s * f * t * out.itemsize
    wide = min(m, max(1, PANEL // max(pair, 1)))
    high = max(1, PANEL // max(pair * wide, 1))
    for top in range(0, n, high):
        rows = slice(top, min(top + high, n))
        last = rows.stop if f2 is f1 else m  # columns beyond are mirrored
        for left in range(0, last, wide):
            columns = slice(left, min(left + wide, last))
            part = _places_summed(f1, rows, f2, columns, float(bias))
            out[:, rows.start * f : rows.stop * f, columns.start * f : columns.stop * f] += part


def _places_summed(f1: Factor, rows: slice, f2: Factor, columns: slice, bias: float) -> Tensor:
    """A tile (B, n F, m F) of the block sum."""
    assert f1.operand is not None
    assert f2.operand is not None
    g, h = f1.cotangent[:, rows], f2.cotangent[:, columns]
    a, c = f1.operand[rows].flatten(0, 1), f2.operand[columns].flatten(0, 1)
    (b, n, f, s, w), (m, t) = g.shape, (h.shape[1], h.shape[3])
    pairs = g.reshape(b, n * f * s, w) @ h.reshape(b, m * f * t, w).mT
    gram = (a @ c.mT + bias).view(1, n, 1, s, m, 1, t)
    return pairs.view(b, n, f, s, m, f, t).mul_(gram).sum((3, 6)).view(b, n * f, m * f)


def _lookup(out: Tensor, f1: Factor, f2: Factor) -> None:
    """For each id the Gram of its gradients, at the samples that hold it."""
    left, right = _by_id(f1), _by_id(f2)
    f = f1.cotangent.shape[2]
    within = torch.arange(f, device=out.device)
    for key in left.keys() & right.keys():
        (n, g), (m, h) = left[key], right[key]
        rows = (n[:, None] * f + within).flatten()
        columns = (m[:, None] * f + within).flatten()
        for o, a, b in zip(out, g, h, strict=True):
            o[rows[:, None], columns] += a @ b.mT


def _by_id(factor: Factor) -> dict[int, tuple[Tensor, Tensor]]:
    """For each id the samples n that hold it and their gradients (B, n F, w)."""
    assert factor.operand is not None
    b, _, f, _, w = factor.cotangent.shape
    sample, place = (factor.operand >= 0).nonzero(as_tuple=True)
    ids = factor.operand[sample, place]
    # One row for each (id, sample) that occurs, sorted by both: equal ids of a sample add up.
    samples = len(factor.operand)
    pairs, which = torch.unique(ids * samples + sample, return_inverse=True)
    values = factor.cotangent.transpose(2, 3)[:, sample, place].flatten(2)
    summed = values.new_zeros(b, len(pairs), f * w).index_add_(1, which, values)
    keys, counts = torch.unique_consecutive(pairs // samples, return_counts=True)
    found = {}
    for key, count, end in zip(
        *(t.tolist() for t in (keys, counts, counts.cumsum(0))), strict=True
    ):
        span = slice(end - count, end)
        found[key] = pairs[span] % samples, summed[:, span].reshape(b, count * f, w)
    return found


def _mirror(out: Tensor) -> None:
    """Writes the lower triangle into the upper one."""
    for start in range(0, out.shape[1], 512):
        end = min(start + 512, out.shape[1])
        out[:, :start, start:end] = out[:, start:end, :start].mT
        corner = out[:, start:end, start:end]
        corner.copy_(corner.tril() + corner.tril(-1).mT)
