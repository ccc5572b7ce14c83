"""The Gram-Hadamard kernel: symmetric and positive semi-definite, one call for all layers."""

import re

import pytest
import torch
from samples import maker, relative_error
from torch import Tensor

from dlaccel import _core
from dlaccel.ops import ntk_hadamard
from dlaccel.ops.ntk_hadamard import SPEC

WIDTHS = [(40, 24), (0, 8), (300, 17)]  # one without inputs, one longer than a run of sums
BIAS, SCALE = [1.0, 1.0, 0.0], [1.0, 0.25, 2.0]
A, G = (sum(side) for side in zip(*WIDTHS, strict=True))
needs_kernel = pytest.mark.skipif(
    _core.kernel("ntk_hadamard", "cpu") is None, reason="torch's products sum by the shape"
)


def drawn(samples: int, dtype: torch.dtype, outputs: int = 1, seed: int = 0) -> tuple[Tensor, ...]:
    make = maker(dtype, "cpu", seed)
    return make(samples, A), make(samples * outputs, G)


def kernel_of(*sides: Tensor, outputs: int = 1, fill: float = 0.0, **given: Tensor) -> Tensor:
    """All layers of ``a1, g1`` or of ``a1, g1, a2, g2``."""
    a1, other = sides[0], sides[2] if len(sides) > 2 else sides[0]
    compute = torch.float64 if a1.dtype == torch.float64 else torch.float32
    shape = (*a1.shape[:-2], a1.shape[-2] * outputs, other.shape[-2] * outputs)
    out = torch.full(shape, fill, dtype=compute)
    ntk_hadamard(out, *sides, widths=WIDTHS, bias=BIAS, scale=SCALE, **given)
    return out


def layers_of(a: Tensor, g: Tensor) -> list[tuple[Tensor, Tensor]]:
    a_widths, g_widths = zip(*WIDTHS, strict=True)
    parts = a.double().split(list(a_widths), -1), g.double().split(list(g_widths), -1)
    return list(zip(*parts, strict=True))


def exact(a1: Tensor, g1: Tensor, a2: Tensor, g2: Tensor, outputs: int) -> Tensor:
    """(N, O, M, O) by einsum, in float64."""
    total = torch.zeros(len(a1), outputs, len(a2), outputs, dtype=torch.float64)
    sides = zip(layers_of(a1, g1), layers_of(a2, g2), strict=True)
    for ((a, g), (other_a, other_g)), bias, scale in zip(sides, BIAS, SCALE, strict=True):
        rows, columns = g.reshape(len(a), outputs, -1), other_g.reshape(len(other_a), outputs, -1)
        left = torch.einsum("na,ma->nm", a, other_a) + bias
        total += scale * torch.einsum("nm,nog,mpg->nomp", left, rows, columns)
    return total


def limit(dtype: torch.dtype) -> float:
    """The spec's, whose roundings are float32's."""
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    return SPEC.limit((0, A, G)) * torch.finfo(compute).eps / torch.finfo(torch.float32).eps


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("outputs", [1, 2, 5, 60])  # 60: a panel of outputs within one sample
def test_full_outputs_against_einsum(outputs: int, dtype: torch.dtype) -> None:
    here, there = drawn(7, dtype, outputs), drawn(4, dtype, outputs, seed=1)
    ours = kernel_of(*here, *there, outputs=outputs).reshape(7, outputs, 4, outputs)
    assert relative_error(ours, exact(*here, *there, outputs)) <= limit(dtype)
    ours = kernel_of(*here, outputs=outputs).reshape(7, outputs, 7, outputs)
    assert relative_error(ours, exact(*here, *here, outputs)) <= limit(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("samples", "outputs"), [(1, 1), (130, 1), (53, 3)])
def test_symmetric_to_the_last_bit(samples: int, outputs: int, dtype: torch.dtype) -> None:
    found = kernel_of(*drawn(samples, dtype, outputs), outputs=outputs)
    assert torch.equal(found, found.mT)


@needs_kernel
@pytest.mark.parametrize("outputs", [1, 3])
def test_one_triangle_is_the_rectangle(outputs: int) -> None:
    """Computing half and computing all give the same bits."""
    side = drawn(101, torch.float32, outputs)
    both = kernel_of(*side, *(t.clone() for t in side), outputs=outputs)
    assert torch.equal(kernel_of(*side, outputs=outputs), both)


def test_the_lower_entries_of_out_are_added_to() -> None:
    side = drawn(70, torch.float64)
    start = torch.arange(4900.0, dtype=torch.float64).reshape(70, 70)
    out = start.clone()
    ntk_hadamard(out, *side, widths=WIDTHS, bias=BIAS, scale=SCALE)
    expected = kernel_of(*side) + start.tril() + start.tril(-1).mT
    assert relative_error(out, expected) <= 4 * torch.finfo(torch.float64).eps
    assert torch.equal(out, out.mT)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("outputs", [1, 4])
def test_positive_semi_definite(outputs: int, dtype: torch.dtype) -> None:
    """Half of the samples stand twice, so that the least eigenvalue is 0 but for rounding.

    Each entry errs by at most its own limit, which may add up over a row: the spectral norm of the
    error is below its Frobenius norm, and that below the limit times the kernel's own.
    """
    a, g = drawn(30, dtype, outputs)
    twice = a.repeat(2, 1), g.repeat(2, 1)
    found = kernel_of(*twice, outputs=outputs).double()
    least = float(torch.linalg.eigvalsh(found)[0])
    assert least >= -limit(dtype) * float(found.norm())


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_a_permutation_of_samples_permutes_the_kernel(dtype: torch.dtype) -> None:
    a, g = drawn(115, dtype)
    order = torch.randperm(115, generator=torch.Generator().manual_seed(0))
    assert torch.equal(kernel_of(a[order], g[order]), kernel_of(a, g)[order][:, order])


@needs_kernel
@pytest.mark.parametrize("outputs", [1, 3])
def test_tiles_of_samples_have_the_bits_of_the_whole(outputs: int) -> None:
    a, g = drawn(90, torch.float32, outputs)
    whole, tiled = kernel_of(a, g, outputs=outputs), torch.zeros(90 * outputs, 90 * outputs)
    cuts = [(0, 17), (17, 50), (50, 90)]
    for begin, end in cuts:
        for first, last in cuts:
            rows, columns = (
                slice(from_ * outputs, to * outputs) for from_, to in ((begin, end), (first, last))
            )
            ntk_hadamard(
                tiled[rows, columns], a[begin:end], g[rows], a[first:last], g[columns],
                WIDTHS, BIAS, SCALE,
            )  # fmt: skip
    assert torch.equal(tiled, whole)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_layer_after_layer(dtype: torch.dtype) -> None:
    a, g = drawn(75, dtype)
    out = torch.zeros(75, 75, dtype=dtype)
    a_at = g_at = 0
    for (a_width, g_width), bias, scale in zip(WIDTHS, BIAS, SCALE, strict=True):
        layer = a[:, a_at : a_at + a_width], g[:, g_at : g_at + g_width]
        ntk_hadamard(out, *layer, bias=bias, scale=scale)
        a_at, g_at = a_at + a_width, g_at + g_width
    assert relative_error(out, kernel_of(a, g)) <= 2 * limit(dtype)


@needs_kernel
@pytest.mark.parametrize("outputs", [1, 3])
def test_networks_are_each_alone(outputs: int) -> None:
    sides = [drawn(51, torch.float32, outputs, seed) for seed in range(3)]
    together = kernel_of(*map(torch.stack, zip(*sides, strict=True)), outputs=outputs)
    for network, side in zip(together, sides, strict=True):
        assert torch.equal(network, kernel_of(*side, outputs=outputs))


@needs_kernel
@pytest.mark.parametrize("outputs", [1, 3])
def test_networks_may_share_their_inputs(outputs: int) -> None:
    """As the diagonal over outputs does: the gradients differ, the inputs do not."""
    sides = [drawn(51, torch.float32, outputs, seed) for seed in range(3)]
    a, g = sides[0][0], torch.stack([g for _, g in sides])
    for given in ((), (a[:20].expand(3, 20, A), g[:, : 20 * outputs])):
        shared = kernel_of(a.expand(3, 51, A), g, *given, outputs=outputs)
        copied = kernel_of(a.repeat(3, 1, 1), g, *given, outputs=outputs)
        assert torch.equal(shared, copied)


@needs_kernel
@pytest.mark.parametrize("outputs", [1, 3])
def test_threads_change_no_bit(outputs: int) -> None:
    side, threads = drawn(140, torch.float32, outputs), torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(kernel_of(*side, outputs=outputs))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_last_layer_of_a_hypernetwork(outputs: int) -> None:
    """K += (Phi Phi'^T + 1) * K_primary, with the second factor given."""
    make = maker(torch.float64, "cpu")
    phi, other, primary = make(50, 33), make(61, 33), make(50 * outputs, 61 * outputs)
    out = torch.ones(50 * outputs, 61 * outputs, dtype=torch.float64)
    ntk_hadamard(out, phi, None, other, bias=1.0, gram=primary)
    ones = torch.ones(outputs, outputs, dtype=torch.float64)
    expected = 1 + torch.kron(phi @ other.T + 1, ones) * primary
    assert relative_error(out, expected) <= limit(torch.float64)

    square = make(50 * outputs, 50 * outputs)
    out = torch.zeros_like(square)
    ntk_hadamard(out, phi, bias=1.0, gram=square)
    lower = square.tril() + square.tril(-1).mT
    assert relative_error(out, torch.kron(phi @ phi.T + 1, ones) * lower) <= limit(torch.float64)
    assert torch.equal(out, out.mT)


def test_out_may_be_a_tile_of_a_larger_kernel() -> None:
    side = drawn(20, torch.float32)
    large = torch.full((3, 40, 50), 7.0)
    ntk_hadamard(large[1, 10:30, 5:25], *side, widths=WIDTHS, bias=BIAS, scale=SCALE)
    expected = torch.full((3, 40, 50), 7.0)
    expected[1, 10:30, 5:25] = kernel_of(*side, fill=7.0)
    assert torch.equal(large, expected)


def test_widths_must_be_those_of_the_columns() -> None:
    a, g = torch.zeros(3, 4), torch.zeros(3, 5)
    for widths in ([(4, 4)], [(2, 5), (3, 0)], [(5, 5), (-1, 0)], []):
        sentence = (
            "dlaccel.ntk_hadamard: widths must be at least 0 and add up to (4, 5), "
            f"the columns of a1 and g1, got {widths}."
        )
        out = torch.zeros(3, 3)
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            ntk_hadamard(out, a, g, widths=widths)
        assert not out.any()


def test_one_factor_must_be_given() -> None:
    sentence = "dlaccel.ntk_hadamard: g1 must be given, or gram in its place, got neither."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        ntk_hadamard(torch.zeros(3, 3), torch.zeros(3, 4))
