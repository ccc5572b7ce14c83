"""Kernel regression against scikit-learn, and the layouts of kernels against one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from samples import maker, relative_error
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge
from torch import Tensor

from dlaccel import ntk, solve
from dlaccel.ntk.regression import flatten_outputs, regress

N, M, OUTPUTS = 20, 7, 3
EPSILON = torch.finfo(torch.float64).eps


def rbf(a: Tensor, b: Tensor, width: float = 1.0) -> Tensor:
    squares = (a[:, None] - b[None]).square().sum(-1)
    return torch.exp(-squares / (2 * width**2))


def points(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    make = maker(torch.float64, "cpu", seed)
    return make(N, 2), make(M, 2), make(N, OUTPUTS)


def jacobians(seed: int = 0) -> tuple[Tensor, Tensor]:
    """(N, O, P) and (M, O, P), of more parameters than outputs."""
    make = maker(torch.float64, "cpu", seed)
    return make(N, OUTPUTS, 100), make(M, OUTPUTS, 100)


def full(a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum("nop,mqp->nmoq", a, b)


def diagonal(a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum("nop,mop->onm", a, b)


@pytest.mark.parametrize("ridge", [0.5, 1e-3, 1e-6])
@pytest.mark.parametrize("targets", [(), (OUTPUTS,)])
def test_prediction_is_scikit_learns_kernel_ridge(targets: tuple[int, ...], ridge: float) -> None:
    x, new, y = points()
    y = y if targets else y[:, 0]
    model = KernelRidge(alpha=ridge, kernel="precomputed").fit(rbf(x, x).numpy(), y.numpy())
    fitted = regress(rbf(x, x), y, ridge)
    found = fitted.predict(rbf(new, x))
    assert found.shape == (M, *targets)
    assert fitted.dual.shape == y.shape
    assert fitted.condition is not None
    limit = N * EPSILON * fitted.condition  # of both, each with N roundings of backward error
    assert relative_error(fitted.dual, torch.from_numpy(model.dual_coef_)) < limit
    assert relative_error(found, torch.from_numpy(model.predict(rbf(new, x).numpy()))) < limit
    assert fitted.residual < N * EPSILON * fitted.condition
    true = torch.linalg.cond(rbf(x, x) + ridge * torch.eye(N, dtype=torch.float64), 1).item()
    assert true / 3 <= fitted.condition <= true * (1 + limit)


@pytest.mark.parametrize("ridge", [0.5, 1e-3])
def test_posterior_is_scikit_learns_gaussian_process(ridge: float) -> None:
    x, new, y = points(1)
    model = GaussianProcessRegressor(RBF(0.8), alpha=ridge, optimizer=None)
    fitted = regress(rbf(x, x, 0.8), y[:, 0], ridge)
    model.fit(x.numpy(), y[:, 0].numpy())
    mean, covariance = model.predict(new.numpy(), return_cov=True)
    cross = rbf(new, x, 0.8)
    assert fitted.condition is not None
    limit = N * EPSILON * fitted.condition
    assert relative_error(fitted.predict(cross), torch.from_numpy(mean)) < limit
    found = fitted.covariance(cross, rbf(new, new, 0.8))
    assert (found - torch.from_numpy(covariance)).abs().max() < limit
    variance = fitted.variance(cross, torch.ones(M, dtype=torch.float64))
    assert (variance - found.diagonal()).abs().max() < limit
    likelihood = model.log_marginal_likelihood_value_
    assert fitted.log_likelihood() == pytest.approx(likelihood, rel=limit)
    # scikit-learn takes several columns as independent, and adds what they have.
    model.fit(x.numpy(), y.numpy())
    likelihood = model.log_marginal_likelihood_value_
    several = regress(rbf(x, x, 0.8), y, ridge)
    assert several.log_likelihood() == pytest.approx(likelihood, rel=limit)


def test_certainty_at_the_training_points() -> None:
    x, _, y = points()
    K = rbf(x, x, 0.3)
    fitted = regress(K, y)
    assert fitted.condition is not None
    limit = 10 * N * EPSILON * fitted.condition
    assert relative_error(fitted.predict(K), y) < limit
    variance = fitted.variance(K, torch.ones(N, dtype=torch.float64))
    assert (variance >= 0).all()
    assert (variance < limit).all()


def test_a_kernel_for_each_output_is_as_many_regressions() -> None:
    a, b = jacobians()
    y = points()[2]
    K, cross, own = diagonal(a, a), diagonal(b, a), diagonal(b, b)
    fitted = regress(K, y, 0.1, ridge_scale="mean")
    k_diag = own.diagonal(dim1=1, dim2=2).T
    found = fitted.predict(cross), fitted.variance(cross, k_diag), fitted.covariance(cross, own)
    assert [value.shape for value in found] == [(M, OUTPUTS), (M, OUTPUTS), (OUTPUTS, M, M)]
    for o in range(OUTPUTS):
        one = regress(K[o], y[:, o], 0.1, ridge_scale="mean")
        torch.testing.assert_close(found[0][:, o], one.predict(cross[o]))
        torch.testing.assert_close(found[1][:, o], one.variance(cross[o], k_diag[:, o]))
        torch.testing.assert_close(found[2][o], one.covariance(cross[o], own[o]))
    ones = [regress(K[o], y[:, o], 0.1, ridge_scale="mean") for o in range(OUTPUTS)]
    assert fitted.log_likelihood() == pytest.approx(sum(one.log_likelihood() for one in ones))
    assert fitted.condition == pytest.approx(max(one.condition or 0.0 for one in ones))


def test_a_full_kernel_is_ridge_regression_on_its_parameters() -> None:
    a, b = jacobians()
    y = points()[2]
    fitted = regress(full(a, a), y, 0.3)
    parameters = solve.ridge_regression(a.flatten(0, 1), y.reshape(-1, 1), 0.3)
    limit = N * OUTPUTS * EPSILON * (fitted.condition or 0.0)
    assert relative_error(fitted.predict(full(b, a)), (b @ parameters)[..., 0]) < limit
    # Covariance of b theta where theta has prior I and noise 0.3 was seen through a.
    rows = a.flatten(0, 1)
    spread = torch.linalg.inv(torch.eye(100, dtype=torch.float64) + rows.T @ rows / 0.3)
    truth = torch.einsum("nop,pr,mqr->nmoq", b, spread, b)
    own = full(b, b)
    found = fitted.covariance(full(b, a), own)
    assert relative_error(found, truth) < 10 * limit
    index = torch.arange(M)
    variance = fitted.variance(full(b, a), own[index, index].diagonal(dim1=1, dim2=2))
    assert relative_error(variance, truth[index, index].diagonal(dim1=1, dim2=2)) < 10 * limit


def test_a_full_kernel_without_cross_terms_is_one_for_each_output() -> None:
    a, b = jacobians()
    y = points()[2]
    each, cross = diagonal(a, a), diagonal(b, a)
    block = torch.einsum("onm,oq->nmoq", each, torch.eye(OUTPUTS, dtype=torch.float64))
    wide = torch.einsum("onm,oq->nmoq", cross, torch.eye(OUTPUTS, dtype=torch.float64))
    found = regress(block, y, 0.1).predict(wide)
    torch.testing.assert_close(found, regress(each, y, 0.1).predict(cross))


def test_the_order_of_a_flattened_kernel() -> None:
    K = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)
    flat = flatten_outputs(K)
    assert flat.shape == (8, 15)
    for n, m, o, p in ((0, 0, 0, 0), (1, 2, 3, 4), (1, 0, 2, 1), (0, 2, 1, 3)):
        assert flat[n * 4 + o, m * 5 + p] == K[n, m, o, p]
    # The last layer's kernel is the features' between the same outputs.
    rows = maker(torch.float64, "cpu")(4, 3)
    block = torch.einsum("nm,oq->nmoq", rows @ rows.T, torch.eye(2, dtype=torch.float64))
    eye = torch.eye(2, dtype=torch.float64)
    assert torch.equal(flatten_outputs(block), torch.kron(rows @ rows.T, eye))


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_float32_kernels_and_factors(dtype: torch.dtype, precision: Any) -> None:
    """A kernel in float32 is that very matrix; a factor in float32 costs no digit."""
    x, new, y = points()
    K, cross = rbf(x, x).to(dtype), rbf(new, x).to(dtype)
    truth = regress(K.double(), y.to(dtype).double(), 1e-4)
    found = regress(K, y.to(dtype), 1e-4, precision=precision)
    assert truth.condition is not None
    assert relative_error(found.dual, truth.dual) < 2 * N * EPSILON * truth.condition
    prediction = found.predict(cross)
    assert prediction.dtype == torch.float64
    limit = 2 * N * EPSILON * truth.condition
    assert relative_error(prediction, truth.predict(cross.double())) < limit


class Products:
    """A kernel that is never formed: J J'^T v."""

    dtype = torch.float64

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self.a, self.b, self.shape = a, b, (len(a), len(b))

    def __matmul__(self, v: Tensor) -> Tensor:
        return self.a @ (self.b.T @ v)


def test_an_operator_is_enough() -> None:
    a, b = jacobians()
    y = points()[2]
    mean_a, mean_b = a.mean(1), b.mean(1)
    shared = regress(Products(mean_a, mean_a), y, 0.2, tolerance=1e-12)
    truth = regress(mean_a @ mean_a.T, y, 0.2)
    found = shared.predict(Products(mean_b, mean_a))
    limit = 1e-12 * (truth.condition or 0.0)
    assert relative_error(found, truth.predict(mean_b @ mean_a.T)) < limit
    assert shared.condition is None
    assert shared.solution is not None
    assert shared.residual == shared.solution.residual.max().item() <= 1e-12
    cross, own = mean_b @ mean_a.T, mean_b @ mean_b.T
    difference = shared.covariance(cross, own) - truth.covariance(cross, own)
    assert difference.abs().max() < limit * own.abs().max()
    rows = a.flatten(0, 1)
    between = regress(Products(rows, rows), y, 0.2, tolerance=1e-12)
    whole = regress(full(a, a), y, 0.2)
    limit = 1e-12 * (whole.condition or 0.0)
    found = between.predict(Products(b.flatten(0, 1), rows))
    assert relative_error(found, whole.predict(full(b, a))) < limit
    assert relative_error(between.predict(full(b, a)), whole.predict(full(b, a))) < limit


def test_a_networks_operator_gives_what_its_full_kernel_gives() -> None:
    """And the networks' outputs are in the order of both."""
    torch.manual_seed(0)
    layers = torch.nn.Linear(2, 40), torch.nn.Tanh(), torch.nn.Linear(40, OUTPUTS)
    model = torch.nn.Sequential(*layers).double()
    x, new, y = points()
    whole = regress(ntk.empirical(model, x), y, 0.3)
    found = regress(ntk.Operator(model, x), y, 0.3, tolerance=1e-12)
    limit = 1e-12 * (whole.condition or 0.0)
    assert relative_error(found.dual, whole.dual) < limit
    truth = whole.predict(ntk.empirical(model, new, x))
    assert relative_error(found.predict(ntk.Operator(model, new, x)), truth) < limit


def test_a_device_changes_nothing(device: str) -> None:
    x, new, y = points()
    K, cross, own = rbf(x, x), rbf(new, x), rbf(new, new)
    for options in ({}, {"precision": "float32"}, {"method": "conjugate_gradient"}):
        truth = regress(K, y, 0.1, **options)  # type: ignore[arg-type]
        found = regress(K.to(device), y.to(device), 0.1, **options)  # type: ignore[arg-type]
        there = cross.to(device), own.to(device)
        assert found.predict(there[0]).device.type == device
        # Conditions are below N / 0.1, and conjugate gradients end at 1e-10.
        assert relative_error(found.predict(there[0]), truth.predict(cross)) < 1e-7
        assert relative_error(found.covariance(*there), truth.covariance(cross, own)) < 1e-7


@pytest.mark.parametrize("kernel", [diagonal, full])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_conjugate_gradients_on_a_tensor(
    kernel: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype
) -> None:
    """Of either dtype in float64."""
    a, b = (jacobian.to(dtype) for jacobian in jacobians())
    y = points()[2]
    options: dict[str, Any] = {"method": "conjugate_gradient", "tolerance": 1e-12}
    found = regress(kernel(a, a), y, 0.2, **options)
    truth = regress(kernel(a, a), y, 0.2)
    limit = 1e-12 * (truth.condition or 0.0)
    assert relative_error(found.predict(kernel(b, a)), truth.predict(kernel(b, a))) < limit


def test_an_ill_conditioned_kernel_needs_the_ridge_that_was_asked_for() -> None:
    """Of 20 close points a wide kernel knows some ten; nothing is added behind one's back."""
    x, _, y = points()
    K = rbf(x, x, 30.0)
    with pytest.raises(
        ValueError, match=r"^dlaccel\.ntk\.regress: K must be positive definite to"
    ) as e:
        regress(K, y)
    enough = float(str(e.value).split("(ridge=")[1].split()[0])
    assert 0 < enough < 1e-10
    assert regress(K, y, enough).factor is not None
    with pytest.warns(solve.ConvergenceWarning, match="no convergence: after 5 iterations"):
        regress(K, y, enough, method="conjugate_gradient", iterations=5)
