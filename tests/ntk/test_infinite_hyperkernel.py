"""The hyperkernel against known values and mpmath; random Fourier features against their draws."""

import math
from importlib import import_module
from typing import Any

import pytest
import torch
from samples import maker
from torch import Tensor

from dlaccel import ntk

mpmath = pytest.importorskip("mpmath")
mp, mpf = mpmath.mp, mpmath.mpf
mp.dps = 40

# (L, H, angle between x, angle between z): s A^(H-1), K_h, and K_h without the factors s, for
# inputs root 2 (cos, sin), computed apart from this code.
KNOWN: dict[tuple[int, int, float, float], tuple[float | None, float, float | None]] = {
    (2, 2, 2.6, 0.5): (0.00533, -0.04371, -0.1009),
    (2, 3, 2.6, 0.5): (None, -0.04252, -0.0928),
    (3, 3, 0.7, 1.0): (0.48951, 2.05310, None),
    (2, 2, 0.7, 1.0): (0.45129, 1.17349, None),
    (3, 2, 0.7, 1.0): (0.47450, 1.66992, None),
}


def on_circle(angle: float) -> Tensor:
    return 2**0.5 * torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)


def of_inputs(x1: Tensor, x2: Tensor | None, hidden: int, **more: Any) -> ntk.Kernels:
    """The first network of the paper: norms are kept, the read-out is linear."""
    return ntk.infinite(x1, x2, depth=hidden, readout_weight_std=1.0, **({"gap": True} | more))


@pytest.mark.parametrize("grid", ["paired", "product"])
@pytest.mark.parametrize("case", KNOWN, ids=str)
def test_known_values(case: tuple[int, int, float, float], grid: Any) -> None:
    meta, primary, x, z = case
    f = of_inputs(on_circle(0), on_circle(x), meta - 1)
    gp, tangent, without = KNOWN[case]
    more = {"depth": primary - 1, "grid": grid}
    right = ntk.hyperkernel(f, on_circle(0), on_circle(z), **more)
    released = ntk.hyperkernel(f, on_circle(0), on_circle(z), backward_scale=False, **more)
    assert gp is None or abs(right.nngp.item() - gp) < 5.1e-6
    assert abs(right.ntk.item() - tangent) < 5.1e-6
    assert without is None or abs(released.ntk.item() - without) < 5.1e-5
    assert released.nngp.item() == right.nngp.item()


def arc(q: Any, r: Any, k: Any) -> tuple[Any, Any]:
    """kappa_1 and kappa_0."""
    size = mp.sqrt(q * r)
    angle = mp.acos(max(mpf(-1), min(mpf(1), k / size)))
    value = size * (mp.sin(angle) + (mp.pi - angle) * mp.cos(angle)) / mp.pi
    return value, (mp.pi - angle) / mp.pi


def exact(x: tuple[Tensor, Tensor], z: tuple[Tensor, Tensor], meta: int, primary: int) -> Any:
    """K and K_h in 40 digits, by the sums and products of the paper, and K's deviations."""

    def products(pair: tuple[Tensor, Tensor]) -> list[Any]:
        u, v = ([mpf(n) for n in point.tolist()] for point in pair)
        return [
            sum(a * b for a, b in zip(*two, strict=True)) / len(u)
            for two in ((u, u), (v, v), (u, v))
        ]

    xx, yy, s = products(x)
    theta = s
    for _ in range(meta):
        s, slope = arc(xx, yy, s)
        theta = s + slope * theta
    q, r, a = products(z)
    terms = [a]
    for _ in range(primary):
        a, slope = arc(xx * q, yy * r, s * a)
        terms = [s * slope * term for term in terms] + [a]
        q, r = xx * q, yy * r
    return s * a, theta * sum(terms), mp.sqrt(xx * q * yy * r)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_forty_digits_near_duplicates_and_opposites(dtype: torch.dtype, limit: float) -> None:
    """Of both inputs, near and far; to the deviations' scale where signs cancel an entry."""
    make = maker(torch.float64, "cpu", 5)
    x, z = make(6), make(4)
    steps = [0.0, 1e-8, 1e-5, 1e-3, 0.1, 2.0]
    xs = torch.stack([side * x + step * make(6) for step in steps for side in (1, -1)]).to(dtype)
    zs = torch.stack([side * z + step * make(4) for step in steps for side in (1, -1)]).to(dtype)
    f = of_inputs(xs[:1], xs, 2)
    kernels = ntk.hyperkernel(f, zs[:1], zs, depth=2, grid="product")
    for i in range(len(xs)):
        for j in range(len(zs)):
            k, t, size = exact((xs[0], xs[i]), (zs[0], zs[j]), 2, 2)
            place = i * len(zs) + j
            for ours, true, scale in ((kernels.nngp, k, size), (kernels.ntk, t, 9 * size)):
                error = abs(mpf(ours[0, place].item()) - true)
                assert error <= limit * max(abs(true), scale), (i, j, float(true))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_product_grid_is_all_pairs(dtype: torch.dtype) -> None:
    make = maker(dtype, "cpu", 1)
    x1, x2, z1, z2 = make(5, 7), make(3, 7), make(4, 2), make(6, 2)
    more = {"depth": 3, "activation": "leaky_relu"}
    grid = ntk.hyperkernel(of_inputs(x1, x2, 2), z1, z2, grid="product", **more)
    pairs = [(x.repeat_interleave(len(z), 0), z.repeat(len(x), 1)) for x, z in ((x1, z1), (x2, z2))]
    paired = ntk.hyperkernel(
        of_inputs(pairs[0][0], pairs[1][0], 2), pairs[0][1], pairs[1][1], **more
    )
    bound = 1e-5 if dtype == torch.float32 else 1e-13  # products of other shapes round otherwise
    for name in ("nngp", "ntk", "variances1", "variances2"):
        found, other = getattr(grid, name), getattr(paired, name)
        assert found.shape == other.shape
        torch.testing.assert_close(found, other, rtol=bound, atol=bound)


def test_symmetric_and_positive_and_without_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    make = maker(torch.float64, "cpu", 2)
    x, z = make(30, 5), make(30, 3)
    z[7] = 0
    kernels = ntk.hyperkernel(of_inputs(x, None, 2), z, depth=2)
    bare = ntk.hyperkernel(of_inputs(x, None, 2, gap=False), z, depth=2)
    monkeypatch.setattr(import_module("dlaccel.ntk.hyperkernel"), "PANEL", 50)
    panels = ntk.hyperkernel(of_inputs(x, None, 2), z, depth=2)
    for name in ("nngp", "ntk"):
        found = getattr(kernels, name)
        assert torch.equal(found, found.T)
        assert torch.equal(found, getattr(panels, name))
        assert torch.linalg.eigvalsh(found)[0] > -1e-13
        # an angle from the kernel's own 16 digits is off by the root of a rounding, 2e-8
        torch.testing.assert_close(getattr(bare, name), found, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(kernels.nngp.diag(), kernels.variances1, rtol=1e-12, atol=0)
    assert not kernels.ntk[7].any()


def test_no_hidden_layer_is_the_product_of_the_kernels() -> None:
    make = maker(torch.float64, "cpu", 3)
    x, z = make(6, 5), make(6, 3)
    f = of_inputs(x, None, 2)
    kernels = ntk.hyperkernel(f, z, depth=0)
    torch.testing.assert_close(kernels.ntk, f.ntk * (z @ z.T) / 3, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(kernels.nngp, f.nngp * (z @ z.T) / 3, rtol=1e-12, atol=1e-13)


def test_fourier_covariance_is_the_mean_over_features() -> None:
    """A mean of m products of sines lies within 5 / root m, being of variance at most 1."""
    make = maker(torch.float64, "cpu", 4)
    z, count, bandwidth = make(9, 2), 40_000, 0.7
    phases = torch.rand(count, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    features = (z @ make(2, count) / bandwidth + 2 * math.pi * phases).cos()
    found = ntk.fourier_covariance(z, bandwidth=bandwidth)
    assert (found.nngp - 2 * features @ features.T / count).abs().max() < 5 / count**0.5
    assert torch.equal(found.nngp, found.nngp.T)
    assert torch.equal(found.variances1, torch.ones(9, dtype=torch.float64))


def test_fourier_covariance_keeps_small_distances() -> None:
    z = torch.tensor([[3.0, 4.0], [3.0, 4.0 + 2**-20], [3.0, 4.0]])
    found = ntk.fourier_covariance(z[:1], z, bandwidth=2.0)
    assert found.gap is not None
    torch.testing.assert_close(found.gap[0, 1].item(), 2.0**-43, rtol=1e-6, atol=0)
    assert found.gap[0, 2] == 0
    kernels = ntk.hyperkernel(of_inputs(z[:1], z, 1), found, depth=1)
    assert kernels.ntk.isfinite().all()


def test_bad_calls_are_refused_in_one_sentence() -> None:
    x, z = torch.ones(3, 2), torch.ones(4, 2)
    f = of_inputs(x, None, 1)
    cases: list[tuple[Any, type[Exception], str]] = [
        (lambda: ntk.hyperkernel(x, z, depth=1), TypeError, "x_covariance must be Kernels, got"),
        (
            lambda: ntk.hyperkernel(f, z, depth=1),
            ValueError,
            "z1 must have a covariance of shape (3, 3), got (4, 4).",
        ),
        (
            lambda: ntk.hyperkernel(f, x, depth=-1),
            ValueError,
            "depth must be an integer and not negative, got -1.",
        ),
        (
            lambda: ntk.hyperkernel(f, x, depth=1, activation="erf"),
            ValueError,
            "activation must be relu, leaky_relu, abs, linear or an ABRelu, got erf.",
        ),
        (
            lambda: ntk.hyperkernel(f, x, depth=1, grid="all"),
            ValueError,
            "grid must be one of 'paired', 'product', got 'all'.",
        ),
        (
            lambda: ntk.hyperkernel(f, f, x, depth=1),
            TypeError,
            "z1 must be a tensor, or Kernels without z2, got Kernels.",
        ),
    ]
    for call, error, sentence in cases:
        with pytest.raises(error) as caught:
            call()
        assert str(caught.value).startswith(f"dlaccel.ntk.hyperkernel: {sentence}")
    with pytest.raises(ValueError, match=r"bandwidth must be positive, got 0\.0\."):
        ntk.fourier_covariance(z, bandwidth=0.0)
