"""``ops.hyper_linear`` and ``nn.HyperLinear`` against generated weights, by every order."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from samples import maker, relative_error
from torch import Tensor
from torch.func import functional_call, grad, jvp, vmap

from dlaccel._spec import ROUNDING
from dlaccel.nn import HyperLinear
from dlaccel.ops import _hyper_ops as hyper_ops
from dlaccel.ops import hyper_linear, hyper_linear_plan, log_paths
from dlaccel.ops._hyper_plan import ORDERS, Problem, costs
from dlaccel.ops._machine import Machine

DOUBLE = torch.float64
# B, N, I, K, O: empty ones, single elements, odd ones, and some above a register, panel and tile.
SIZES = [
    (0, 1, 3, 2, 4), (3, 0, 3, 2, 4), (3, 2, 0, 2, 4), (3, 2, 3, 0, 4), (3, 2, 3, 2, 0),
    (1, 1, 1, 1, 1), (5, 3, 7, 4, 9), (33, 1, 17, 9, 50), (3, 41, 5, 70, 13), (70, 2, 31, 40, 61),
]  # fmt: skip


@pytest.fixture(params=[True, False], ids=["kernel", "torch"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With the compiled kernels, and with torch's products alone."""
    with_kernel = bool(request.param)
    if with_kernel and hyper_ops.FORWARD._cpu_kernel is None:
        pytest.skip("this build holds no CPU module")
    if not with_kernel:
        monkeypatch.setattr(hyper_ops, "_measure", lambda kernel, dtype: None)
        monkeypatch.setattr("dlaccel.ops._machine._known", {})
    return with_kernel


def materialised(
    x: Tensor, z: Tensor, weight: Tensor, bias: Tensor, base: Tensor, bias_weight: Tensor
) -> Tensor:
    """x (B, N, I) through weights made for every code."""
    weights = torch.einsum("oik,bk->boi", weight, z) + base
    return x @ weights.transpose(1, 2) + (z @ bias_weight.T + bias)[:, None]


def drawn(size: tuple[int, ...], dtype: torch.dtype = DOUBLE) -> tuple[Tensor, ...]:
    """x, z, weight, bias, base weight, bias weight."""
    b, n, i, k, o = size
    make = maker(dtype, "cpu")
    tensors = (
        make(b, n, i), make(b, k), make(o, i, k), make(o), make(o, i), make(o, k),
    )  # fmt: skip
    return tuple(t.requires_grad_() for t in tensors)


def layer(order: str = "auto") -> Callable[..., Tensor]:
    def call(x: Tensor, z: Tensor, w: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        return hyper_linear(x, z, w, b, base_weight=c, bias_weight=d, order=order)  # type: ignore[arg-type]

    return call


def limit(size: tuple[int, ...], dtype: torch.dtype) -> float:
    """Relative L2 error of independent roundings: each of the two or three products in a row adds
    sqrt(length) in the type of the sums; half types round the result, and the gradient's inputs.
    """
    b, n, i, k, o = size
    compute = ROUNDING[torch.float32 if dtype.itemsize == 2 else dtype]
    inner = 4 * math.sqrt(max(1, i * k, k * o, i * o, b * n)) * compute
    return inner + (4 * ROUNDING[dtype] if dtype.itemsize == 2 else 0)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_order_equals_generated_weights_in_float64(
    size: tuple[int, ...], order: str, kernel: bool
) -> None:
    given = drawn(size)
    result, wanted = layer(order)(*given), materialised(*given)
    assert result.shape == wanted.shape
    assert relative_error(result, wanted) < limit(size, DOUBLE)
    cotangent = maker(DOUBLE, "cpu", seed=1)(*wanted.shape)
    own = torch.autograd.grad(result, given, cotangent)
    for a, b in zip(own, torch.autograd.grad(wanted, given, cotangent), strict=True):
        assert relative_error(a, b) < limit(size, DOUBLE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("order", ["outer", "input_first", "scaled", "generate_tiles", "generate"])
def test_every_order_in_other_dtypes(order: str, dtype: torch.dtype, kernel: bool) -> None:
    size = (70, 2, 31, 40, 61)
    given = drawn(size, dtype)
    exact = tuple(t.detach().double().requires_grad_() for t in given)
    result, wanted = layer(order)(*given), materialised(*exact)
    assert result.dtype == dtype
    # Biases are added after the result is rounded: two roundings more in a half type.
    assert relative_error(result, wanted) < limit(size, dtype)
    own = torch.autograd.grad(result.sum(), given)
    for a, b in zip(own, torch.autograd.grad(wanted.sum(), exact), strict=True):
        assert relative_error(a, b) < limit(size, dtype)


@pytest.mark.parametrize("order", ["outer", "generate_tiles"])
def test_tiles_that_cut_every_axis_change_nothing(
    order: str, monkeypatch: pytest.MonkeyPatch, kernel: bool
) -> None:
    monkeypatch.setattr("dlaccel.ops._hyper_orders.TILE_BYTES", 512)
    monkeypatch.setattr("dlaccel.ops._hyper_orders.TILE_ROWS", 4)
    monkeypatch.setattr("dlaccel.ops._hyper_plan.TILE_CODES", 2)
    monkeypatch.setattr("dlaccel.ops._hyper_plan.TILE_BYTES", 512)
    size = (11, 3, 7, 5, 6)
    given = drawn(size)
    result, wanted = layer(order)(*given), materialised(*given)
    assert relative_error(result, wanted) < limit(size, DOUBLE)
    own = torch.autograd.grad(result.sin().sum(), given)
    for a, b in zip(own, torch.autograd.grad(wanted.sin().sum(), given), strict=True):
        assert relative_error(a, b) < 10 * limit(size, DOUBLE)  # sin at values of some tens


@pytest.mark.parametrize("order", ["outer", "generate_tiles"])
def test_derivatives_of_first_and_second_order(order: str, kernel: bool) -> None:
    given = drawn((2, 2, 3, 2, 2))
    assert torch.autograd.gradcheck(layer(order), given, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(layer(order), given)


def test_strides_change_no_bit() -> None:
    if hyper_ops.FORWARD._cpu_kernel is None:
        pytest.skip("torch's own products may sum strided inputs in another order")
    given = drawn((37, 2, 5, 6, 7), torch.float32)[:3]
    spread = [t.detach().repeat_interleave(2, -1)[..., ::2].requires_grad_() for t in given]
    spread[2] = given[2].detach().permute(2, 0, 1).contiguous().permute(1, 2, 0).requires_grad_()
    results = [hyper_linear(*t, order="outer") for t in (given, spread)]
    assert torch.equal(*results)
    cotangent = torch.ones(7).expand_as(results[0])  # of stride 0
    dense, expanded = (
        torch.autograd.grad(result, t, c)
        for result, t, c in zip(
            results, (given, spread), (cotangent.clone(), cotangent), strict=True
        )
    )
    assert all(map(torch.equal, dense, expanded))


@pytest.mark.parametrize("size", [(300, 1, 9, 8, 40), (3, 1, 60, 70, 80)])
def test_the_same_bits_on_any_number_of_threads(size: tuple[int, ...]) -> None:
    given = drawn(size, torch.float32)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            result = hyper_linear(*given[:3], order="outer")
            found.append((result, *torch.autograd.grad(result.sum(), given[:3])))
    finally:
        torch.set_num_threads(threads)
    if hyper_ops.FORWARD._cpu_kernel is None:
        pytest.skip("torch's own products promise no bits")
    for first, second in pairwise(found):
        assert all(map(torch.equal, first, second))


def ragged(rows: int, codes: int) -> Iterator[Tensor]:
    """Indices: drawn, all of one code, sorted with codes that have no row."""
    generator = torch.Generator().manual_seed(0)
    yield torch.randint(codes, (rows,), generator=generator)
    yield torch.full((rows,), codes - 1)
    yield (torch.arange(rows) * 2 // max(rows, 1)) * (codes - 1)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("rows", "codes"), [(50, 4), (5, 9), (0, 3), (64, 1)])
def test_ragged_rows(rows: int, codes: int, order: str) -> None:
    x, z, *others = drawn((rows, 1, 6, 5, 7))
    x, z = x[:, 0], drawn((codes, 1, 6, 5, 7))[1]
    for index in ragged(rows, codes):
        w, b, c, d = others
        result = hyper_linear(
            x, z, w, b, base_weight=c, bias_weight=d, z_index=index, order=order  # type: ignore[arg-type]
        )  # fmt: skip
        wanted = materialised(x[:, None], z[index], w, b, c, d)[:, 0]
        assert relative_error(result, wanted) < limit((rows, 1, 6, 5, 7), DOUBLE)
        own = torch.autograd.grad(result.sum(), (x, z, *others))
        for a, t in zip(own, torch.autograd.grad(wanted.sum(), (x, z, *others)), strict=True):
            assert relative_error(a, t) < limit((rows, 1, 6, 5, 7), DOUBLE)


def test_torch_func_and_compile() -> None:
    size = (4, 3, 5, 2, 6)
    given = tuple(t.detach() for t in drawn(size))

    def loss(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *t: call(*t).sin().sum()

    places = tuple(range(6))
    for in_dims in ((0, 0, None, None, None, None), (0, None, 0, None, None, 0)):
        batched = tuple(
            t if d is None else torch.stack((t, 2 * t, t + 1))
            for t, d in zip(given, in_dims, strict=True)
        )
        own, wanted = (
            vmap(grad(loss(f), argnums=places), in_dims)(*batched) for f in (layer(), materialised)
        )
        for a, b in zip(own, wanted, strict=True):
            assert relative_error(a, b) < 1e-13  # sums of some tens of numbers of one size
    tangents = tuple(map(torch.ones_like, given))
    for a, b in zip(jvp(layer(), given, tangents), jvp(materialised, given, tangents), strict=True):
        assert relative_error(a, b) < 1e-13
    own, wanted = (torch.func.hessian(loss(f), argnums=(0, 1, 2))(*given)
                   for f in (layer(), materialised))  # fmt: skip
    for row, wanted_row in zip(own, wanted, strict=True):
        for a, b in zip(row, wanted_row, strict=True):
            assert relative_error(a, b) < 1e-12
    compiled = torch.compile(layer(), fullgraph=True, backend="aot_eager")
    leaves = tuple(t.clone().requires_grad_() for t in given)
    result, wanted = compiled(*leaves), materialised(*leaves)
    assert relative_error(result, wanted) < 1e-13
    for a, b in zip(
        torch.autograd.grad(result.sum(), leaves),
        torch.autograd.grad(wanted.sum(), leaves),
        strict=True,
    ):
        assert relative_error(a, b) < 1e-13
    x, z, w = given[0].flatten(0, 1), *given[1:3]
    index = torch.tensor([0, 3, 3, 1, 0, 0, 2, 3, 3, 3, 1, 0])
    whole = torch.compile(hyper_linear, fullgraph=True, backend="aot_eager")
    assert torch.allclose(whole(x, z, w, z_index=index), hyper_linear(x, z, w, z_index=index))


@pytest.mark.parametrize("order", ["auto", "outer", "generate_tiles", "generate"])
def test_the_arguments_alone_are_saved(order: str) -> None:
    x, z, w, *_ = drawn((50, 4, 20, 3, 20), torch.float32)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        hyper_linear(x, z, w, order=order)  # type: ignore[arg-type]
    mine = {t.untyped_storage().data_ptr() for t in (x, z, w)}
    assert saved
    assert {t.untyped_storage().data_ptr() for t in saved} <= mine


@pytest.mark.parametrize("order", ["auto", "outer", "generate_tiles", "generate"])
def test_the_backward_pass_makes_no_weights(order: str, kernel: bool) -> None:
    b, i, k, o = 2000, 64, 8, 64
    x, z, w, *_ = drawn((b, 1, i, k, o), torch.float32)
    result = hyper_linear(x, z, w, order=order)  # type: ignore[arg-type]
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profile:
        result.backward(torch.ones_like(result))
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    # A tile is 32 codes at least; everything of one weight for each code is 62 times that.
    assert 0 < largest <= max(2 * 32 * i * o * 4, 2 * b * (i + k + o) * 4) < b * i * o * 4 / 8


def test_the_choice_follows_the_break_evens() -> None:
    # Without a kernel, unfused, N = 1: outer products win where K < O, and input_first where K < I
    # and O < I; a machine whose memory is slow leaves out what is not counted in the rule.
    rates = Machine(1e12, 0.0, 1e9, 1e9, 0.0)

    def best(n: Problem) -> str:
        found = costs(n, "forward", rates)
        return min(("outer", "input_first", "generate"), key=lambda name: found[name].seconds)  # type: ignore[index]

    assert best(Problem(4096, 1, 512, 4, 512)) in ("outer", "input_first")
    assert best(Problem(4096, 1, 512, 512, 16)) != "outer"
    # With N rows for each code generating wins from some N on, and stays ahead.
    fused = Machine(100e9, 200e9, 60e9, 12e9, 1e-6)
    ahead = [
        (c := costs(Problem(256, n, 256, 64, 256), "forward", fused))["outer"].seconds
        < c["generate_tiles"].seconds
        for n in (1, 2, 4, 8, 16, 64, 256)
    ]
    assert ahead[0]
    assert not ahead[-1]
    assert ahead == sorted(ahead, reverse=True)


def test_paths_are_told_of_and_equal_the_plans() -> None:
    x, z, w, *_ = drawn((40, 1, 6, 3, 8), torch.float32)
    plans = hyper_linear_plan(x, z, w)
    with log_paths() as outer, log_paths() as paths:
        hyper_linear(x, z, w).sum().backward()
    hyper_linear(x, z, w)
    assert paths == list(plans) == outer
    assert "flops" in str(paths[0])


def test_autocast_takes_the_widest_dtype() -> None:
    x, z, w, b, c, d = (t.detach() for t in drawn((4, 2, 5, 3, 6), torch.float32))
    with torch.autocast("cpu"):
        result = hyper_linear(x.bfloat16(), z, w, b, base_weight=c, bias_weight=d)
    assert torch.equal(result, layer()(x.bfloat16().float(), z, w, b, c, d))


X, Z, W = torch.ones(3, 4), torch.ones(3, 2), torch.ones(5, 4, 2)


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "sentence"),
    [
        ((1, Z, W), {}, TypeError, "x must be a torch.Tensor, got int."),
        ((X, Z, W[0]), {}, ValueError, "weight must have three axes, got (4, 2)."),
        ((X.T, Z, W), {}, ValueError, "x must have a last axis of 4, got (4, 3)."),
        ((X, X, W), {}, ValueError, "z must have a last axis of 2, got (3, 4)."),
        ((X, Z[:2], W), {}, ValueError, "z must have leading axes (3,) or (), got (2, 2)."),
        ((X, Z[:1], W), {}, ValueError, "z must have leading axes (3,) or (), got (1, 2)."),
        ((X[:1], Z, W), {}, ValueError, "z must have leading axes (1,) or (), got (3, 2)."),
        ((X[0], Z, W), {}, ValueError, "z must have leading axes (), got (3, 2)."),
        ((X, Z.double(), W), {}, TypeError, "z must have dtype float32, got float64."),
        ((X.long(), Z, W), {}, TypeError,
         "x must have dtype float64, float32, bfloat16 or float16, got int64."),
        ((X, Z, W, W[0, 0]), {}, ValueError, "bias must have shape (5,), got (2,)."),
        ((X, Z, W), {"base_weight": X}, ValueError,
         "base_weight must have shape (5, 4), got (3, 4)."),
        ((X, Z, W), {"bias_weight": X}, ValueError,
         "bias_weight must have shape (5, 2), got (3, 4)."),
        ((X, Z, W), {"order": "fastest"}, ValueError,
         "order must be one of 'auto', 'outer', 'input_first', 'scaled', 'generate_tiles', "
         "'generate', got 'fastest'."),
        ((X, Z, W), {"z_index": torch.tensor([0, 3, 1])}, ValueError,
         "z_index must lie in [0, 3), got 3 at 1."),
        ((X, Z, W), {"z_index": torch.tensor([0, 1])}, ValueError,
         "z_index must have shape (3,), got (2,)."),
        ((X, Z, W), {"z_index": torch.ones(3)}, TypeError,
         "z_index must have dtype int64, got float32."),
        ((X[None], Z, W), {"z_index": torch.tensor([0])}, ValueError,
         "x must have two axes where z_index is given, got (1, 3, 4)."),
        ((X, Z.to("meta"), W), {}, ValueError, "z must be on x's device cpu, got meta."),
    ],
)  # fmt: skip
def test_refusals(
    arguments: tuple[Any, ...], options: dict[str, Any], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind) as raised:
        hyper_linear(*arguments, **options)
    assert str(raised.value) == f"dlaccel.hyper_linear: {sentence}"


@pytest.mark.parametrize("init", ["hyperfan_in", "hyperfan_out"])
@pytest.mark.parametrize("base", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_the_initialisations_keep_the_mean_square(init: str, base: bool, bias: bool) -> None:
    made = HyperLinear(
        60, 90, 40, base_weight=base, generated_bias=bias, init=init, gain=2.0,  # type: ignore[arg-type]
        code_mean_square=0.25, generator=torch.Generator().manual_seed(0), dtype=DOUBLE,
    )  # fmt: skip
    make = maker(DOUBLE, "cpu")
    x, z = make(2000, 60).requires_grad_(), make(2000, 40) / 2
    y = made(x, z)
    # 2000 rows of 90 outputs: means of squares of products spread by some percent.
    if init == "hyperfan_in" or bias:
        assert y.square().mean().item() == pytest.approx(4, rel=0.1)
    if init == "hyperfan_out":
        (dx,) = torch.autograd.grad(y, x, maker(DOUBLE, "cpu", seed=1)(*y.shape))
        assert dx.square().mean().item() == pytest.approx(4, rel=0.1)


def test_the_layer_starts_as_a_linear_layer_and_tells_its_plan() -> None:
    made = HyperLinear(3, 4, 2, init="base", base_weight=True, generated_bias=True)
    x, z = torch.randn(6, 5, 3), torch.randn(6, 2)
    assert made.base_weight is not None
    assert torch.equal(made(x, z), torch.nn.functional.linear(x, made.base_weight, made.bias))
    assert made.plan(x, z)[0].cost.flops > 0
    assert "code_features=2" in str(made)
    state = {name: torch.ones_like(p) for name, p in made.named_parameters()}
    # (I K + I + K + 1 ones) for ones as inputs
    ones = functional_call(made, state, (torch.ones(1, 3), torch.ones(1, 2)))
    assert torch.equal(ones, torch.full((1, 4), 6.0 + 3 + 2 + 1))
    index = torch.tensor([1, 0, 1, 1, 0, 5])
    assert torch.allclose(made(x[:, 0], z, index), made(x[:, 0], z[index]))


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"in_features": 0}, ValueError, "in_features must be at least 1, got 0."),
        ({"code_features": 2.0}, TypeError, "code_features must be an integer, got float."),
        ({"gain": 0.0}, ValueError, "gain must be positive, got 0.0."),
        ({"init": "base"}, ValueError, "base_weight must be True where init is 'base', got False."),
        ({"init": "fan"}, ValueError,
         "init must be one of 'hyperfan_in', 'hyperfan_out', 'base', got 'fan'."),
    ],
)  # fmt: skip
def test_the_layer_refuses(options: dict[str, Any], kind: type[Exception], sentence: str) -> None:
    given = {"in_features": 3, "out_features": 4, "code_features": 2, **options}
    with pytest.raises(kind) as raised:
        HyperLinear(**given)
    assert str(raised.value) == f"dlaccel.HyperLinear: {sentence}"
