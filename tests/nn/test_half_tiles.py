"""Half types on processors without such products: accuracy, gradients, memory and the choice."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from dlaccel._spec import ROUNDING
from dlaccel.nn import GatedMLP, _half_tiles

HALF = (torch.bfloat16, torch.float16)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def tiles(monkeypatch):
    """Takes the tiles here, whatever torch does, and makes them small enough to need several."""
    monkeypatch.setenv(_half_tiles.VARIABLE, "tiles")
    monkeypatch.setattr(_half_tiles, "HIDDEN", 32)
    monkeypatch.setattr(_half_tiles, "ROWS", 24)
    _half_tiles.torch_is_slow.cache_clear()
    yield
    _half_tiles.torch_is_slow.cache_clear()


def exact(module, x, dy):
    """Value and gradients in float64 from the very numbers that the layer holds."""
    wide = {name: p.detach().double().requires_grad_() for name, p in module.named_parameters()}
    x = x.detach().double().requires_grad_()
    kinds = ("weight", "bias")
    if module.arrangement.layout == "separate":
        pairs = [[wide.get(f"{n}.{k}") for n in ("gate_proj", "up_proj")] for k in kinds]
    else:
        name = module.arrangement.projections[0]
        whole = [wide.get(f"{name}.{k}") for k in kinds]
        interleaved = module.arrangement.layout == "interleaved"
        pairs = [
            [None, None] if w is None else ([w[0::2], w[1::2]] if interleaved else list(w.chunk(2)))
            for w in whole
        ]
    if not module.arrangement.gate_first:
        pairs = [pair[::-1] for pair in pairs]
    (gate, up), (p, q) = pairs
    hidden = F.silu(F.linear(x, gate, p)) * F.linear(x, up, q)
    y = F.linear(hidden, wide["down_proj.weight"], wide.get("down_proj.bias"))
    return (y, *torch.autograd.grad(y, [x, *wide.values()], dy.double()))


def relative(got, want):
    return float(((got.double() - want).norm() / want.norm()).detach())


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("memory", ["keep", "recompute"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("layout", "gate"), [("separate", "first"), ("packed", "last"), ("interleaved", "first")]
)
def test_one_rounding_from_float64(tiles, layout, gate, bias, memory, dtype):
    module = GatedMLP(40, 81, 24, layout=layout, gate=gate, bias=bias, memory=memory, dtype=dtype)
    x = torch.randn(2, 29, 40).to(dtype).requires_grad_()
    dy = torch.randn(2, 29, 24).to(dtype)
    y = module(x)
    got = (y, *torch.autograd.grad(y, [x, *module.parameters()], dy))
    want = exact(module, x, dy)
    # Everything is float32 until the one rounding at the end, beside which float32's sums of at
    # most 121 products do not show: a sixteenth is left for them and for cancellation.
    once = ROUNDING[dtype] * (1 + 1 / 16)
    # Kept pre-activations are rounded too: v enters gradients once, and g through a', where
    # |g a''| < 0.5 and the root mean square of a' is above 0.5, so at most once as well.
    limit = once if memory == "recompute" else 3 * once
    assert y.dtype == dtype
    assert relative(y, want[0]) <= once
    for g, w in zip(got[1:], want[1:], strict=True):
        assert g.dtype == dtype
        assert relative(g, w) <= limit


def test_no_worse_than_torch(tiles):
    module = GatedMLP(64, 160, dtype=torch.bfloat16)
    x = torch.randn(50, 64).bfloat16()
    dy = torch.randn(50, 64).bfloat16()
    want = exact(module, x, dy)
    own = [x.requires_grad_(), *module.parameters()]
    y = module(x)
    ours = (y, *torch.autograd.grad(y, own, dy))
    gate, up, down = module.parameters()
    y = F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)
    theirs = (y, *torch.autograd.grad(y, own, dy))
    for a, b, w in zip(ours, theirs, want, strict=True):
        assert relative(a, w) <= relative(b, w)


def test_the_value_does_not_depend_on_saving(tiles):
    module = GatedMLP(8, 70, bias=True, dtype=torch.bfloat16)
    x = torch.randn(30, 8).bfloat16()
    with torch.no_grad():
        want = module(x)
    assert torch.equal(module(x), want)


def test_second_derivatives(tiles):
    module = GatedMLP(4, 40, dtype=torch.bfloat16)
    x = torch.randn(6, 4).bfloat16().requires_grad_()
    (dx,) = torch.autograd.grad(module(x).sum(), x, create_graph=True)
    (got,) = torch.autograd.grad(dx.square().sum(), x)
    wide = GatedMLP(4, 40, dtype=torch.float64)
    wide.load_state_dict(module.state_dict())
    x = x.detach().double().requires_grad_()
    (dx,) = torch.autograd.grad(wide(x).sum(), x, create_graph=True)
    (want,) = torch.autograd.grad(dx.square().sum(), x)
    # Torch's own operators in bfloat16: some twenty rounded intermediates, each 2^-8 at most.
    assert relative(got, want) <= 20 * ROUNDING[torch.bfloat16]


def test_frozen_parameters(tiles):
    module = GatedMLP(8, 40, bias=True, dtype=torch.bfloat16, memory="recompute")
    x = torch.randn(30, 8).bfloat16().requires_grad_()
    wanted = torch.autograd.grad(module(x).float().sum(), [x, *module.parameters()])
    module.requires_grad_(False)
    (dx,) = torch.autograd.grad(module(x).float().sum(), x)
    assert torch.equal(dx, wanted[0])
    module.down_proj.weight.requires_grad_()
    got = torch.autograd.grad(module(x.detach()).float().sum(), module.down_proj.weight)
    names = [name for name, _ in module.named_parameters()]
    assert torch.equal(got[0], wanted[1 + names.index("down_proj.weight")])


def test_inside_autocast_and_inference_mode(tiles):
    module = GatedMLP(8, 40, bias=True)
    x = torch.randn(30, 8)
    narrow = GatedMLP(8, 40, bias=True, dtype=torch.bfloat16)
    narrow.load_state_dict(module.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(x), narrow(x.bfloat16()))
    with torch.inference_mode():
        assert torch.equal(narrow(x.bfloat16()), narrow(x.bfloat16()))


def allocations(call):
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        call()
    events = run.profiler.kineto_results.events()
    return [e.nbytes() for e in events if e.name() == "[memory]" and e.nbytes() > 0]


def test_no_float32_copy_of_a_weight(monkeypatch):
    monkeypatch.setenv(_half_tiles.VARIABLE, "tiles")
    _half_tiles.torch_is_slow.cache_clear()
    features, hidden, rows = 64, 8 * _half_tiles.HIDDEN, 16
    module = GatedMLP(features, hidden, dtype=torch.bfloat16)
    x = torch.randn(rows, features).bfloat16()
    weight = 4 * features * hidden  # bytes of one of the three in float32
    with torch.no_grad():
        module(x)
        sizes = allocations(lambda: module(x))
    _half_tiles.torch_is_slow.cache_clear()
    assert sizes
    # Scratch: a tile of three weights, 3/8 of one; of activations, 3 * 16 rows of a tile.
    assert max(sizes) <= weight / 4
    assert sum(sizes) <= weight / 2


def decided(monkeypatch, half, single):
    """What the probe says when products take these times in turn."""
    takes = {torch.bfloat16: iter(half), torch.float32: iter(single)}
    monkeypatch.delenv(_half_tiles.VARIABLE, raising=False)
    monkeypatch.setattr(_half_tiles, "_seconds", lambda matrix: next(takes[matrix.dtype]))
    monkeypatch.setattr(_half_tiles, "_onednn_has", lambda dtype: False)
    _half_tiles.torch_is_slow.cache_clear()
    try:
        return _half_tiles.torch_is_slow(torch.bfloat16)
    finally:
        _half_tiles.torch_is_slow.cache_clear()


def test_the_probe_compares_the_best_takes(monkeypatch):
    assert decided(monkeypatch, [9, 5, 5, 5, 5, 5], [1, 1, 1, 1, 1, 1])
    assert not decided(monkeypatch, [9, 2, 2, 2, 2, 2], [1, 1, 1, 1, 1, 1])
    assert not decided(monkeypatch, [9, 99, 99, 1, 99, 99], [1, 1, 1, 1, 1, 1])  # a busy machine
    assert decided(monkeypatch, [9, 5, 5, 5, 5, 5], [99, 99, 99, 99, 99, 1])


def test_what_onednn_has_is_not_timed(monkeypatch):
    monkeypatch.delenv(_half_tiles.VARIABLE, raising=False)
    monkeypatch.setattr(_half_tiles, "_onednn_has", lambda dtype: True)
    monkeypatch.setattr(_half_tiles, "_seconds", lambda matrix: pytest.fail("timed"))
    _half_tiles.torch_is_slow.cache_clear()
    assert not _half_tiles.torch_is_slow(torch.bfloat16)
    _half_tiles.torch_is_slow.cache_clear()


def test_the_thread_count_is_put_back(monkeypatch):
    monkeypatch.setattr(_half_tiles, "_seconds", lambda matrix: float(torch.get_num_threads()))
    before = torch.get_num_threads()
    assert not _half_tiles._measured_slow(torch.bfloat16)
    assert torch.get_num_threads() == before


def test_small_batches_and_other_dtypes_are_torchs(tiles):
    few = _half_tiles.FEWEST_ROWS
    assert _half_tiles.pay(torch.ones(few, 3, dtype=torch.bfloat16))
    assert not _half_tiles.pay(torch.ones(few - 1, 3, dtype=torch.bfloat16))
    assert not _half_tiles.pay(torch.ones(few, 3))


def test_an_unknown_override_is_refused(monkeypatch):
    monkeypatch.setenv(_half_tiles.VARIABLE, "fast")
    _half_tiles.torch_is_slow.cache_clear()
    message = r"^DLACCEL_HALF_PRODUCT must be one of auto, tiles, torch, got 'fast'\.$"
    with pytest.raises(ValueError, match=message):
        _half_tiles.torch_is_slow(torch.bfloat16)


PROGRAM = """
import torch
from dlaccel.nn import _half_tiles
print(torch.ops.mkldnn._is_mkldnn_bf16_supported(), _half_tiles.torch_is_slow(torch.bfloat16))
"""


def test_the_choice_follows_torch_where_onednn_has_no_bfloat16():
    environment = {k: v for k, v in os.environ.items() if k != _half_tiles.VARIABLE}
    environment |= {"ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    supported, slow = run.stdout.split()
    if supported == "True":
        pytest.skip("this build of torch multiplies bfloat16 without AVX-512")
    assert slow == "True"


@pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported(), reason="no native bfloat16 on this processor"
)
def test_native_bfloat16_is_left_to_torch(monkeypatch):
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN is limited by the environment")
    monkeypatch.delenv(_half_tiles.VARIABLE, raising=False)
    _half_tiles.torch_is_slow.cache_clear()
    assert not _half_tiles.torch_is_slow(torch.bfloat16)
