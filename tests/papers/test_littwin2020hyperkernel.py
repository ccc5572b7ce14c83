"""Arxiv 2003.12193: kernels in closed form, finite networks, their Taylor terms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import jvp

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from dlaccel.experiment import Records, Row
from dlaccel.papers.littwin2020hyperkernel import concentration, rates, theory
from dlaccel.papers.littwin2020hyperkernel.jets import cost_jet, output_jet
from dlaccel.papers.littwin2020hyperkernel.networks import (
    Architecture,
    forward_backward,
    outputs,
)
from dlaccel.papers.littwin2020hyperkernel.theory import Covariance

CPU = torch.device("cpu")
ROUNDING = 1e-12
"""Float64 sums of some hundred numbers of order one, with a factor of ten to spare."""

ARCHITECTURES = [
    Architecture.of(3, 5, 4, 0, 0),
    Architecture.of(3, 6, 3, 4, 2),
    Architecture.of(3, 6, 2, 4, 3),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


# Closed forms


@pytest.mark.parametrize(
    ("meta", "primary", "x", "z", "gp", "tangent"),
    [
        (2, 2, 2.6, 0.5, 0.00533, -0.04371),
        (2, 3, 2.6, 0.5, None, -0.04252),
        (3, 3, 0.7, 1.0, 0.48951, 2.05310),
        (2, 2, 0.7, 1.0, 0.45129, 1.17349),
        (3, 2, 0.7, 1.0, 0.47450, 1.66992),
    ],
)
def test_kernels_have_the_values_of_the_note(
    meta: int, primary: int, x: float, z: float, gp: float | None, tangent: float
) -> None:
    found = concentration.kernels_at(x, z, meta, primary)
    half = 5.001e-6  # of the fifth decimal, to which the note prints
    assert gp is None or found.gp.item() == pytest.approx(gp, abs=half)
    assert found.tangent.item() == pytest.approx(tangent, abs=half)


def test_kernel_without_the_factor_has_the_value_of_the_note() -> None:
    assert concentration.kernels_at(2.6, 0.5, 2, 2, False).tangent.item() == pytest.approx(
        -0.1009, abs=5.001e-5
    )
    assert concentration.kernels_at(2.6, 0.5, 2, 3, False).tangent.item() == pytest.approx(
        -0.0928, abs=5.001e-5
    )


def test_covariance_of_outputs_of_f_has_the_value_of_the_note() -> None:
    x = concentration.on_circle(torch.tensor([0.0, 2.6], dtype=torch.float64))
    s, _ = theory.meta_kernels(Covariance.of(x[:1], x[1:]), 2)
    assert s.cross.item() == pytest.approx(0.01637, abs=5.001e-6)


@pytest.mark.parametrize("rho", [-1.0, -0.7, 0.0, 0.3, 0.999, 1.0])
def test_expectations_of_rectifiers_by_quadrature(rho: float) -> None:
    # 2 E[relu(a) relu(b)] on the half plane's angles: with a = r cos t, b = r cos(t - theta) and
    # E r^2 = 2 it is the integral of 2 * 2 cos(t) cos(t - theta) / (2 pi) where both are positive.
    p = Covariance(*(torch.tensor([v], dtype=torch.float64) for v in (rho * 6, 4.0, 9.0)))
    theta = math.acos(rho)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    low, high = theta - math.pi / 2, math.pi / 2
    t = low + (nodes + 1) / 2 * (high - low)
    first = (weights * 4 * np.cos(t) * np.cos(t - theta)).sum() * (high - low) / 2 / (2 * math.pi)
    assert theory.kappa1(p).cross.item() == pytest.approx(6 * first, abs=ROUNDING)
    assert theory.kappa0(p).item() == pytest.approx((high - low) / math.pi, abs=ROUNDING)


def test_kernels_of_equal_inputs_are_exact() -> None:
    # All covariances are one: Theta_f = L, Theta_g = H.
    one = Covariance(*[torch.ones(1, dtype=torch.float64)] * 3)
    found = theory.hyperkernel(one, one, 3, 4)
    assert found.tangent.item() == pytest.approx(12, abs=ROUNDING)
    assert found.gp.item() == pytest.approx(1, abs=ROUNDING)


def test_exponents() -> None:
    assert [theory.term_exponent(r, 0, False) for r in (1, 2, 3, 4)] == [0, -1, -2, -3]
    assert [theory.term_exponent(r, 2, False) for r in (1, 2, 3, 4)] == [0, 0, -1, -2]
    assert [theory.term_exponent(r, 3, True) for r in (1, 2, 3)] == [0, -1, -2]
    # The cost of a linear network has a second derivative, h'^2, and no third.
    assert [theory.cost_exponent(r, 0, False) for r in (1, 2, 3, 4)] == [0, 0, -1, -2]
    assert [theory.cost_exponent(r, 2, False) for r in (1, 2, 3, 4, 5)] == [0, 0, 0, 0, -1]


# Finite networks


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_in_factors_are_those_of_autograd(architecture: Architecture) -> None:
    weights = architecture.draw(2, generator(), CPU, torch.float64)
    x, z = draw(4, 3, seed=1), draw(4, 3, seed=2)
    found = forward_backward(architecture, weights, x, z)
    kernels = found.tangent_kernel()
    for network in range(2):
        own = [weight[network : network + 1].clone().requires_grad_() for weight in weights]
        values = outputs(architecture, own, x, z)[0]
        rows = [
            torch.cat([g.flatten() for g in torch.autograd.grad(v, own, retain_graph=True)])
            for v in values
        ]
        exact = torch.stack(rows) @ torch.stack(rows).T
        # relative to the largest entry, as heavy tails make some large
        scale = exact.abs().max().item()
        torch.testing.assert_close(found.outputs[network], values.detach())
        torch.testing.assert_close(kernels[network], exact, rtol=0, atol=ROUNDING * scale)


def test_each_network_may_have_its_own_inputs() -> None:
    architecture = ARCHITECTURES[1]
    weights = architecture.draw(3, generator(), CPU, torch.float64)
    x, z = draw(3, 2, 3, seed=1), draw(3, 2, 3, seed=2)
    found = forward_backward(architecture, weights, x, z).tangent_kernel()
    for network in range(3):
        own = [weight[network : network + 1] for weight in weights]
        alone = forward_backward(architecture, own, x[network], z[network]).tangent_kernel()
        torch.testing.assert_close(found[network], alone[0])


def test_architectures_count_their_weights_and_chunk_them() -> None:
    architecture = Architecture.of(10, 32, 3, 4, 2)
    assert architecture.primary == ((4, 10), (1, 4))
    assert architecture.layers == [(32, 10), (32, 32), (44, 32)]
    assert architecture.count == 320 + 1024 + 44 * 32
    wide = Architecture.of(2, 4096, 3, 0, 0)
    assert list(wide.chunks(2)) == [1, 1]
    assert sum(Architecture.of(2, 512, 2, 512, 2).chunks(777)) == 777


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_jets_are_nested_forward_derivatives(architecture: Architecture) -> None:
    weights = architecture.draw(3, generator(), CPU, torch.float64)
    x, z, amounts = draw(3, 3, seed=1), draw(3, 3, seed=2), draw(3, 3, seed=3) / 4
    at = forward_backward(architecture, weights, x, z)
    found = output_jet(architecture, weights, at, z, amounts, 4)
    moved = [weight.clone() for weight in weights]
    at.step(moved, amounts)

    def value(t: Tensor) -> Tensor:
        steps = zip(weights, moved, strict=True)
        return outputs(architecture, [w + t * (m - w) for w, m in steps], x, z)

    def derivative(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda t: jvp(function, (t,), (torch.ones_like(t),))[1]

    function, zero = value, torch.zeros((), dtype=torch.float64)
    for order in range(5):
        exact = function(zero)
        # the largest of a network's numbers sets the rounding of all of its coefficients
        limit = 100 * ROUNDING * found.abs().max().item()
        torch.testing.assert_close(found[:, order], exact, rtol=0, atol=limit)
        function = derivative(function)


def test_degree_of_the_polynomial_along_a_ray() -> None:
    for architecture, degree in zip(ARCHITECTURES, (4, 6, 6), strict=True):
        weights = architecture.draw(40, generator(), CPU, torch.float64)
        u = torch.ones(1, 3, dtype=torch.float64)
        at = forward_backward(architecture, weights, u, u)
        found = output_jet(architecture, weights, at, u, u.new_ones(40, 1), 8)
        assert found[:, degree + 1 :].abs().max() == 0
        assert found[:, degree].abs().max() > 0


def test_second_derivative_is_the_change_of_the_kernel() -> None:
    # h'' along grad h is the derivative of |grad h|^2 / 2 along it, by finite differences.
    architecture = ARCHITECTURES[1]
    weights = architecture.draw(5, generator(3), CPU, torch.float64)
    x, z = draw(1, 3, seed=1), draw(1, 3, seed=2)
    at = forward_backward(architecture, weights, x, z)
    jet = output_jet(architecture, weights, at, z, x.new_ones(5, 1), 2)[..., 0]

    def kernel(t: float) -> Tensor:
        moved = [weight.clone() for weight in weights]
        at.step(moved, x.new_full((5, 1), t))
        return forward_backward(architecture, moved, x, z).tangent_kernel()[:, 0, 0]

    h = 1e-6
    difference = (kernel(h) - kernel(-h)) / (4 * h)
    # central differences: h^2 by truncation, rounding over h
    scale = kernel(0.0).abs().max().item()
    torch.testing.assert_close(jet[:, 1], kernel(0.0))
    torch.testing.assert_close(jet[:, 2], difference, rtol=1e-6, atol=1e-8 * scale)


def test_cost_of_a_polynomial() -> None:
    # h = 1 + 2 t + 3 t^2 / 2, y = 0: c = h^2 / 2.
    h = torch.tensor([[1.0, 2.0, 3.0, 0.0, 0.0]]).double()[..., None]
    # c^(r) = sum binom(r, i) h^(i) h^(r - i) / 2
    exact = torch.tensor([[0.5, 2.0, 1 * 3 + 2 * 2, 3 * 2 * 3, 3 * 3 * 3]]).double()
    torch.testing.assert_close(cost_jet(h, torch.zeros(1, 1).double()), exact)


def test_slope_of_a_power() -> None:
    rows = Records(Row(0, "term", {"width": n}, {"size": 3.0 * n**-1.5}, 0.0) for n in (8, 32, 64))
    assert rates.log_slope(rows, "size") == pytest.approx(-1.5)
    zero = Row(0, "term", {"width": 128}, {"size": 0.0}, 0.0)
    assert rates.log_slope(Records([*rows, zero]), "size") is None
