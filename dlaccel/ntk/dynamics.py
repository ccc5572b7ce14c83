r"""Training in closed form: gradient flow and gradient descent on the squared loss.

The network is linear in its parameters, :math:`f(\theta) = f_0 + J (\theta - \theta_0)`, as an
infinitely wide one is (Lee et al. 2019, arXiv 1902.06720), and the loss

.. math:: \tfrac{1}{2} \|f(X) - Y\|^2 + \tfrac{\rho}{2} \|\theta - \theta_0\|^2.

With K = J J^T, :math:`A = K + \rho I` and the rate :math:`\eta`, at time t, or after t steps,

.. math:: f_t(x) = f_0(x) + k(x, X) A^{-1} (I - E_t) (Y - f_0(X)),
          \qquad E_t = e^{-\eta A t} \text{ or } (I - \eta A)^t,

which is equations 9 to 11 there, :math:`\rho = 0`. On X itself it is
:math:`f_t = Y - R_t (Y - f_0)`, :math:`R_t = E_t + \rho A^{-1} (I - E_t)`. For networks drawn at
random, :math:`f_0` a Gaussian process of mean 0 and NNGP kernel G, the outputs are Gaussian with

.. math:: \mu_t = T Y, \qquad \Sigma_t(x, x') = G(x, x') + T G(X, X) T'^T
          - T G(X, x') - G(x, X) T'^T, \qquad T = k(x, X) A^{-1} (I - E_t),

equations 14 and 15 there. With K = G, where the last layer alone is trained, :math:`t = \infty`
gives the posterior of the process G, equation 13.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .. import _check
from ..solve import spectrum
from ..solve.matrix import finite
from ._layout import Layout, flatten_outputs

Loss = Literal["sum", "mean"]
Method = Literal["flow", "descent"]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What a network gives: the shape of the targets, after an axis for the times if they have one.

    Attributes:
        train: (..., N, C) float64.
        test: (..., M, C) float64; None without a test kernel.
    """

    train: Tensor
    test: Tensor | None


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A normal distribution of outputs, after an axis for the times if they have one.

    Attributes:
        mean: (..., M, C) float64, the shape of the targets.
        covariance: (..., M, M), (..., O, M, M) or (..., M, M, O, O), the layout of the kernel.
    """

    mean: Tensor
    covariance: Tensor


class Dynamics:
    r"""Training with a kernel, decomposed once for any number of times.

    An eigenvalue that float64 cannot tell from zero moves nothing once :math:`\eta t` exceeds the
    reciprocal of that noise: whether its direction has been trained then cannot be known from K.

    Args:
        K: Tangent kernel of the training points: (N, N), (O, N, N) or (N, N, O, O).
        y: (N,) or (N, C); (N, O) where K has outputs.
        learning_rate: :math:`\eta`, positive. For the flow only :math:`\eta t` matters.
        loss: "sum" as above; "mean" divides it, penalty and all, by the count of y's entries, as
            neural-tangents' ``predict`` does.
        ridge: :math:`\rho`, not negative, absolute. On test points it is the ``diag_reg`` of
            neural-tangents, which ends training points at their targets all the same.
        method: "flow", or "descent" in steps of finite size.

    Raises:
        TypeError: K or y is no floating tensor.
        ValueError: Shapes do not fit, a number is out of range, or K plus the ridge has an
            eigenvalue below zero that is more than rounding.
    """

    def __init__(
        self,
        K: Tensor,
        y: Tensor,
        *,
        learning_rate: float = 1.0,
        loss: Loss = "sum",
        ridge: float = 0.0,
        method: Method = "flow",
    ) -> None:
        self._op = f"ntk.gradient_{method}"
        _check.choice("ntk.Dynamics", "method", method, ("flow", "descent"))
        _check.choice(self._op, "loss", loss, ("sum", "mean"))
        if not 0 < learning_rate < math.inf:
            rule = "be positive and finite"
            _check.refuse(self._op, "learning_rate", rule, learning_rate, ValueError)
        _check.tensors(self._op, {"K": K})
        self._layout = Layout.of(self._op, K, y)
        finite(self._op, "y", y)
        self._targets = self._layout.columns("y", y, len(y))
        matrix = flatten_outputs(K) if self._layout.axes == 4 else K
        self._spectrum = spectrum(matrix, ridge, op=self._op)
        self._scale = 1.0 if loss == "sum" else 1 / y.numel()
        self._rate = learning_rate * self._scale
        self._method = method

    def outputs(
        self,
        t: float | Tensor,
        *,
        K_test: Tensor | None = None,
        f_train: Tensor | None = None,
        f_test: Tensor | None = None,
    ) -> Trajectory:
        """Of one network, at time t.

        Args:
            t: Times, or steps, not negative: a number, which may be infinite, or (T,) of them.
            K_test: Kernel of test and training points, (M, N), (O, M, N) or (M, N, O, O).
            f_train: The network's outputs before training, the shape of y; zero without.
            f_test: The same for the test points; needed with ``f_train`` and ``K_test``.

        Raises:
            TypeError: An argument is no floating tensor.
            ValueError: Shapes do not fit, t is out of range, or descent has no limit.
        """
        moved, left = self._filters(self._times(t))
        U, points = self._spectrum.eigenvectors, self._layout.targets[0]
        gap = self._targets
        if f_train is not None:
            gap = gap - self._layout.columns("f_train", f_train, points)
        gap = U.mT @ gap
        train = self._layout.values(self._targets - U @ (left[..., None] * gap))
        if K_test is None:
            if f_test is not None:
                _check.refuse(self._op, "K_test", "be given with f_test", None, ValueError)
            return Trajectory(train, None)
        cross = self._layout.matrix("K_test", K_test, None, points)
        test = (cross @ U) @ (moved[..., None] * gap)
        if f_test is not None:
            test = test + self._layout.columns("f_test", f_test, self._layout.rows(cross))
        elif f_train is not None:
            _check.refuse(self._op, "f_test", "be given with f_train and K_test", None, ValueError)
        return Trajectory(train, self._layout.values(test))

    def ensemble(
        self,
        t: float | Tensor,
        nngp: Tensor,
        *,
        K_test: Tensor | None = None,
        nngp_test: Tensor | None = None,
        nngp_test_test: Tensor | None = None,
    ) -> Gaussian:
        """Of networks drawn at random, at time t: for the test points or, without, the training's.

        Args:
            t: Times, or steps, as for :meth:`outputs`.
            nngp: G of the training points, in the layout of K.
            K_test: Tangent kernel of test and training points.
            nngp_test: G of test and training points.
            nngp_test_test: G of the test points.

        Raises:
            TypeError: An argument is no floating tensor.
            ValueError: Shapes do not fit, some of the last three are missing, t is out of range, or
                descent has no limit.
        """
        moved, left = self._filters(self._times(t))
        layout, points = self._layout, self._layout.targets[0]
        U = self._spectrum.eigenvectors
        targets = U.mT @ self._targets
        inner = U.mT @ layout.matrix("nngp", nngp, points, points) @ U
        given = {"K_test": K_test, "nngp_test": nngp_test, "nngp_test_test": nngp_test_test}
        if K_test is None and nngp_test is None and nngp_test_test is None:
            mean = self._targets - U @ (left[..., None] * targets)
            spread = left[..., None] * inner * left[..., None, :]
            return Gaussian(layout.values(mean), layout.kernel(U @ spread @ U.mT))
        for name, value in given.items():
            if value is None:
                others = " and ".join(other for other in given if other != name)
                _check.refuse(self._op, name, f"be given with {others}", None, ValueError)
        assert K_test is not None
        assert nngp_test is not None
        assert nngp_test_test is not None
        cross = layout.matrix("K_test", K_test, None, points)
        rows = layout.rows(cross)
        start = U.mT @ layout.matrix("nngp_test", nngp_test, rows, points).mT
        prior = layout.matrix("nngp_test_test", nngp_test_test, rows, rows)
        taught = (cross @ U) * moved[..., None, :]  # T U
        mixed = taught @ start
        covariance = prior + taught @ inner @ taught.mT - mixed - mixed.mT
        return Gaussian(layout.values(taught @ targets), layout.kernel(covariance))

    def _times(self, t: float | Tensor) -> Tensor:
        """Checked, (T, 1, ..., 1) or (1, ..., 1) against the eigenvalues."""
        name = "t" if self._method == "flow" else "steps"
        values = self._spectrum.eigenvalues
        times = torch.as_tensor(t, dtype=torch.float64, device=values.device)
        if times.ndim > 1:
            _check.refuse(self._op, name, "be a number or (T,)", tuple(times.shape), ValueError)
        wrong = ~(times >= 0)
        if wrong.any():
            rule, got = "not be negative", times[wrong].flatten()[0].item()
            _check.refuse(self._op, name, rule, got, ValueError)
        if self._method == "descent":
            self._check_steps(times)
        return times.view(-1, *[1] * values.ndim) if times.ndim else times

    def _check_steps(self, steps: Tensor) -> None:
        parts = steps[steps.isfinite() & (steps != steps.floor())].flatten()
        if len(parts):
            _check.refuse(self._op, "steps", "be whole", parts[0].item(), ValueError)
        bound = 2 / (self._spectrum.eigenvalues.max().item() * self._scale or math.inf)
        rate = self._rate / self._scale
        if steps.isinf().any() and rate >= bound > 0:
            rule = f"be less than {bound:.3g} for infinite steps to have a limit"
            _check.refuse(self._op, "learning_rate", rule, rate, ValueError)

    def _filters(self, times: Tensor) -> tuple[Tensor, Tensor]:
        r"""The eigenvalues of :math:`A^{-1} (I - E_t)` and of :math:`R_t`."""
        values, noise, ridge = (
            self._spectrum.eigenvalues,
            self._spectrum.noise,
            self._spectrum.ridge,
        )
        decay, grown = DECAYS[self._method](self._rate * values, times)
        reach = self._rate * times
        lost = (values <= noise) & ~(reach * noise <= 1)  # so written that 0 times infinity is lost
        slope = torch.where(values > 0, grown / values, reach)
        moved = torch.where(lost, 0.0, slope)
        return moved, torch.where(lost, 1.0, decay + ridge * slope)


def _flow(speeds: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`e^{-st}` and its distance from 1."""
    exponent = torch.where(speeds > 0, -speeds * times, 0.0)
    return exponent.exp(), -exponent.expm1()


def _descent(speeds: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`(1-s)^n` and its distance from 1, by :math:`\log |1-s|`."""
    log = torch.where(speeds <= 1, (-speeds).log1p(), (speeds - 2).log1p())
    exponent = torch.where((speeds > 0) & (steps > 0), steps * log, 0.0)
    flips = (speeds > 1) & (steps % 2 == 1)
    size = exponent.exp()
    return torch.where(flips, -size, size), torch.where(flips, 1 + size, -exponent.expm1())


DECAYS = {"flow": _flow, "descent": _descent}


def gradient_flow(
    K: Tensor,
    y: Tensor,
    t: float | Tensor,
    *,
    K_test: Tensor | None = None,
    f_train: Tensor | None = None,
    f_test: Tensor | None = None,
    learning_rate: float = 1.0,
    loss: Loss = "sum",
    ridge: float = 0.0,
) -> Trajectory:
    """Outputs of a network after gradient flow for a time t, in closed form.

    The arguments, and what is refused, are those of :class:`Dynamics` and
    :meth:`Dynamics.outputs`; use these to have other times from one decomposition.
    """
    dynamics = Dynamics(K, y, learning_rate=learning_rate, loss=loss, ridge=ridge)
    return dynamics.outputs(t, K_test=K_test, f_train=f_train, f_test=f_test)


def gradient_descent(
    K: Tensor,
    y: Tensor,
    steps: float | Tensor,
    *,
    K_test: Tensor | None = None,
    f_train: Tensor | None = None,
    f_test: Tensor | None = None,
    learning_rate: float = 1.0,
    loss: Loss = "sum",
    ridge: float = 0.0,
) -> Trajectory:
    """Outputs of a network after steps of gradient descent, in closed form.

    The arguments, and what is refused, are those of :class:`Dynamics` and
    :meth:`Dynamics.outputs`. A rate above 2 / (the largest eigenvalue) diverges, here as there.
    """
    dynamics = Dynamics(K, y, learning_rate=learning_rate, loss=loss, ridge=ridge, method="descent")
    return dynamics.outputs(steps, K_test=K_test, f_train=f_train, f_test=f_test)
