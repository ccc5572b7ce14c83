"""GatedMLP in eager mode: values, derivatives, memory, routes and refusals."""

import itertools
import re
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from dlaccel.nn import GatedMLP
from dlaccel.ops import ACTIVATIONS

ARRANGEMENTS = [*itertools.product(("separate", "packed", "interleaved"), ("first", "last"))]
# Sums of 8 to 16 products and a dozen operations around them, in float64.
TIGHT = {"rtol": 1e-12, "atol": 1e-13}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def halves(module):
    """(gate, value) weights and biases, written down once more, independently of the layer."""
    layout, first = module.arrangement.layout, module.arrangement.gate_first
    projections = [getattr(module, name) for name in module.arrangement.projections]
    if layout == "separate":
        return [(p.weight, p.bias) for p in projections]
    weight, bias = projections[0].weight, projections[0].bias
    count = weight.shape[0]
    order = [range(count // 2), range(count // 2, count)]
    if layout == "interleaved":
        order = [range(0, count, 2), range(1, count, 2)]
    pairs = [(weight[list(i)], None if bias is None else bias[list(i)]) for i in order]
    return pairs if first else pairs[::-1]


def reference(module, x, activation):
    (gate, p), (up, q) = halves(module)
    hidden = activation(F.linear(x, gate, p)) * F.linear(x, up, q)
    return F.linear(hidden, module.down_proj.weight, module.down_proj.bias)


def gradients(function, module, x):
    inputs = [x, *module.parameters()]
    y = function(x)
    return (y, *torch.autograd.grad(y, inputs, torch.ones_like(y).cumsum(-1)))


@pytest.mark.parametrize("memory", ["keep", "recompute"])
@pytest.mark.parametrize("bias", [False, True, (True, False), (False, True)])
@pytest.mark.parametrize(("layout", "gate"), ARRANGEMENTS)
def test_value_and_gradients(device, layout, gate, bias, memory):
    where = {"device": device, "dtype": torch.float64}
    module = GatedMLP(5, 8, 3, layout=layout, gate=gate, bias=bias, memory=memory, **where)
    x = torch.randn(2, 7, 5, **where, requires_grad=True)
    wanted = gradients(lambda x: reference(module, x, F.silu), module, x)
    torch.testing.assert_close(gradients(module, module, x), wanted, **TIGHT)
    with torch.no_grad():
        torch.testing.assert_close(module(x), wanted[0], **TIGHT)


FORMULAS = {
    "glu": torch.sigmoid,
    "swiglu": F.silu,
    "geglu": F.gelu,
    "reglu": F.relu,
    "bilinear": lambda x: x,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_gated_units_by_name(name):
    module = GatedMLP(4, 6, activation=name, bias=True, dtype=torch.float64)
    x = torch.randn(9, 4, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(module, x, FORMULAS[name]), **TIGHT)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_of_the_op(name):
    module = GatedMLP(4, 6, activation=name, alpha=1.3, limit=0.5, dtype=torch.float64)
    x = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    projections = [getattr(module, n) for n in module.arrangement.projections]
    composed = gradients(lambda x: module._composed(x, projections, module.down_proj), module, x)
    torch.testing.assert_close(gradients(module, module, x), composed, **TIGHT)


@pytest.mark.parametrize("memory", ["keep", "recompute"])
@pytest.mark.parametrize(("layout", "gate"), ARRANGEMENTS)
def test_first_and_second_derivatives(layout, gate, memory):
    module = GatedMLP(3, 4, 2, layout=layout, gate=gate, bias=True, memory=memory).double()
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in module.named_parameters()]

    def function(x, *parameters):
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,))

    inputs = (x, *module.parameters())
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def saved_units(call, rows, hidden, exclude):
    """Bytes saved for the backward pass but for the given tensors, in rows times hidden floats."""
    known = {t.untyped_storage().data_ptr() for t in exclude}
    stores = {}

    def pack(tensor):
        stores[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        y = call()
    units = sum(size for key, size in stores.items() if key not in known) / (4 * rows * hidden)
    y.sum().backward()
    return units


@pytest.mark.parametrize("layout", ["separate", "packed", "interleaved"])
@pytest.mark.parametrize("bias", [False, True])
def test_memory_table_of_the_docstring(layout, bias):
    rows, hidden = 64, 48
    x = torch.randn(rows, 32, requires_grad=True)
    measured = {}
    for memory in ("keep", "recompute"):
        module = GatedMLP(32, hidden, layout=layout, bias=bias, memory=memory)
        own = (x, *module.parameters())
        measured[memory] = saved_units(lambda m=module: m(x), rows, hidden, own)
    module.down_proj.register_forward_hook(lambda *_: None)
    measured["composed"] = saved_units(lambda: module(x), rows, hidden, own)
    measured["torch"] = saved_units(lambda: reference(module, x, F.silu), rows, hidden, own)
    if layout != "separate":
        del measured["torch"]  # the reference picks its rows by index and saves copies of weights
    table = {"torch": 4, "composed": 3, "keep": 2, "recompute": 0}
    assert measured == {key: table[key] for key in measured}
    for way, label in (("keep", "keep"), ("recompute", "recompute"), ("torch", "torch operations")):
        assert re.search(rf"{label}.*  {table[way]}  ", GatedMLP.__doc__)


def test_no_work_for_frozen_parameters():
    module = GatedMLP(4, 6, bias=True)
    x = torch.randn(3, 4, requires_grad=True)
    wanted = torch.autograd.grad(module(x).sum(), [x, module.up_proj.bias])
    module.requires_grad_(False)
    torch.testing.assert_close(torch.autograd.grad(module(x).sum(), x)[0], wanted[0])
    module.up_proj.bias.requires_grad_()
    y = module(x.detach())
    y.sum().backward()
    torch.testing.assert_close(module.up_proj.bias.grad, wanted[1])
    assert module.gate_proj.weight.grad is None
    assert module.down_proj.weight.grad is None


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 0, 4), (2, 3, 5, 4)])
def test_leading_axes(shape):
    module = GatedMLP(4, 6, 5, bias=True, dtype=torch.float64)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    wanted = gradients(lambda x: reference(module, x, F.silu), module, x)
    torch.testing.assert_close(gradients(module, module, x), wanted, **TIGHT)


def test_strided_input_and_expanded_gradient():
    module = GatedMLP(4, 6, dtype=torch.float64)
    x = torch.randn(4, 3, 2, dtype=torch.float64).permute(2, 1, 0).requires_grad_()
    y = module(x)
    (got,) = torch.autograd.grad(y, x, torch.ones((), dtype=torch.float64).expand_as(y))
    (want,) = torch.autograd.grad(reference(module, x, F.silu).sum(), x)
    torch.testing.assert_close(got, want, **TIGHT)


def test_backward_twice_gives_the_same_bits():
    module = GatedMLP(4, 6)
    x = torch.randn(3, 4, requires_grad=True)
    y = module(x).sum()
    first = torch.autograd.grad(y, [x, *module.parameters()], retain_graph=True)
    second = torch.autograd.grad(y, [x, *module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_replaced_projection_is_called():
    module = GatedMLP(4, 6, bias=True, dtype=torch.float64)
    x = torch.randn(3, 4, dtype=torch.float64)
    module.up_proj = nn.Sequential(module.up_proj, nn.Tanh())
    gate = F.silu(F.linear(x, module.gate_proj.weight, module.gate_proj.bias))
    torch.testing.assert_close(module(x), module.down_proj(gate * module.up_proj(x)), **TIGHT)


def test_a_hook_on_a_projection_runs():
    module, seen = GatedMLP(4, 6), []
    module.gate_proj.register_forward_hook(lambda *_: seen.append(1))
    module(torch.randn(3, 4))
    assert seen == [1]


def test_parametrized_weights():
    module = GatedMLP(4, 6, dtype=torch.float64)
    x = torch.randn(3, 4, dtype=torch.float64)
    before = module(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.parametrizations.weight_norm(module.down_proj)
    torch.testing.assert_close(module(x), before, **TIGHT)


REFUSED = {
    "width": (
        lambda: GatedMLP(4, 0),
        ValueError,
        "dlaccel.GatedMLP: hidden_features must be at least 1, got 0.",
    ),
    "no integer": (
        lambda: GatedMLP(4.0, 3),
        TypeError,
        "dlaccel.GatedMLP: in_features must be an integer, got float.",
    ),
    "activation": (
        lambda: GatedMLP(4, 3, activation="swish"),
        ValueError,
        "dlaccel.GatedMLP: activation must be one of 'glu', 'swiglu', 'geglu', 'reglu', "
        "'bilinear', 'identity', 'sigmoid', 'silu', 'gelu', 'gelu_tanh', 'quick_gelu', 'relu', "
        "'relu_squared', 'tanh', 'clamped', got 'swish'.",
    ),
    "layout": (
        lambda: GatedMLP(4, 3, layout="rows"),
        ValueError,
        "dlaccel.GatedMLP: layout must be one of 'separate', 'packed', 'interleaved', got 'rows'.",
    ),
    "gate": (
        lambda: GatedMLP(4, 3, gate="left"),
        ValueError,
        "dlaccel.GatedMLP: gate must be one of 'first', 'last', got 'left'.",
    ),
    "memory": (
        lambda: GatedMLP(4, 3, memory="all"),
        ValueError,
        "dlaccel.GatedMLP: memory must be one of 'keep', 'recompute', got 'all'.",
    ),
    "bias": (
        lambda: GatedMLP(4, 3, bias=(True,)),
        ValueError,
        "dlaccel.GatedMLP: bias must be True, False or a pair of them, got (True,).",
    ),
    "limit": (
        lambda: GatedMLP(4, 3, limit=0.0),
        ValueError,
        "dlaccel.GatedMLP: limit must be positive, got 0.0.",
    ),
    "shape": (
        lambda: GatedMLP(4, 3)(torch.ones(2, 5)),
        ValueError,
        "dlaccel.GatedMLP: x must have a last axis of 4, got (2, 5).",
    ),
    "dtype": (
        lambda: GatedMLP(4, 3)(torch.ones(2, 4).double()),
        TypeError,
        "dlaccel.GatedMLP: x must have the parameters' dtype torch.float32, got torch.float64.",
    ),
    "device": (
        lambda: GatedMLP(4, 3, device="meta")(torch.ones(2, 4)),
        ValueError,
        "dlaccel.GatedMLP: x must be on the parameters' device meta, got cpu.",
    ),
    "no tensor": (
        lambda: GatedMLP(4, 3)([1.0]),
        TypeError,
        "dlaccel.GatedMLP: x must be a torch.Tensor, got list.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    call, error, message = REFUSED[name]
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()
