"""State dicts of other libraries, whose layers are written down here in plain torch."""

import itertools
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dlaccel.nn import GatedMLP

FEATURES, HIDDEN = 6, 8


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


class Llama(nn.Module):
    """Hugging Face's LlamaMLP."""

    def __init__(self, bias):
        super().__init__()
        self.gate_proj = nn.Linear(FEATURES, HIDDEN, bias)
        self.up_proj = nn.Linear(FEATURES, HIDDEN, bias)
        self.down_proj = nn.Linear(HIDDEN, FEATURES, bias)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class MetaLlama(nn.Module):
    """FeedForward of Meta's own Llama."""

    def __init__(self, bias):
        super().__init__()
        self.w1 = nn.Linear(FEATURES, HIDDEN, bias)
        self.w2 = nn.Linear(HIDDEN, FEATURES, bias)
        self.w3 = nn.Linear(FEATURES, HIDDEN, bias)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class TimmSwiGLU(nn.Module):
    """timm's SwiGLU."""

    def __init__(self, bias):
        super().__init__()
        self.fc1_g = nn.Linear(FEATURES, HIDDEN, bias)
        self.fc1_x = nn.Linear(FEATURES, HIDDEN, bias)
        self.fc2 = nn.Linear(HIDDEN, FEATURES, bias)

    def forward(self, x):
        return self.fc2(F.silu(self.fc1_g(x)) * self.fc1_x(x))


class TimmGluMlp(nn.Module):
    """timm's GluMlp: one matrix, and by default the gate is its second half."""

    gate_last = True

    def __init__(self, bias):
        super().__init__()
        self.fc1 = nn.Linear(FEATURES, 2 * HIDDEN, bias)
        self.fc2 = nn.Linear(HIDDEN, FEATURES, bias)

    def forward(self, x):
        first, second = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(first * F.silu(second) if self.gate_last else F.silu(first) * second)


class TimmGluMlpGateFirst(TimmGluMlp):
    gate_last = False


class Megatron(nn.Module):
    """Megatron's MLP with gated linear units: [gate; up] in one matrix."""

    def __init__(self, bias):
        super().__init__()
        self.linear_fc1 = nn.Linear(FEATURES, 2 * HIDDEN, bias)
        self.linear_fc2 = nn.Linear(HIDDEN, FEATURES, bias)

    def forward(self, x):
        gate, up = self.linear_fc1(x).chunk(2, dim=-1)
        return self.linear_fc2(F.silu(gate) * up)


class Xformers(nn.Module):
    """xformers' SwiGLU with packed weights, and DINOv2's."""

    def __init__(self, bias):
        super().__init__()
        self.w12 = nn.Linear(FEATURES, 2 * HIDDEN, bias)
        self.w3 = nn.Linear(HIDDEN, FEATURES, bias)

    def forward(self, x):
        first, second = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(first) * second)


class Phi3(nn.Module):
    """Hugging Face's Phi3MLP."""

    def __init__(self, bias):
        super().__init__()
        self.gate_up_proj = nn.Linear(FEATURES, 2 * HIDDEN, bias)
        self.down_proj = nn.Linear(HIDDEN, FEATURES, bias)

    def forward(self, x):
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)


LIBRARIES = (Llama, MetaLlama, TimmSwiGLU, TimmGluMlp, Megatron, Xformers, Phi3)
ARRANGEMENTS = [*itertools.product(("separate", "packed", "interleaved"), ("first", "last"))]
CLOSE = {"rtol": 1e-12, "atol": 1e-13}  # sums of 6 and 8 products in float64


@pytest.mark.parametrize(("layout", "gate"), ARRANGEMENTS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("library", LIBRARIES)
def test_loads_into_every_arrangement(library, bias, layout, gate):
    theirs = library(bias).double()
    x = torch.randn(5, FEATURES, dtype=torch.float64)
    made = GatedMLP.from_state_dict(theirs.state_dict(), layout=layout, gate=gate)
    torch.testing.assert_close(made(x), theirs(x), **CLOSE)

    ours = GatedMLP(FEATURES, HIDDEN, layout=layout, gate=gate, bias=bias, dtype=torch.float64)
    outcome = ours.load_state_dict(theirs.state_dict())
    assert not outcome.missing_keys
    assert not outcome.unexpected_keys
    torch.testing.assert_close(ours(x), theirs(x), **CLOSE)


@pytest.mark.parametrize("target", ARRANGEMENTS)
@pytest.mark.parametrize("source", ARRANGEMENTS)
def test_arrangements_load_each_other(source, target):
    layers = [
        GatedMLP(FEATURES, HIDDEN, layout=layout, gate=gate, bias=True, dtype=torch.float64)
        for layout, gate in (source, target)
    ]
    layers[1].load_state_dict(layers[0].state_dict())
    x = torch.randn(5, FEATURES, dtype=torch.float64)
    torch.testing.assert_close(layers[1](x), layers[0](x), **CLOSE)


def test_inside_a_model():
    theirs = nn.ModuleDict({"block": nn.Sequential(nn.Linear(FEATURES, FEATURES), Megatron(True))})
    layer = GatedMLP(FEATURES, HIDDEN, bias=True)
    ours = nn.ModuleDict({"block": nn.Sequential(nn.Linear(FEATURES, FEATURES), layer)})
    state = theirs.state_dict()
    keys = list(state)
    ours.load_state_dict(state)
    assert list(state) == keys  # the caller's dictionary is untouched
    x = torch.randn(5, FEATURES)
    torch.testing.assert_close(ours["block"](x), theirs["block"](x))


def test_gate_of_a_state_that_leaves_it_open():
    theirs = TimmGluMlpGateFirst(True)
    made = GatedMLP.from_state_dict(theirs.state_dict(), gate_in_state="first")
    x = torch.randn(5, FEATURES)
    torch.testing.assert_close(made(x), theirs(x))


def test_from_state_dict_takes_sizes_dtype_and_options():
    theirs = TimmSwiGLU(False).bfloat16()
    made = GatedMLP.from_state_dict(
        theirs.state_dict(), layout="packed", activation="geglu", memory="recompute"
    )
    assert (made.in_features, made.hidden_features, made.out_features) == (6, 8, 6)
    assert (made.activation, made.memory) == ("gelu", "recompute")
    assert made.down_proj.weight.dtype == torch.bfloat16
    assert made.down_proj.bias is None
    made.down_proj.weight.data.zero_()
    assert theirs.fc2.weight.any()  # a copy, not the same memory


def strange(change):
    state = Llama(True).state_dict()
    change(state)
    return state


REFUSED = {
    "unknown": (
        lambda: GatedMLP.from_state_dict({"a.weight": torch.ones(2, 2)}),
        "dlaccel.GatedMLP: state must have the parameter names of a known gated layer, "
        "got ['a.weight'].",
    ),
    "odd": (
        lambda: GatedMLP.from_state_dict(
            {"fc1.weight": torch.ones(3, 2), "fc2.weight": torch.ones(2, 1)}
        ),
        "dlaccel.GatedMLP: fc1.weight must have an even number of rows, got shape (3, 2).",
    ),
    "one bias": (
        lambda: GatedMLP.from_state_dict(strange(lambda s: s.pop("up_proj.bias"))),
        "dlaccel.GatedMLP: bias must be there for all of gate_proj, up_proj or for none, got 1.",
    ),
    "no matrix": (
        lambda: GatedMLP.from_state_dict(
            strange(lambda s: s.update({"down_proj.weight": torch.ones(3)}))
        ),
        "dlaccel.GatedMLP: down_proj.weight must be a matrix, got (3,).",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


def test_sizes_that_do_not_fit_are_named():
    state = strange(lambda s: s.update({"gate_proj.weight": torch.ones(7, FEATURES)}))
    with pytest.raises(ValueError, match=r"(?s)state must fit together.*gate_proj\.weight"):
        GatedMLP.from_state_dict(state)


def test_what_is_left_over_is_reported():
    state = {**TimmGluMlp(True).state_dict(), "norm.weight": torch.ones(HIDDEN)}
    with pytest.raises(RuntimeError, match=r"Unexpected key.*norm\.weight"):
        GatedMLP(FEATURES, HIDDEN, bias=True).load_state_dict(state)
    with pytest.raises(ValueError, match=r"(?s)state must fit together.*norm\.weight"):
        GatedMLP.from_state_dict(state)


def test_a_broken_pair_is_an_error_of_loading():
    state = {"fc1.weight": torch.ones(3, FEATURES), "fc2.weight": torch.ones(FEATURES, HIDDEN)}
    with pytest.raises(RuntimeError, match="even number of rows"):
        GatedMLP(FEATURES, HIDDEN).load_state_dict(state)
