r"""Tangent kernels of layers from Gram matrices, added to a kernel that is read and written once.

The tangent kernel of a layer with weights and bias is the product, entry by entry, of the Gram
matrices of its inputs and of its backpropagated gradients; a network's is the sum over its layers:

.. math:: K_{(n,o),(m,p)} \mathrel{+}= \sum_l s_l \, \bigl(\langle a^l_n, a'^l_m\rangle + b_l\bigr)
    \, \langle g^l_{n,o}, g'^l_{m,p} \rangle .

With the same rows on both sides the result is symmetric to the last bit: entries on and below the
diagonal are computed, from those of ``out``, and mirrored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _check
from .._procedure import Procedure
from .._spec import Bad, Make, ProcedureSpec, Shape, replacing

NAME = "ntk_hadamard"


def ntk_hadamard(
    out: Tensor,
    a1: Tensor,
    g1: Tensor | None = None,
    a2: Tensor | None = None,
    g2: Tensor | None = None,
    widths: Tensor | Sequence[tuple[int, int]] | None = None,
    bias: Tensor | Sequence[float] | float = 0.0,
    scale: Tensor | Sequence[float] | float = 1.0,
    *,
    gram: Tensor | None = None,
) -> None:
    r"""Adds :math:`\sum_l s_l (A_l A_l'^T + b_l) \circ (G_l G_l'^T)` to ``out``.

    With ``gram``, :math:`\sum_l s_l (A_l A_l'^T + b_l) \circ gram`: exact for the last layer of a
    hypernetwork, with its features for a1 and the tangent kernel of its primary network for gram.
    A layer of width 0 in ``a1`` and bias 1 adds the Gram matrix of ``g1`` alone.

    Args:
        out: Takes the sum, (N O, M O) or one for each network (E, N O, M O), rows of unit stride;
            row n O + o is output o of sample n. dtype float64 for float64 inputs, else float32.
        a1: Inputs of all layers side by side, (N, A) or (E, N, A); any strides, any floating dtype.
        g1: Gradients of all layers side by side, (N O, G) or (E, N O, G).
        a2: Inputs of the other samples, (M, A) or (E, M, A); None or ``a1`` itself: the same
            samples, and ``out`` is symmetric.
        g2: Gradients of the other samples, None or ``g1`` itself where ``a2`` is.
        widths: How many columns of ``a1`` and of ``g1`` each layer has, (L, 2); None: one layer.
        bias: :math:`b_l`, one for all layers or (L,): 1 for a layer with a bias, else 0.
        scale: :math:`s_l`, one for all layers or (L,).
        gram: Gram matrix of the gradients, like ``out``, in place of ``g1`` and ``g2``; where
            ``out`` is symmetric, its entries on and below the diagonal are read.

    Raises:
        TypeError: An argument is not a tensor, or of another dtype.
        ValueError: Shapes or devices do not fit.

    Source: Novak, Sohl-Dickstein, Schoenholz 2022, arXiv 2206.08720, section 3.3;
    Littwin, Galanti, Wolf, Yang 2020, arXiv 2003.12193, for ``gram``.
    """
    _check.tensors(NAME, {"out": out, "a1": a1} | ({} if g1 is None else {"g1": g1}))
    if a2 is a1 and g2 is g1:
        a2 = g2 = None
    if not isinstance(widths, Tensor):
        total = _total(a1, g1)
        pairs = [total] if widths is None else [(a, g) for a, g in widths]
        _check_widths(pairs, total)
        widths = torch.tensor(pairs, dtype=torch.int64, device=out.device).reshape(-1, 2)
    layers = len(widths)
    PROCEDURE(
        out, a1, g1, a2, g2, widths, _each(bias, layers, out), _each(scale, layers, out), gram
    )  # fmt: skip


def _each(value: Tensor | Sequence[float] | float, layers: int, like: Tensor) -> Tensor:
    """A number for each layer, float64."""
    if isinstance(value, Tensor):
        return value.to(torch.float64)
    given = [float(value)] * layers if isinstance(value, (int, float)) else value
    return torch.tensor(given, dtype=torch.float64, device=like.device)


def reference(
    out: Tensor,
    a1: Tensor,
    g1: Tensor | None,
    a2: Tensor | None,
    g2: Tensor | None,
    widths: Tensor,
    bias: Tensor,
    scale: Tensor,
    gram: Tensor | None,
) -> None:
    """Adds to ``out``; ``check`` has seen the arguments."""
    symmetric, outputs = a2 is None, _outputs(out, a1, a2)
    sides = [(a1, g1), (a1 if a2 is None else a2, g1 if symmetric else g2)]
    total = torch.zeros_like(out)
    ends = widths.cumsum(0).tolist()
    for layer, (a_end, g_end) in enumerate(ends):
        a_width, g_width = widths[layer].tolist()
        a, other_a = (a[..., a_end - a_width : a_end].to(out.dtype) for a, _ in sides)
        left = a @ other_a.mT + bias[layer].to(out.dtype)
        spread = left.repeat_interleave(outputs, -2).repeat_interleave(outputs, -1)
        right = gram
        if right is None:
            g, other_g = (
                g[..., g_end - g_width : g_end].to(out.dtype) for _, g in sides if g is not None
            )
            right = g @ other_g.mT
        total += scale[layer].to(out.dtype) * spread * right
    out += total
    if symmetric:
        lower = out.tril()
        out.copy_(lower + lower.tril(-1).mT)


def _outputs(out: Tensor, a1: Tensor, a2: Tensor | None) -> int:
    """How many rows of ``out`` belong to a sample."""
    if a1.shape[-2]:
        return out.shape[-2] // a1.shape[-2]
    return out.shape[-1] // a2.shape[-2] if a2 is not None and a2.shape[-2] else 1


def check(
    out: Tensor,
    a1: Tensor,
    g1: Tensor | None,
    a2: Tensor | None,
    g2: Tensor | None,
    widths: Tensor,
    bias: Tensor,
    scale: Tensor,
    gram: Tensor | None,
) -> None:
    """Refuses what the kernel must not see. On a GPU the widths themselves are not read."""
    optional = {"g1": g1, "a2": a2, "g2": g2, "gram": gram}
    given = {name: value for name, value in optional.items() if value is not None}
    tables = {"widths": widths, "bias": bias, "scale": scale}
    _check.tensors(NAME, {"out": out, "a1": a1} | given | tables)
    _check.floating(NAME, {"a1": a1})
    for name, value in (given | tables | {"a1": a1}).items():
        if value.device != out.device:
            _check.refuse(NAME, name, f"be on device {out.device}", value.device, ValueError)
    if (g1 is None) == (gram is None):
        got = "neither" if g1 is None else "both"
        _check.refuse(NAME, "g1", "be given, or gram in its place", got, ValueError)
    if (g2 is None) != (g1 is None or a2 is None):
        rule = "be given where a2 and g1 are" if g2 is None else "be None where a2 or g1 is"
        _check.refuse(NAME, "g2", rule, "None" if g2 is None else "a tensor", ValueError)
    _check_matrices(out, a1, given)
    _check_layers(widths, bias, scale)
    if _check.has_values(widths):
        _check_widths([(a, g) for a, g in widths.tolist()], _total(a1, g1))


def _check_matrices(out: Tensor, a1: Tensor, given: dict[str, Tensor]) -> None:
    if a1.ndim not in (2, 3):
        _check.refuse(NAME, "a1", "have shape (N, A) or (E, N, A)", tuple(a1.shape), ValueError)
    compute = torch.float64 if a1.dtype == torch.float64 else torch.float32
    networks, samples = a1.shape[:-2], a1.shape[-2]
    a2 = given.get("a2", a1)
    others = a2.shape[-2] if a2.ndim > 1 else 0
    if out.ndim != a1.ndim or out.shape[:-2] != networks:
        rule = f"have shape {_shape(*networks, 'N O', 'M O')}"
        _check.refuse(NAME, "out", rule, tuple(out.shape), ValueError)
    outputs = _outputs(out, a1, given.get("a2"))
    rows, columns = samples * outputs, others * outputs
    _expect("a2", a2, a1.dtype, (*networks, others, a1.shape[-1]))
    if out.shape[-2:] != (rows, columns):
        rule = f"have shape {_shape(*networks, f'{samples} O', f'{others} O')}"
        _check.refuse(NAME, "out", rule, tuple(out.shape), ValueError)
    _expect("out", out, compute, out.shape)
    if not _is_separate(out):
        rule = "hold its rows one after the other, each of unit stride"
        _check.refuse(NAME, "out", rule, f"strides {out.stride()}", ValueError)
    if "gram" in given:
        _expect("gram", given["gram"], compute, out.shape)
    else:
        g1 = given["g1"]
        width = g1.shape[-1] if g1.ndim else 0
        _expect("g1", g1, a1.dtype, (*networks, rows, width))
        _expect("g2", given.get("g2", g1), a1.dtype, (*networks, columns, width))


def _expect(name: str, value: Tensor, dtype: torch.dtype, shape: Sequence[int]) -> None:
    if tuple(value.shape) != tuple(shape):
        rule = f"have shape {_shape(*shape)}"
        _check.refuse(NAME, name, rule, tuple(value.shape), ValueError)
    _check.dtype(NAME, {name: value}, dtype)


def _shape(*lengths: int | str) -> str:
    return str(tuple(lengths)).replace("'", "")


def _is_separate(out: Tensor) -> bool:
    """No element stands twice in ``out``, and its rows have unit stride."""
    *networks, rows, columns = zip(out.shape, out.stride(), strict=True)
    matrix = (rows[0] - 1) * rows[1] + columns[0]
    return out.numel() == 0 or (
        (columns[0] == 1 or columns[1] == 1)
        and (rows[0] == 1 or rows[1] >= columns[0])
        and all(length == 1 or stride >= matrix for length, stride in networks)
    )


def _check_layers(widths: Tensor, bias: Tensor, scale: Tensor) -> None:
    _check.dtype(NAME, {"widths": widths}, torch.int64)
    if widths.ndim != 2 or widths.shape[1] != 2:
        _check.refuse(NAME, "widths", "have shape (L, 2)", tuple(widths.shape), ValueError)
    for name, value in {"bias": bias, "scale": scale}.items():
        _expect(name, value, torch.float64, (len(widths),))


def _total(a1: Tensor, g1: Tensor | None) -> tuple[int, int]:
    """Columns of all layers."""
    a, g = (0 if t is None or t.ndim == 0 else t.shape[-1] for t in (a1, g1))
    return a, g


def _check_widths(widths: Sequence[tuple[int, int]], total: tuple[int, int]) -> None:
    sums = tuple(sum(pair[side] for pair in widths) for side in range(2))
    if sums != total or any(width < 0 for pair in widths for width in pair):
        rule = f"be at least 0 and add up to {total}, the columns of a1 and g1"
        _check.refuse(NAME, "widths", rule, widths, ValueError)


PROCEDURE = Procedure(
    name=NAME,
    schema="Tensor(a!) out, Tensor a1, Tensor? g1, Tensor? a2, Tensor? g2, Tensor widths, "
    "Tensor bias, Tensor scale, Tensor? gram",
    reference=reference,
    check=check,
)


def _sample(size: Shape, make: Make) -> tuple[Any, ...]:
    """Three layers, one without inputs; ``out`` is not empty."""
    samples, a_width, g_width = size
    a1, g1 = make(samples, a_width), make(samples, g_width)
    widths = [(a_width // 3, g_width // 2), (0, g_width // 4)]
    widths.append((a_width - widths[0][0], g_width - widths[0][1] - widths[1][1]))
    where = a1.device
    out = torch.eye(samples, dtype=_compute(a1), device=where) + 0.5
    bias = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64, device=where)
    scale = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64, device=where)
    return out, a1, g1, None, None, torch.tensor(widths, device=where), bias, scale, None


def _compute(inputs: Tensor) -> torch.dtype:
    return torch.float64 if inputs.dtype == torch.float64 else torch.float32


def _rectangular(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    out, a1, g1, _, _, *rest = arguments
    some = slice(0, len(a1) // 2 + 1)
    return out[some].clone(), a1[some].flip(0), g1[some].flip(0), a1, g1, *rest


def _networks(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(torch.stack([t, t.flip(0)]) if i < 3 else t for i, t in enumerate(arguments))


def _several_outputs(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Three outputs of each sample, whose gradients are shifted copies."""
    out, a1, g1, a2, _, *rest = arguments
    outs = out.repeat(3, 3) if a2 is None else out.repeat_interleave(3, 0).repeat(1, 3)
    g1, g2 = (
        None if g is None else torch.stack([g, g.roll(1, 1), -g], 1).flatten(0, 1)
        for g in arguments[2:5:2]
    )
    return outs, a1, g1, a2, g2, *rest


def _given_gram(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The Gram matrix is symmetric where ``out`` is to be."""
    out, a1, g1, a2, g2, widths, bias, scale, _ = arguments
    gram = (g1.double() @ (g1 if g2 is None else g2).double().mT).to(out.dtype)
    return out, a1, None, a2, None, widths * widths.new_tensor([1, 0]), bias, scale, gram


_with = replacing(PROCEDURE, lambda make: _sample((4, 6, 8), make))


SPEC = ProcedureSpec(
    name=NAME,
    procedure=PROCEDURE,
    reference=reference,
    sample=_sample,
    variants={
        "symmetric": lambda a: a,
        "rectangular": _rectangular,
        "networks": _networks,
        "several outputs": _several_outputs,
        "rectangular, several outputs": lambda a: _several_outputs(_rectangular(a)),
        "gram": _given_gram,
        "rectangular, gram": lambda a: _given_gram(_rectangular(a)),
    },
    writes=1,
    sizes=((0, 6, 8), (1, 1, 1), (7, 13, 9), (49, 30, 67), (65, 20, 530)),
    # The terms of independent rows cancel as their errors do: an entry of a Gram matrix is of the
    # order of the root of its length, and so is its error, of which each partial sum adds one
    # rounding. Left and right each count one such sum, bias, scale and the last sum the rest.
    roundings=4,
    compute=torch.float32,
    reduces=lambda size: max(1, size[1] + size[2]),
    source="Novak, Sohl-Dickstein, Schoenholz 2022, arXiv 2206.08720, section 3.3",
    bad={
        "out's shape": Bad(
            _with(0, lambda make: make(4, 8)),
            ValueError,
            "dlaccel.ntk_hadamard: out must have shape (4 O, 4 O), got (4, 8).",
        ),
        "out's dtype": Bad(
            _with(0, lambda make: make(4, 4).double()),
            TypeError,
            "dlaccel.ntk_hadamard: out must have dtype float32, got float64.",
        ),
        "out's strides": Bad(
            _with(0, lambda make: make(4, 4).mT),
            ValueError,
            "dlaccel.ntk_hadamard: out must hold its rows one after the other, each of unit "
            "stride, got strides (1, 4).",
        ),
        "rows of g1": Bad(
            _with(2, lambda make: make(5, 8)),
            ValueError,
            "dlaccel.ntk_hadamard: g1 must have shape (4, 8), got (5, 8).",
        ),
        "g2 alone": Bad(
            _with(4, lambda make: make(4, 8)),
            ValueError,
            "dlaccel.ntk_hadamard: g2 must be None where a2 or g1 is, got a tensor.",
        ),
        "a2 alone": Bad(
            _with(3, lambda make: make(4, 6)),
            ValueError,
            "dlaccel.ntk_hadamard: g2 must be given where a2 and g1 are, got None.",
        ),
        "both factors": Bad(
            _with(8, lambda make: make(4, 4)),
            ValueError,
            "dlaccel.ntk_hadamard: g1 must be given, or gram in its place, got both.",
        ),
        "scale's length": Bad(
            _with(7, lambda make: make(2).double()),
            ValueError,
            "dlaccel.ntk_hadamard: scale must have shape (3,), got (2,).",
        ),
    },
)
