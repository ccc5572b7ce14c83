"""Taylor terms along a gradient, exactly and to any order, without automatic differentiation.

Near w no neuron of a ReLU network changes its side, so that h(w + t D) is a polynomial in t there.
Its coefficients go through the layers as stacks ``[S, K, B, width]`` (K coefficients):
y_k = W q_k + D q_(k-1), where D, a sum of gradients delta q^T, is never formed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .networks import ROOT2, Architecture, Pass


def output_jet(
    architecture: Architecture,
    weights: Sequence[Tensor],
    at: Pass,
    z: Tensor,
    amounts: Tensor,
    order: int,
) -> Tensor:
    """Derivatives in t at 0 of h(u_b; w + t D), D = sum_c amounts_c grad h(u_c).

    With the activation patterns of ``at``. For one input and amount 1 these are the paper's K^(r).

    Args:
        architecture: Sizes of the networks.
        weights: W^l.
        at: h and its gradient at these weights.
        z: ``[B, m_0]``.
        amounts: ``[S, B]``.
        order: The highest derivative R.

    Returns:
        ``[S, R + 1, B]``.
    """
    q = at.inputs[0][:, None]
    masks = [*at.meta_masks, None]
    for weight, mask, source, delta in zip(weights, masks, at.inputs, at.deltas, strict=True):
        into = q.shape[-1]
        y = _padded(q @ weight[:, None].mT / math.sqrt(into), order)
        along = q @ source[:, None].mT * (amounts / into)[:, None, None]
        grown = along @ delta[:, None]
        kept = min(grown.shape[1], y.shape[1] - 1)
        y[:, 1 : kept + 1] += grown[:, :kept]
        q = y if mask is None else ROOT2 * y * mask[:, None]
    values = _primary_jet(architecture, q, at, z, order) if architecture.primary else q[..., 0]
    whole = values.new_zeros(len(values), order + 1, values.shape[-1])
    whole[:, : values.shape[1]] = values
    return whole * _factorials(order, whole)[:, None]


def cost_jet(outputs: Tensor, targets: Tensor) -> Tensor:
    """Derivatives of c = mean_b (h_b - y_b)^2 / 2 from those of h, ``[S, R + 1]``."""
    order = outputs.shape[1] - 1
    factorials = _factorials(order, outputs)
    residual = outputs / factorials[:, None]
    residual[:, 0] -= targets
    square = torch.stack(
        [
            sum((residual[:, i] * residual[:, r - i] for i in range(r + 1)), torch.tensor(0.0))
            for r in range(order + 1)
        ],
        1,
    )
    return square.mean(-1) / 2 * factorials


def _primary_jet(architecture: Architecture, y: Tensor, at: Pass, z: Tensor, order: int) -> Tensor:
    """Coefficients of h from those of y^L: products of polynomials, layer by layer."""
    blocks = torch.split(y, [out * into for out, into in architecture.primary], -1)
    a = z.expand(len(y), *z.shape[-2:])[:, None]
    masks = [*at.primary_masks, None]
    for (out, into), v, mask in zip(architecture.primary, blocks, masks, strict=True):
        matrices = torch.unflatten(v, -1, (out, into))
        degree = min(order, v.shape[1] + a.shape[1] - 2)
        u = y.new_zeros(len(y), degree + 1, y.shape[2], out)
        for k in range(a.shape[1]):
            kept = min(v.shape[1], degree + 1 - k)
            u[:, k : k + kept] += (matrices[:, :kept] @ a[:, k, None, :, :, None])[..., 0]
        u /= math.sqrt(into)
        a = u if mask is None else ROOT2 * u * mask[:, None]
    return a[..., 0]


def _padded(stack: Tensor, order: int) -> Tensor:
    """With room for one more coefficient, up to ``order``."""
    if stack.shape[1] > order:
        return stack
    return torch.nn.functional.pad(stack, (0, 0, 0, 0, 0, 1))


def _factorials(order: int, like: Tensor) -> Tensor:
    return like.new_tensor([math.factorial(r) for r in range(order + 1)])
