"""The classifiers of the papers on collapse: sizes by hand, names, one step each, refusals."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlaccel.models import MLP, VGG, Conv, Conv4, ConvRes, PlainConv, ResNet18, WideResNet

SMALL: dict[str, Callable[..., nn.Module]] = {
    "MLP": lambda **given: MLP(3, 8, 48, 5, **given),
    "MLP activation": lambda **given: MLP(3, 8, 48, 5, embedding="activation", **given),
    "Conv": lambda **given: Conv(2, 6, 5, image_size=8, **given),
    "Conv activation": lambda **given: Conv(2, 6, 5, image_size=8, embedding="activation", **given),
    "ConvRes": lambda **given: ConvRes(2, 6, 5, image_size=8, **given),
    "ConvRes dead": lambda **given: ConvRes(2, 6, 5, image_size=8, dead_skip=True, **given),
    "Conv4": lambda **given: Conv4(5, 6, in_channels=3, image_size=16, **given),
    "WideResNet": lambda **given: WideResNet(10, 1, 5, **given),
    "PlainConv": lambda **given: PlainConv(10, 1, 5, **given),
}
LARGE: dict[str, Callable[..., nn.Module]] = {
    "MLP-10-500": lambda: MLP(10, 500),
    "CONV-3-400": lambda: Conv(3, 400),
    "CONVRES-1-500": lambda: ConvRes(1, 500),
    "ResNet18": ResNet18,
    "ResNet18 fc": lambda: ResNet18(top_depth=2, top="fc"),
    "ResNet18 res": lambda: ResNet18(top_depth=2, top="res"),
    "WRN-28-4": lambda: WideResNet(28, 4, 64),
    "Conv-16-2": lambda: PlainConv(16, 2, 64),
    "VGG-16": lambda: VGG(16),
    "VGG-11 fc": lambda: VGG(11, top_depth=1),
    "Conv4": lambda: Conv4(964, in_channels=3, image_size=32),
}


def images(side: int, samples: int = 4) -> Tensor:
    return torch.randn(samples, 3, side, side, generator=torch.Generator().manual_seed(0))


def example(name: str) -> Tensor:
    """What the network of SMALL takes."""
    return images({"MLP": 4, "Conv4": 16}.get(name.split()[0], 8))


def outputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Of every module, by name, and of the network itself by ''."""
    found: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, y, name=name: found.update({name: y}))
        for name, module in model.named_modules()
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    return found


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def affine(rows: int, columns: int) -> int:
    return rows * columns + rows


def stem(width: int, channels: int = 3) -> int:
    """Two 2x2 convolutions with bias, each with a batch norm."""
    return affine(width, 4 * channels) + affine(width, 4 * width) + 4 * width


def wide(blocks: int, factor: int, classes: int, skip: bool) -> int:
    """By table 1 of arXiv 1605.07146: no biases but the head's, norms before the convolutions."""
    total, before = 16 * 27, 16
    for width in (16 * factor, 32 * factor, 64 * factor):
        shortcut = before * width if skip and before != width else 0
        total += 2 * before + 9 * before * width + 2 * width + 9 * width * width + shortcut
        total += (blocks - 1) * (4 * width + 18 * width * width)
        before = width
    return total + 2 * before + affine(classes, before)


def vgg(*widths: int) -> int:
    pairs = zip((3, *widths), widths, strict=False)
    return sum(affine(b, 9 * a) + 2 * b for a, b in pairs) + affine(10, 512)


RESIDUAL_18 = (
    # Stem; a block of two 3x3 convolutions and two norms; three steps with a 1x1 shortcut.
    27 * 64
    + 128
    + sum(2 * (18 * w * w + 4 * w) for w in (64, 128, 256, 512))
    + sum(-9 * w * w // 2 + w * w // 2 + 2 * w for w in (128, 256, 512))
)


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        (
            lambda: MLP(3, 300),
            affine(300, 3072) + 2 * affine(300, 300) + 3 * 600 + affine(10, 300),
        ),
        (
            lambda: Conv(5, 400),
            stem(400) + 5 * (affine(400, 3600) + 800) + affine(10, 25_600),
        ),
        (
            lambda: ConvRes(2, 50, in_channels=1, image_size=28),
            stem(50, 1) + 4 * (affine(50, 450) + 100) + affine(10, 50 * 49),
        ),
        (
            lambda: ConvRes(2, 50, in_channels=1, image_size=28, dead_skip=True),
            stem(50, 1) + 4 * (affine(50, 450) + 100) + affine(10, 50 * 49),
        ),
        (lambda: Conv4(964), affine(64, 9) + 3 * affine(64, 576) + 4 * 128 + affine(964, 64)),
        (ResNet18, RESIDUAL_18 + affine(10, 512)),
        (
            lambda: ResNet18(top_depth=3),
            RESIDUAL_18 + affine(128, 512) + 3 * affine(128, 128) + affine(10, 128),
        ),
        (
            lambda: ResNet18(top_depth=3, top="res"),
            RESIDUAL_18
            + affine(128, 512)
            + 3 * (affine(50, 128) + affine(128, 50))
            + affine(10, 128),
        ),
        (lambda: WideResNet(28, 4, 64), wide(4, 4, 64, True)),
        (lambda: PlainConv(28, 4, 64), wide(4, 4, 64, False)),
        (lambda: WideResNet(16, 1, 10), wide(2, 1, 10, True)),
        (lambda: VGG(11), vgg(64, 128, 256, 256, 512, 512, 512, 512)),
        (lambda: VGG(13), vgg(64, 64, 128, 128, 256, 256, 512, 512, 512, 512)),
        (lambda: VGG(16), vgg(64, 64, 128, 128, *[256] * 3, *[512] * 6)),
        (lambda: VGG(19), vgg(64, 64, 128, 128, *[256] * 4, *[512] * 8)),
    ],
)
def test_parameters(make: Callable[[], nn.Module], parameters: int) -> None:
    with torch.device("meta"):
        assert size(make()) == parameters


def test_sizes_that_are_published() -> None:
    with torch.device("meta"):
        # ResNet-18 and VGG-16 as everybody has them for CIFAR-10; the note's 5.9 million.
        assert size(ResNet18()) == 11_173_962
        assert size(VGG(16)) == 14_728_266
        assert size(WideResNet(28, 4, 64)) == pytest.approx(5.9e6, rel=0.01)


@pytest.mark.parametrize(
    ("make", "widths"),
    [
        (lambda: MLP(3, 300), [300] * 3),
        (lambda: Conv(3, 400), [25_600] * 3),
        (lambda: ConvRes(2, 50), [3200] * 2),
        (lambda: ResNet18(), [65_536, 65_536, 32_768, 16_384, 8192, 512]),
        (
            lambda: ResNet18(top_depth=2, top="res"),
            [65_536, 65_536, 32_768, 16_384, 8192, 512, 128, 128, 128],
        ),
        (lambda: WideResNet(10, 4, 5), [16_384, 65_536, 32_768, 16_384, 256]),
        (lambda: PlainConv(10, 2, 5), [16_384, 32_768, 16_384, 8192, 128]),
        (
            lambda: VGG(11),
            [16_384, 8192, 16_384, 4096, 8192, 2048, 2048, 512],
        ),
        (lambda: Conv4(7, in_channels=3, image_size=32), [16_384, 4096, 1024, 256]),
    ],
)
def test_widths_of_the_measured_layers(make: Callable[[], nn.Module], widths: list[int]) -> None:
    with torch.device("meta"):
        model = make()
        found = outputs(model, torch.empty(2, 3, 32, 32))
    assert [found[name].flatten(1).shape[1] for name in model.embeddings] == widths


@pytest.mark.parametrize("name", SMALL)
def test_names(name: str) -> None:
    model, x = SMALL[name](), example(name)
    modules = dict(model.named_modules())
    assert {*model.embeddings, model.penultimate} <= modules.keys()
    found = outputs(model.eval(), x)
    head = model.head
    assert isinstance(head, nn.Linear)
    logits = head(found[model.penultimate])
    assert torch.equal(logits, found[""])
    assert list(found)[-1] == ""
    # From the input up.
    order = list(found)
    assert sorted(model.embeddings, key=order.index) == list(model.embeddings)


@pytest.mark.parametrize("name", ["MLP", "Conv"])
def test_what_is_measured_before_norm_and_relu(name: str) -> None:
    before, after = SMALL[name]().eval(), SMALL[f"{name} activation"]().eval()
    after.load_state_dict(before.state_dict())
    x = example(name)
    low, high = outputs(before, x), outputs(after, x)
    for a, b in zip(before.embeddings, after.embeddings, strict=True):
        norm = before.get_submodule(a.rsplit(".", 1)[0] + ".norm")
        assert torch.equal(high[b], norm(low[a]).relu())
        assert bool((low[a] < 0).any())


def test_a_block_of_convres() -> None:
    model = SMALL["ConvRes"]().eval()
    block = model.layers[0]
    x = torch.randn(2, 6, 3, 3, generator=torch.Generator().manual_seed(1))
    z = block.inner.norm(block.inner.conv(x)).relu()
    assert torch.equal(block(x), block.norm(x + block.outer(z)).relu())
    block.dead_skip = True
    assert torch.equal(block(x), z)


def test_a_dead_skip_leaves_half_of_the_parameters_idle() -> None:
    model = SMALL["ConvRes dead"]()
    model(example("ConvRes")).sum().backward()
    idle = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    parts = ("outer.weight", "outer.bias", "norm.weight", "norm.bias")
    assert idle == {f"layers.{i}.{part}" for i in range(2) for part in parts}


def test_plain_is_wide_without_its_skips() -> None:
    wide_one, plain = SMALL["WideResNet"]().eval(), SMALL["PlainConv"]().eval()
    plain.load_state_dict(
        {k: v for k, v in wide_one.state_dict().items() if "shortcut" not in k}, strict=True
    )
    x = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(2))
    block = wide_one.stages[1][0]
    shortcut = block.shortcut(torch.relu(block.norm(x)))
    torch.testing.assert_close(block(x) - shortcut, plain.stages[1][0](x), rtol=1e-5, atol=1e-6)
    block = wide_one.stages[0][0]
    torch.testing.assert_close(block(x) - x, plain.stages[0][0](x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LARGE)
def test_one_step_of_the_size_of_the_papers(name: str) -> None:
    torch.manual_seed(0)
    model = LARGE[name]()
    x = images(32)
    labels = torch.tensor([0, 1, 2, 2])
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    loss = nn.functional.cross_entropy(model(x), labels)
    loss.backward()
    optimiser.step()
    assert torch.isfinite(loss)
    assert all(not torch.equal(p, start[name]) for name, p in model.named_parameters())
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_learns(name: str) -> None:
    torch.manual_seed(0)
    model, x = SMALL[name](), example(name)
    labels = torch.tensor([0, 1, 2, 3])
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("name", SMALL)
def test_the_generator_alone_decides(name: str) -> None:
    before = torch.get_rng_state()
    first, second, other = (
        SMALL[name](generator=torch.Generator().manual_seed(seed)).state_dict()
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", SMALL)
def test_state_and_compile(name: str) -> None:
    model, x = SMALL[name]().eval(), example(name)
    other = SMALL[name]().eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))
    graphs = torch._dynamo.explain(model)(x)
    assert graphs.graph_count == 1


def test_any_side_where_the_average_is_global() -> None:
    x = images(64, samples=2)
    for model in (WideResNet(10, 1, 5), VGG(11, 5)):
        assert model.eval()(x).shape == (2, 5)
    assert Conv(1, 4, 5, image_size=28, in_channels=1)(torch.ones(2, 1, 28, 28)).shape == (2, 5)


@pytest.mark.parametrize(
    ("make", "kind", "sentence"),
    [
        (lambda: MLP(0, 8), ValueError, "MLP: depth must be at least 1, got 0"),
        (lambda: MLP(2, 8.0), TypeError, "MLP: width must be an integer, got float"),
        (
            lambda: MLP(2, 8, embedding="relu"),
            ValueError,
            "MLP: embedding must be one of 'preactivation', 'activation', got 'relu'",
        ),
        (
            lambda: MLP(2, 8, 12)(torch.ones(2, 3, 3)),
            ValueError,
            "MLP: x must have 12 numbers for each sample, got shape (2, 3, 3)",
        ),
        (lambda: Conv(2, 8, image_size=30), ValueError, "Conv: image_size must be a multiple of 4"),
        (
            lambda: Conv(2, 8)(images(28)),
            ValueError,
            "Conv: x must have shape [N, 3, 32, 32], got (4, 3, 28, 28)",
        ),
        (lambda: ConvRes(-1, 8), ValueError, "ConvRes: depth must be at least 1, got -1"),
        (
            lambda: WideResNet(27, 4),
            ValueError,
            "WideResNet: depth must be 6 n + 4 with n at least 1, got 27",
        ),
        (lambda: PlainConv(28, 0), ValueError, "PlainConv: factor must be at least 1, got 0"),
        (
            lambda: PlainConv(10, 1)(torch.ones(2, 1, 8, 8)),
            ValueError,
            "PlainConv: x must have shape [N, 3, H, W], got (2, 1, 8, 8)",
        ),
        (lambda: VGG(12), ValueError, "VGG: depth must be one of 11, 13, 16, 19, got 12"),
        (
            lambda: VGG(11)(images(16)),
            ValueError,
            "VGG: x must have at least 32 pixels on each side, got (4, 3, 16, 16)",
        ),
        (lambda: ResNet18(top="mlp"), ValueError, "ResNet18: top must be one of 'fc', 'res'"),
        (
            lambda: ResNet18(top_depth=-1),
            ValueError,
            "ResNet18: top_depth must be at least 0, got -1",
        ),
        (
            lambda: VGG(11, top_depth=1.0),
            TypeError,
            "VGG: top_depth must be an integer or None, got float",
        ),
        (lambda: Conv4(5, image_size=12), ValueError, "Conv4: image_size must be at least 16"),
        (
            lambda: Conv4(5)("image"),
            TypeError,
            "Conv4: x must be a torch.Tensor, got str",
        ),
    ],
)
def test_refusals(make: Callable[[], Any], kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=re.escape(sentence)):
        make()
