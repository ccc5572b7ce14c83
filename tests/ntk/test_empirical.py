"""Every rule of the empirical kernel against the whole Jacobian, and the files of its peer."""

from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, made
from oracle import error, jacobian
from torch import Tensor, nn

from dlaccel import ntk
from dlaccel.ntk import _contraction
from dlaccel.ntk.empirical import OUTPUTS, Outputs

GOLDEN = Path(__file__).parent / "golden"
FORMS = {"Gram-Hadamard", "read-out", "block sum", "panels", "gradients", "lookup", "autograd"}

pytestmark = [
    pytest.mark.filterwarnings("ignore:There is a performance drop"),  # of the oracle
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths"),
]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_entry_is_that_of_the_jacobian(name: str) -> None:
    model, x = made(name)
    first = jacobian(model, x)
    second, other = first[:4].flip(0), x[:4].flip(0)
    limit, before = 4 * first.shape[-1], x.clone()
    for outputs in OUTPUTS:
        for memory in (1 << 30, 1):  # one tile, and a tile for each row
            square = ntk.empirical(model, x, outputs=outputs, memory=memory)
            assert error(square, first, first, outputs) < limit
            assert torch.equal(square, _mirrored(square, outputs))
            wide = ntk.empirical(model, x, other, outputs=outputs, memory=memory)
            assert error(wide, first, second, outputs) < limit
    assert torch.equal(x, before)


def _mirrored(kernel: Tensor, outputs: Outputs) -> Tensor:
    axes = {"full": (1, 0, 3, 2), "trace": (1, 0), "diagonal": (1, 0, 2)}
    return kernel.permute(axes.get(outputs, (0, 2, 1)))


@pytest.mark.parametrize("name", ["wide kernels", "signals", "sequence"])
def test_panels_of_any_size_add_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = made(name)
    first = jacobian(model, x)
    for size in (1, 3000):
        monkeypatch.setattr(_contraction, "PANEL", size)
        for outputs in OUTPUTS:
            found = ntk.empirical(model, x, outputs=outputs)
            assert error(found, first, first, outputs) < 4 * first.shape[-1]
            wide = ntk.empirical(model, x, x[:4], outputs=outputs)
            assert error(wide, first, first[:4], outputs) < 4 * first.shape[-1]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(4, 3, batch_first=True)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x)[0][:, -1])


def test_what_torch_func_cannot_take_goes_row_by_row() -> None:
    torch.manual_seed(0)
    model, x = Recurrent().double(), torch.randn(3, 5, 4, dtype=torch.float64)
    rows = []
    for out in model(x).flatten():
        model.zero_grad()
        out.backward(retain_graph=True)
        rows.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    first = torch.stack(rows).reshape(3, 2, -1)
    model.zero_grad()
    assert error(ntk.empirical(model, x), first, first, "full") < 4 * first.shape[-1]
    assert all(name.startswith("cells") for name in ntk.plan(model, x).without_rule)
    assert len(ntk.plan(model, x).without_rule) == 4


def test_the_architectures_take_every_form() -> None:
    plans = [ntk.plan(*made(name)) for name in ARCHITECTURES]
    assert {entry.form for plan in plans for entry in plan.entries} == FORMS


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("perceptron", ()),
        ("convolutions", ()),
        ("encoder, places first", ()),
        ("class token", ("power",)),
        ("frames", ()),
        ("tied", ()),
        ("attention with bias_kv", ("attention.bias_k", "attention.bias_v")),
        ("derivative inside", ("first.weight", "first.bias", "second.weight")),
        ("unknown uses", ("inner.weight", "inner.bias")),
        ("no rule", ("0.weight", "0.bias")),
    ],
)
def test_a_plan_names_what_has_no_rule(name: str, without: tuple[str, ...]) -> None:
    plan = ntk.plan(*made(name))
    assert sorted(plan.without_rule) == sorted(without)
    assert all(name in str(plan) for name in without)


def test_a_plan_covers_every_parameter_once() -> None:
    model, x = made("cross attention")
    names = [n for entry in ntk.plan(model, x).entries for n in entry.parameters]
    assert set(names) == {n for n, _ in model.named_parameters()}
    rows = [n for n in names if not n.startswith("attention.in_proj")]
    assert len(rows) == len(set(rows))  # but the fused weight, whose spans of rows are apart


def test_the_form_follows_the_rule_of_multiplications() -> None:
    torch.manual_seed(0)
    for places, width in ((4, 64), (16, 16), (64, 8)):
        model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        model = nn.Sequential(*model, nn.Flatten(), nn.Linear(places * width, 1))
        samples = 10
        entry = ntk.plan(model, torch.randn(samples, places, width)).entries[0]
        sums = places**2 * 2 * width < width**2 * (1 + places / samples)
        assert (entry.form == "block sum") == sums


def _perceptron(file: np.lib.npyio.NpzFile, activation: type[nn.Module]) -> nn.Module:
    layers: list[nn.Module] = []
    for i in range(sum(name.startswith("w") for name in file.files)):
        weight, bias = (torch.from_numpy(file[f"{letter}{i}"]) for letter in "wb")
        linear = nn.Linear(*weight.shape, dtype=torch.float64)
        linear.load_state_dict({"weight": weight.T, "bias": bias})
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize(
    ("name", "activation"), [("mlp_relu", nn.ReLU), ("mlp_tanh_deep", nn.Tanh)]
)
@pytest.mark.parametrize(("precision", "limit"), [("float64", 1e-10), ("float32", 1e-6)])
def test_neural_tangents_dense(
    name: str, activation: type[nn.Module], precision: str, limit: float
) -> None:
    with np.load(GOLDEN / f"empirical_{name}.npz") as file:
        model = _perceptron(file, activation)
        x1, x2, wide, square, mean = (
            torch.from_numpy(file[k]) for k in ("x1", "x2", "full_12", "full_11", "trace_mean_12")
        )
    found = ntk.empirical(model, x1, x2, precision=precision)
    assert found.dtype == getattr(torch, precision)
    _close(found, wide, limit)
    _close(ntk.empirical(model, x1, precision=precision), square, limit)
    trace = ntk.empirical(model, x1, x2, outputs="trace", normalize=True, precision=precision)
    _close(trace, mean, limit)


@pytest.mark.parametrize(("precision", "limit"), [("float64", 1e-10), ("float32", 1e-6)])
def test_neural_tangents_convolutional(precision: str, limit: float) -> None:
    with np.load(GOLDEN / "empirical_conv_relu_tanh_gap.npz") as file:
        given = {name: torch.from_numpy(file[name]) for name in file.files}
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    ).double()
    tensors = (given[k] for k in ("k1", "b1", "k2", "b2", "w", "b"))
    state = dict(zip(model.state_dict(), tensors, strict=True))
    state["6.weight"] = state["6.weight"].T
    model.load_state_dict(state)
    _close(
        ntk.empirical(model, given["x1"], given["x2"], precision=precision), given["full_12"], limit
    )


def _close(found: Tensor, truth: Tensor, limit: float) -> None:
    assert found.shape == truth.shape
    assert (found.double() - truth).abs().max() <= limit * truth.abs().max()


def test_float32_of_a_deep_convolutional_network() -> None:
    model, x = made("convolutions")
    first = jacobian(model, x)
    found = ntk.empirical(model, x, precision=torch.float32)
    assert found.dtype == torch.float32
    assert error(found, first, first, "full") < 4 * first.shape[-1]


def test_a_stand_in_for_a_residual_network() -> None:
    """Strides, shortcuts and batch normalisation at eval, as ResNet-18 has; forms of every kind."""
    from dlaccel.models.resnet import BasicBlock

    torch.manual_seed(0)
    blocks = [BasicBlock(4, 4, 1), BasicBlock(4, 16, 2), BasicBlock(16, 32, 2)]
    stem = [nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()]
    top = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2)]
    model = nn.Sequential(*stem, *blocks, *top).double().eval()
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    first = jacobian(model, x)
    assert error(ntk.empirical(model, x), first, first, "full") < 4 * first.shape[-1]
    forms = {entry.form for entry in ntk.plan(model, x).entries}
    assert {"Gram-Hadamard", "block sum", "panels", "gradients"} <= forms
