"""Networks of coordinates: formulas, starting points, sizes."""

import math
import re

import pytest
import torch

from dlaccel.models import coordinate
from dlaccel.models.coordinate import (
    FourierFilterNetwork,
    GaborFilterNetwork,
    MultiplicativeNetwork,
    ReLUNetwork,
    SineNetwork,
    width_for,
)

NETWORKS = (
    ReLUNetwork,
    SineNetwork,
    FourierFilterNetwork,
    GaborFilterNetwork,
    MultiplicativeNetwork,
)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def affine(state, name, x):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def relu(state, layers, x):
    for i in range(layers):
        x = affine(state, f"hidden.{i}", x).clamp(min=0)
    return affine(state, "output", x)


def sine(state, layers, x):
    for i in range(layers):
        x = (30 * affine(state, f"hidden.{i}", x)).sin()
    return affine(state, "output", x)


def filters(state, layers, x):
    def g(i):
        value = affine(state, f"filters.{i}.phase", x).sin()
        if f"filters.{i}.mu" in state:
            distance = (x[:, None] - state[f"filters.{i}.mu"]).square().sum(-1)
            value = value * (-state[f"filters.{i}.gamma"] / 2 * distance).exp()
        return value

    z = g(0)
    for i in range(1, layers):
        z = affine(state, f"hidden.{i - 1}", z) * g(i)
    return affine(state, "output", z)


def multiplicative(state, layers, x):
    for i in range(layers):
        name = f"hidden.layers.{i}"
        x = affine(state, f"{name}.left", x) * affine(state, f"{name}.right", x)
        eps = torch.finfo(x.dtype).eps
        x = x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
    return affine(state, "output", x)


FORMULAS = dict(zip(NETWORKS, (relu, sine, filters, filters, multiplicative), strict=True))


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("network", NETWORKS)
def test_formula(network, layers):
    model = network(2, 7, layers, 3, generator=seeded()).double()
    x = torch.rand(11, 2, dtype=torch.float64) * 2 - 1
    y = model(x)
    assert y.shape == (11, 3)
    # Frequencies up to 256 times a rounding of float64, through at most four layers.
    want = FORMULAS[network](model.state_dict(), layers, x)
    torch.testing.assert_close(y, want, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_generator_alone_decides(network):
    before = torch.get_rng_state()
    first, second, other = (
        network(2, 7, 3, 1, generator=seeded(s)).state_dict() for s in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("network", NETWORKS)
def test_without_a_generator_torchs_own_is_used(network):
    torch.manual_seed(5)
    first = network(2, 7, 3, 1).state_dict()
    torch.manual_seed(5)
    second = network(2, 7, 3, 1).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_parameter_gets_a_gradient(network):
    model = network(2, 7, 3, 2, generator=seeded())
    model(torch.rand(20, 2) * 2 - 1).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_sine_network_starts_with_normal_pre_activations():
    model = SineNetwork(2, 1024, 5, 1, generator=seeded()).double()
    x = torch.rand(200, 2, dtype=torch.float64) * 2 - 1
    for depth, layer in enumerate(model.hidden):
        pre = (30 * layer(x)).detach()
        if depth:
            # Theorem 1.8: sums of D terms of variance 6/D * Var[sin] / 3, Var[sin] = 1/2, so 1;
            # the bias adds 30^2 / (3 D) = 0.29 at D = 1024. Scatter over 200 x 1024 is far below.
            assert float(pre.var()) == pytest.approx(1 + 300 / 1024, rel=0.1)
        x = torch.sin(pre)


def test_filters_share_the_frequencies_and_the_windows():
    layers, scale = 4, 64.0
    model = FourierFilterNetwork(2, 500, layers, 1, input_scale=scale, generator=seeded())
    bound = scale / math.sqrt(layers) / math.sqrt(2)
    for part in model.filters:
        assert bound * 0.99 < float(part.phase.weight.detach().abs().max()) <= bound
        assert 3.1 < float(part.phase.bias.detach().abs().max()) <= math.pi
    gabor = GaborFilterNetwork(2, 4000, layers, 1, alpha=6.0, generator=seeded())
    for part in gabor.filters:
        # A Gamma of shape 6/4 and rate 1 has mean and variance 1.5: 5 standard errors of the mean.
        assert float(part.gamma.detach().mean()) == pytest.approx(
            1.5, abs=5 * math.sqrt(1.5 / 4000)
        )
        bound = 256 / math.sqrt(layers) / math.sqrt(2)
        assert bool((part.phase.weight.abs() <= bound * part.gamma.sqrt()[:, None] * 1.0001).all())


@pytest.mark.parametrize("wanted", [1, 100, 8000, 200_000])
@pytest.mark.parametrize("network", NETWORKS)
def test_nearest_width(network, wanted):
    def count(width):
        return sum(p.numel() for p in network(2, width, 3, 3).parameters())

    width = width_for(network, wanted, 2, 3, 3)
    assert width >= 1
    errors = [abs(count(w) - wanted) for w in (max(width - 1, 1), width, width + 1)]
    assert errors[1] == min(errors)


def test_width_needs_parameters():
    message = "dlaccel.width_for: parameters must be at least 1, got 0."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        width_for(ReLUNetwork, 0, 2, 3, 3)


def test_polynomial_network():
    model = MultiplicativeNetwork(1, 6, 2, 1, normalize=False, generator=seeded()).double()
    t = torch.linspace(-1, 1, 9, dtype=torch.float64)
    powers = torch.stack([t**k for k in range(5)], 1)
    values = model(t[:, None]).detach()
    fit = powers @ torch.linalg.lstsq(powers, values).solution
    torch.testing.assert_close(fit, values, rtol=1e-10, atol=1e-12)


def test_module_is_exported():
    import dlaccel.models

    assert dlaccel.models.coordinate is coordinate


@pytest.mark.parametrize("network", NETWORKS)
def test_sizes_are_checked(network):
    message = f"dlaccel.{network.__name__}: hidden_layers must be at least 1, got 0."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        network(2, 3, 0, 1)
