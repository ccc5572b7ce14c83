"""GatedMLP away from plain eager mode, against the hand-written formula in the same mode."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap
from torch.utils.checkpoint import checkpoint

from dlaccel.nn import GatedMLP

LAYOUTS = ("separate", "packed", "interleaved")
CLOSE = {"rtol": 1e-11, "atol": 1e-12}  # float64: sums of 24 products, and third derivatives of exp


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


class Pair:
    """A layer and its formula as functions of (parameters, x)."""

    def __init__(self, layout, memory="keep"):
        self.module = GatedMLP(3, 8, 2, layout=layout, memory=memory, bias=True).double()
        self.parameters = {k: v.detach() for k, v in self.module.named_parameters()}

    def layer(self, parameters, x):
        return functional_call(self.module, parameters, (x,))

    def formula(self, parameters, x):
        weight, bias = (self.rows(parameters, kind) for kind in ("weight", "bias"))
        hidden = F.silu(x @ weight[0].T + bias[0]) * (x @ weight[1].T + bias[1])
        return hidden @ parameters["down_proj.weight"].T + parameters["down_proj.bias"]

    def rows(self, parameters, kind):
        if self.module.arrangement.layout == "separate":
            return parameters[f"gate_proj.{kind}"], parameters[f"up_proj.{kind}"]
        if self.module.arrangement.layout == "packed":
            return parameters[f"gate_up_proj.{kind}"].chunk(2)
        return parameters[f"gate_up_rows.{kind}"].unflatten(0, (-1, 2)).unbind(1)


@pytest.fixture(params=LAYOUTS)
def pair(request):
    return Pair(request.param)


def test_gradients_of_each_sample(pair):
    x = torch.randn(5, 3, dtype=torch.float64)

    def each(function):
        return vmap(grad(lambda p, x: function(p, x).square().sum()), (None, 0))(pair.parameters, x)

    torch.testing.assert_close(each(pair.layer), each(pair.formula), **CLOSE)


def test_a_population_of_parameters(pair):
    x = torch.randn(4, 5, 3, dtype=torch.float64)
    many = {k: torch.randn(4, *v.shape, dtype=torch.float64) for k, v in pair.parameters.items()}
    got, want = (vmap(function)(many, x) for function in (pair.layer, pair.formula))
    torch.testing.assert_close(got, want, **CLOSE)


def test_jacobian_of_the_parameters(pair):
    x = torch.randn(5, 3, dtype=torch.float64)
    got, want = (jacrev(function)(pair.parameters, x) for function in (pair.layer, pair.formula))
    torch.testing.assert_close(got, want, **CLOSE)


def test_forward_mode(pair):
    x, t = torch.randn(2, 5, 3, dtype=torch.float64)
    tangents = {k: torch.randn_like(v) for k, v in pair.parameters.items()}
    got, want = (
        jvp(function, (pair.parameters, x), (tangents, t))
        for function in (pair.layer, pair.formula)
    )
    torch.testing.assert_close(got, want, **CLOSE)
    with forward_ad.dual_level():
        y = pair.layer(pair.parameters, forward_ad.make_dual(x, t))
        tangent = forward_ad.unpack_dual(y).tangent
    want = jvp(lambda x: pair.formula(pair.parameters, x), (x,), (t,))[1]
    torch.testing.assert_close(tangent, want, **CLOSE)


def test_hessian(pair):
    x = torch.randn(3, dtype=torch.float64)
    got, want = (
        hessian(lambda x, f=function: f(pair.parameters, x).sum())(x)
        for function in (pair.layer, pair.formula)
    )
    torch.testing.assert_close(got, want, **CLOSE)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_compile_in_one_graph(layout):
    torch._dynamo.reset()
    pair = Pair(layout)
    compiled = torch.compile(pair.module, fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    own = dict(pair.module.named_parameters())
    inputs = [x, *own.values()]
    got, want = compiled(x), pair.formula(own, x)
    torch.testing.assert_close(got, want, **CLOSE)
    torch.testing.assert_close(
        torch.autograd.grad(got.square().sum(), inputs),
        torch.autograd.grad(want.square().sum(), inputs),
        **CLOSE,
    )


@pytest.mark.parametrize("memory", ["keep", "recompute"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_autocast(layout, memory):
    module = GatedMLP(16, 32, layout=layout, memory=memory, bias=True)
    x = torch.randn(6, 16)
    inputs = [x.requires_grad_(), *module.parameters()]
    results = {}
    for way, dtype in (("float32", None), ("autocast", torch.bfloat16)):
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            y = module(x)
            assert y.dtype == (dtype or torch.float32)
            loss = y.float().square().sum()
        results[way] = (y.float(), *torch.autograd.grad(loss, inputs))
    assert all(g.dtype == torch.float32 for g in results["autocast"])
    # Each operand and each intermediate is rounded to bfloat16, 2^-8 at most: x, weights,
    # pre-activations, product, weights, result forward; as many again on the way back.
    for got, want in zip(results["autocast"], results["float32"], strict=True):
        assert (got - want).norm() <= 12 * 2**-8 * want.norm()


def test_backward_inside_autocast():
    module = GatedMLP(16, 32, bias=True)
    x = torch.randn(6, 16)
    wanted = torch.autograd.grad(module(x).sum(), module.gate_proj.weight)[0]
    y = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        (got,) = torch.autograd.grad(y.sum(), module.gate_proj.weight)
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("memory", ["keep", "recompute"])
def test_checkpointing(memory, reentrant):
    module = GatedMLP(4, 6, memory=memory, bias=True)
    x = torch.randn(3, 4, requires_grad=True)
    inputs = [x, *module.parameters()]
    wanted = torch.autograd.grad(module(x).square().sum(), inputs)
    checkpoint(module, x, use_reentrant=reentrant).square().sum().backward()
    assert all(torch.equal(t.grad, g) for t, g in zip(inputs, wanted, strict=True))


def test_subclass_and_fake_tensors():
    class Marked(torch.Tensor):
        pass

    module = GatedMLP(4, 6)
    x = torch.randn(3, 4)
    marked = module(x.as_subclass(Marked))
    assert type(marked) is Marked
    # F.linear may choose another summation order for the bias-free route: one rounding each.
    torch.testing.assert_close(marked.as_subclass(torch.Tensor), module(x))
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert module(mode.from_tensor(x)).shape == (3, 4)


def test_meta_device():
    module = GatedMLP(4, 6, device="meta")
    assert module(torch.empty(3, 4, device="meta")).shape == (3, 4)


def test_export():
    module = GatedMLP(4, 6, bias=True)
    program = torch.export.export(module, (torch.randn(3, 4),))
    x = torch.randn(3, 4)
    torch.testing.assert_close(program.module()(x), module(x))


def test_deep_copy_and_pickle():
    import copy
    import pickle

    module = GatedMLP(4, 6, layout="interleaved", gate="last")
    x = torch.randn(3, 4)
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(copied(x), module(x))
