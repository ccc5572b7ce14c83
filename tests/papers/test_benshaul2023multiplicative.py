"""The constructions of arXiv 2301.04605: exactness, counts, promised errors, and a small run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev, legendre
from torch import Tensor

pytest.importorskip("scipy")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from dlaccel.papers.benshaul2023multiplicative import theory
from dlaccel.papers.benshaul2023multiplicative.experiment import PROFILES
from dlaccel.papers.benshaul2023multiplicative.theory.bandlimited import RidgeNetwork
from dlaccel.papers.benshaul2023multiplicative.theory.sobolev import total_degree_error

ROUNDING = 1e-12  # far above 2^-52 times the few hundred operations of any value here
NAME = "dlaccel.benshaul2023multiplicative"


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Uniform in [-1, 1], float64."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1


# Gates (P5)


@pytest.mark.parametrize("m", range(1, 11))
def test_relu_square_is_off_by_exactly_a_power_of_four(m: int) -> None:
    network = theory.emulate(theory.square_network(), m)
    x = torch.linspace(-1, 1, 2 ** (m + 2) + 1, dtype=torch.float64)[:, None]
    error = float((network(x) - x**2).abs().max())
    assert error == pytest.approx(theory.square_error(m), abs=ROUNDING)
    assert (network.layers, network.neurons) == (m + 1, 2 * m + 2)


@pytest.mark.parametrize("m", [1, 2, 5, 9])
def test_relu_product_stays_within_the_error_of_one_square(m: int) -> None:
    network = theory.emulate(theory.product_network(), m)
    x = draw(4000, 2)
    assert float((network(x)[:, 0] - x.prod(1)).abs().max()) <= theory.square_error(m)
    assert (network.layers, network.neurons, network.carried) == (m + 1, 4 * m + 4, m - 1)


def test_relu_square_degrades_gently_outside_its_domain() -> None:
    # At 1 + delta the sawtooth gives 1 + 3 delta / 2, the square is 1 + 2 delta + delta^2.
    x = 1 + torch.linspace(0, 0.1, 11, dtype=torch.float64)[:, None]
    network = theory.emulate(theory.square_network(), 6)
    torch.testing.assert_close(network(x), 1 + 1.5 * (x - 1), rtol=0, atol=ROUNDING)


def test_product_gate_is_one_neuron_and_exact() -> None:
    x = draw(100, 2)
    network = theory.product_network()
    assert torch.equal(network(x)[:, 0], x[:, 0] * x[:, 1])
    assert (network.layers, network.neurons, network.carried) == (3, 1, 0)


# Circuits and polynomials (P1, P2)


def test_layered_network_equals_its_circuit_evaluated_directly() -> None:
    # Outputs fewer than values (running sums), and as many (values carried to the end).
    random = np.random.default_rng(1)
    x = draw(50, 3)
    for trial in range(20):
        circuit, values = theory.Circuit(3), [x[:, i] for i in range(3)]

        def form(values: list[Tensor] = values) -> tuple[theory.Form, Tensor]:
            picked = random.choice(len(values), size=min(3, len(values)), replace=False)
            weights, constant = random.uniform(-1, 1, 3), random.uniform(-1, 1)
            terms = tuple(zip(picked.tolist(), weights.tolist(), strict=False))
            return theory.Form(terms, constant), sum(w * values[v] for v, w in terms) + constant

        for step in range(8):
            (left, a), (right, b) = form(), form()
            if step % 4 == 3:
                circuit.carry(left)
                values.append(a)
            else:
                circuit.multiply(left, right)
                values.append(a * b)
        outputs = [form() for _ in range(2 if trial % 2 else len(values))]
        network = circuit.network(theory.Affine.identity(3), [each for each, _ in outputs])
        expected = torch.stack([value for _, value in outputs], dim=1)
        torch.testing.assert_close(network(x), expected, rtol=ROUNDING, atol=ROUNDING)
        assert network.neurons == 6


@pytest.mark.parametrize("scheme", theory.SCHEMES)
@pytest.mark.parametrize("n", range(2, 33))
def test_table_network_is_exact_and_has_the_size_of_the_formula(n: int, scheme: str) -> None:
    network, t = theory.table_network(n, scheme), theory.grid(1001)
    exact = torch.cos(torch.arange(n + 1) * torch.arccos(t))
    torch.testing.assert_close(network(t), exact, rtol=0, atol=ROUNDING)
    layers = {"doubling": 2 + math.ceil(math.log2(n)), "recurrence": n + 1}
    assert (network.neurons, network.layers) == (n - 1, layers[scheme])


@pytest.mark.parametrize("scheme", theory.SCHEMES)
@pytest.mark.parametrize("n", [0, 1, 2, 7, 30])
def test_every_polynomial_of_one_variable_is_computed_exactly(n: int, scheme: str) -> None:
    coefficients, t = draw(n + 1, seed=n), theory.grid(501)
    network = theory.series_network(coefficients.tolist(), scheme)
    exact = chebyshev.chebval(t[:, 0].numpy(), coefficients.numpy())
    np.testing.assert_allclose(network(t)[:, 0].numpy(), exact, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("m", [1, 3, 6])
def test_emulation_has_the_size_and_the_error_that_are_promised(m: int) -> None:
    exact, t = theory.table_network(11), theory.grid()
    network = theory.emulate(exact, m)
    squares = sum(int((1 + (p.left != p.right)).sum()) for p in exact.products)
    assert network.neurons == squares * (2 * m + 2)
    assert network.layers == m * len(exact.products) + 1
    error = (network(t) - exact(t)).abs().amax(0).numpy()
    assert (error <= theory.emulation_bound(exact, m) + ROUNDING).all()


def test_smallest_emulation_is_the_first_that_reaches_epsilon() -> None:
    exact, t = theory.series_network([0.0, 0.2, 0.3, 0.5]), theory.grid()
    distance = lambda network: float((network(t) - exact(t)).abs().max())  # noqa: E731
    network, m = theory.smallest_emulation(exact, distance, 1e-3)
    assert distance(network) <= 1e-3 < distance(theory.emulate(exact, m - 1))


DEGREES = {
    "exp": [3, 5, 7, 9, 10],
    "cos(5t)": [8, 12, 14, 16, 18],
    "cos(20t)": [26, 30, 34, 38, 42],
    "exp(-t^2/0.08)": [14, 20, 26, 32, 38],
    "1/(1+25t^2)": [24, 46, 70, 92, 116],
}


@pytest.mark.parametrize("name", DEGREES)
def test_degrees_agree_with_an_independent_prototype(name: str) -> None:
    coefficients = theory.chebyshev_coefficients(theory.FUNCTIONS[name])
    epsilons = [1e-2, 1e-4, 1e-6, 1e-8, 1e-10]
    assert [theory.smallest_degree(coefficients, e) for e in epsilons] == DEGREES[name]


@pytest.mark.parametrize("rho", [1.5, 3.0, 8.0])
def test_degree_of_exp_is_within_the_bound_of_every_ellipse(rho: float) -> None:
    largest = math.exp((rho + 1 / rho) / 2)  # of |exp| on the ellipse, at its right end
    coefficients = theory.chebyshev_coefficients(torch.exp)
    for epsilon in (1e-2, 1e-5, 1e-8):
        bound = theory.degree_bound(largest, rho, epsilon)
        assert theory.smallest_degree(coefficients, epsilon) <= bound


# Class A (P3, P4, P6)


@pytest.mark.parametrize("kernel", theory.KERNELS)
def test_ridge_sum_tends_to_the_closed_form(kernel: str) -> None:
    target = theory.Bandlimited(3, 1.0, kernel)
    x = target.points(50, torch.Generator().manual_seed(0))
    frequencies = target.frequencies(100_000, torch.Generator().manual_seed(1))
    values = theory.KERNELS[kernel].value(x @ frequencies.T)
    error = (target.ridge_sum(frequencies, x) - target(x)).abs()
    assert (error <= 5 * values.std(1) / len(frequencies) ** 0.5).all()


@pytest.mark.parametrize("kernel", theory.KERNELS)
def test_curvature_of_the_closed_form(kernel: str) -> None:
    target = theory.Bandlimited(2, 2.5, kernel)
    lines = target.points(4, torch.Generator().manual_seed(0))
    t = torch.linspace(-1, 1, theory.POINTS, dtype=torch.float64)
    away = t.abs() > 0.1  # the quotient in the closed form cancels near 0
    curvature = target.curvature(lines)
    for line, second in zip(lines, curvature, strict=True):
        x = torch.stack([t, line[1].expand_as(t)], dim=1)[away]
        exact = theory.second_derivative(target, x)
        torch.testing.assert_close(second[away], exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", ["multiplicative", "ReLU"])
def test_ridge_network_written_out_has_its_values_and_counts(family: str) -> None:
    unit: theory.Network = theory.series_network([0.1, 0.2, 0.3, -0.1, 0.2, 0.1])
    if family == "ReLU":
        unit = theory.emulate(unit, 3)
    frequencies = draw(7, 3)
    scale = theory.radius(frequencies)
    network: RidgeNetwork = theory.ridge_network(frequencies, scale, unit)
    whole, x = network.explicit(), draw(60, 3, seed=1)
    sizes = [(each.layers, each.neurons, each.carried) for each in (network, whole)]
    assert sizes[0] == sizes[1]
    torch.testing.assert_close(network(x), whole(x), rtol=0, atol=ROUNDING)
    one_by_one = sum(unit(x @ w[:, None] / scale) for w in frequencies) / 7
    torch.testing.assert_close(network(x), one_by_one, rtol=0, atol=ROUNDING)


# Class B (P7, P8)


def test_sizes_of_index_sets() -> None:
    sizes = [len(theory.index_set(kind, 4, 8)) for kind in theory.INDEX_SETS]
    assert sizes == [6561, 495, 73]
    larger = [len(theory.index_set(kind, 8, 8)) for kind in theory.INDEX_SETS[1:]]
    assert larger == [12870, 289]


@pytest.mark.parametrize("kind", theory.INDEX_SETS)
def test_index_sets_are_downward_closed_and_know_their_members(kind: str) -> None:
    box = theory.index_set("tensor", 3, 7)
    members = theory.index_set(kind, 3, 5)
    inside = set(map(tuple, members.tolist()))
    assert {tuple(k) for k in box[theory.is_in(kind, 5, box)].tolist()} == inside
    for k in inside:
        for j in range(3):
            assert k[j] == 0 or (*k[:j], k[j] - 1, *k[j + 1 :]) in inside


@pytest.mark.parametrize("basis", theory.BASES)
def test_basis_is_orthonormal(basis: str) -> None:
    ball = theory.CoefficientBall(1, basis=basis)
    indices = theory.index_set("tensor", 1, 9)
    nodes, weights = {"chebyshev": chebyshev.chebgauss, "legendre": legendre.leggauss}[basis](20)
    values = ball.values(indices, torch.eye(10, dtype=torch.float64), torch.tensor(nodes)[:, None])
    gram = values.T @ (torch.tensor(weights / weights.sum())[:, None] * values)
    torch.testing.assert_close(gram, torch.eye(10, dtype=torch.float64), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("weighting", theory.WEIGHTS)
@pytest.mark.parametrize("kind", theory.INDEX_SETS)
def test_worst_error_is_the_largest_outside_a_far_larger_box(kind: str, weighting: str) -> None:
    ball = theory.CoefficientBall(3, 2.0, weighting, "legendre")
    box = theory.index_set("tensor", 3, 9)
    outside = box[~theory.is_in(kind, 4, box)]
    worst = float(ball.weight(outside).rsqrt().max())
    assert ball.worst_error(theory.index_set(kind, 3, 4)) == pytest.approx(worst, rel=1e-14)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_truncation_errors_are_within_their_bounds(d: int) -> None:
    for n in range(1, 7):
        total = theory.CoefficientBall(d, 3.0, "isotropic")
        worst = total.worst_error(theory.index_set("total degree", d, n))
        assert worst == pytest.approx(total_degree_error(d, n, 3.0), rel=1e-14)
        assert worst <= (1 + (n + 1) ** 2 / d) ** -1.5 * (1 + 1e-14)
        mixed = theory.CoefficientBall(d, 3.0, "mixed")
        worst = mixed.worst_error(theory.index_set("hyperbolic cross", d, n))
        assert worst <= theory.hyperbolic_cross_bound(d, n, 3.0)


def test_element_lies_on_the_sphere_of_its_ball() -> None:
    ball = theory.CoefficientBall(2, 3.0, "mixed")
    indices = theory.index_set("total degree", 2, 6)
    element = ball.element(indices, torch.Generator().manual_seed(0))
    assert float((ball.weight(indices) * element**2).sum()) == pytest.approx(1, abs=ROUNDING)


@pytest.mark.parametrize("basis", theory.BASES)
@pytest.mark.parametrize("kind", theory.INDEX_SETS)
@pytest.mark.parametrize(("d", "n"), [(1, 5), (2, 6), (3, 4), (5, 2)])
def test_tree_network_is_exact_and_takes_one_product_a_term(
    d: int, n: int, kind: str, basis: str
) -> None:
    ball = theory.CoefficientBall(d, basis=basis)
    indices = theory.index_set(kind, d, n)
    coefficients = draw(len(indices), 2)
    network, x = ball.network(indices, coefficients), draw(40, d, seed=1)
    values = ball.values(indices, coefficients, x)
    scale = float(coefficients.abs().sum(0).max() / ball.norm(indices).min())
    torch.testing.assert_close(network(x), values, rtol=0, atol=ROUNDING * scale)
    assert network.neurons == len(indices) - d - 1
    bound = 2 + math.ceil(math.log2(n)) + math.ceil(math.log2(d))
    assert network.layers == bound if kind == "tensor" else network.layers <= bound


def test_curvature_of_a_series_along_the_first_axis() -> None:
    ball = theory.CoefficientBall(2, basis="legendre")
    indices = theory.index_set("total degree", 2, 5)
    coefficients = draw(len(indices), 1)
    lines = draw(3, 2, seed=1)
    curvature = ball.curvature(indices, coefficients[:, 0], lines)
    t = torch.linspace(-1, 1, theory.POINTS, dtype=torch.float64)
    for line, second in zip(lines, curvature, strict=True):
        x = torch.stack([t, line[1].expand_as(t)], dim=1)
        exact = theory.second_derivative(lambda at: ball.values(indices, coefficients, at)[:, 0], x)
        torch.testing.assert_close(second, exact, rtol=1e-9, atol=1e-9)


def test_least_squares_finds_a_polynomial() -> None:
    indices = theory.index_set("total degree", 2, 4)
    coefficients, x = draw(len(indices), 1), draw(200, 2, seed=1)
    values = theory.CoefficientBall(2).values(indices, coefficients, x)[:, 0]
    found = theory.least_squares(indices, x, values)
    torch.testing.assert_close(found, coefficients[:, 0], rtol=0, atol=1e-10)


# Lower bounds and the shallow network (P5)


@pytest.mark.parametrize("epsilon", [1e-2, 1e-4, 1e-6])
def test_bounds_are_sharp_for_the_square(epsilon: float) -> None:
    # The best p pieces of t^2 on [-1, 1] are even: sup error 1 / (2 p^2), and by the formula for
    # a quadratic the mean square is 4 h^5 p / (2 * 720) with h = 2 / p and the density 1/2.
    pieces = math.ceil((2 * epsilon) ** -0.5)
    assert 0 <= math.ceil(math.log2(pieces)) - theory.sup_neurons(torch.square, epsilon) <= 1
    pieces = math.ceil((4 * 32 / 1440 / epsilon**2) ** 0.25)
    curvature = torch.full((3, theory.POINTS), 2.0, dtype=torch.float64)
    assert theory.l2_neurons(curvature, 0.5, epsilon) == math.ceil(math.log2(pieces))


@pytest.mark.parametrize("name", theory.FUNCTIONS)
def test_one_hidden_layer_reaches_epsilon_above_the_lower_bound(name: str) -> None:
    function = theory.FUNCTIONS[name]
    network = theory.smallest_interpolant(function, 1e-3)
    assert theory.sup_error(network, function, theory.grid()) <= 1e-3
    assert network.layers == 2
    assert network.neurons >= 2 ** (
        theory.sup_neurons(function, 1e-3) - 1
    )  # it has that many pieces


def test_affine_functions_ask_for_no_neuron() -> None:
    assert theory.sup_neurons(lambda t: 3 * t**1 + 0 * t**2, 1e-9) == 0


# Input that is refused


def raises(call: Callable[[], object]) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is compared)
        call()
    return str(caught.value)


def test_wrong_arguments_are_named() -> None:
    network = theory.square_network()
    assert raises(lambda: network(torch.ones(3, 1))) == (
        f"{NAME}: x must be a float64 tensor of shape [P, d], got torch.float32 of shape (3, 1)."
    )
    assert raises(lambda: theory.emulate(network, 0)) == f"{NAME}: m must be at least 1, got 0."
    indices = theory.index_set("tensor", 2, 1)
    assert raises(lambda: theory.CoefficientBall(2).network(indices, torch.ones(4))) == (
        f"{NAME}: coefficients must have the shape (4, q), got (4,)."
    )
    with pytest.raises(ArithmeticError) as caught:
        theory.smallest_emulation(network, lambda _: 1.0, 0.5)
    assert str(caught.value) == (
        f"{NAME}: epsilon must be reachable with 24 sawtooth steps, got 0.5."
    )


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("gate_steps", 0, "be between 2 and 16"),
        ("table_degree", 1, "be at least 2"),
        ("functions", (), "be one or more of " + ", ".join(theory.FUNCTIONS)),
        ("functions", ("tan",), "be one or more of " + ", ".join(theory.FUNCTIONS)),
        ("epsilons", (0.1, 1e-11), "be two or more numbers from 1e-10 to 0.5"),
        ("epsilons", (0.1,), "be two or more numbers from 1e-10 to 0.5"),
        ("dimensions", (1, 0), "be one or more integers from 1"),
        ("dimensions", (2, 2), "hold each value once"),
        ("band", float("nan"), "be between 0.1 and 20"),
        ("ridge_counts", (16,), "be two or more integers from 1"),
        ("repetitions", 0, "be at least 1"),
        ("ridge_epsilons", (0.1, 0.9), "be two or more numbers from 1e-3 to 0.5"),
        ("ball_dimensions", (), "be one or more integers from 1"),
        ("weightings", ("none",), "be one or more of mixed, isotropic, operator"),
        ("smoothness", 0.0, "be between 0.1 and 20"),
        ("ball_degree", 101, "be between 1 and 100"),
        ("points", 0, "be at least 1"),
        ("photograph", "cat.jpg", "be one of china.jpg, flower.jpg"),
        ("height", 4, "be between 8 and 427"),
        ("width", 641, "be between 8 and 640"),
        ("parameters", 10, "be at least 100"),
        ("steps", 0, "be at least 1"),
        ("rate_factors", (1.0, float("inf")), "be one or more numbers from 1e-3 to 1e3"),
    ],
)
def test_config_out_of_range_is_refused(field: str, value: object, rule: str) -> None:
    message = raises(lambda: dataclasses.replace(PROFILES["smoke"], **{field: value}))
    assert message == f"{NAME}: {field} must {rule}, got {value!r}."
