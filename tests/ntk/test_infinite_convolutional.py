"""Convolutional kernels against dense ones on patches, wide networks, and a recursion in loops."""

import math
import re
from itertools import product
from typing import Any

import pytest
import torch
from samples import maker
from torch import Tensor
from torch.nn import functional

from dlaccel import ntk
from dlaccel.ntk import convolutional

WEIGHTS = {"weight_std": 1.3, "bias_std": 0.2}


def images(count: int, seed: int = 0) -> Tensor:
    return maker(torch.float64, "cpu", seed)(count, 2, 4, 5)


def patches(x: Tensor, size: int, padding: str) -> Tensor:
    """(N, positions, C size size)."""
    low = (size - 1) // 2
    if padding == "same":
        x = functional.pad(x, (low, size - 1 - low) * 2)
    return functional.unfold(x, size).mT


@pytest.mark.parametrize("activation", ["relu", "erf", ntk.ABRelu(-0.5, 1.0), "tanh"], ids=str)
@pytest.mark.parametrize("pooling", ["flatten", "average"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_one_convolution_is_a_dense_layer_on_patches(
    size: int, padding: Any, pooling: Any, activation: Any
) -> None:
    x, y = images(3), images(2, 1)
    y[0] = x[1]
    if activation == "tanh":
        x, y = x[:1, :, :3, :3], y[:1, :, :3, :3]
    rows, columns = (patches(t, size, padding) for t in (x, y))
    more = {"activation": activation, "nodes": 12, **WEIGHTS}
    dense = ntk.infinite(
        rows.flatten(0, 1), columns.flatten(0, 1), depth=1, readout_weight_std=1.0,
        readout_bias_std=0.0, **more,
    )  # fmt: skip
    found = ntk.infinite_convolutional(
        x, y, depth=1, filter_size=size, padding=padding, pooling=pooling,
        readout_weight_std=0.7, readout_bias_std=0.3, **more,
    )  # fmt: skip
    cells = rows.shape[1]
    for name in ("nngp", "ntk"):
        pairs = getattr(dense, name).view(len(x), cells, len(y), cells)
        own = pairs.diagonal(dim1=1, dim2=3)
        mean = pairs.mean((1, 3)) if pooling == "average" else own.mean(-1)
        torch.testing.assert_close(getattr(found, name), 0.49 * mean + 0.09, rtol=1e-13, atol=1e-13)


def in_loops(x: Tensor, y: Tensor, depth: int, pooling: str) -> tuple[float, float]:
    """NNGP and tangent kernel of ReLU and 3 x 3 same: covariances by name of the positions."""
    height, width = x.shape[1:]
    cells = list(product(range(height), range(width)))
    offsets = list(product((-1, 0, 1), repeat=2))
    w, b = WEIGHTS["weight_std"] ** 2, WEIGHTS["bias_std"] ** 2
    sides = {"xx": (x, x), "xy": (x, y), "yy": (y, y)}
    values = {
        (name, p, q): float(u[:, p[0], p[1]] @ v[:, q[0], q[1]]) / len(x)
        for name, (u, v) in sides.items()
        for p in cells
        for q in cells
    }
    tangents = dict.fromkeys(values, 0.0)

    def moved(table: dict[Any, float]) -> dict[Any, float]:
        return {
            (name, p, q): sum(
                table.get((name, (p[0] + i, p[1] + j), (q[0] + i, q[1] + j)), 0.0)
                for i, j in offsets
            )
            * (w / 9)
            for name, p, q in table
        }

    for _ in range(depth):
        values = {key: value + b for key, value in moved(values).items()}
        tangents = {key: value + values[key] for key, value in moved(tangents).items()}
        after = {}
        for (name, p, q), k in values.items():
            size = math.sqrt(values[name[0] * 2, p, p] * values[name[1] * 2, q, q])
            angle = math.acos(max(-1.0, min(1.0, k / size)))
            turned = math.sin(angle) + (math.pi - angle) * math.cos(angle)
            after[name, p, q] = size * turned / (2 * math.pi)
            tangents[name, p, q] *= (math.pi - angle) / (2 * math.pi)
        values = after
    kept = [(p, q) for p in cells for q in cells if pooling == "average" or p == q]
    k, t = (sum(table["xy", p, q] for p, q in kept) / len(kept) for table in (values, tangents))
    return w * k + b, w * k + b + w * t


@pytest.mark.parametrize("pooling", ["flatten", "average"])
def test_three_convolutions_by_loops(pooling: Any) -> None:
    x, y = images(1)[0, :, :3, :3], images(1, 1)[0, :, :3, :3]
    found = ntk.infinite_convolutional(x[None], y[None], depth=3, pooling=pooling, **WEIGHTS)
    k, t = in_loops(x, y, 3, pooling)
    # the loops' diagonal angles are off by the root of a rounding, but only x y is read
    assert abs(found.nngp.item() / k - 1) < 1e-12
    assert abs(found.ntk.item() / t - 1) < 1e-12


def wide_network(x: Tensor, width: int, pooling: str, seed: int) -> Tensor:
    """The tangent kernel of two convolutions of ``width`` channels in the NTK parametrisation."""
    make = maker(torch.float64, "cpu", seed)
    weights = [make(width, x.shape[1], 3, 3), make(width, width, 3, 3)]
    biases = [make(width), make(width)]
    cells = x.shape[2] * x.shape[3]
    last = make(width if pooling == "average" else width * cells)
    leaves = [t.requires_grad_() for t in (*weights, *biases, last)]
    rows = []
    for image in x:
        h = image[None]
        for weight, bias in zip(weights, biases, strict=True):
            scale = WEIGHTS["weight_std"] / weight[0].numel() ** 0.5
            h = functional.conv2d(h, scale * weight, WEIGHTS["bias_std"] * bias, padding=1).relu()
        flat = h.mean((2, 3)) if pooling == "average" else h.flatten(1)
        out = WEIGHTS["weight_std"] / last.numel() ** 0.5 * (flat @ last)
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(out.sum(), leaves)]))
    jacobian = torch.stack(rows)
    return jacobian @ jacobian.T + WEIGHTS["bias_std"] ** 2  # the read-out's bias


@pytest.mark.parametrize("pooling", ["flatten", "average"])
def test_wide_networks_have_this_kernel_on_average(pooling: Any) -> None:
    """Within 5 standard errors of 12 draws, some .03 each; the width's own bias is 1 / 128."""
    x = images(3)[:, :, :3, :3]
    exact = ntk.infinite_convolutional(x, depth=2, pooling=pooling, **WEIGHTS).ntk
    draws = torch.stack([wide_network(x, 128, pooling, seed) for seed in range(12)])
    error = draws.std(0) / 12**0.5
    assert (error / exact.diag().mean() < 0.05).all()
    assert ((draws.mean(0) - exact).abs() < 5 * error).all()


@pytest.mark.parametrize("pooling", ["flatten", "average"])
@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_symmetric_and_the_same_tile_by_tile(
    pooling: Any, activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = images(5)
    x[3] = x[1]
    more = {"depth": 3, "pooling": pooling, "activation": activation, **WEIGHTS}
    whole = ntk.infinite_convolutional(x, **more)
    monkeypatch.setattr(convolutional, "TILE", 4 * 400)
    tiled = ntk.infinite_convolutional(x, **more)
    single = ntk.infinite_convolutional(x.float(), x.float(), **more)
    for name in ("nngp", "ntk"):
        found = getattr(whole, name)
        assert torch.equal(found, found.T)
        torch.testing.assert_close(found, getattr(tiled, name), rtol=1e-13, atol=0)
        # equal images, of which only differences can tell
        torch.testing.assert_close(found[1, 3], found[1, 1], rtol=1e-13, atol=0)
        assert getattr(single, name).dtype == torch.float32
        torch.testing.assert_close(found.float(), getattr(single, name), rtol=1e-6, atol=0)
    torch.testing.assert_close(whole.variances1, whole.nngp.diag(), rtol=1e-13, atol=0)


def test_bad_calls_are_refused_in_one_sentence() -> None:
    x = images(2)
    cases: list[tuple[Any, str]] = [
        (lambda: ntk.infinite_convolutional(x[0], depth=1), "x1 must have shape (N, C, H, W), got"),
        (
            lambda: ntk.infinite_convolutional(x, depth=2, padding="valid"),
            "x1 must have a channel and images larger than 4, got (2, 2, 4, 5).",
        ),
        (
            lambda: ntk.infinite_convolutional(x, depth=1, filter_size=0),
            "filter_size must be a positive integer, got 0.",
        ),
        (
            lambda: ntk.infinite_convolutional(x, depth=1, pooling="max"),
            "pooling must be one of 'flatten', 'average', got 'max'.",
        ),
    ]
    for call, sentence in cases:
        with pytest.raises(ValueError, match=re.escape(f"convolutional: {sentence}")):
            call()
