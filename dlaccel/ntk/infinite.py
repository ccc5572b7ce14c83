r"""Kernels of infinitely wide fully connected networks.

.. math::
    \Sigma^0 = w^2 \langle x, x' \rangle / d + b^2, \qquad
    \Sigma^l = w^2 E[\phi(u) \phi(v)] + b^2, \qquad
    \Theta^l = \Sigma^l + w^2 E[\phi'(u) \phi'(v)] \, \Theta^{l-1},

with (u, v) Gaussian of covariance :math:`\Sigma^{l-1}` and :math:`\Theta^0 = \Sigma^0`: L hidden
layers and a read-out, the conventions of neural-tangents.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..ops.ntk_recursion import NTK_ERF, NTK_RECTIFIED, place
from ._activations import ABRelu, Activation, Function, resolve
from ._correlations import Panel, Points, panels
from ._kernels import Kernels
from ._points import (
    Layer,
    check_inputs,
    check_layers,
    erf_table,
    rectified_table,
)
from ._quadrature import NODES, Quadrature

OP = "ntk.infinite"
_Write = Callable[[Panel, tuple[Tensor, Tensor, Tensor], bool], None]


@torch.no_grad()
def infinite(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    depth: int,
    activation: Activation = "relu",
    weight_std: float = 2**0.5,
    bias_std: float = 0.0,
    readout_weight_std: float | None = None,
    readout_bias_std: float | None = None,
    gap: bool = False,
    nodes: int = NODES,
) -> Kernels:
    r"""NNGP and tangent kernel of a network of infinite width in the NTK parametrisation.

    Rectifiers and erf run through all layers in one pass over the entries, in a form that carries
    1 - cos of the angle: near-duplicate and opposite inputs lose no digits, in float32 either. All
    other activations go through Gauss-Hermite quadrature, which is slow, and sure where the
    activation is smooth.

    Args:
        x1: Inputs, (N, d).
        x2: Others, (M, d); ``x1`` itself where None: half is computed, bitwise symmetric.
        depth: Hidden layers L; 0 is the read-out alone.
        activation: relu, leaky_relu (slope .01), abs, linear, erf, tanh, sigmoid, gelu, silu, sin,
            an :class:`ABRelu`, or a function of a tensor, entry by entry.
        weight_std: w.
        bias_std: b.
        readout_weight_std: w of the read-out; ``weight_std`` where None.
        readout_bias_std: b of the read-out; ``bias_std`` where None.
        gap: Also gives 1 - |correlation| of the NNGP, which :func:`hyperkernel` wants.
        nodes: Of the quadrature along each of its two axes.

    Returns:
        Float64 where an input is, else float32. No gradient flows through it.

    Raises:
        TypeError: An input is no floating tensor, or the activation no activation.
        ValueError: Shapes or devices do not fit, or a number is out of its range.

    Source: Jacot et al. 2018 (arXiv 1806.07572), eq. 3 and theorem 1; Cho and Saul 2009; Williams
    1996 for erf.
    """
    check_inputs(OP, x1, x2, 2, "(N, d)")
    layers = check_layers(OP, depth, weight_std, bias_std, readout_weight_std, readout_bias_std)
    phi = resolve(OP, activation)
    symmetric = x2 is None or x2 is x1
    points = Points(x1)
    others = points if x2 is None or x2 is x1 else Points(x2)
    exact = any(x is not None and x.dtype == torch.float64 for x in (x1, x2))
    dtype = torch.float64 if exact else torch.float32
    if isinstance(phi, ABRelu):
        write, deviations = _rectified(phi, points, others, layers)
    elif isinstance(phi, str):
        write, deviations = _erf(points, others, layers)
    else:
        write, deviations = _quadrature(phi, nodes, points, others, layers)

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=x1.device)

    shape = (len(points), len(others))
    kernels = (empty(*shape), empty(*shape), empty(*shape) if gap else empty(0, 0))
    for panel in panels(points, others, exact, symmetric):
        write(panel, kernels, symmetric)
    variances1, variances2 = (each.square().to(dtype) for each in deviations)
    return Kernels(kernels[0], kernels[1], variances1, variances2, kernels[2] if gap else None)


def _rectified(
    rectifier: ABRelu, points: Points, others: Points, layers: list[Layer]
) -> tuple[_Write, tuple[Tensor, Tensor]]:
    rows = rectified_table(points, layers, rectifier)
    columns = rows if others is points else rectified_table(others, layers, rectifier)
    biased = any(layer.bias for layer in layers)

    def write(panel: Panel, kernels: tuple[Tensor, Tensor, Tensor], symmetric: bool) -> None:
        tables = (rows[:, panel.rows], columns[:, panel.columns])
        NTK_RECTIFIED(
            *kernels, panel.cosine, panel.gaps, *tables, len(layers) - 1, rectifier.contrast,
            biased, panel.rows.start, symmetric,
        )  # fmt: skip

    return write, (rows[-1], columns[-1])


def _erf(
    points: Points, others: Points, layers: list[Layer]
) -> tuple[_Write, tuple[Tensor, Tensor]]:
    rows, own = erf_table(points, layers)
    columns, theirs = (rows, own) if others is points else erf_table(others, layers)
    squares = (layer**2 for end in (layers[0], layers[-1]) for layer in (end.weight, end.bias))
    numbers = tuple(squares)

    def write(panel: Panel, kernels: tuple[Tensor, Tensor, Tensor], symmetric: bool) -> None:
        tables = (rows[:, panel.rows], columns[:, panel.columns])
        NTK_ERF(
            *kernels, panel.cosine, panel.gaps, *tables, len(layers) - 1, *numbers,
            panel.rows.start, symmetric,
        )  # fmt: skip

    return write, (own, theirs)


def _quadrature(
    function: Function, nodes: int, points: Points, others: Points, layers: list[Layer]
) -> tuple[_Write, tuple[Tensor, Tensor]]:
    rule = Quadrature(function, nodes, points.deviations.device)
    rows = rule.deviations(points, layers)
    columns = rows if others is points else rule.deviations(others, layers)

    def write(panel: Panel, kernels: tuple[Tensor, Tensor, Tensor], symmetric: bool) -> None:
        mine = [layer[panel.rows] for layer in rows]
        theirs = [layer[panel.columns] for layer in columns]
        inputs = (points.deviations[panel.rows], others.deviations[panel.columns])
        entries = rule.entries(panel.cosine, mine, theirs, layers, inputs)
        place(kernels, entries, panel.rows.start, symmetric)

    return write, (rows[-1], columns[-1])
