"""``nn.Bilinear`` against torch's own layer: samples, results, gradients, errors."""

import pytest
import torch
from samples import relative_error
from torch import Tensor

from dlaccel.nn import Bilinear

DOUBLE = torch.float64


def pair(sizes: tuple[int, int, int], **options: object) -> tuple[Bilinear, torch.nn.Bilinear]:
    """Ours and torch's with the same parameters, drawn with the same seed."""
    torch.manual_seed(1)
    ours = Bilinear(*sizes, **options)  # type: ignore[arg-type]
    torch.manual_seed(1)
    return ours, torch.nn.Bilinear(*sizes, **options)  # type: ignore[arg-type]


def test_initialisation_and_state_dict_are_torchs() -> None:
    ours, theirs = pair((3, 4, 5))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(own, other)
    ours.load_state_dict(theirs.state_dict())
    assert str(ours) == str(theirs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_samples_of_torchs_module_db(dtype: torch.dtype) -> None:
    common = pytest.importorskip(
        "torch.testing._internal.common_modules",
        reason="torch's own test samples need packages that are not there (expecttest)",
        exc_type=ImportError,
    )
    (info,) = (i for i in common.module_db if i.module_cls is torch.nn.Bilinear)
    samples = info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=True, training=True
    )
    assert len(samples) >= 3
    for sample in samples:
        made = sample.constructor_input
        ours = Bilinear(*made.args, **made.kwargs).to(dtype)
        theirs = torch.nn.Bilinear(*made.args, **made.kwargs).to(dtype)
        ours.load_state_dict(theirs.state_dict())
        given = sample.forward_input.args
        result = ours(*given)
        wanted = theirs(*given)
        assert result.shape == wanted.shape
        # Sums of 8 * 9 products or fewer, in both: sqrt(72) roundings each way.
        limit = 4 * 72**0.5 * torch.finfo(dtype).eps
        assert relative_error(result, wanted) < limit
        for own, other in zip(
            torch.autograd.grad(result.sum(), (*given, *ours.parameters())),
            torch.autograd.grad(wanted.sum(), (*given, *theirs.parameters())),
            strict=True,
        ):
            assert relative_error(own, other) < limit
        if sample.reference_fn is not None:
            reference = sample.reference_fn(ours, *given)
            assert relative_error(result, reference) < limit


@pytest.mark.parametrize("lead", [(), (1,), (7,), (0,), (2, 0, 3), (2, 3, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_torchs_layer_for_any_leading_axes(lead: tuple[int, ...], bias: bool) -> None:
    ours, theirs = pair((5, 6, 7), bias=bias, dtype=DOUBLE)
    left, right = torch.randn(*lead, 5, dtype=DOUBLE), torch.randn(*lead, 6, dtype=DOUBLE)
    result, wanted = ours(left, right), theirs(left, right)
    assert result.shape == wanted.shape
    assert relative_error(result, wanted) < 100 * 2**-53  # sums of 30 products


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3, 4), (3, 6)),
        ((3, 5), (3, 5)),
        ((3, 5), (4, 6)),
        ((3, 5), (1, 6)),
        ((2, 3, 5), (3, 6)),
        ((5,), (3, 6)),
    ],
)
def test_refuses_what_torch_refuses_in_its_words(
    left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    ours, theirs = pair((5, 6, 7))
    x, z = torch.randn(left), torch.randn(right)
    with pytest.raises(RuntimeError) as wanted:
        theirs(x, z)
    with pytest.raises(RuntimeError) as raised:
        ours(x, z)
    assert str(raised.value) == str(wanted.value)


def test_refuses_widths_and_dtypes_as_torch_does() -> None:
    with pytest.raises(ValueError, match="in1_features must be > 0") as wanted:
        torch.nn.Bilinear(0, 3, 4)
    with pytest.raises(ValueError, match="in1_features must be > 0") as raised:
        Bilinear(0, 3, 4)
    assert str(raised.value) == str(wanted.value)
    ours, theirs = pair((5, 6, 7))
    mixed = torch.randn(3, 5), torch.randn(3, 6, dtype=DOUBLE)
    with pytest.raises(RuntimeError) as refused:
        theirs(*mixed)
    with pytest.raises(RuntimeError) as own:
        ours(*mixed)
    assert str(own.value) == str(refused.value)


def test_autocast_gives_torchs_dtype() -> None:
    ours, theirs = pair((5, 6, 7))
    left, right = torch.randn(3, 5), torch.randn(3, 6)
    with torch.autocast("cpu"):
        result, wanted = ours(left, right), theirs(left, right)
    assert result.dtype == wanted.dtype
    assert relative_error(result, wanted) < 100 * 2.0**-8


def test_a_network_with_it_compiles_whole_and_trains_the_same() -> None:
    ours, theirs = pair((5, 6, 7), dtype=DOUBLE)
    given = torch.randn(9, 5, dtype=DOUBLE), torch.randn(9, 6, dtype=DOUBLE)

    def loss(layer: torch.nn.Module) -> Tensor:
        return layer(*given).sin().sum()  # type: ignore[no-any-return]

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    own = torch.autograd.grad(compiled(ours), tuple(ours.parameters()))
    other = torch.autograd.grad(loss(theirs), tuple(theirs.parameters()))
    for a, b in zip(own, other, strict=True):
        assert relative_error(a, b) < 1e-13  # sums of 9 and of 30 numbers of one size


def test_the_plan_tells_order_cost_and_reason() -> None:
    ours, _ = pair((5, 6, 7))
    plans = ours.plan(torch.randn(9, 5), torch.randn(9, 6))
    assert [p.stage for p in plans] == ["forward", "inputs", "weight"]
    assert plans[0].cost.flops == plans[0].candidates[plans[0].order].flops > 0
    assert "lowest prediction" in plans[0].why
    ours.order = "scaled"
    forced = ours.plan(torch.randn(9, 5), torch.randn(9, 6))
    assert [p.order for p in forced] == ["scaled", "outer", "outer"]
