r"""The two nearest centres of each row.

For centred rows :math:`\tilde x` and centred centres :math:`\tilde m_c` the score

.. math:: s_c = \tfrac{1}{2} \|\tilde m_c\|^2 - \langle \tilde x, \tilde m_c \rangle
              = \tfrac{1}{2} (\|\tilde x - \tilde m_c\|^2 - \|\tilde x\|^2)

orders the centres as their distance does. Of a row, its two best columns are kept, of equal scores
the lower column, and the three lowest scores: how far the third is tells whether the two are sure.
A score that is NaN or infinite is nobody's; a missing column is -1, its score infinite.

``top_two`` passes over a tile of products that torch has made, which is the way of a CPU.
``nearest_centres`` centres, multiplies and compares at once, which is the way of a GPU: there the
scores of a row never leave the kernel. Without a kernel its reference runs, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _check
from .._procedure import Procedure
from .._spec import Bad, Make, ProcedureSpec, Shape

NAME = "top_two"
FUSED = "nearest_centres"
SUMMED = 512
"""Products of features that are summed before their sum joins the row's total, as in the kernel."""
TILE_DTYPES = (torch.float64, torch.float32)


def reference(
    best: Tensor, second: Tensor, scores: Tensor, products: Tensor, half_norms: Tensor
) -> None:
    """Writes the two best; ``check`` has seen the arguments."""
    table = half_norms - products
    table = table.masked_fill(table.isnan(), torch.inf)
    missing = table.new_full((len(table), 3), torch.inf)
    lowest, columns = torch.cat([table, missing], 1).sort(dim=1, stable=True)
    columns = columns.masked_fill(lowest == torch.inf, -1)
    scores.copy_(lowest[:, :3])
    best.copy_(columns[:, 0])
    second.copy_(columns[:, 1])


def fused_reference(
    best: Tensor,
    second: Tensor,
    scores: Tensor,
    norms: Tensor,
    features: Tensor,
    shift: Tensor,
    centres: Tensor,
    half_norms: Tensor,
) -> None:
    """Writes the two best and the norms of the centred rows; ``check`` has seen the arguments."""
    rows = features.double() - shift.double()
    norms.copy_(torch.linalg.vector_norm(rows, dim=1))
    reference(best, second, scores, rows @ centres.double().T, half_norms.double())


def check(
    best: Tensor, second: Tensor, scores: Tensor, products: Tensor, half_norms: Tensor
) -> None:
    """Refuses what the kernel must not see."""
    _check.tensors(NAME, {"products": products, "half_norms": half_norms})
    _check.dtype(NAME, {"products": products}, *TILE_DTYPES)
    if products.ndim != 2 or len(products) != len(best):
        rule = f"have shape ({len(best)}, C)"
        _check.refuse(NAME, "products", rule, tuple(products.shape), ValueError)
    _check.row(NAME, "half_norms", half_norms, products.shape[1], products)
    _check_written(NAME, best, second, scores, products)


def fused_check(
    best: Tensor,
    second: Tensor,
    scores: Tensor,
    norms: Tensor,
    features: Tensor,
    shift: Tensor,
    centres: Tensor,
    half_norms: Tensor,
) -> None:
    """Refuses what the kernel must not see."""
    _check.tensors(FUSED, {"features": features, "centres": centres})
    _check.floating(FUSED, {"features": features})
    _check.dtype(FUSED, {"centres": centres}, torch.float32)
    if centres.ndim != 2:
        _check.refuse(FUSED, "centres", "have shape (C, D)", tuple(centres.shape), ValueError)
    width = centres.shape[1]
    if features.ndim != 2 or features.shape[1] != width:
        rule = f"have shape (N, {width})"
        _check.refuse(FUSED, "features", rule, tuple(features.shape), ValueError)
    if features.device != centres.device:
        rule = f"be on device {centres.device}"
        _check.refuse(FUSED, "features", rule, features.device, ValueError)
    _check.row(FUSED, "shift", shift, width, centres)
    _check.row(FUSED, "half_norms", half_norms, len(centres), centres)
    _check.row(FUSED, "norms", norms, len(features), centres)
    _check_written(FUSED, best, second, scores, centres)


def _check_written(op: str, best: Tensor, second: Tensor, scores: Tensor, model: Tensor) -> None:
    """Places (N,) are int64, scores (N, 3) of the model's dtype, all on its device."""
    index = torch.empty(0, dtype=torch.int64, device=model.device)
    _check.row(op, "second", second, len(best), index)
    if scores.shape != (len(best), 3):
        rule = f"have shape ({len(best)}, 3)"
        _check.refuse(op, "scores", rule, tuple(scores.shape), ValueError)


TOP_TWO = Procedure(
    name=NAME,
    schema="Tensor(a!) best, Tensor(b!) second, Tensor(c!) scores, Tensor products, "
    "Tensor half_norms",
    reference=reference,
    check=check,
)
NEAREST_CENTRES = Procedure(
    name=FUSED,
    schema="Tensor(a!) best, Tensor(b!) second, Tensor(c!) scores, Tensor(d!) norms, "
    "Tensor features, Tensor shift, Tensor centres, Tensor half_norms",
    reference=fused_reference,
    check=fused_check,
)


def _written(rows: int, model: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    index = torch.full((rows,), -7, dtype=torch.int64, device=model.device)
    return index, index.clone(), torch.full((rows, 3), -7.0, dtype=model.dtype).to(model.device)


def _sample(size: Shape, make: Make) -> tuple[Any, ...]:
    """Three columns at least, so that every score is finite; half types in float32."""
    rows, columns = size
    products = make(rows, columns + 2)
    if products.dtype not in TILE_DTYPES:
        products = products.float()
    half_norms = make(columns + 2).to(products.dtype).square()
    return *_written(rows, products), products, half_norms


def _with_nobodys_scores(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Scores of one column are inf - inf, of one infinite; two columns are equal."""
    products, half_norms = (a.clone() for a in arguments[3:])
    if products.shape[1] > 6:
        products[:, 1], half_norms[[1, 4]] = torch.inf, torch.inf
        products[:, 5], half_norms[5] = products[:, 0], half_norms[0]
    return *arguments[:3], products, half_norms


def _fused_sample(size: Shape, make: Make) -> tuple[Any, ...]:
    rows, columns, width = size
    features = make(rows, width)
    centres = make(columns + 2, width).float()
    half_norms = (centres.double().square().sum(1) / 2).float()
    written = _written(rows, centres)
    return *written, written[2][:, 0].clone(), features, make(width).float(), centres, half_norms


def _with(
    procedure: Procedure, arguments: Callable[[Make], tuple[Any, ...]], place: int, value: Any
) -> Callable[[Make], None]:
    """A call with one argument of a good one replaced."""

    def call(make: Make) -> None:
        good = list(arguments(make))
        good[place] = value(make)
        procedure(*good)

    return call


def _bad(place: int, value: Callable[[Make], Tensor]) -> Callable[[Make], None]:
    return _with(TOP_TWO, lambda make: _sample((4, 3), make), place, value)


def _fused_bad(place: int, value: Callable[[Make], Tensor]) -> Callable[[Make], None]:
    return _with(NEAREST_CENTRES, lambda make: _fused_sample((4, 3, 6), make), place, value)


SPEC = ProcedureSpec(
    name=NAME,
    procedure=TOP_TWO,
    reference=reference,
    sample=_sample,
    variants={"plain": lambda a: a, "nobody's scores": _with_nobodys_scores},
    writes=3,
    sizes=((0, 5), (1, 1), (37, 13), (300, 77), (40, 1031)),
    compute=torch.float32,
    roundings=1,  # the difference
    source="section 3 of arXiv 2202.09028: the nearest class-centre classifier",
    bad={
        "products' dtype": Bad(
            _bad(3, lambda make: make(4, 5).half()),
            TypeError,
            "dlaccel.top_two: products must have dtype float64 or float32, got float16.",
        ),
        "number of rows": Bad(
            _bad(3, lambda make: make(3, 5)),
            ValueError,
            "dlaccel.top_two: products must have shape (4, C), got (3, 5).",
        ),
        "number of norms": Bad(
            _bad(4, lambda make: make(4)),
            ValueError,
            "dlaccel.top_two: half_norms must have shape (5,), got (4,).",
        ),
        "scores' shape": Bad(
            _bad(2, lambda make: make(4, 2)),
            ValueError,
            "dlaccel.top_two: scores must have shape (4, 3), got (4, 2).",
        ),
    },
)
FUSED_SPEC = ProcedureSpec(
    name=FUSED,
    procedure=NEAREST_CENTRES,
    reference=fused_reference,
    sample=_fused_sample,
    writes=4,
    sizes=((0, 5, 3), (1, 1, 1), (37, 13, 9), (130, 77, 33), (9, 3, 1100)),
    compute=torch.float32,
    roundings=8,  # the centred feature, its product, the sums, the score, each on two sides
    reduces=lambda size: max(1, size[2]),
    source="section 3 of arXiv 2202.09028: the nearest class-centre classifier",
    bad={
        "features' width": Bad(
            _fused_bad(4, lambda make: make(4, 5)),
            ValueError,
            "dlaccel.nearest_centres: features must have shape (N, 6), got (4, 5).",
        ),
        "centres' dtype": Bad(
            _fused_bad(6, lambda make: make(5, 6).double()),
            TypeError,
            "dlaccel.nearest_centres: centres must have dtype float32, got float64.",
        ),
        "shift's length": Bad(
            _fused_bad(5, lambda make: make(5).float()),
            ValueError,
            "dlaccel.nearest_centres: shift must have shape (6,), got (5,).",
        ),
    },
)
SPECS = (SPEC, FUSED_SPEC)
