r"""Kernels of infinitely wide networks from the correlations of their inputs, all layers at once.

For a panel of correlations :math:`c_{ij}` of N points with M others, each with its gap
:math:`1 - |c|`, ``ntk_rectified`` and ``ntk_erf`` write the NNGP and the tangent kernel

.. math::
    \Sigma^l = w_l^2 \, E[\phi(u) \phi(v)] + b_l^2, \qquad
    \Theta^l = \Sigma^l + w_l^2 \, E[\phi'(u) \phi'(v)] \, \Theta^{l-1},

(u, v) Gaussian of covariance :math:`\Sigma^{l-1}`, after the last of the L + 1 linear layers. The
gap is carried along, so that nothing cancels where points are near each other or opposite. What
belongs to one point stands in its table, a column of ``rows`` or ``columns``: with
:math:`n_l^2 = \Sigma^l(x, x)`, :math:`C_l = w_l \sqrt{E \phi^2} / n_l`, :math:`S_l = b_l / n_l`,

- ``ntk_rectified``: :math:`C_0 \dots C_L, S_0 \dots S_L, n_L`, for :math:`\phi(x) = a \min(x, 0) +
  b \max(x, 0)` of which only the contrast :math:`(a - b)^2 / (a^2 + b^2)` is left;
- ``ntk_erf``: :math:`C_0, S_0, n_0, (1 + 2 n_{l-1}^2)^{-1/2}` for l = 1..L, :math:`1 / n_L`.

The panel's rows are the rows ``first`` and on of the kernels. A symmetric panel has the columns of
all rows up to its last one; what lies on and below the diagonal is computed, and written both ways
round. ``cosine`` may be float32. ``gap`` takes the gaps of the NNGP's correlations; (0, 0) where
they are not wanted.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import _check
from .._procedure import Procedure
from .._spec import Bad, Make, ProcedureSpec, Shape
from ._arc_cosine import rectify

RECTIFIED, ERF = "ntk_rectified", "ntk_erf"

_Pair = tuple[Tensor, Tensor]
_Entries = tuple[Tensor, Tensor, Tensor]  # nngp, tangent kernel, gap


def rectified_entries(
    cosine: Tensor, gap: Tensor, rows: Tensor, columns: Tensor, layers: int, contrast: float
) -> _Entries:
    """The recursion of a rectifier in plain torch."""
    rows, columns = rows[:, :, None], columns[:, None, :]

    def blend(layer: int, cosine: Tensor, gap: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c, d, s, z = (table[k] for k in (layer, layers + 1 + layer) for table in (rows, columns))
        weight, offset, apart = c * d, s * z, ((c - d) ** 2 + (s - z) ** 2) / 2
        mixed = weight * cosine + offset
        same = weight * torch.where(cosine < 0, 1 - cosine, gap) + apart
        opposite = weight * gap + apart + 2 * offset
        gap = torch.where(mixed < 0, opposite, same)
        near = torch.where(mixed < 0, gap - 1, 1 - gap)
        return torch.where(gap < 0.5, near, mixed), gap, weight

    cosine, gap, _ = blend(0, cosine, gap)
    tangent = cosine
    for layer in range(1, layers + 1):
        cosine, gap, slope = rectify(cosine, gap, contrast)
        cosine, gap, weight = blend(layer, cosine, gap)
        tangent = cosine + weight * slope * tangent
    size = rows[-1] * columns[-1]
    return size * cosine, size * tangent, gap


def erf_entries(
    cosine: Tensor,
    gap: Tensor,
    rows: Tensor,
    columns: Tensor,
    weight2: tuple[float, ...],
    bias2: tuple[float, ...],
) -> _Entries:
    """The recursion of erf in plain torch, for the squares of each linear layer's deviations."""
    rows, columns = rows[:, :, None], columns[:, None, :]
    weight = rows[0] * columns[0]
    apart = ((rows[0] - columns[0]) ** 2 + (rows[1] - columns[1]) ** 2) / 2
    to_one = weight * torch.where(cosine < 0, 1 - cosine, gap) + apart
    cosine = weight * cosine + rows[1] * columns[1]
    gap = torch.where(cosine < 0, 1 + cosine, to_one)
    size = rows[2] * columns[2]
    tangent = covariance = size * cosine
    for layer, (w, b) in enumerate(zip(weight2, bias2, strict=True), 1):
        u, v = rows[2 + layer], columns[2 + layer]
        r = 2 * u * v * covariance
        rest = (1 - r) * (1 + r)
        if layer == 1:
            rest = u**2 + v**2 - (u * v) ** 2 + (2 * u * v * size) ** 2 * gap * (2 - gap)
        covariance = w * (2 / math.pi) * torch.atan2(r, rest.sqrt()) + b
        tangent = covariance + w * (4 / math.pi) * u * v / rest.sqrt() * tangent
    if weight2:
        gap = 1 - (covariance * rows[-1] * columns[-1]).abs()
    return covariance, tangent, gap


def place(kernels: _Entries, entries: _Entries, first: int, symmetric: bool) -> None:
    """Writes a panel's entries where they belong; a symmetric one both ways round."""
    count, used = entries[0].shape
    for kernel, entry in zip(kernels, entries, strict=True):
        if kernel.numel() == 0:
            continue
        if symmetric:
            own = entry[:, first:]
            kernel[first : first + count, :first] = entry[:, :first]
            kernel[:first, first : first + count] = entry[:, :first].T
            kernel[first : first + count, first:used] = own.tril() + own.tril(-1).T
        else:
            kernel[first : first + count] = entry


def _gap(cosine: Tensor, gaps: Tensor | None, first: int, symmetric: bool) -> _Pair:
    cosine = cosine.double()
    gap = (1 - cosine.abs()).clamp(min=0) if gaps is None else gaps
    if symmetric:
        own = torch.ones_like(cosine, dtype=torch.bool).tril(first).triu(first)
        cosine, gap = cosine.where(~own, 1.0), gap.where(~own, 0.0)
    return cosine, gap


def rectified_reference(
    nngp: Tensor,
    tangent: Tensor,
    gap: Tensor,
    cosine: Tensor,
    gaps: Tensor | None,
    rows: Tensor,
    columns: Tensor,
    layers: int,
    contrast: float,
    biased: bool,
    first: int,
    symmetric: bool,
) -> None:
    """Writes the kernels; ``check`` has seen the arguments."""
    pair = _gap(cosine, gaps, first, symmetric)
    entries = rectified_entries(*pair, rows, columns, layers, contrast)
    place((nngp, tangent, gap), entries, first, symmetric)


def erf_reference(
    nngp: Tensor,
    tangent: Tensor,
    gap: Tensor,
    cosine: Tensor,
    gaps: Tensor | None,
    rows: Tensor,
    columns: Tensor,
    layers: int,
    weight2: float,
    bias2: float,
    last_weight2: float,
    last_bias2: float,
    first: int,
    symmetric: bool,
) -> None:
    """Writes the kernels; ``check`` has seen the arguments."""
    pair = _gap(cosine, gaps, first, symmetric)
    weights = ((weight2,) * (layers - 1) + (last_weight2,)) if layers else ()
    biases = ((bias2,) * (layers - 1) + (last_bias2,)) if layers else ()
    entries = erf_entries(*pair, rows, columns, weights, biases)
    place((nngp, tangent, gap), entries, first, symmetric)


def _check_call(
    name: str,
    kernels: _Entries,
    cosine: Tensor,
    gaps: Tensor | None,
    tables: _Pair,
    entries: int,
    first: int,
    symmetric: bool,
) -> None:
    inputs = {"cosine": cosine, "rows": tables[0], "columns": tables[1]}
    inputs |= {} if gaps is None else {"gaps": gaps}
    _check.tensors(name, inputs)
    _check.dtype(name, {"cosine": cosine}, torch.float64, torch.float32)
    _check.dtype(name, {k: v for k, v in inputs.items() if k != "cosine"}, torch.float64)
    _check.dtype(name, {"nngp": kernels[0]}, torch.float64, torch.float32)
    for argument, value in inputs.items():
        if value.device != kernels[0].device:
            rule = f"be on device {kernels[0].device}"
            _check.refuse(name, argument, rule, value.device, ValueError)
    if cosine.ndim != 2:
        _check.refuse(name, "cosine", "have shape (N, M)", tuple(cosine.shape), ValueError)
    count, used = cosine.shape
    width = kernels[0].shape[1]
    if symmetric and used != first + count:
        _check.refuse(name, "cosine", f"have {first + count} columns", used, ValueError)
    if not symmetric and used != width:
        _check.refuse(name, "cosine", f"have {width} columns", used, ValueError)
    if first < 0 or first + count > len(kernels[0]):
        rule = f"lie in [0, {len(kernels[0]) - count}]"
        _check.refuse(name, "first", rule, first, ValueError)
    for argument, value, length in (("rows", tables[0], count), ("columns", tables[1], used)):
        if value.shape != (entries, length):
            rule = f"have shape ({entries}, {length})"
            _check.refuse(name, argument, rule, tuple(value.shape), ValueError)
    if gaps is not None and gaps.shape != cosine.shape:
        rule = f"have shape {tuple(cosine.shape)}"
        _check.refuse(name, "gaps", rule, tuple(gaps.shape), ValueError)


def rectified_check(*arguments: Any) -> None:
    """Refuses what the kernel must not see."""
    nngp, tangent, gap, cosine, gaps, rows, columns, layers, contrast, _, first, symmetric = (
        arguments
    )
    entries = 2 * layers + 3
    tables = (rows, columns)
    _check_call(RECTIFIED, (nngp, tangent, gap), cosine, gaps, tables, entries, first, symmetric)
    if not 0 <= contrast <= 2:
        _check.refuse(RECTIFIED, "contrast", "lie in [0, 2]", contrast, ValueError)


def erf_check(*arguments: Any) -> None:
    """Refuses what the kernel must not see."""
    nngp, tangent, gap, cosine, gaps, rows, columns, layers, *_, first, symmetric = arguments
    tables = (rows, columns)
    _check_call(ERF, (nngp, tangent, gap), cosine, gaps, tables, layers + 4, first, symmetric)


_PANEL = (
    "Tensor(a!) nngp, Tensor(b!) tangent, Tensor(c!) gap, Tensor cosine, Tensor? gaps, "
    "Tensor rows, Tensor columns, int layers, "
)
NTK_RECTIFIED = Procedure(
    name=RECTIFIED,
    schema=_PANEL + "float contrast, bool biased, int first, bool symmetric",
    reference=rectified_reference,
    check=rectified_check,
)
NTK_ERF = Procedure(
    name=ERF,
    schema=_PANEL
    + "float weight2, float bias2, float last_weight2, float last_bias2, int first, bool symmetric",
    reference=erf_reference,
    check=erf_check,
)

LAYERS = 3


def _sample(
    name: str, symmetric: bool, dtype: torch.dtype, size: Shape, make: Make
) -> tuple[Any, ...]:
    """Near-duplicate and opposite directions among others; the last rows of the kernels."""
    count, width = size
    x, y = make(count, 7).double(), make(width, 7).double()
    if count > 2 and width > 2:
        y[1], y[2] = x[1] + 1e-4 * y[1], -x[2]
    x, y = (v / torch.where(v == 0, 1e-9, v).norm(dim=1, keepdim=True) for v in (x, y))
    first = 0 if symmetric else 2
    cosine = x @ (x if symmetric else y).T
    entries = 2 * LAYERS + 3 if name == RECTIFIED else LAYERS + 4

    def table(points: int) -> Tensor:
        """C and S are a cosine and a sine, and u belongs to n, as in a network."""
        angles = make(entries, points).double().tanh() / 4 + 0.5
        if name == RECTIFIED:
            half = LAYERS + 1
            return torch.cat([angles[:half].cos(), angles[:half].sin(), angles[-1:] + 1])
        inverse = (1 + 2 * angles[2:3] ** 2).rsqrt()
        return torch.cat([angles[:1].cos(), angles[:1].sin(), angles[2:3], inverse, angles[4:] / 2])

    rows = table(count)
    columns = rows if symmetric else table(width)
    shape = (count, count) if symmetric else (count + first, width)
    state = [torch.full(shape, 3, dtype=dtype, device=x.device) for _ in range(3)]
    gaps = None if symmetric else (1 - cosine.abs()).clamp(min=0)
    numbers = (1.0, True) if name == RECTIFIED else (1.5, 0.1, 1.2, 0.2)
    return (*state, cosine, gaps, rows, columns, LAYERS, *numbers, first, symmetric)


def _spec(procedure: Procedure, symmetric: bool, dtype: torch.dtype) -> ProcedureSpec:
    name = procedure.name

    def with_contrast(contrast: float) -> Any:
        return lambda arguments: (*arguments[:8], contrast, *arguments[9:])

    variants = {
        "as drawn": lambda arguments: arguments,
        "float32 cosines": lambda a: (*a[:3], a[3].float(), None, *a[5:]),
    }
    if name == RECTIFIED:
        variants |= {"abs": with_contrast(2.0), "leaky": with_contrast(0.8)}
    if symmetric:
        variants["without gap"] = lambda a: (*a[:2], a[2].new_empty(0, 0), *a[3:])
    return ProcedureSpec(
        name=name,
        procedure=procedure,
        reference=procedure.reference,
        sample=lambda size, make: _sample(name, symmetric, dtype, size, make),
        variants=variants,
        writes=3,
        sizes=((0, 3), (1, 1), (9, 5), (37, 131), (70, 200)),
        # A layer has some 20 roundings. An angle is as far off as its gap over itself: the root of
        # a near-duplicate's gap doubles what it has gathered.
        roundings=40 * (LAYERS + 1),
        compute=dtype,
        source="Jacot et al. 2018, arXiv 1806.07572; Cho and Saul 2009; Williams 1996",
        bad={
            "columns": Bad(
                lambda make: procedure(*_changed(procedure, 3, make(4, 2).double(), make)),
                ValueError,
                f"dlaccel.{name}: cosine must have 3 columns, got 2.",
            ),
            "table": Bad(
                lambda make: procedure(*_changed(procedure, 5, make(1, 4).double(), make)),
                ValueError,
                f"dlaccel.{name}: rows must have shape ({9 if name == RECTIFIED else 7}, 4), got "
                "(1, 4).",
            ),
            "dtype": Bad(
                lambda make: procedure(*_changed(procedure, 5, make(9, 4).float(), make)),
                TypeError,
                f"dlaccel.{name}: rows must have dtype float64, got float32.",
            ),
        },
    )


def _changed(procedure: Procedure, place: int, value: Tensor, make: Make) -> list[Any]:
    arguments = list(_sample(procedure.name, False, torch.float32, (4, 3), make))
    arguments[place] = value
    return arguments


SPECS = tuple(
    _spec(procedure, symmetric, dtype)
    for procedure in (NTK_RECTIFIED, NTK_ERF)
    for dtype, symmetric in ((torch.float32, True), (torch.float32, False), (torch.float64, False))
)
