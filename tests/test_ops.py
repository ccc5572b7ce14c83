"""Every op through every mode, from its description alone."""

import copy
import inspect
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from samples import DTYPES, maker, relative_error
from torch import Tensor
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

from dlaccel import _core
from dlaccel._spec import OpSpec
from dlaccel.ops import SPECS

CASES = [
    pytest.param(spec, variant, id=f"{spec.name}-{variant}".replace(" ", "_"))
    for spec in SPECS
    for variant in spec.variants
]
FIRST_CASES = [
    pytest.param(spec, next(iter(spec.variants)), id=spec.name.replace(" ", "_")) for spec in SPECS
]
ODD = (7, 129)


def size_id(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def run(spec: OpSpec, variant: str, tensors: tuple[Tensor, ...], **more: Any) -> Tensor:
    return spec.function(*tensors, **spec.variants[variant], **more)


def truth(spec: OpSpec, variant: str, tensors: tuple[Tensor, ...]) -> Tensor:
    return spec.reference(*tensors, **spec.variants[variant])


def gradients(call: Callable[..., Tensor], tensors: tuple[Tensor, ...], dy: Tensor) -> list[Tensor]:
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    return list(torch.autograd.grad(call(*leaves), leaves, dy))


def assert_close(
    spec: OpSpec, size: tuple[int, ...], result: Tensor, exact: Tensor, eager: Tensor
) -> None:
    """Within the derived limit, or as far from float64 as torch's own arithmetic is.

    The second clause is for what the formula itself loses in finite precision, in tensors of one or
    two elements at large x: 1 - sigmoid(x), or the rounding of g + p before an exponential. Both
    sides then draw errors of one size, so ours may be the larger, by a factor 2 at most. Where the
    exact value leaves the dtype's range, infinity is right and has no error to measure.
    """
    inside = exact.abs() < 0.99 * torch.finfo(result.dtype).max
    result, exact, eager = result[inside], exact[inside], eager[inside]
    allowed = max(spec.limit(result.dtype, size), 2 * relative_error(eager, exact))
    assert relative_error(result, exact) <= allowed


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e2])
@pytest.mark.parametrize(("spec", "variant"), CASES)
def test_forward_and_gradient_equal_the_float64_reference(
    spec: OpSpec, variant: str, scale: float, dtype: torch.dtype, device: str
) -> None:
    for seed, size in enumerate(spec.sizes):
        make = maker(dtype, device, seed, scale)
        tensors = spec.sample(size, make)
        wide = tuple(t.double() for t in tensors)
        result, exact = run(spec, variant, tensors), truth(spec, variant, wide)
        assert result.dtype == dtype
        assert_close(spec, size, result, exact, truth(spec, variant, tensors))
        dy = make(*result.shape)
        ours = gradients(lambda *t: run(spec, variant, t), tensors, dy)
        exact_gradients = gradients(lambda *t: truth(spec, variant, t), wide, dy.double())
        eager = gradients(lambda *t: truth(spec, variant, t), tensors, dy)
        for triple in zip(ours, exact_gradients, eager, strict=True):
            assert_close(spec, size, *triple)


def transposed(t: Tensor) -> Tensor:
    return t.mT.contiguous().mT if t.ndim > 1 else t


def sliced(t: Tensor) -> Tensor:
    wide = t.new_full((*t.shape[:-1], 2 * t.shape[-1] + 3), float("nan"))
    wide[..., 1 : 2 * t.shape[-1] + 1 : 2] = t
    return wide[..., 1 : 2 * t.shape[-1] + 1 : 2]


def padded_rows(t: Tensor) -> Tensor:
    wide = t.new_full((*t.shape[:-1], t.shape[-1] + 3), float("nan"))
    wide[..., : t.shape[-1]] = t
    return wide[..., : t.shape[-1]]


def flipped_axes(t: Tensor) -> Tensor:
    return t.permute(*reversed(range(t.ndim))).contiguous().permute(*reversed(range(t.ndim)))


@pytest.mark.parametrize("arrange", [transposed, sliced, padded_rows, flipped_axes])
@pytest.mark.parametrize("size", [ODD, (3, 5, 17), (300, 70)], ids=size_id)
@pytest.mark.parametrize(("spec", "variant"), FIRST_CASES)
def test_strides_change_nothing(
    spec: OpSpec, variant: str, size: tuple[int, ...], arrange: Any, device: str
) -> None:
    tensors = spec.sample(size, maker(torch.float32, device))
    arranged = tuple(arrange(t) for t in tensors)
    result, plain = run(spec, variant, arranged), run(spec, variant, tensors)
    torch.testing.assert_close(result, plain, rtol=0, atol=0)
    dy = maker(torch.float32, device, 1)(*plain.shape)
    leaves = [t.detach().requires_grad_() for t in arranged]
    strided = torch.autograd.grad(run(spec, variant, tuple(leaves)), leaves, arrange(dy))
    expected = gradients(lambda *t: run(spec, variant, t), tensors, dy)
    for ours, other in zip(strided, expected, strict=True):
        assert relative_error(ours, other) <= 4 * spec.limit(torch.float32, size)


@pytest.mark.parametrize(("spec", "variant"), FIRST_CASES)
def test_expanded_inputs_and_expanded_cotangents(spec: OpSpec, variant: str, device: str) -> None:
    make = maker(torch.float32, device)
    tensors = spec.sample((1, 33), make)
    expanded = tuple(t.expand(5, -1) if t.ndim == 2 else t for t in tensors)
    dense = tuple(t.contiguous() for t in expanded)
    torch.testing.assert_close(
        run(spec, variant, expanded), run(spec, variant, dense), rtol=0, atol=0
    )
    one = torch.ones((), device=device).expand(5, 33)
    for ours, other in zip(
        gradients(lambda *t: run(spec, variant, t), dense, one),
        gradients(lambda *t: run(spec, variant, t), dense, one.contiguous()),
        strict=True,
    ):
        torch.testing.assert_close(ours, other, rtol=0, atol=0)


def test_rows_further_apart_than_two_to_the_31_elements() -> None:
    spec = SPECS[0]
    apart, width = 2**31 + 8, 40
    memory = torch.empty(2 * apart + width, dtype=torch.bfloat16)  # never touched but for 2 rows
    gate = memory.as_strided((2, width), (apart, 1))
    value = memory.as_strided((2, width), (apart, 1), width)
    gate.copy_(maker(torch.bfloat16, "cpu")(2, width))
    value.copy_(maker(torch.bfloat16, "cpu", 1)(2, width))
    expected = spec.function(gate.clone(), value.clone())
    torch.testing.assert_close(spec.function(gate, value), expected, rtol=0, atol=0)
    out = memory.as_strided((2, width), (apart, 1), 2 * width)
    spec.function(gate, value, out=out)
    torch.testing.assert_close(out.clone(), expected, rtol=0, atol=0)


EXTREME = [0.0, -0.0, 1e-45, -1e-40, 1e-38, 150.0, -150.0, 88.8, -103.9, 3e38, -3e38]
SPECIAL = [float("inf"), -float("inf"), float("nan")]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("spec", "variant"), CASES)
def test_extreme_values_give_no_nan_that_the_reference_has_not(
    spec: OpSpec, variant: str, dtype: torch.dtype, device: str
) -> None:
    values = torch.tensor(EXTREME + SPECIAL, dtype=dtype, device=device)
    grid = torch.cartesian_prod(values, torch.tensor([1.0, -2.0], dtype=dtype, device=device))
    tensors = tuple(
        torch.zeros(t.shape[-1:], dtype=dtype, device=device)
        if i >= 2 or (len(spec.sample((1, 1), maker(dtype, device))) == 2 and t.ndim == 1)
        else t
        for i, t in enumerate(spec.sample((len(grid), 1), maker(dtype, device)))
    )
    for i, tensor in enumerate(tensors):
        if tensor.ndim == 2 and tensor.shape[-1] == 2:
            tensor.copy_(grid)
        elif tensor.ndim == 2:
            tensor.copy_(grid[:, i : i + 1])
    result = run(spec, variant, tensors)
    exact = truth(spec, variant, tuple(t.double() for t in tensors))
    assert not (result.isnan() & ~exact.isnan()).any()
    assert torch.equal(result.isinf(), exact.to(dtype).isinf() & ~result.isnan())
    finite = exact.to(dtype).isfinite()
    error = (result.double() - exact).abs()
    eager = (truth(spec, variant, tensors).double() - exact).abs().nan_to_num(0.0, posinf=0.0)
    scale = exact.abs() + torch.finfo(dtype).smallest_normal
    allowed = 2 * spec.limit(dtype, (1, 1)) * scale + eager  # e^88.8 overflows in both
    assert (error <= allowed)[finite].all()


@pytest.fixture
def poisoned() -> Iterator[None]:
    """torch.empty gives NaN, so that an element that no kernel writes shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("spec", "variant"), FIRST_CASES)
def test_outputs_are_fully_written(spec: OpSpec, variant: str, device: str) -> None:
    assert torch.empty(3, device=device).isnan().all()
    for size in spec.sizes:
        tensors = spec.sample(size, maker(torch.float32, device))
        result = run(spec, variant, tensors)
        assert not result.isnan().any()
        for gradient in gradients(
            lambda *t: run(spec, variant, t), tensors, torch.ones_like(result)
        ):
            assert not gradient.isnan().any()


@pytest.mark.parametrize(("spec", "variant"), FIRST_CASES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_guards_around_out_stay_and_inputs_stay(
    spec: OpSpec, variant: str, dtype: torch.dtype, device: str
) -> None:
    tensors = spec.sample(ODD, maker(dtype, device))
    before = copy.deepcopy(tensors)
    guarded = torch.full((ODD[0] + 2, ODD[1] + 2), 7.0, dtype=dtype, device=device)
    out = guarded[1:-1, 1:-1]
    version = out._version
    if "out" in inspect.signature(spec.function).parameters:
        assert run(spec, variant, tensors, out=out) is out
        assert out._version > version
        torch.testing.assert_close(out, run(spec, variant, tensors), rtol=0, atol=0)
        guarded[1:-1, 1:-1] = 7.0
        assert (guarded == 7.0).all()
    else:
        run(spec, variant, tensors)
    for ours, original in zip(tensors, before, strict=True):
        assert torch.equal(ours, original)


@pytest.mark.parametrize(("spec", "variant"), CASES)
def test_the_same_bits_twice_and_on_any_number_of_threads(
    spec: OpSpec, variant: str, device: str
) -> None:
    tensors = spec.sample((2048, 67), maker(torch.float32, device))

    def call(*t: Tensor) -> Tensor:
        return run(spec, variant, t)

    dy = torch.ones_like(call(*tensors))
    found = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3, 2):
            torch.set_num_threads(count)
            found.append(
                (run(spec, variant, tensors), *gradients(call, tensors, dy)),
            )
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize(("spec", "variant"), CASES)
def test_gradients_and_second_derivatives_in_float64(
    spec: OpSpec, variant: str, device: str
) -> None:
    tensors = tuple(t.requires_grad_() for t in spec.sample((3, 5), maker(torch.float64, device)))

    def call(*t: Tensor) -> Tensor:
        return run(spec, variant, t)

    assert torch.autograd.gradcheck(call, tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(call, tensors)


@pytest.mark.parametrize(("spec", "variant"), CASES)
def test_torch_func_transforms_equal_those_of_the_reference(
    spec: OpSpec, variant: str, device: str
) -> None:
    tensors = spec.sample((4, 5), maker(torch.float64, device))
    tangents = spec.sample((4, 5), maker(torch.float64, device, 1))
    places = tuple(range(len(tensors)))
    batched = tuple(0 if t.ndim > 1 else None for t in tensors)

    def per_sample(call: Callable[..., Tensor]) -> Callable[..., Any]:
        return vmap(grad(lambda *t: call(*t).square().sum(), argnums=places), in_dims=batched)

    def ours(*t: Tensor) -> Tensor:
        return run(spec, variant, t)

    def other(*t: Tensor) -> Tensor:
        return truth(spec, variant, t)

    def equal(transform: Callable[[Callable[..., Tensor]], Any]) -> None:
        torch.testing.assert_close(transform(ours), transform(other), rtol=1e-10, atol=1e-10)

    equal(lambda call: per_sample(call)(*tensors))
    equal(lambda call: vmap(call, in_dims=batched)(*tensors))
    equal(lambda call: jacrev(call, argnums=places)(*tensors))
    equal(lambda call: jacfwd(call, argnums=places)(*tensors))
    equal(lambda call: jvp(call, tensors, tangents))
    equal(lambda call: hessian(lambda *t: call(*t).sum(), argnums=places)(*tensors))
    members = tuple(torch.stack([t, 2 * t, -t], dim=1) for t in tensors)
    equal(lambda call: vmap(call, in_dims=1)(*members))
    equal(lambda call: vmap(grad(lambda *t: call(*t).sum(), argnums=places), in_dims=1)(*members))


@pytest.mark.parametrize(("spec", "variant"), FIRST_CASES)
def test_opcheck(spec: OpSpec, variant: str, device: str) -> None:
    """Torch's own tests of a registered operator, on what a traced call leaves in the graph."""
    tensors = tuple(t.requires_grad_() for t in spec.sample((3, 5), maker(torch.float32, device)))
    calls = []
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func.namespace == "dlaccel":
                calls.append((func, args))
            return func(*args, **(kwargs or {}))

    with Recorder():
        run(spec, variant, tensors).sum().backward()
    assert {"grad" in str(func) for func, _ in calls} == {False, True}
    for func, args in calls:
        fresh = tuple(
            a.detach().clone().requires_grad_() if isinstance(a, Tensor) else a for a in args
        )
        torch.library.opcheck(func, fresh)


@pytest.mark.parametrize(("spec", "variant"), FIRST_CASES)
def test_compile_fullgraph_forward_and_backward(spec: OpSpec, variant: str, device: str) -> None:
    tensors = spec.sample((6, 10), maker(torch.float32, device))
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda *t: run(spec, variant, t) * 2, fullgraph=True, backend="aot_eager", dynamic=False
    )
    dy = maker(torch.float32, device, 1)(6, 10)
    for ours, other in zip(
        [compiled(*tensors), *gradients(compiled, tensors, dy)],
        [
            run(spec, variant, tensors) * 2,
            *gradients(lambda *t: run(spec, variant, t) * 2, tensors, dy),
        ],
        strict=True,
    ):
        torch.testing.assert_close(ours, other)


BAD = [
    pytest.param(bad, id=f"{spec.name}-{name}".replace(" ", "_"))
    for spec in SPECS
    for name, bad in spec.bad.items()
]


@pytest.mark.parametrize("bad", BAD)
def test_bad_calls_are_refused_in_one_sentence(bad: Any, device: str) -> None:
    with pytest.raises(bad.error) as caught:
        bad.call(maker(torch.float32, device))
    where = torch.empty(0, device=device).device
    assert str(caught.value) == bad.message.replace("{device}", str(where))


@pytest.mark.skipif(_core.CPU is None, reason="plain torch hangs in a forked child")
@pytest.mark.parametrize(("spec", "variant"), FIRST_CASES)
def test_another_thread_and_a_forked_child_compute_the_same(spec: OpSpec, variant: str) -> None:
    tensors = spec.sample((512, 256), maker(torch.float32, "cpu"))
    expected = run(spec, variant, tensors)  # starts the pool of threads in this process
    results: list[Tensor] = []
    thread = threading.Thread(target=lambda: results.append(run(spec, variant, tensors)))
    thread.start()
    thread.join()
    assert torch.equal(results[0], expected)
    bits = expected.numpy().tobytes()
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a hang ends as a failure; torch's own parallel loops would hang here
        os._exit(0 if run(spec, variant, tensors).numpy().tobytes() == bits else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
