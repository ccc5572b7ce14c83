"""What the generic suite cannot know of the gated linear unit: identities, limits, other routes."""

import pytest
import torch
import torch.nn.functional as F
from samples import maker, relative_error
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor

from dlaccel.ops import ACTIVATIONS, glu, glu_packed

# One rounding of each of two float32 values that ought to be equal.
EQUAL = 2 * 2.0**-24


def test_torch_glu_is_the_packed_sigmoid_with_the_gate_last(device: str) -> None:
    x = maker(torch.float32, device)(5, 7, 62)
    assert relative_error(glu_packed(x, "sigmoid", gate="last"), F.glu(x)) <= 6 * EQUAL


def test_bilinear_is_symmetric(device: str) -> None:
    make = maker(torch.float32, device)
    gate, value = make(9, 33), make(9, 33)
    assert torch.equal(glu(gate, value, "identity"), glu(value, gate, "identity"))


def test_clamped_with_a_far_limit_is_the_swish_gate_of_one_plus_value(device: str) -> None:
    make = maker(torch.float64, device)
    gate, value = make(9, 33), make(9, 33)
    clamped = glu(gate, value, "clamped", alpha=1.0, limit=1e6)
    torch.testing.assert_close(clamped, glu(gate, 1 + value, "silu"), rtol=1e-14, atol=0)


def test_clamped_stops_the_gradient_beyond_the_limit(device: str) -> None:
    gate = torch.tensor([8.0, 1.0], device=device, requires_grad=True)
    value = torch.tensor([1.0, -9.0], device=device, requires_grad=True)
    glu(gate, value, "clamped", limit=7.0).sum().backward()
    assert gate.grad is not None
    assert value.grad is not None
    assert gate.grad[0] == 0
    assert value.grad[1] == 0
    assert gate.grad[1] != 0
    assert value.grad[0] != 0


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_biases_are_what_adding_them_first_is(activation: str, device: str) -> None:
    make = maker(torch.float64, device)
    gate, value, p, q = make(9, 33), make(9, 33), make(33), make(33)
    biased = glu(gate, value, activation, gate_bias=p, value_bias=q)
    torch.testing.assert_close(biased, glu(gate + p, value + q, activation), rtol=1e-14, atol=0)
    only = glu(gate, value, activation, value_bias=q)
    torch.testing.assert_close(only, glu(gate, value + q, activation), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("first", "second"),
    [(torch.float32, torch.bfloat16), (torch.float16, torch.bfloat16), (torch.float64, torch.half)],
)
def test_dtypes_promote_as_in_a_product(
    first: torch.dtype, second: torch.dtype, device: str
) -> None:
    gate, value = maker(first, device)(3, 5), maker(second, device)(3, 5)
    assert glu(gate, value).dtype == (gate * value).dtype
    with torch.autocast(device, dtype=torch.bfloat16):
        assert glu(gate, value).dtype == (gate * value).dtype


def test_out_may_be_an_input_itself(device: str) -> None:
    make = maker(torch.float32, device)
    gate, value = make(40, 300), make(40, 300)
    expected = glu(gate, value)
    assert glu(gate, value, out=gate) is gate
    assert torch.equal(gate, expected)


def test_out_may_lie_between_the_rows_of_an_input(device: str) -> None:
    x = maker(torch.float32, device)(6, 20)
    expected = glu_packed(x)
    other = torch.cat([x, torch.zeros_like(x)], 1)
    assert torch.equal(glu_packed(other[:, :20], out=other[:, 20:30]), expected)


def test_backward_after_a_write_into_a_saved_tensor_is_refused(device: str) -> None:
    make = maker(torch.float32, device)
    gate, value = make(4, 5).requires_grad_(), make(4, 5)
    y = glu(gate, value).sum()
    glu(make(4, 5), make(4, 5), out=value)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_subclasses_and_fake_tensors_take_the_operator(device: str) -> None:
    make = maker(torch.float32, device)
    pair = TwoTensor(make(3, 4), make(3, 4))
    result = glu(pair, pair, "relu")
    assert type(result) is TwoTensor
    assert torch.equal(result.b, glu(pair.b, pair.b, "relu"))
    with FakeTensorMode():
        fake = glu_packed(torch.empty(2, 3, 10, device=device))
    assert fake.shape == (2, 3, 5)


def test_out_under_a_transform_is_refused(device: str) -> None:
    make = maker(torch.float32, device)
    gate, out = make(3, 4), make(3, 4)
    with pytest.raises(RuntimeError) as caught:
        torch.func.vmap(lambda g, o: glu(g, g, out=o))(gate, out)
    assert str(caught.value) == "dlaccel.glu: out= must not be used under torch.func."


def test_out_under_compile(device: str) -> None:
    make = maker(torch.float32, device)
    gate, value = make(6, 10), make(6, 10)
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda g, v, o: glu(g, v, out=o) + 1, backend="aot_eager", fullgraph=True
    )
    out = torch.empty_like(gate)
    torch.testing.assert_close(compiled(gate, value, out), glu(gate, value) + 1)
    torch.testing.assert_close(out, glu(gate, value))


def test_inductor_forward_and_backward(device: str) -> None:
    make = maker(torch.float32, device)
    gate, value = make(6, 10).requires_grad_(), make(6, 10).requires_grad_()
    torch._dynamo.reset()
    compiled = torch.compile(lambda g, v: glu(g * 2, v).sin(), fullgraph=True)
    dy = make(6, 10)
    ours = torch.autograd.grad(compiled(gate, value), (gate, value), dy)
    plain = torch.autograd.grad((F.silu(gate * 2) * value).sin(), (gate, value), dy)
    for a, b in zip(ours, plain, strict=True):
        assert relative_error(a, b) <= 40 * EQUAL


@pytest.mark.cuda
def test_cuda_graph_replays_forward_and_backward() -> None:
    make = maker(torch.float32, "cuda")
    gate, value, p = make(64, 96).requires_grad_(), make(64, 96).requires_grad_(), make(96)
    p.requires_grad_()

    def step() -> tuple[torch.Tensor, ...]:
        y = glu(gate, value, gate_bias=p)
        return (y, *torch.autograd.grad(y.square().sum(), (gate, value, p)))

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()  # loads the kernels
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        gate.copy_(make(64, 96))
    graph.replay()
    for ours, fresh in zip(captured, step(), strict=True):
        torch.testing.assert_close(ours, fresh, rtol=0, atol=0)
