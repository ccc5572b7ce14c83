"""Infinitely wide networks against neural-tangents' golden files, mpmath and each other."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import DEVICES, maker
from torch import Tensor

from dlaccel import ntk
from dlaccel.ntk import _correlations

mpmath = pytest.importorskip("mpmath")  # sympy brings it, which torch asks for
mp, mpf = mpmath.mp, mpmath.mpf
mp.dps = 40

GOLDEN = sorted((Path(__file__).parent / "golden").glob("analytic_*.npz"))
NAME = re.compile(r"analytic_(\w+)_depth(\d+)_W([\d.]+)_b([\d.]+)")
ROOT = 2**0.5

Pair = tuple[Any, Any]
Number = Any  # of mpmath


def golden(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    match = NAME.fullmatch(path.stem)
    assert match is not None
    weight = ROOT if match[3] == "1.414" else float(match[3])
    arguments = {
        "activation": match[1],
        "depth": int(match[2]),
        "weight_std": weight,
        "bias_std": float(match[4]),
    }
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}, arguments


def close(values: Tensor, expected: Tensor, kernels: ntk.Kernels, far: Tensor) -> bool:
    """To 1e-10 or 1e-6 of the entry, or of the deviations where signs cancel it away.

    Rounding the inputs to float32 alone moves a covariance by 1e-7 of the deviations.
    """
    limit = 1e-10 if values.dtype == torch.float64 else 1e-6
    size = (kernels.variances1[:, None] * kernels.variances2).sqrt().cpu().double()
    error = (values.cpu().double() - expected).abs()
    return bool((error <= limit * torch.maximum(expected.abs(), size))[far].all())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
@pytest.mark.parametrize("device", DEVICES)
def test_neural_tangents_golden_kernels(path: Path, dtype: torch.dtype, device: str) -> None:
    """Away from near duplicates, where the library itself is off by the root of a rounding."""
    data, arguments = golden(path)
    x1, x2 = (data[name].to(device, dtype) for name in ("x1", "x2"))
    for name, kernels in (
        ("11", ntk.infinite(x1, **arguments)),
        ("12", ntk.infinite(x1, x2, **arguments)),
    ):
        other = data["x1" if name == "11" else "x2"]
        far = torch.cosine_similarity(data["x1"][:, None], other[None], dim=-1) < 1 - 1e-6
        everywhere = torch.ones_like(far)
        assert kernels.ntk.dtype == dtype
        assert close(kernels.nngp, data[f"nngp_{name}"], kernels, everywhere)
        assert close(kernels.ntk, data[f"ntk_{name}"], kernels, far)
    assert len(GOLDEN) == 6


def rectifier_moments(a: float, b: float, q: Number, r: Number, k: Number) -> Pair:
    s, t, size = mpf(a), mpf(b), mp.sqrt(q * r)
    angle = mp.acos(max(mpf(-1), min(mpf(1), k / size))) if size else mp.pi / 2
    same = mp.sin(angle) + (mp.pi - angle) * mp.cos(angle)
    across = mp.sin(angle) - angle * mp.cos(angle)
    value = size / (2 * mp.pi) * ((s * s + t * t) * same - 2 * s * t * across)
    slope = ((s * s + t * t) * (mp.pi - angle) / 2 + s * t * angle) / mp.pi
    return value, slope


def erf_moments(q: Number, r: Number, k: Number) -> Pair:
    both = (1 + 2 * q) * (1 + 2 * r)
    value = 2 / mp.pi * mp.asin(2 * k / mp.sqrt(both))
    return value, 4 / mp.pi / mp.sqrt(both - 4 * k * k)


def exact(
    x: Tensor, y: Tensor, depth: int, weight: float, bias: float, moments: Callable[..., Pair]
) -> tuple[Number, Number, Number]:
    """NNGP, tangent kernel and the product of the deviations, in 40 digits."""
    u, v = ([mpf(value) for value in point.tolist()] for point in (x, y))
    w, b = mpf(weight) ** 2, mpf(bias) ** 2
    q, k, r = (
        w * sum(s * t for s, t in zip(*pair, strict=True)) / len(u) + b
        for pair in ((u, u), (u, v), (v, v))
    )
    tangent = k
    for _ in range(depth):
        value, slope = moments(q, r, k)
        q, r = (w * moments(own, own, own)[0] + b for own in (q, r))
        k = w * value + b
        tangent = k + w * slope * tangent
    return k, tangent, mp.sqrt(q * r)


def hard_points(dtype: torch.dtype) -> Tensor:
    """One point; near duplicates and near opposites of it; itself, -itself, twice itself, 0."""
    make = maker(torch.float64, "cpu", 3)
    x = make(10)
    points = [x]
    for power in range(-8, 1):
        points += [x + 10.0**power * make(10), -x + 10.0**power * make(10)]
    return torch.stack([*points, x, -x, 2 * x, 0 * x]).to(dtype)


ACTIVATIONS = {
    "relu": ("relu", lambda *k: rectifier_moments(0, 1, *k)),
    "leaky": (ntk.ABRelu(0.1, 1), lambda *k: rectifier_moments(0.1, 1, *k)),
    "abs": ("abs", lambda *k: rectifier_moments(-1, 1, *k)),
    "nearly abs": (ntk.ABRelu(-0.9, 1), lambda *k: rectifier_moments(-0.9, 1, *k)),
    "erf": ("erf", erf_moments),
}


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
@pytest.mark.parametrize(("depth", "weight", "bias"), [(1, ROOT, 0), (5, 1.3, 0.3), (10, ROOT, 0)])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_forty_digits_from_identical_to_opposite(
    name: str, depth: int, weight: float, bias: float, dtype: torch.dtype, limit: float
) -> None:
    """Relative to the entry, or to the deviations where signs cancel it away."""
    activation, moments = ACTIVATIONS[name]
    points = hard_points(dtype)
    kernels = ntk.infinite(
        points[:1], points, depth=depth, activation=activation, weight_std=weight, bias_std=bias
    )
    for j, point in enumerate(points):
        k, t, size = exact(points[0], point, depth, weight, bias, moments)
        for ours, true in ((kernels.nngp, k), (kernels.ntk, t)):
            error = abs(mpf(ours[0, j].item()) - true)
            assert error <= limit * max(abs(true), size), (j, ours[0, j].item(), float(true))


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("width", [_correlations.WIDE, 700])
def test_wide_float32_inputs_from_identical_to_opposite(width: int, crowded: bool) -> None:
    """Their product is one of float32, but for near pairs; where those crowd, it is not."""
    make = maker(torch.float64, "cpu", 4)
    points = 1 + make(300, width)  # of correlation 1 / 2
    points[1::2] = points[0] + 0.3 * make(150, width) if crowded else points[1::2]
    for place, power in enumerate((-8, -5, -4, -3, -2, -1)):
        side = 1 - 2 * (place % 2)
        points[7 * place + 7] = side * points[0] + 10.0**power * make(width)
    points[60], points[61], points[62] = points[0], -points[0], 0 * points[0]
    points = points.float()
    kernels = ntk.infinite(points, depth=3, bias_std=0.1)
    exactly = ntk.infinite(points.double(), depth=3, bias_std=0.1)
    size = (exactly.variances1[:, None] * exactly.variances1).sqrt()
    for name in ("nngp", "ntk"):
        found, true = getattr(kernels, name), getattr(exactly, name)
        assert torch.equal(found, found.T)
        assert ((found.double() - true).abs() <= 1e-6 * torch.maximum(true.abs(), size)).all()
    k, t, _ = exact(points[0], points[14], 3, ROOT, 0.1, ACTIVATIONS["relu"][1])
    assert abs(kernels.nngp[0, 14].item() / k - 1) < 1e-6
    assert abs(kernels.ntk[0, 14].item() / t - 1) < 1e-6


def test_a_shallow_relu_keeps_what_is_left_of_opposites() -> None:
    """The kernel is then the cube of the angle that is missing; a rounding of 1 would drown it."""
    x = maker(torch.float64, "cpu")(2, 10)
    points = torch.stack([x[0], -x[0] + 1e-3 * x[1]])
    kernels = ntk.infinite(points[:1], points[1:], depth=1)
    k, t, size = exact(*points, 1, ROOT, 0.0, ACTIVATIONS["relu"][1])
    assert abs(float(k / size)) < 1e-9
    assert abs(kernels.nngp.item() / k - 1) < 1e-12
    assert abs(kernels.ntk.item() / t - 1) < 1e-12


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "erf", "tanh"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_symmetric_kernel_is_symmetric_and_the_same(
    activation: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one panel and in many; products of other shapes round otherwise."""
    count = 9 if activation == "tanh" else 150
    x = maker(dtype, "cpu")(count, 6)
    x[3], x[4] = x[1], -x[2]
    more = {"depth": 3, "activation": activation, "bias_std": 0.2, "gap": True, "nodes": 16}
    whole = ntk.infinite(x, **more)
    rectangular = ntk.infinite(x, x.clone(), **more)
    monkeypatch.setattr(_correlations, "PANEL", 1)
    tiled = ntk.infinite(x, **more)
    for kernels in (whole, tiled):
        for name in ("nngp", "ntk", "gap"):
            found, other = getattr(kernels, name), getattr(rectangular, name)
            assert torch.equal(found, found.T)
            torch.testing.assert_close(found, other, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(kernels.nngp.diag(), kernels.variances1, rtol=1e-6, atol=0)
        assert torch.equal(kernels.variances1, rectangular.variances2)
    assert torch.linalg.eigvalsh(whole.ntk.double())[0] > -1e-5


def test_half_types_and_no_points_and_no_numbers() -> None:
    x = maker(torch.bfloat16, "cpu")(4, 3)
    kernels = ntk.infinite(x, depth=2)
    assert kernels.ntk.dtype == torch.float32
    assert torch.equal(kernels.ntk, ntk.infinite(x.float(), depth=2).ntk)
    for shape in ((0, 3), (2, 0)):
        empty = ntk.infinite(torch.zeros(shape), depth=2, bias_std=0.5)
        assert empty.ntk.shape == (shape[0], shape[0])
        assert empty.ntk.isfinite().all()


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e150])
def test_the_range_of_the_inputs_does_not_matter(scale: float) -> None:
    """A rectifier's kernel is homogeneous of degree 2; its entries may leave the range, not NaN."""
    x = maker(torch.float64, "cpu")(5, 4)
    plain, scaled = (ntk.infinite(factor * x, depth=4) for factor in (1.0, scale))
    expected = plain.ntk * scale * scale
    torch.testing.assert_close(scaled.ntk, expected, rtol=1e-12, atol=1e-300)
    assert ntk.infinite((1e30 * x).float(), depth=2).ntk.diag().isinf().all()


def test_zero_depth_is_the_read_out() -> None:
    x = maker(torch.float64, "cpu")(5, 4)
    for activation in ("relu", "erf", "tanh"):
        kernels = ntk.infinite(
            x, depth=0, activation=activation, readout_weight_std=2.0, readout_bias_std=0.5
        )
        torch.testing.assert_close(kernels.ntk, x @ x.T + 0.25, rtol=1e-13, atol=1e-14)
        assert torch.equal(kernels.nngp, kernels.ntk)


def test_quadrature_has_the_closed_forms() -> None:
    """erf's kernel is a series in 2 q / (1 + 2 q) with coefficients below 1; of its powers, n nodes
    have those below 2 n.
    """
    x = maker(torch.float64, "cpu")(6, 5)
    x[3] = x[1] + 1e-5
    arguments = {"depth": 3, "weight_std": 0.8, "bias_std": 0.1}
    closed = ntk.infinite(x, activation="erf", **arguments)
    general = ntk.infinite(x, activation=torch.erf, nodes=48, **arguments)
    top = 2 * ntk.infinite(x, **(arguments | {"depth": 0})).variances1.max().item()
    left = (top / (1 + top)) ** 48
    assert left < 1e-7
    for name in ("nngp", "ntk", "variances1"):
        torch.testing.assert_close(
            getattr(general, name), getattr(closed, name), rtol=left, atol=left
        )
    linear = ntk.infinite(x, activation=lambda u: 3 * u, **arguments)
    expected = ntk.infinite(x, activation=ntk.ABRelu(3, 3), **arguments)
    torch.testing.assert_close(linear.ntk, expected.ntk, rtol=1e-11, atol=1e-11)


BAD = {
    "axes": (
        lambda x: ntk.infinite(x[0], depth=1),
        ValueError,
        "x1 must have shape (N, d), got (3,)",
    ),
    "width": (
        lambda x: ntk.infinite(x, x[:, :2], depth=1),
        ValueError,
        "x2 must have x1's shape (3,) behind the first axis, got (2,)",
    ),
    "dtype": (
        lambda x: ntk.infinite(x.long(), depth=1),
        TypeError,
        "x1 must have dtype float64, float32, bfloat16 or float16, got int64",
    ),
    "depth": (
        lambda x: ntk.infinite(x, depth=-1),
        ValueError,
        "depth must be an integer and not negative, got -1",
    ),
    "bias": (
        lambda x: ntk.infinite(x, depth=1, bias_std=float("nan")),
        ValueError,
        "bias_std must be finite and not negative, got nan",
    ),
    "activation": (
        lambda x: ntk.infinite(x, depth=1, activation="swish"),
        ValueError,
        "activation must be one of 'relu', 'leaky_relu', 'abs', 'linear', 'erf', 'tanh', "
        "'sigmoid', 'gelu', 'silu', 'sin', got 'swish'",
    ),
    "no activation": (
        lambda x: ntk.infinite(x, depth=1, activation=3),  # type: ignore[arg-type]
        TypeError,
        "activation must be a name, an ABRelu or a function, got int",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_calls_are_refused_in_one_sentence(name: str) -> None:
    call, error, sentence = BAD[name]
    with pytest.raises(error) as caught:
        call(torch.zeros(2, 3))
    assert str(caught.value) == f"dlaccel.ntk.infinite: {sentence}."


def test_a_rectifier_must_be_one() -> None:
    with pytest.raises(ValueError, match=r"ABRelu: a and b must be finite and not both 0, got"):
        ntk.ABRelu(0.0, 0.0)
