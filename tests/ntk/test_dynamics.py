"""Closed forms of training against SciPy's integrators, loops of steps, mpmath and regression.

The oracles never see a spectrum: they move the parameters of a linear model, or exponentiate the
system of training and test outputs.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from samples import maker, relative_error
from scipy import linalg
from scipy.integrate import solve_ivp
from torch import Tensor

from dlaccel.ntk.dynamics import Dynamics, Gaussian, Trajectory, gradient_descent, gradient_flow
from dlaccel.ntk.regression import flatten_outputs, regress

N, M, OUTPUTS, PARAMETERS = 6, 4, 2, 30
EPSILON = torch.finfo(torch.float64).eps
INFINITY = math.inf


def draw(seed: int = 0, parameters: int = PARAMETERS) -> tuple[Tensor, ...]:
    """Jacobians (N, O, P) and (M, O, P) of norm about 1, targets, and outputs before training."""
    make = maker(torch.float64, "cpu", seed)
    shapes = (N, OUTPUTS, parameters), (M, OUTPUTS, parameters)
    a, b = (make(*shape) / math.sqrt(parameters) for shape in shapes)
    return a, b, make(N, OUTPUTS), make(N, OUTPUTS), make(M, OUTPUTS)


def full(a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum("nop,mqp->nmoq", a, b)


def diagonal(a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum("nop,mop->onm", a, b)


def trained(a: Tensor, y: Tensor, start: Tensor, time: float, ridge: float = 0.0) -> Tensor:
    """Parameters after a flow down the loss of outputs start + a theta, from zero: an ODE."""
    rows, gap = a.flatten(0, -2).numpy(), (y - start).flatten().numpy()

    def down(_: float, theta: Any) -> Any:
        return rows.T @ (gap - rows @ theta) - ridge * theta

    found = solve_ivp(down, (0, time), 0 * rows[0], method="DOP853", rtol=1e-12, atol=1e-13)
    return torch.from_numpy(found.y[:, -1])


def stepped(a: Tensor, y: Tensor, start: Tensor, steps: int, rate: float, ridge: float) -> Tensor:
    """Parameters after so many steps of gradient descent."""
    rows, gap = a.flatten(0, -2), (y - start).flatten()
    theta = torch.zeros(rows.shape[1], dtype=torch.float64)
    for _ in range(steps):
        theta = theta - rate * (rows.T @ (rows @ theta - gap) + ridge * theta)
    return theta


@pytest.mark.parametrize("ridge", [0.0, 0.4])
@pytest.mark.parametrize("time", [0.0, 0.3, 7.0, 60.0])
def test_flow_is_an_integrated_linear_model(time: float, ridge: float) -> None:
    a, b, y, f_train, f_test = draw()
    theta = trained(a, y, f_train, time, ridge)
    found = gradient_flow(
        full(a, a), y, time, K_test=full(b, a), f_train=f_train, f_test=f_test, ridge=ridge
    )
    assert found.test is not None
    assert relative_error(found.train, f_train + a @ theta) < 1e-9  # of the integrator
    assert relative_error(found.test, f_test + b @ theta) < 1e-9


@pytest.mark.parametrize("rate", [0.1, 1.1, 1.5])  # slower than, at times beyond, and alternating
@pytest.mark.parametrize("ridge", [0.0, 0.4])
@pytest.mark.parametrize("steps", [0, 1, 2, 25])
def test_descent_is_a_loop_of_steps(steps: int, ridge: float, rate: float) -> None:
    a, b, y, f_train, f_test = draw()
    theta = stepped(a, y, f_train, steps, rate, ridge)
    found = gradient_descent(
        full(a, a),
        y,
        steps,
        K_test=full(b, a),
        f_train=f_train,
        f_test=f_test,
        learning_rate=rate,
        ridge=ridge,
    )
    assert found.test is not None
    # A step moves by at most a factor |1 - rate lambda|, below 2.5, and rounds some P times.
    growth = max(1.0, (rate * (torch.linalg.norm(a.flatten(0, 1), 2).item() ** 2 + ridge) - 1))
    limit = PARAMETERS * (steps + 1) * growth**steps * EPSILON
    assert (found.train - f_train - a @ theta).abs().max() < 10 * limit
    assert (found.test - f_test - b @ theta).abs().max() < 10 * limit


@pytest.mark.parametrize("method", ["flow", "descent"])
def test_a_rate_of_exactly_one_over_an_eigenvalue(method: Any) -> None:
    K = torch.diag(torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64))
    y = torch.ones(3, dtype=torch.float64)
    times = torch.tensor([0.0, 1.0, 2.0, 3.0])
    found = Dynamics(K, y, learning_rate=0.5, method=method).outputs(times).train
    n = times[:, None].double()
    speeds = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
    left = torch.exp(-speeds * n) if method == "flow" else (1 - speeds) ** n
    torch.testing.assert_close(found, 1 - left, rtol=0, atol=4 * EPSILON)


def test_small_steps_flow() -> None:
    """Descent at rate h is the flow to first order in h: halving it halves the difference."""
    a, b, y, *_ = draw()
    K, cross = full(a, a), full(b, a)
    truth = gradient_flow(K, y, 3.0, K_test=cross).test
    assert truth is not None
    errors = []
    for steps in (1000, 2000):
        found = gradient_descent(K, y, steps, K_test=cross, learning_rate=3.0 / steps).test
        assert found is not None
        errors.append((found - truth).norm().item())
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize("method", ["flow", "descent"])
def test_many_times_from_one_decomposition(method: Any) -> None:
    a, b, y, f_train, f_test = draw()
    given = {"K_test": full(b, a), "f_train": f_train, "f_test": f_test}
    dynamics = Dynamics(full(a, a), y, learning_rate=0.3, method=method)
    times = torch.tensor([0.0, 3.0, 50.0, INFINITY])
    found = dynamics.outputs(times, **given)
    assert found.test is not None
    assert found.train.shape == (4, N, OUTPUTS)
    assert found.test.shape == (4, M, OUTPUTS)
    for i, time in enumerate(times.tolist()):
        one = dynamics.outputs(time, **given)
        assert one.test is not None
        torch.testing.assert_close(found.train[i], one.train, rtol=1e-14, atol=1e-15)
        torch.testing.assert_close(found.test[i], one.test, rtol=1e-13, atol=1e-14)
    assert torch.equal(found.train[0], y - (y - found.train[0]))
    torch.testing.assert_close(found.train[0], f_train)
    assert torch.equal(found.test[0], f_test)
    assert torch.equal(found.train[3], y)


@pytest.mark.parametrize("ridge", [0.0, 0.05])
@pytest.mark.parametrize("method", ["flow", "descent"])
def test_infinite_time_is_regression(method: Any, ridge: float) -> None:
    a, b, y, f_train, f_test = draw()
    for kernel in (full, diagonal):
        K, cross = kernel(a, a), kernel(b, a)
        fitted = regress(K, y - f_train, ridge)
        found = Dynamics(K, y, learning_rate=0.5, ridge=ridge, method=method).outputs(
            INFINITY, K_test=cross, f_train=f_train, f_test=f_test
        )
        assert found.test is not None
        limit = 10 * N * OUTPUTS * EPSILON * (fitted.condition or 0.0)
        assert relative_error(found.test, f_test + fitted.predict(cross)) < limit
        assert relative_error(found.train, f_train + fitted.predict(K)) < limit


def test_fewer_parameters_than_outputs_end_in_least_squares() -> None:
    """K has rank 5 of 12; what no parameter reaches never moves, and its noise does not blow up."""
    a, b, y, f_train, f_test = draw(parameters=5)
    theta = torch.linalg.lstsq(a.flatten(0, 1), (y - f_train).reshape(-1, 1)).solution[:, 0]
    dynamics = Dynamics(full(a, a), y)
    given = {"K_test": full(b, a), "f_train": f_train, "f_test": f_test}
    noise = N * OUTPUTS * EPSILON * torch.linalg.norm(a.flatten(0, 1), 2).item() ** 2
    for time in (1e6, 1e12, 1e18, 1e300, INFINITY):
        found = dynamics.outputs(time, **given)
        assert found.test is not None
        # What noise has moved by then; past its reciprocal it is left out.
        limit = 1e-12 + (time * noise if time * noise <= 1 else 0)
        assert relative_error(found.train, f_train + a @ theta) < limit
        assert relative_error(found.test, f_test + b @ theta) < limit
    exact = trained(a, y, f_train, 2.0)
    found = dynamics.outputs(2.0, **given)
    assert found.test is not None
    assert relative_error(found.test, f_test + b @ exact) < 1e-9


def test_tiny_eigenvalues_by_mpmath() -> None:
    """(1 - e^(-e t)) / e for e over 40 orders, at times that leave it at t, at 1 / e or between."""
    values = torch.logspace(-14, 0, 8, dtype=torch.float64)
    K = torch.diag(values)
    y = torch.ones(8, dtype=torch.float64)
    identity = torch.eye(8, dtype=torch.float64)
    mpmath = pytest.importorskip("mpmath")  # sympy brings it, which torch asks for
    mpf, mpmath.mp.dps = mpmath.mpf, 50
    for time in (1e-25, 1e-8, 1.0, 1e4, 1e13, 1e20):
        flow = gradient_flow(K, y, time, K_test=identity).test
        steps = gradient_descent(K, y, math.ceil(time), K_test=identity, learning_rate=1.25).test
        assert flow is not None
        assert steps is not None
        for i, value in enumerate(values.tolist()):
            e, n = mpf(value), mpf(math.ceil(time))
            truth = -mpmath.expm1(-e * mpf(time)) / e
            assert abs(mpf(flow[i].item()) / truth - 1) < 8 * EPSILON
            truth = (1 - (1 - mpf(1.25) * e) ** n) / e
            # n log(1 - s), whose own roundings count where it is neither small nor large
            assert abs(mpf(steps[i].item()) / truth - 1) < 32 * EPSILON


def joint(a: Tensor, b: Tensor, prior: Tensor, time: float) -> tuple[Tensor, Tensor]:
    """Outputs at a time are B y + L f(0), f of training and test points in turn: B and L P L'.

    From the exponential of the whole linear system, whose unknowns are outputs and targets.
    """
    train, both = a.flatten(0, -2), torch.cat([a, b]).flatten(0, -2)
    K, rows = both @ train.T, len(train)
    size = len(both)
    system = torch.zeros(size + rows, size + rows, dtype=torch.float64)
    system[:size, :rows], system[:size, size:] = -K, K
    flow = torch.from_numpy(linalg.expm(time * system.numpy()))
    L, B = flow[:size, :size], flow[:size, size:]
    return B, L @ prior @ L.T


@pytest.mark.parametrize("time", [0.0, 0.5, 20.0])
def test_ensembles_are_the_image_of_their_prior(time: float) -> None:
    a, b, y, *_ = draw()
    g = maker(torch.float64, "cpu", 9)(N + M, OUTPUTS, 40)  # another kernel for the prior
    nngp = full(g, g)
    prior = flatten_outputs(nngp)
    B, covariance = joint(a, b, prior, time)
    dynamics = Dynamics(full(a, a), y)
    found = dynamics.ensemble(
        time,
        nngp[:N, :N],
        K_test=full(b, a),
        nngp_test=nngp[N:, :N],
        nngp_test_test=nngp[N:, N:],
    )
    split = N * OUTPUTS
    mean = (B @ y.flatten()).view(N + M, OUTPUTS)
    size = covariance.norm() + prior.norm()
    assert relative_error(found.mean, mean[N:]) < 1e-12 or time == 0
    difference = flatten_outputs(found.covariance) - covariance[split:, split:]
    assert difference.norm() < 1e-12 * size
    train = dynamics.ensemble(time, nngp[:N, :N])
    assert (train.mean - mean[:N]).norm() < 1e-12 * y.norm()
    difference = flatten_outputs(train.covariance) - covariance[:split, :split]
    assert difference.norm() < 1e-12 * size


def test_ensembles_are_what_their_members_are() -> None:
    """Exactly: the outputs are affine in the start, so members 0 +- each root of G span them."""
    a, b, y, *_ = draw()
    K, cross = diagonal(a, a), diagonal(b, a)
    roots = maker(torch.float64, "cpu", 3)(OUTPUTS, N + M, N + M)
    G = roots @ roots.mT
    times = torch.tensor([0.0, 2.0, INFINITY])
    for method in ("flow", "descent"):
        dynamics = Dynamics(K, y, ridge=0.1, learning_rate=0.5, method=method)  # type: ignore[arg-type]
        given = {"K_test": cross, "nngp_test": G[:, N:, :N], "nngp_test_test": G[:, N:, N:]}
        found = dynamics.ensemble(times, G[:, :N, :N], **given)
        assert found.mean.shape == (3, M, OUTPUTS)
        assert found.covariance.shape == (3, OUTPUTS, M, M)
        still = dynamics.outputs(times, K_test=cross)
        train = dynamics.ensemble(times, G[:, :N, :N])
        covariance, within = torch.zeros_like(found.covariance), torch.zeros_like(train.covariance)
        for column in range(N + M):
            start = roots[:, :, column].T
            moved = dynamics.outputs(times, K_test=cross, f_train=start[:N], f_test=start[N:])
            assert moved.test is not None
            assert still.test is not None
            change = (moved.test - still.test).mT  # (3, O, M)
            covariance += change[..., None] * change[..., None, :]
            change = (moved.train - still.train).mT
            within += change[..., None] * change[..., None, :]
        assert relative_error(found.mean, still.test) < 1e-12  # type: ignore[arg-type]
        assert relative_error(train.mean, still.train) < 1e-12
        # Sums of 10 products, whose largest part, the prior, cancels
        assert (found.covariance - covariance).norm() < 1e-13 * G.norm() * 10
        assert (train.covariance - within).norm() < 1e-13 * G.norm() * 10


@pytest.mark.parametrize("ridge", [0.0, 0.2])
def test_training_the_last_layer_alone_ends_in_the_nngp_posterior(ridge: float) -> None:
    """Equation 13 from 15 with K = G; without a ridge, for with one an ensemble sees no noise."""
    a, b, y, *_ = draw()
    K, cross, own = full(a, a)[..., 0, 0], full(b, a)[..., 0, 0], full(b, b)[..., 0, 0]
    fitted = regress(K, y, ridge)
    dynamics = Dynamics(K, y, ridge=ridge)
    found = dynamics.ensemble(INFINITY, K, K_test=cross, nngp_test=cross, nngp_test_test=own)
    assert isinstance(found, Gaussian)
    limit = 100 * N * EPSILON * (fitted.condition or 0.0)
    assert relative_error(found.mean, fitted.predict(cross)) < limit
    posterior = fitted.covariance(cross, own)
    if ridge == 0:
        assert (found.covariance - posterior).abs().max() < limit
    else:  # the posterior has the noise's share besides
        weights = fitted.factor.solve(cross.T)  # type: ignore[union-attr]
        truth = posterior - ridge * weights.T @ weights
        assert (found.covariance - truth).abs().max() < limit


def test_the_mean_loss_flows_slower_by_its_count() -> None:
    a, b, y, *_ = draw()
    K, cross = full(a, a), full(b, a)
    for t, method in ((3.0, "flow"), (3, "descent")):
        mean = Dynamics(K, y, learning_rate=1.2, loss="mean", method=method)  # type: ignore[arg-type]
        total = Dynamics(K, y, learning_rate=1.2 / (N * OUTPUTS), method=method)  # type: ignore[arg-type]
        found, truth = mean.outputs(t, K_test=cross), total.outputs(t, K_test=cross)
        torch.testing.assert_close(found.train, truth.train, rtol=1e-14, atol=1e-15)
        torch.testing.assert_close(found.test, truth.test, rtol=1e-14, atol=1e-15)


def test_a_device_changes_nothing(device: str) -> None:
    a, b, y, *_ = draw()
    K, cross, own = full(a, a), full(b, a), full(b, b)
    times = torch.tensor([0.5, INFINITY])
    for method in ("flow", "descent"):
        options: dict[str, Any] = {"method": method, "learning_rate": 0.5}
        t = times.ceil()
        truth = Dynamics(K, y, **options).ensemble(
            t, K, K_test=cross, nngp_test=cross, nngp_test_test=own
        )
        there = cross.to(device)
        found = Dynamics(K.to(device), y.to(device), **options).ensemble(
            t, K.to(device), K_test=there, nngp_test=there, nngp_test_test=own.to(device)
        )
        assert found.mean.device.type == device
        condition = torch.linalg.cond(flatten_outputs(K)).item()
        assert relative_error(found.mean, truth.mean) < 100 * EPSILON * condition
        assert relative_error(found.covariance, truth.covariance) < 1000 * EPSILON * condition


def test_shapes_of_one_kernel_for_all_outputs() -> None:
    a, b, y, *_ = draw()
    K, cross, own = full(a, a)[..., 0, 0], full(b, a)[..., 0, 0], full(b, b)[..., 0, 0]
    wide, narrow = Dynamics(K.float(), y), Dynamics(K.float(), y[:, 0])
    times = torch.tensor([1.0, 2.0])
    both, one = wide.outputs(times, K_test=cross), narrow.outputs(times, K_test=cross)
    assert isinstance(both, Trajectory)
    assert both.train.dtype == torch.float64
    for found, single in ((both.train, one.train), (both.test, one.test)):
        assert found is not None
        assert single is not None
        torch.testing.assert_close(found[..., 0], single)
    law = narrow.ensemble(times, K, K_test=cross, nngp_test=cross, nngp_test_test=own)
    assert law.mean.shape == (2, M)
    assert law.covariance.shape == (2, M, M)
    assert narrow.outputs(1.0).test is None
