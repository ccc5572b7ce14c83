r"""A matrix product whose second factor is converted while it is packed.

.. math:: out \mathrel{(+)}= a\, b^\top

with a (M, K) and out (M, N) in float32 and b (N, K) in float32, bfloat16 or float16, summed in
float32. Rows of out have unit stride; where those of a have not, a is copied. It serves processors
without products in half types, where torch multiplies in scalar code and a float32 copy of the
weights would cost memory. Elsewhere torch's own product is the better.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _check
from .._procedure import Procedure
from .._spec import Bad, Make, ProcedureSpec, Shape, replacing

NAME = "mixed_product"


def reference(out: Tensor, a: Tensor, b: Tensor, add: int) -> None:
    """Writes, or adds where ``add``, the product into ``out``; ``check`` has seen the arguments."""
    product = a @ b.to(a.dtype).T
    out.copy_(out + product if add else product)


def check(out: Tensor, a: Tensor, b: Tensor, add: int) -> None:
    """Refuses other shapes, dtypes and devices, and rows of ``out`` or ``a`` with gaps."""
    _check.tensors(NAME, {"out": out, "a": a, "b": b})
    for name, value in {"a": a, "out": out, "b": b}.items():
        if value.ndim != 2:
            _check.refuse(NAME, name, "have two axes", tuple(value.shape), ValueError)
        if value.device != a.device:
            _check.refuse(NAME, name, f"be on device {a.device}", value.device, ValueError)
    _check.dtype(NAME, {"a": a, "out": out}, torch.float32)
    _check.dtype(NAME, {"b": b}, torch.float32, torch.bfloat16, torch.float16)
    if out.shape[1] > 1 and out.stride(1) != 1:
        _check.refuse(NAME, "out", "have rows of unit stride", out.stride(), ValueError)
    if b.shape[1] != a.shape[1]:
        _check.refuse(NAME, "b", f"have shape (N, {a.shape[1]})", tuple(b.shape), ValueError)
    if out.shape != (a.shape[0], b.shape[0]):
        rule = f"have shape {(a.shape[0], b.shape[0])}"
        _check.refuse(NAME, "out", rule, tuple(out.shape), ValueError)


PROCEDURE = Procedure(
    name=NAME,
    schema="Tensor(a!) out, Tensor a, Tensor b, int add",
    reference=reference,
    check=check,
)


def _sample(size: Shape, make: Make) -> tuple[Any, ...]:
    rows, columns, depth = size
    b = make(columns, depth)
    half = b if b.dtype != torch.float64 else b.float()
    return make(rows, columns).float(), make(rows, depth).float(), half, 0


_with = replacing(PROCEDURE, lambda make: _sample((2, 3, 4), make))


SPEC = ProcedureSpec(
    name=NAME,
    procedure=PROCEDURE,
    reference=reference,
    sample=_sample,
    variants={
        "replaced": lambda a: a,
        "added": lambda a: (*a[:3], 1),
        "b by columns": lambda a: (*a[:2], a[2].T.contiguous().T, 1),
    },
    writes=1,
    sizes=((0, 5, 3), (1, 1, 1), (7, 37, 19), (130, 70, 401), (65, 300, 900)),
    roundings=2,
    compute=torch.float32,
    reduces=lambda size: max(1, size[2]),
    source="Goto, van de Geijn 2008, packing of panels",
    bad={
        "b's width": Bad(
            _with(2, lambda make: make(3, 5)),
            ValueError,
            "dlaccel.mixed_product: b must have shape (N, 4), got (3, 5).",
        ),
        "out's shape": Bad(
            _with(0, lambda make: make(2, 2)),
            ValueError,
            "dlaccel.mixed_product: out must have shape (2, 3), got (2, 2).",
        ),
        "a's dtype": Bad(
            _with(1, lambda make: make(2, 4).double()),
            TypeError,
            "dlaccel.mixed_product: a must have dtype float32, got float64.",
        ),
    },
)
