"""Every procedure through every mode, from its description alone."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from samples import DTYPES, maker, relative_error
from test_ops import ODD, padded_rows, sliced, transposed
from torch import Tensor
from torch.func import vmap

from dlaccel import _core
from dlaccel._spec import ProcedureSpec
from dlaccel.ops import PROCEDURES

CASES = [
    pytest.param(spec, variant, id=f"{spec.name}-{variant}".replace(" ", "_"))
    for spec in PROCEDURES
    for variant in spec.variants
]


def arguments_of(
    spec: ProcedureSpec, variant: str, size: tuple[int, ...], make: Callable[..., Tensor]
) -> tuple[Any, ...]:
    return spec.variants[variant](spec.sample(size, make))


def fresh(spec: ProcedureSpec, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same inputs beside a state of its own."""
    return tuple(a.clone() if i < spec.writes else a for i, a in enumerate(arguments))


def run(spec: ProcedureSpec, arguments: tuple[Any, ...]) -> list[Tensor]:
    mine = fresh(spec, arguments)
    assert spec.procedure(*mine) is None
    return list(mine[: spec.writes])


def truth(spec: ProcedureSpec, arguments: tuple[Any, ...]) -> list[Tensor]:
    mine = fresh(spec, arguments)
    wide = (a.double() if isinstance(a, Tensor) and a.is_floating_point() else a for a in mine)
    state = list(wide)
    spec.reference(*state)
    return state[: spec.writes]


def inputs(spec: ProcedureSpec, arguments: tuple[Any, ...], change: Any) -> tuple[Any, ...]:
    """The arguments with every floating input changed."""
    return tuple(
        change(a) if i >= spec.writes and isinstance(a, Tensor) and a.is_floating_point() else a
        for i, a in enumerate(arguments)
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e2])
@pytest.mark.parametrize(("spec", "variant"), CASES)
def test_the_float64_reference(
    spec: ProcedureSpec, variant: str, scale: float, dtype: torch.dtype, device: str
) -> None:
    for seed, size in enumerate(spec.sizes):
        arguments = arguments_of(spec, variant, size, maker(dtype, device, seed, scale))
        for ours, exact in zip(run(spec, arguments), truth(spec, arguments), strict=True):
            if exact.is_floating_point():
                assert relative_error(ours, exact) <= spec.limit(size)
            else:
                assert torch.equal(ours, exact)


@pytest.mark.parametrize("arrange", [transposed, sliced, padded_rows])
@pytest.mark.parametrize(("spec", "variant"), CASES)
def test_strides_change_nothing(
    spec: ProcedureSpec, variant: str, arrange: Any, device: str
) -> None:
    for size in spec.sizes[2:]:
        arguments = arguments_of(spec, variant, size, maker(torch.float32, device))
        strided = inputs(spec, arguments, arrange)
        for ours, plain in zip(run(spec, strided), run(spec, arguments), strict=True):
            if _core.kernel(spec.name, device) is None:  # torch's products sum by the layout
                assert relative_error(ours, plain) <= 2 * spec.limit(size)
            else:
                torch.testing.assert_close(ours, plain, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("spec", "variant"), CASES)
def test_the_same_bits_twice_and_on_any_number_of_threads(
    spec: ProcedureSpec, variant: str, device: str
) -> None:
    arguments = arguments_of(spec, variant, spec.sizes[-1], maker(torch.float32, device))
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3, 2):
            torch.set_num_threads(count)
            found.append(run(spec, arguments))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("spec", "variant"), CASES)
def test_guards_around_the_state_stay_and_inputs_stay(
    spec: ProcedureSpec, variant: str, dtype: torch.dtype, device: str
) -> None:
    arguments = arguments_of(spec, variant, spec.sizes[2], maker(dtype, device))
    kept = [a.clone() if isinstance(a, Tensor) else a for a in arguments]
    expected = run(spec, arguments)
    guarded = []
    for state in arguments[: spec.writes]:
        memory = torch.full((state.numel() + 16,), 7, dtype=state.dtype, device=state.device)
        guarded.append((memory, memory[8 : 8 + state.numel()].view(state.shape).copy_(state)))
    versions = [inside._version for _, inside in guarded]
    spec.procedure(*(inside for _, inside in guarded), *arguments[spec.writes :])
    for (memory, inside), version, wanted in zip(guarded, versions, expected, strict=True):
        torch.testing.assert_close(inside, wanted, rtol=0, atol=0, equal_nan=True)
        assert (memory[:8] == 7).all()
        assert (memory[-8:] == 7).all()
        assert inside._version > version
    for ours, original in zip(arguments, kept, strict=True):
        assert torch.equal(ours, original) if isinstance(ours, Tensor) else ours == original


@pytest.mark.parametrize(("spec", "variant"), CASES)
def test_compile_fullgraph_and_opcheck(spec: ProcedureSpec, variant: str, device: str) -> None:
    arguments = arguments_of(spec, variant, spec.sizes[2], maker(torch.float32, device))
    expected = run(spec, arguments)
    torch._dynamo.reset()
    compiled = torch.compile(spec.procedure, fullgraph=True, backend="aot_eager", dynamic=False)
    mine = fresh(spec, arguments)
    compiled(*mine)
    for ours, other in zip(mine, expected, strict=False):
        torch.testing.assert_close(ours, other, rtol=0, atol=0, equal_nan=True)
    operator = getattr(torch.ops.dlaccel, spec.name).default
    torch.library.opcheck(operator, fresh(spec, arguments))


@pytest.mark.parametrize(("spec", "variant"), CASES)
def test_inputs_that_want_gradients_are_read_and_transforms_refused(
    spec: ProcedureSpec, variant: str, device: str
) -> None:
    arguments = arguments_of(spec, variant, spec.sizes[2], maker(torch.float32, device))
    wanting = inputs(spec, arguments, lambda t: t.detach().requires_grad_())
    for ours, plain in zip(run(spec, wanting), run(spec, arguments), strict=True):
        torch.testing.assert_close(ours, plain, rtol=0, atol=0, equal_nan=True)
        assert not ours.requires_grad
    mine = fresh(spec, arguments)
    with pytest.raises(RuntimeError) as caught:
        vmap(lambda scale: spec.procedure(*mine))(torch.ones(2, device=device))
    assert str(caught.value) == (
        f"dlaccel.{spec.name}: a statistic must not be updated under torch.func."
    )


BAD = [
    pytest.param(bad, id=f"{spec.name}-{name}".replace(" ", "_"))
    for spec in PROCEDURES
    for name, bad in spec.bad.items()
]


@pytest.mark.parametrize("bad", BAD)
def test_bad_calls_are_refused_in_one_sentence(bad: Any, device: str) -> None:
    with pytest.raises(bad.error) as caught:
        bad.call(maker(torch.float32, device))
    where = torch.empty(0, device=device).device
    assert str(caught.value) == bad.message.replace("{device}", str(where))


@pytest.mark.parametrize(("spec", "variant"), CASES)
def test_another_thread_computes_the_same(spec: ProcedureSpec, variant: str) -> None:
    arguments = arguments_of(spec, variant, spec.sizes[-1], maker(torch.float32, "cpu"))
    expected = run(spec, arguments)
    results: list[list[Tensor]] = []
    thread = threading.Thread(target=lambda: results.append(run(spec, arguments)))
    thread.start()
    thread.join()
    for ours, other in zip(results[0], expected, strict=True):
        torch.testing.assert_close(ours, other, rtol=0, atol=0, equal_nan=True)


def test_the_odd_size_is_odd() -> None:
    for spec in PROCEDURES:
        assert any(length % 2 for length in spec.sizes[2]), (spec.name, ODD)
