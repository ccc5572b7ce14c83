"""Products with the kernel against the kernel."""

import math

import pytest
import torch
from architectures import ARCHITECTURES, made
from oracle import jacobian
from torch import Tensor, nn

from dlaccel import ntk

EPS = torch.finfo(torch.float64).eps


def matrix(first: Tensor, second: Tensor) -> Tensor:
    """(N O, M O) from Jacobians."""
    return first.flatten(0, 1) @ second.flatten(0, 1).T


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_products_are_those_of_the_matrix(name: str) -> None:
    model, x = made(name)
    first = jacobian(model, x)
    second, other = first[:4].flip(0), x[:4].flip(0)
    count, parameters = first.shape[1:]
    for left, right, x2 in ((first, second, other), (first, first, None)):
        operator = ntk.Operator(model, x, x2, batch_size=4)
        rows = len(right) * count
        assert operator.shape == (len(x) * count, rows)
        vectors = torch.randn(rows, 3, dtype=torch.float64)
        found = operator @ vectors
        # K v = sum over P of products of two sums: P terms, N O terms, and the gradients' own P.
        limit = 4 * (parameters + rows) * EPS
        scale = left.flatten(0, 1).norm(dim=1) * (right.flatten(0, 1).norm() * vectors.norm())
        difference = (found - matrix(left, right) @ vectors).abs()
        assert (difference <= limit * scale[:, None]).all()


def test_vectors_have_three_shapes() -> None:
    model, x = made("perceptron")
    operator = ntk.Operator(model, x, x[:4])
    columns = torch.randn(12, 2, dtype=torch.float64)
    found = operator @ columns
    assert found.shape == (18, 2)
    assert torch.equal(operator @ columns[:, 0], found[:, 0])
    assert torch.equal(operator @ columns[:, 0].reshape(4, 3), found[:, 0].reshape(6, 3))
    with pytest.raises(ValueError, match="vector must have shape"):
        operator @ columns[:5]
    with pytest.raises(TypeError, match=r"vector must be a torch\.Tensor, got list"):
        operator @ [1.0]  # type: ignore[operator]


def test_the_trace_lies_within_its_error() -> None:
    model, x = made("perceptron")
    operator = ntk.Operator(model, x)
    truth = jacobian(model, x).square().sum().item()
    found = operator.trace(400, seed=3)
    assert found == operator.trace(400, seed=3)
    assert found != operator.trace(400, seed=4)
    assert abs(found.value - truth) < 4 * found.standard_error  # fails once in 16,000 seeds
    # Of signs, the variance is twice the sum of the squares off the diagonal.
    whole = matrix(*[jacobian(model, x)] * 2)
    variance = 2 * (whole.square().sum() - whole.diagonal().square().sum()).item()
    # The estimate of a spread from 400 samples is itself off by 10 % or so; 40 % is four of these.
    assert found.standard_error == pytest.approx(math.sqrt(variance / 400), rel=0.4)
    assert math.isnan(operator.trace(1).standard_error)


def test_conjugate_gradients_solve_with_the_operator() -> None:
    solve = pytest.importorskip("dlaccel.solve")
    model, x = made("perceptron")
    operator = ntk.Operator(model, x)
    b = torch.randn(18, dtype=torch.float64)
    found = solve.conjugate_gradient(operator, b, ridge=0.1, tolerance=1e-8)
    dense = matrix(*[jacobian(model, x)] * 2) + 0.1 * torch.eye(18, dtype=torch.float64)
    # Beside the tolerance there is the rounding of products of a matrix of condition below 1e5.
    assert (dense @ found.x - b).norm() < 2e-8 * b.norm()


def test_precision_and_parameters() -> None:
    model, x = made("perceptron")
    operator = ntk.Operator(model, x, precision="float32", parameters="4.*")
    assert operator.dtype == torch.float32
    first = jacobian(model, x, ["4.weight", "4.bias"])
    v = torch.randn(18)
    truth = matrix(first, first) @ v.double()
    limit = 4 * (27 + 18) * torch.finfo(torch.float32).eps * first.norm() ** 2 * v.norm()
    assert ((operator @ v).double() - truth).abs().max() <= limit
    with torch.no_grad():
        assert not (operator @ v).requires_grad


def test_the_operator_refuses_what_the_kernel_does() -> None:
    x = torch.randn(4, 3)
    with pytest.raises(ValueError, match=r"dlaccel\.ntk\.Operator: model must treat each sample"):
        ntk.Operator(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), x)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        ntk.Operator(nn.Linear(3, 2), x, batch_size=0)
    with pytest.raises(ValueError, match="have no second input to have a trace"):
        ntk.Operator(nn.Linear(3, 2), x, x[:2]).trace()
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        ntk.Operator(nn.Linear(3, 2), x).trace(0)
