r"""The kernels of a hypernetwork of two infinitely wide networks, all layers at once.

Entry by entry, for the correlation s of the first network's outputs and c of the second's inputs,
each with its gap 1 - |.|, and a rectifier of contrast k:

.. math::
    c_0 = c, \quad t_0 = c, \qquad
    c_{l+1} = \kappa_1(s c_l), \quad t_{l+1} = c_{l+1} + f \, \kappa_0(s c_l) \, t_l,

with :math:`f = s`; written are :math:`p \, q \, s \, c_L` and :math:`p \, q \, \theta \, t_L`,
where p and q are the deviations of the two points and :math:`\theta` is the first network's tangent
kernel over its deviations. Every operand may be an expanded view: a product grid is one of four
axes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _check
from .._procedure import Procedure
from .._spec import Bad, Make, ProcedureSpec, Shape
from ._arc_cosine import rectify

NAME = "hyperkernel_recursion"
OPERANDS = ("cosine", "gap", "inputs", "input_gap", "factor", "first", "left", "right")


def reference(
    nngp: Tensor,
    tangent: Tensor,
    cosine: Tensor,
    gap: Tensor,
    inputs: Tensor,
    input_gap: Tensor,
    factor: Tensor,
    first: Tensor,
    left: Tensor,
    right: Tensor,
    layers: int,
    contrast: float,
) -> None:
    """Writes both kernels; ``check`` has seen the arguments."""
    found, rest, total = inputs, input_gap, inputs
    for _ in range(layers):
        found, rest = cosine * found, gap + rest * (1 - gap)
        found, rest, slope = rectify(found, rest, contrast)
        total = found + factor * slope * total
    nngp.copy_(left * right * cosine * found)
    tangent.copy_(left * right * first * total)


def check(nngp: Tensor, tangent: Tensor, *rest: Any) -> None:
    """Refuses what the kernel must not see."""
    *operands, layers, contrast = rest
    named = dict(zip(OPERANDS, operands, strict=True))
    _check.tensors(NAME, {"nngp": nngp, "tangent": tangent} | named)
    _check.dtype(NAME, {"nngp": nngp}, torch.float64, torch.float32)
    _check.same(NAME, "nngp", {"nngp": nngp, "tangent": tangent} | named)
    if layers < 0:
        _check.refuse(NAME, "layers", "not be negative", layers, ValueError)
    if not 0 <= contrast <= 2:
        _check.refuse(NAME, "contrast", "lie in [0, 2]", contrast, ValueError)


PROCEDURE = Procedure(
    name=NAME,
    schema="Tensor(a!) nngp, Tensor(b!) tangent, "
    + "".join(f"Tensor {name}, " for name in OPERANDS)
    + "int layers, float contrast",
    reference=reference,
    check=check,
)

LAYERS = 3


def _sample(dtype: torch.dtype, contrast: float, size: Shape, make: Make) -> tuple[Any, ...]:
    """Correlations of both signs, identical and opposite ones among them."""
    operands = []
    for _ in range(2):
        cosine = torch.tanh(make(*size).double())
        cosine[..., :1] = torch.sign(cosine[..., :1])
        operands += [cosine, 1 - cosine.abs()]
    operands += [operands[0], make(*size).double()]
    operands += [make(*size).double().abs() + 0.5 for _ in range(2)]
    state = [torch.full_like(operands[0], 3, dtype=dtype) for _ in range(2)]
    return (*state, *(value.to(dtype) for value in operands), LAYERS, contrast)


def _spec(dtype: torch.dtype) -> ProcedureSpec:
    return ProcedureSpec(
        name=NAME,
        procedure=PROCEDURE,
        reference=reference,
        sample=lambda size, make: _sample(dtype, 1.0, size, make),
        variants={
            "relu": lambda arguments: arguments,
            "abs": lambda arguments: (*arguments[:-1], 2.0),
            "leaky": lambda arguments: (*arguments[:-1], 0.8),
        },
        writes=2,
        sizes=((0, 3), (1, 1), (9, 5), (37, 131), (3, 5, 7, 70)),
        # A layer has some 12 roundings; at most as much again for the angle, which grows as the
        # root of a gap that is off.
        roundings=24 * LAYERS,
        compute=dtype,
        source="Littwin, Galanti, Wolf, Yang 2020, arXiv 2003.12193",
        bad={
            "shape": Bad(
                lambda make: PROCEDURE(
                    *(make(2, 3).float() for _ in range(9)), make(3, 2).float(), 1, 1.0
                ),
                ValueError,
                "dlaccel.hyperkernel_recursion: right must have the shape of nngp (2, 3), got "
                "(3, 2).",
            ),
            "contrast": Bad(
                lambda make: PROCEDURE(*(make(2, 3).float() for _ in range(10)), 1, 3.0),
                ValueError,
                "dlaccel.hyperkernel_recursion: contrast must lie in [0, 2], got 3.0.",
            ),
        },
    )


SPECS = (_spec(torch.float32), _spec(torch.float64))
