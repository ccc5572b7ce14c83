"""Linear layers, what a point has behind each of them, and the checks of the arguments."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _check
from ._activations import ABRelu
from ._correlations import Points


@dataclass(frozen=True)
class Layer:
    """Standard deviations of a linear layer's weights and of its biases."""

    weight: float
    bias: float


def rectified_table(points: Points, layers: list[Layer], rectifier: ABRelu) -> Tensor:
    """The table of ``ntk_rectified``, float64."""
    deviations, gain = points.deviations, 1.0
    shares, offsets = [], []
    for layer in layers:
        own = layer.weight * gain * deviations
        deviations = torch.hypot(own, torch.full_like(own, layer.bias))
        some = torch.where(deviations == 0, 1.0, deviations)
        shares.append(torch.where(deviations == 0, 1.0, own / some))
        offsets.append(layer.bias / some)
        gain = rectifier.gain
    return torch.stack([*shares, *offsets, deviations])


def erf_table(points: Points, layers: list[Layer]) -> tuple[Tensor, Tensor]:
    """The table of ``ntk_erf``, float64, and the deviations of the output."""
    first, *later = layers
    share, offset, deviations = rectified_table(points, [first], ABRelu(1.0, 1.0))
    table = [share, offset, deviations]
    for layer in later:
        variance = deviations.square()
        table.append((1 + 2 * variance).rsqrt())
        # asin(2 q / (1 + 2 q)) without its loss near 1
        arc = torch.atan2(2 * variance, (1 + 4 * variance).sqrt())
        deviations = (layer.weight**2 * (2 / math.pi) * arc + layer.bias**2).sqrt()
    inverse = torch.where(deviations == 0, 0.0, 1 / deviations)
    return torch.stack([*table, inverse]), deviations


def check_inputs(op: str, x1: Tensor, x2: Tensor | None, axes: int, shape: str) -> None:
    """Both are floating, of one width and device."""
    named = {"x1": x1} | ({} if x2 is None else {"x2": x2})
    _check.tensors(op, named)
    _check.floating(op, named)
    for name, value in named.items():
        if value.ndim != axes:
            _check.refuse(op, name, f"have shape {shape}", tuple(value.shape), ValueError)
        if value.shape[1:] != x1.shape[1:]:
            rule = f"have x1's shape {tuple(x1.shape[1:])} behind the first axis"
            _check.refuse(op, name, rule, tuple(value.shape[1:]), ValueError)
        if value.device != x1.device:
            _check.refuse(op, name, f"be on x1's device {x1.device}", value.device, ValueError)


def check_layers(
    op: str,
    depth: int,
    weight_std: float,
    bias_std: float,
    readout_weight_std: float | None,
    readout_bias_std: float | None,
) -> list[Layer]:
    """The depth + 1 linear layers; the read-out is like the others where nothing else is said."""
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 0:
        _check.refuse(op, "depth", "be an integer and not negative", depth, ValueError)
    last_weight = weight_std if readout_weight_std is None else readout_weight_std
    last_bias = bias_std if readout_bias_std is None else readout_bias_std
    for name, value in (
        ("weight_std", weight_std),
        ("bias_std", bias_std),
        ("readout_weight_std", last_weight),
        ("readout_bias_std", last_bias),
    ):
        if not (math.isfinite(value) and value >= 0):
            _check.refuse(op, name, "be finite and not negative", value, ValueError)
    return [Layer(weight_std, bias_std)] * depth + [Layer(last_weight, last_bias)]
