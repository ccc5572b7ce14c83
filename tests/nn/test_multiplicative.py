"""Products of affine maps, stacks of them, and product pooling."""

import math
import re

import pytest
import torch
from torch.func import functional_call, grad, jvp, vmap

from dlaccel.nn import Multiplicative, MultiplicativeStack, ProductPooling, ProductPooling2d

CLOSE = {"rtol": 1e-12, "atol": 1e-13}  # float64: sums of 6 products


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def affine(linear, x):
    y = x @ linear.weight.T
    return y if linear.bias is None else y + linear.bias


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("other", [None, 6])
def test_product_of_two_affine_maps(other, bias):
    module = Multiplicative(5, 4, other, bias).double()
    x = torch.randn(3, 1, 5, dtype=torch.float64, requires_grad=True)
    u = None if other is None else torch.randn(7, other, dtype=torch.float64, requires_grad=True)
    inputs = [x, *module.parameters()] + ([] if u is None else [u])
    got = module(x, u)
    want = affine(module.left, x) * affine(module.right, x if u is None else u)
    torch.testing.assert_close(got, want, **CLOSE)
    dy = torch.randn_like(want)
    torch.testing.assert_close(
        torch.autograd.grad(got, inputs, dy), torch.autograd.grad(want, inputs, dy), **CLOSE
    )


def test_derivatives_of_every_kind():
    module = Multiplicative(3, 4, dtype=torch.float64)
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, x)
    assert torch.autograd.gradgradcheck(module, x)
    parameters = {k: v.detach() for k, v in module.named_parameters()}

    def formula(p, x):
        left = x @ p["left.weight"].T + p["left.bias"]
        return left * (x @ p["right.weight"].T + p["right.bias"])

    def layer(p, x):
        return functional_call(module, p, (x,))

    x = x.detach()
    each = [vmap(grad(lambda p, x, f=f: f(p, x).sum()), (None, 0)) for f in (layer, formula)]
    torch.testing.assert_close(each[0](parameters, x), each[1](parameters, x), **CLOSE)
    tangents = ({k: torch.randn_like(v) for k, v in parameters.items()}, torch.randn_like(x))
    got, want = (jvp(f, (parameters, x), tangents) for f in (layer, formula))
    torch.testing.assert_close(got, want, **CLOSE)


def test_autocast_dtype():
    with torch.autocast("cpu", torch.bfloat16):
        assert Multiplicative(3, 4)(torch.randn(2, 3)).dtype == torch.bfloat16


def spread(values):
    """Ratio of the largest to the smallest root mean square over rows."""
    size = values.square().mean(-1).sqrt()
    return float(size.max() / size.min())


def test_normalised_stack_keeps_its_scale_at_any_depth():
    for layers in (1, 4, 64):
        stack = MultiplicativeStack(6, 32, layers).double()
        x = torch.randn(100, 6, dtype=torch.float64) * 10.0 ** torch.linspace(-2, 2, 100)[:, None]
        rms = stack(x).square().mean(-1).sqrt()
        torch.testing.assert_close(rms, torch.ones_like(rms), rtol=1e-9, atol=0)


@pytest.mark.parametrize("layers", [2, 8, 32])
def test_scaled_start_keeps_second_moments(layers):
    # q -> q (1 + e q)/(1 + e) holds over draws of wide layers: with D = 1024 each of the sums of D
    # squares is off by some sqrt(2/D) = 4 % a layer, growing less than e-fold and over sqrt(L).
    stack = MultiplicativeStack(1024, 1024, layers, normalize=False)
    stack.layers[0].left.bias.data.zero_()
    x = torch.randn(8, 1024)
    with torch.no_grad():
        q = float(stack(x).square().mean())
    drift = 2.72 * layers**0.5 * (2 / 1024) ** 0.5
    assert abs(torch.tensor(q).log()) <= 2 * drift


def test_scaled_start_against_the_plain_one():
    # Two rows of one direction whose sizes differ by 1 %: the difference of their log q doubles at
    # each layer of the plain start, and grows by (1 + 2e)/(1 + e) with the scaling.
    layers, ratio = 8, 1.01
    x = torch.randn(1, 512, dtype=torch.float64) * torch.tensor([[1.0], [ratio]]).double()
    ratio = spread(x)
    scaled = MultiplicativeStack(512, 512, layers, normalize=False).double()
    scaled.layers[0].left.bias.data.zero_()
    plain = MultiplicativeStack(512, 512, layers).double()
    plain.normalize = False
    for layer in plain.layers:
        layer.left.bias.data.zero_()
        layer.right.bias.data.zero_()
    with torch.no_grad():
        growth = [math.log(spread(stack(x))) / math.log(ratio) for stack in (plain, scaled)]
    assert growth[0] == pytest.approx(2**layers, rel=1e-6)
    # (1.25/1.125)^8 = 2.32; sums of 512 squares are off by 6 % a layer, in the exponent 0.1 of it.
    assert growth[1] == pytest.approx(2.32, rel=0.2)
    assert growth[1] < math.e


def test_a_stack_without_normalisation_is_a_polynomial():
    layers = 3
    stack = MultiplicativeStack(2, 5, layers, normalize=False).double()
    direction = torch.randn(2, dtype=torch.float64)
    t = torch.linspace(-1, 1, 2**layers + 3, dtype=torch.float64)
    values = stack(t[:, None] * direction).detach()
    powers = torch.stack([t**k for k in range(2**layers + 1)], 1)
    solution = torch.linalg.lstsq(powers, values).solution
    torch.testing.assert_close(powers @ solution, values, rtol=1e-9, atol=1e-9)
    fewer = powers[:, :-1]
    rest = fewer @ torch.linalg.lstsq(fewer, values).solution - values
    assert rest.norm() > 1e-10 * values.norm()  # the degree is reached, far above rounding


def test_a_generator_draws_the_stack_and_nothing_else():
    def drawn(normalize):
        generator = torch.Generator().manual_seed(3)
        return MultiplicativeStack(2, 4, 3, normalize=normalize, generator=generator)

    before = torch.get_rng_state()
    for normalize in (True, False):
        first, second = drawn(normalize).state_dict(), drawn(normalize).state_dict()
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_product_pooling(size):
    x = torch.randn(2, 4, 30, dtype=torch.float64)
    want = x.unflatten(-1, (-1, size)).prod(-1)
    torch.testing.assert_close(ProductPooling(size)(x), want, **CLOSE)


@pytest.mark.parametrize(("size", "stride"), [(2, None), (2, 1), (3, 2), (1, 3)])
def test_product_pooling_2d(size, stride):
    x = torch.randn(2, 3, 8, 9, dtype=torch.float64)
    step = stride or size
    want = x.unfold(-2, size, step).unfold(-2, size, step).flatten(-2).prod(-1)
    torch.testing.assert_close(ProductPooling2d(size, stride)(x), want, **CLOSE)


def test_pooling_derivatives_at_zeros():
    x = torch.tensor([[0.0, 2.0, 3.0], [0.0, 0.0, 3.0]], dtype=torch.float64, requires_grad=True)
    pool = ProductPooling(3)
    (got,) = torch.autograd.grad(pool(x).sum(), x)
    assert torch.equal(got, torch.tensor([[6.0, 0, 0], [0, 0, 0]], dtype=torch.float64))
    assert torch.autograd.gradcheck(pool, x)
    assert torch.autograd.gradgradcheck(pool, x)


REFUSED = {
    "features": (
        lambda: Multiplicative(0, 3),
        "dlaccel.Multiplicative: in_features must be at least 1, got 0.",
    ),
    "no second input": (
        lambda: Multiplicative(2, 3, 4)(torch.ones(1, 2)),
        "dlaccel.Multiplicative: u must be given, got None.",
    ),
    "second input in excess": (
        lambda: Multiplicative(2, 3)(torch.ones(1, 2), torch.ones(1, 2)),
        "dlaccel.Multiplicative: u must be left out where other_features is None, "
        "got shape (1, 2).",
    ),
    "width": (
        lambda: Multiplicative(2, 3)(torch.ones(1, 4)),
        "dlaccel.Multiplicative: x must have a last axis of 2, got (1, 4).",
    ),
    "other width": (
        lambda: Multiplicative(2, 3, 4)(torch.ones(1, 2), torch.ones(1, 2)),
        "dlaccel.Multiplicative: u must have a last axis of 4, got (1, 2).",
    ),
    "layers": (
        lambda: MultiplicativeStack(2, 3, 0),
        "dlaccel.MultiplicativeStack: layers must be at least 1, got 0.",
    ),
    "pooled features": (
        lambda: ProductPooling(2)(torch.ones(4, 3)),
        "dlaccel.ProductPooling: x must have a last axis that 2 divides, got (4, 3).",
    ),
    "pooled window": (
        lambda: ProductPooling2d(3)(torch.ones(4, 2)),
        "dlaccel.ProductPooling2d: x must have two last axes of at least 3, got (4, 2).",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
