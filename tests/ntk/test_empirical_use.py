"""What is chosen, refused, left alone and differentiated."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from architectures import made
from oracle import error, jacobian
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.utils.checkpoint import checkpoint

from dlaccel import ntk
from dlaccel.ntk.empirical import OUTPUTS

X = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(5, 4).sin()


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()


class Wrapped(nn.Module):
    """A network of a function, whose parameters are another module's."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.how = network(), forward

    def forward(self, x: Tensor) -> Any:
        return self.how(self.inner, x)


def test_an_ensemble_gives_each_members_kernel() -> None:
    members = [network(seed) for seed in range(3)]
    for outputs in OUTPUTS:
        found = ntk.empirical(
            network(9), X, X[:2], outputs=outputs, ensemble=stack_module_state(members)
        )
        each = [ntk.empirical(member, X, X[:2], outputs=outputs) for member in members]
        assert torch.equal(found, torch.stack(each))


def test_parameters_are_chosen_by_name() -> None:
    model = network()
    for chosen, names in ((["0.*"], ["0.weight", "0.bias"]), ("2.weight", ["2.weight"])):
        first = jacobian(model, X, names)
        found = ntk.empirical(model, X, parameters=chosen)
        assert error(found, first, first, "full") < 4 * first.shape[-1]
    frozen = network()
    frozen[0].requires_grad_(False)
    whole = ntk.empirical(model, X, parameters="2.*")
    assert torch.equal(ntk.empirical(frozen, X), whole)
    frozen.requires_grad_(False)
    assert torch.equal(ntk.empirical(frozen, X, parameters=["2.*"]), whole)


def test_the_trace_may_be_a_mean() -> None:
    whole = ntk.empirical(network(), X, outputs="trace")
    assert torch.equal(ntk.empirical(network(), X, outputs="trace", normalize=True), whole / 2)


def test_the_dtype_is_that_of_the_input_unless_told() -> None:
    model = network().float()
    assert ntk.empirical(model, X).dtype == torch.float64
    assert ntk.empirical(model, X.float()).dtype == torch.float32
    assert ntk.empirical(model.bfloat16(), X.bfloat16()).dtype == torch.float32
    assert ntk.empirical(model, X.float(), precision="float64").dtype == torch.float64
    tokens, ids = made("residual")
    assert ntk.empirical(tokens, ids).dtype == torch.float64


def test_output_axes_are_flattened() -> None:
    flat = ntk.empirical(network(), X)
    shaped = Wrapped(lambda inner, x: inner(x)[:, None])
    assert torch.equal(ntk.empirical(shaped, X), flat)
    single = Wrapped(lambda inner, x: inner(x)[:, 0])
    found = ntk.empirical(single, X)
    assert found.shape == (5, 5, 1, 1)
    assert torch.allclose(found, flat[..., :1, :1], rtol=1e-13, atol=0)


def test_no_mode_of_gradients_changes_the_kernel() -> None:
    truth = ntk.empirical(network(), X)
    with torch.no_grad():
        assert torch.equal(ntk.empirical(network(), X), truth)
    model = network()
    with torch.inference_mode():
        assert torch.equal(ntk.empirical(model, X.clone()), truth)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ntk.empirical(model, X), truth)


class Counting(nn.Module):
    """Writes to a buffer in each forward, and fails at will."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()
        self.inner[0].eval()
        self.register_buffer("calls", torch.zeros((), dtype=torch.float64))
        self.calls: Tensor
        self.broken = False

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        if self.broken and len(x) > 3:
            raise ArithmeticError("broken")
        return self.inner(x)


@pytest.mark.parametrize("broken", [False, True])
def test_the_module_is_left_as_found(broken: bool) -> None:
    model = Counting()
    seen: list[int] = []
    handle = model.inner.register_forward_hook(lambda *_: seen.append(1))
    model.inner[2].weight.grad = torch.ones(2, 6, dtype=torch.float64)
    modes = [module.training for module in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    before = [(p, p.data_ptr(), p._version, p.grad) for p in model.parameters()]
    model.broken = broken
    if broken:
        with pytest.raises(ArithmeticError, match="broken"):
            ntk.empirical(model, X)
    else:
        ntk.empirical(model, X)
    after = [(p, p.data_ptr(), p._version, p.grad) for p in model.parameters()]
    for old, new in zip(before, after, strict=True):
        assert old[0] is new[0]
        assert old[1:3] == new[1:3]
        assert old[3] is new[3]
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert seen  # the user's hooks ran, and theirs are the only ones
    assert list(model.inner._forward_hooks) == [handle.id]
    assert not any(m._forward_hooks for m in model.modules() if m is not model.inner)


def test_checkpointed_layers_are_seen() -> None:
    inside = Wrapped(lambda inner, x: checkpoint(inner, x, use_reentrant=False))
    assert torch.equal(ntk.empirical(inside, X), ntk.empirical(network(), X))


def test_a_parameter_that_the_output_misses_has_no_share() -> None:
    model = network()
    model.register_parameter("spare", nn.Parameter(torch.ones(3, dtype=torch.float64)))
    assert torch.equal(ntk.empirical(model, X), ntk.empirical(network(), X))


BATCH = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).double()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (BATCH, "batch normalisation '1', which couples the samples of a batch"),
        (
            nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.1)).double(),
            "a fixed function, in eval mode, got '1' that drops in training mode",
        ),
        (
            Wrapped(lambda inner, x: nn.functional.dropout(inner(x), 0.5)),
            "a fixed function, got dropout in training mode",
        ),
        (
            Wrapped(lambda inner, x: nn.functional.batch_norm(inner(x), None, None, training=True)),
            "batch normalisation in training mode, which couples the samples",
        ),
        (Wrapped(lambda inner, x: inner(x - x.mean(0))), "depends on another row of the input"),
        (Wrapped(lambda inner, x: inner(x).softmax(0)), "depends on another row of the input"),
        (Wrapped(lambda inner, x: inner(x.flip(0))), "depends on another row of the input"),
        (
            Wrapped(
                lambda inner, x: (inner(x) if len(x) > 3 else inner(x).detach()) + 0 * x[:, :2]
            ),
            "depend on the parameters of the kernel",
        ),
        (
            Wrapped(lambda inner, x: inner(x) if len(x) < 3 else inner(x) + inner(x)),
            "a forward whose layers differ from one batch to the next",
        ),
        (Wrapped(lambda inner, x: inner(x)[:1]), "give one row for each of the 2 rows"),
        (Wrapped(lambda inner, x: inner(x)[:, 0].sum()), "give one row for each of the 2 rows"),
    ],
)
def test_a_model_is_refused(model: nn.Module, words: str) -> None:
    with pytest.raises(ValueError, match=r"dlaccel\.ntk\.empirical: model must") as caught:
        ntk.empirical(model, X)
    assert words in str(caught.value)


def test_ids_that_couple_are_refused() -> None:
    class Coupled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(9, 3)

        def forward(self, ids: Tensor) -> Tensor:
            h = self.embed(ids).mean(1)
            return h - h.mean(0)

    with pytest.raises(ValueError, match="depends on another row"):
        ntk.empirical(Coupled(), torch.arange(8).reshape(4, 2))


@pytest.mark.parametrize(
    ("call", "kind", "sentence"),
    [
        (
            lambda: ntk.empirical(print, X),  # type: ignore[arg-type]
            TypeError,
            "dlaccel.ntk.empirical: model must be a torch.nn.Module, got "
            "builtin_function_or_method.",
        ),
        (
            lambda: ntk.empirical(network(), X.numpy()),  # type: ignore[arg-type]
            TypeError,
            "dlaccel.ntk.empirical: x1 must be a torch.Tensor, got ndarray.",
        ),
        (
            lambda: ntk.empirical(network(), X[:0]),
            ValueError,
            "dlaccel.ntk.empirical: x1 must have at least one row, got (0, 4).",
        ),
        (
            lambda: ntk.empirical(network(), X, X[:, :3]),
            ValueError,
            "dlaccel.ntk.empirical: x2 must have rows of shape (4,), as x1 has, got (3,).",
        ),
        (
            lambda: ntk.empirical(network(), X, outputs="mean"),  # type: ignore[arg-type]
            ValueError,
            "dlaccel.ntk.empirical: outputs must be one of 'full', 'trace', 'diagonal', "
            "'block_diagonal', got 'mean'.",
        ),
        (
            lambda: ntk.empirical(network(), X, normalize=True),
            ValueError,
            "dlaccel.ntk.empirical: normalize must be False but for the trace, got 'full'.",
        ),
        (
            lambda: ntk.empirical(network(), X, precision="bfloat16"),
            ValueError,
            "dlaccel.ntk.empirical: precision must be float64 or float32, got 'bfloat16'.",
        ),
        (
            lambda: ntk.empirical(network(), X, parameters="1.*"),
            ValueError,
            "dlaccel.ntk.empirical: parameters must name parameters of the model (0.weight, "
            "0.bias, 2.weight, 2.bias), got '1.*'.",
        ),
        (
            lambda: ntk.empirical(network().requires_grad_(False), X),
            ValueError,
            "dlaccel.ntk.empirical: model must hold parameters that require a gradient, or "
            "parameters= name some, got 4 that do not.",
        ),
        (
            lambda: ntk.empirical(network(), X.clone().requires_grad_()),
            ValueError,
            "dlaccel.ntk.empirical: x1 must require no gradient unless create_graph=True, got "
            "one that does.",
        ),
        (
            lambda: ntk.empirical(network(), X, ensemble=({}, {})),
            ValueError,
            "dlaccel.ntk.empirical: ensemble must hold the model's parameters and buffers, each "
            "under its name, got a difference in '0.bias'.",
        ),
    ],
)
def test_an_argument_is_refused(
    call: Callable[[], object], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == sentence


def test_embeddings_that_change_their_weights_are_refused() -> None:
    model = nn.Sequential(nn.Embedding(9, 3, max_norm=0.1), nn.Flatten())
    with pytest.raises(ValueError, match="an embedding with max_norm, which changes them"):
        ntk.empirical(model, torch.arange(4).reshape(2, 2))


def test_gradients_through_the_kernel() -> None:
    """Of a function of the kernel in the input and a weight, against differences."""
    model = network()

    def kernel(x: Tensor, weight: Tensor) -> Tensor:
        stacked = {k: v[None] for k, v in model.named_parameters()}
        stacked["0.weight"] = weight[None]
        return ntk.empirical(model, x, X[:2], ensemble=(stacked, {}), create_graph=True)

    x, weight = X[:3].clone().requires_grad_(), model[0].weight
    assert torch.allclose(kernel(x, weight)[0], ntk.empirical(model, X[:3], X[:2]), rtol=1e-12)
    assert torch.autograd.gradcheck(kernel, (x, weight), fast_mode=True)
    own = ntk.empirical(model, X, create_graph=True).sum()
    (gradient,) = torch.autograd.grad(own, model[0].weight)
    assert gradient.any()
    assert not ntk.empirical(model, X).requires_grad


def test_transforms_around_the_kernel() -> None:
    model = network()
    groups = torch.stack([X, X.flip(1)])
    found = torch.func.vmap(lambda x: ntk.empirical(model, x))(groups)
    each = torch.stack([ntk.empirical(model, x) for x in groups])
    assert torch.allclose(found, each, rtol=1e-12)

    def total(x: Tensor, create_graph: bool = False) -> Tensor:
        return ntk.empirical(model, x, create_graph=create_graph).square().sum()

    x = X.clone().requires_grad_()
    (truth,) = torch.autograd.grad(total(x, True), x)
    assert torch.allclose(torch.func.grad(total)(X), truth, rtol=1e-12)
    _, tangent = torch.func.jvp(total, (X,), (truth,))
    assert torch.allclose(tangent, truth.square().sum(), rtol=1e-12)


def test_functional_models_see_the_swapped_parameters() -> None:
    model, other = network(), network(1)
    with torch.no_grad():
        stacked = {k: v[None] for k, v in other.named_parameters()}
    found = ntk.empirical(model, X, ensemble=(stacked, {}))[0]
    assert torch.equal(found, ntk.empirical(other, X))
    assert torch.equal(functional_call(model, dict(other.named_parameters()), (X,)), other(X))
