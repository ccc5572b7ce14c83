"""A network cut after a layer: the scores, what runs and what is left, the comparison."""

from __future__ import annotations

import copy
import math
import re
from typing import Any

import pytest
import torch
from small_networks import CLASSES, Backwards, Lambda, Recurrent, batches, clusters, outputs
from torch import Tensor, nn

from dlaccel.collapse.cutting import compare, cut
from dlaccel.collapse.network import measure
from dlaccel.models import MLP, Conv, ConvRes


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def squared_distances(rows: Tensor, centres: Tensor) -> Tensor:
    return (rows[:, None] - centres.double()).square().sum(2)


def images() -> Tensor:
    return torch.randn(9, 3, 8, 8, generator=torch.Generator().manual_seed(1))


CASES = [
    (lambda: MLP(3, 8, 6, CLASSES), "layers.1.linear", None),
    (lambda: MLP(3, 8, 6, CLASSES), "layers.0", None),
    (lambda: Conv(3, 4, CLASSES, image_size=8), "layers.1.conv", images()),
    (lambda: ConvRes(3, 4, CLASSES, image_size=8), "layers.1", images()),
    (lambda: ConvRes(3, 4, CLASSES, image_size=8), "layers.1.inner.conv", images()),
    (Backwards, "middle", None),
    (Backwards, "bottom", None),
    (Recurrent, "cell", None),
]


@pytest.mark.parametrize(("make", "layer", "x"), CASES)
def test_scores(make: Any, layer: str, x: Tensor | None) -> None:
    model = make().eval()
    x = clusters()[0] if x is None else x
    rows = outputs(model, x, (layer,))[layer]
    centres = torch.randn(CLASSES, rows.shape[1], generator=torch.Generator().manual_seed(2))
    before = model(x)
    scores = cut(model, layer, centres)(x)
    # float32: the sum of D products of numbers of size 1 errs by some 1e-7 sqrt(D) of them.
    torch.testing.assert_close(
        -scores.double(), squared_distances(rows, centres), rtol=1e-5, atol=1e-4
    )
    assert torch.equal(model(x), before)
    assert not any(module._forward_hooks for module in model.modules())


def test_the_layers_above_do_not_run() -> None:
    calls: list[str] = []
    for model, layer, upper in (
        (MLP(3, 8, 6, CLASSES), "layers.0.linear", ("layers.0.norm", "layers.1", "head")),
        (Backwards(), "bottom", ("middle", "top")),
    ):
        for name in upper:
            model.get_submodule(name).register_forward_pre_hook(
                lambda module, _: calls.append(type(module).__name__)
            )
        cut(model, layer, torch.zeros(CLASSES, model.get_submodule(layer).out_features))(
            clusters()[0]
        )
        assert calls == []
        model(clusters()[0])
        assert calls
        calls.clear()


def test_a_chain_loses_the_layers_above_and_keeps_its_names() -> None:
    model = ConvRes(4, 4, CLASSES, image_size=8)
    shorter = cut(model, "layers.1", torch.zeros(CLASSES, 16))
    names = {name for name, _ in model.named_parameters() if name.startswith(("stem", "layers.0"))}
    names |= {name for name, _ in model.named_parameters() if name.startswith("layers.1")}
    assert {name for name, _ in shorter.body.named_parameters()} == names
    assert shorter.body.layers[1].inner.conv is model.layers[1].inner.conv
    inside = cut(model, "layers.2.inner", torch.zeros(CLASSES, 16))
    assert not any(name.startswith("layers.3") for name, _ in inside.body.named_parameters())
    parted = copy.deepcopy(shorter)
    with torch.no_grad():
        model.stem[0].weight.zero_()
    assert bool(parted.body.stem[0].weight.any())
    assert not bool(shorter.body.stem[0].weight.any())


def test_modes_are_those_of_the_model() -> None:
    for mode in (True, False):
        model = MLP(2, 8, 6, CLASSES).train(mode)
        shorter = cut(model, "layers.0", torch.zeros(CLASSES, 8))
        assert all(module.training is mode for module in shorter.modules())
    model = Backwards().eval()
    assert not any(m.training for m in cut(model, "middle", torch.zeros(CLASSES, 4)).modules())


def test_classes_without_a_centre() -> None:
    model = MLP(1, 8, 6, CLASSES).eval()
    x, y = clusters()
    y = torch.where(y == 1, -1, y)
    layers = measure(model, batches(x, y))
    shorter = cut(model, layers[0].name, layers[0].geometry.means)
    scores = shorter(x)
    assert bool((scores[:, 1] == -math.inf).all())
    assert bool(scores[:, [0, 2]].isfinite().all())
    hits = scores.argmax(1)[y >= 0] == y[y >= 0]
    assert float(hits.double().mean()) == layers[0].ncc_train


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_scores_far_from_the_origin(offset: float) -> None:
    x, y = clusters()
    model = nn.Sequential(nn.Identity(), nn.Linear(6, CLASSES))
    centres = torch.stack([x[y == c].mean(0) for c in range(CLASSES)]).double() + offset
    far = x + offset
    scores = cut(model, "0", centres)(far)
    # The features keep 2^-24 of the offset; the scores lose no more: 2 d delta, d about 5.
    limit = 1e-5 + 20 * offset * 2**-24
    expected = squared_distances(far.double(), centres)
    torch.testing.assert_close(-scores.double(), expected, rtol=1e-5, atol=limit)


def test_precision() -> None:
    model = MLP(1, 8, 6, CLASSES).eval().double()
    x = clusters()[0]
    rows = outputs(model, x.double(), ("layers.0.linear",))["layers.0.linear"]
    centres = rows[:CLASSES]
    shorter = cut(model, "layers.0.linear", centres)
    expected = squared_distances(rows, centres)
    torch.testing.assert_close(-shorter(x.double()), expected, rtol=1e-12, atol=1e-12)
    single = cut(model.float(), "layers.0.linear", centres)
    with torch.autocast("cpu", torch.bfloat16):
        scores = single(x)
    assert scores.dtype == torch.float32
    half = cut(model.bfloat16(), "layers.0.linear", centres)(x.bfloat16())
    assert half.dtype == torch.float32


def test_gradients_and_compile() -> None:
    model = MLP(2, 8, 6, CLASSES).eval()
    shorter = cut(model, "layers.1.linear", torch.zeros(CLASSES, 8))
    x, y = clusters()
    nn.functional.cross_entropy(shorter(x), y).backward()
    assert model.layers[0].linear.weight.grad is not None
    assert model.head.weight.grad is None
    whole = torch.compile(shorter, backend="eager", fullgraph=True)
    torch.testing.assert_close(whole(x), shorter(x))
    model.compile(backend="eager")
    model(x)
    again = cut(torch.compile(model, backend="eager"), "layers.1.linear", torch.zeros(CLASSES, 8))
    torch.testing.assert_close(again(x), shorter(x))
    opaque = Backwards().eval()
    opaque.compile(backend="eager")
    opaque(x)
    stopped = cut(opaque, "middle", torch.zeros(CLASSES, 4))
    rows = opaque.middle(torch.tanh(opaque.bottom(x)))
    torch.testing.assert_close(stopped(x)[:, 0], -rows.square().sum(1))


def test_comparison() -> None:
    x, y = clusters(200)
    model = MLP(6, 256, 6, CLASSES)
    model.train()
    for _ in range(2):
        model(x)  # running moments
    model.eval()
    layers = measure(model, batches(x, y, 64))
    shorter = cut(model, layers[0].name, layers[0].geometry.means)
    hidden = torch.where(torch.arange(200) < 50, -1, y)
    modes = [module.training for module in model.train().modules()]
    found = compare(model, shorter, batches(x, hidden, 64), repeats=5)
    assert [module.training for module in model.modules()] == modes
    model.eval()
    own, cut_short = model(x)[50:].argmax(1), shorter(x)[50:].argmax(1)
    assert found.accuracy == float((own == y[50:]).double().mean())
    assert found.accuracy_cut == float((cut_short == y[50:]).double().mean())
    assert found.agreement == float((own == cut_short).double().mean())
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.parameters_cut == 256 * 6 + 256
    # One layer of six and no head: 0.6 % of the products.
    assert found.speed == found.seconds / found.seconds_cut > 1


@pytest.mark.parametrize(
    ("arguments", "kind", "sentence"),
    [
        (("net", "a", torch.ones(2, 2)), TypeError, "model must be a torch.nn.Module, got str."),
        (
            (Backwards(), "botom", torch.ones(2, 2)),
            ValueError,
            "layer must name a module of the model, got 'botom'.",
        ),
        (
            (Backwards(), "", torch.ones(2, 2)),
            ValueError,
            "layer must name a module of the model, got ''.",
        ),
        (
            (Backwards(), "top", [[1.0]]),
            TypeError,
            "centres must be a torch.Tensor, got list.",
        ),
        (
            (Backwards(), "top", torch.ones(2, 2, dtype=torch.int64)),
            TypeError,
            "centres must have dtype float64, float32, bfloat16 or float16, got int64.",
        ),
        (
            (Backwards(), "top", torch.ones(2)),
            ValueError,
            "centres must be (C, D) with a centre for at least one class, got (2,).",
        ),
        (
            (Backwards(), "top", torch.full((2, 2), math.nan)),
            ValueError,
            "centres must be (C, D) with a centre for at least one class, got NaN alone.",
        ),
    ],
)
def test_refusals(arguments: Any, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=re.escape(f"dlaccel.cut: {sentence}")):
        cut(*arguments)


def test_refusals_of_a_forward() -> None:
    x = clusters()[0]
    with pytest.raises(ValueError, match=re.escape("dlaccel.cut: layer 'idle' must be called")):
        cut(Backwards(), "idle", torch.ones(2, 2))(x)
    strange = nn.ModuleDict({"a": Lambda(lambda z: {"z": z})})
    strange.forward = lambda z: strange["a"](z)  # type: ignore[method-assign]
    with pytest.raises(TypeError, match=re.escape("layer 'a' must give a tensor or a tuple")):
        cut(strange, "a", torch.ones(2, 6))(x)
    short = cut(MLP(1, 8, 6, CLASSES), "layers.0.linear", torch.ones(2, 5))
    with pytest.raises(
        ValueError,
        match=re.escape("have 5 numbers for each sample, as the centres have, got (60, 8)"),
    ):
        short(x)
    with pytest.raises(ValueError, match="compare: repeats must be at least 1, got 0"):
        compare(short, short, [(x, x)], repeats=0)
    with pytest.raises(ValueError, match="compare: loader must hold at least one batch"):
        compare(short, short, [])
