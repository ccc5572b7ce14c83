r"""Kernel ridge regression and Gaussian-process prediction.

With the training kernel K, targets Y and a ridge :math:`\rho`, the prediction and its covariance

.. math:: f(x) = k(x, X) (K + \rho I)^{-1} Y, \qquad
          \Sigma(x, x') = k(x, x') - k(x, X) (K + \rho I)^{-1} k(X, x')

are the posterior of a Gaussian process with kernel k and noise of variance :math:`\rho`. For the
NNGP kernel these are the Bayesian infinitely wide network (Lee et al. 2019, arXiv 1902.06720,
equation 13), for the tangent kernel the NTK-GP of He et al. 2020, arXiv 2007.05864. The outputs of
networks trained by gradient descent have the same mean but another covariance:
``dlaccel.ntk.Dynamics``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import _check
from ..solve import Factor, Solution, cholesky, conjugate_gradient
from ..solve.factor import Precision
from ..solve.krylov import Map
from ..solve.matrix import RidgeScale, finite, symmetric
from ._layout import Layout, flatten_outputs

NAME = "ntk.regress"
METHODS = ("cholesky", "conjugate_gradient")

__all__ = ["Regression", "flatten_outputs", "regress"]


@dataclass(frozen=True, eq=False)
class Regression:
    r"""A fitted kernel regression.

    Kernels of test points are in the layout of the training kernel, test by train: (M, N),
    (O, M, N) or (M, N, O, O), any floating dtype.

    Attributes:
        dual: The shape of y, float64: :math:`(K + \rho I)^{-1} Y`.
        residual: :math:`\|Y - (K + \rho I) \alpha\|_2 / \|Y\|_2` of the largest column, float64.
        condition: Of :math:`K + \rho I` in the 1-norm as ``Factor.condition`` estimates it, of the
            worst matrix; None without a factor.
        factor: The Cholesky factor; None with conjugate gradients.
        solution: What conjugate gradients report; None with a factor.
    """

    dual: Tensor
    residual: float
    factor: Factor | None
    solution: Solution | None
    _layout: Layout
    _targets: Tensor
    _alpha: Tensor
    _solve: Map

    @property
    def condition(self) -> float | None:
        """Of the worst matrix."""
        return None if self.factor is None else self.factor.condition.max().item()

    def predict(self, K_test: Any) -> Tensor:
        """Values (M, ...) at test points, float64, shaped as the targets.

        Args:
            K_test: Kernel of test and training points, or an operator with ``@`` for it.

        Raises:
            TypeError: K_test is no floating tensor and has no ``@``.
            ValueError: Its shape does not fit.
        """
        if isinstance(K_test, Tensor) or not hasattr(K_test, "__matmul__"):
            return self._layout.values(self._cross(K_test) @ self._alpha)
        size = self._alpha.shape[-2]
        if tuple(getattr(K_test, "shape", (0, size)))[-1] != size:
            _check.refuse(NAME, "K_test", f"have {size} columns", tuple(K_test.shape), ValueError)
        dtype = getattr(K_test, "dtype", torch.float64)
        return self._layout.values((K_test @ self._alpha.to(dtype)).double())

    def variance(self, K_test: Tensor, k_diag: Tensor) -> Tensor:
        """Of the posterior at each test point, (M,) or, with a kernel for each output, (M, O).

        What rounding left below zero is zero. The noise is not in it.

        Args:
            K_test: Kernel of test and training points.
            k_diag: Kernel of each test point, and output, with itself: the shape of the result.

        Raises:
            TypeError: An argument is no floating tensor.
            ValueError: A shape does not fit.
        """
        cross = self._cross(K_test)
        explained = (cross * self._solve(cross.mT).mT).sum(-1)
        found = Layout(NAME, self._layout.axes, self._prior_shape)
        prior = found.columns("k_diag", k_diag, self._layout.rows(cross))
        return found.values((prior - explained[..., None]).clamp_min(0))

    def covariance(self, K_test: Tensor, K_test_test: Tensor) -> Tensor:
        """Of the posterior between test points, in the layout of the kernel; noise not in it.

        Args:
            K_test: Kernel of test and training points.
            K_test_test: Kernel of the test points.

        Raises:
            TypeError: An argument is no floating tensor.
            ValueError: A shape does not fit.
        """
        cross = self._cross(K_test)
        rows = self._layout.rows(cross)
        prior = self._layout.matrix("K_test_test", K_test_test, rows, rows)
        return self._layout.kernel(prior - cross @ self._solve(cross.mT))

    def log_likelihood(self) -> float:
        r"""Log density of the targets, all columns together, under the process and its noise.

        .. math:: -\tfrac{1}{2} \langle Y, \alpha \rangle - \tfrac{1}{2} C \log\det(K + \rho I)
                  - \tfrac{1}{2} N C \log 2\pi

        Raises:
            ValueError: The fit was by conjugate gradients, which have no determinant.
        """
        if self.factor is None:
            rule = "be 'cholesky' for a likelihood"
            _check.refuse(NAME, "method", rule, "'conjugate_gradient'", ValueError)
        fit = (self._targets * self._alpha).sum()
        volume = self.factor.log_determinant().sum() * self._alpha.shape[-1]
        return -0.5 * (fit + volume + self._alpha.numel() * math.log(2 * math.pi)).item()

    def _cross(self, K_test: Tensor) -> Tensor:
        return self._layout.matrix("K_test", K_test, None, len(self.dual))

    @property
    def _prior_shape(self) -> torch.Size:
        return self.dual.shape[:1] if self._layout.axes == 2 else self.dual.shape


def regress(
    K: Any,
    y: Tensor,
    ridge: float = 0.0,
    *,
    ridge_scale: RidgeScale = "absolute",
    precision: Precision = "float64",
    method: str | None = None,
    preconditioner: Callable[[Tensor], Tensor] | None = None,
    tolerance: float | None = None,
    iterations: int | None = None,
) -> Regression:
    r"""Fits targets by a kernel, in float64.

    Args:
        K: Kernel of the training points: (N, N), which serves every output; (O, N, N), one for each
            output ("block_diagonal"); (N, N, O, O), between outputs ("full"); or an operator with
            ``shape`` and ``@``, of side N or, for targets (N, O), of side N O as
            :func:`flatten_outputs` has it.
        y: (N,) or (N, C); (N, O) where K has outputs.
        ridge: :math:`\rho`, not negative. Nothing else is added to a kernel.
        ridge_scale: What a ridge of 1 adds to the diagonal: 1, the diagonal's mean, or itself.
        precision: Of a Cholesky factor; solutions are refined to float64 from either.
        method: "cholesky", the default for tensors, or "conjugate_gradient", that for operators.
        preconditioner: Of conjugate gradients; as are the next two, see
            ``solve.conjugate_gradient``.
        tolerance: Of the relative residual.
        iterations: The most of them.

    Warns:
        ConvergenceWarning: An iteration ended above its tolerance.

    Raises:
        TypeError: y, or a K that has no ``@``, is no floating tensor.
        ValueError: Shapes do not fit, or K plus the ridge is not positive definite; the sentence
            then names the least eigenvalue and a ridge that would do.
    """
    if not hasattr(K, "shape") or not hasattr(K, "__matmul__"):
        rule = "be a torch.Tensor or have shape and @"
        _check.refuse(NAME, "K", rule, type(K).__name__, TypeError)
    layout = Layout.of(NAME, K, y)
    default = METHODS[0] if isinstance(K, Tensor) else METHODS[1]
    _check.choice(NAME, "method", method or default, METHODS)
    finite(NAME, "y", y)
    targets = layout.columns("y", y, len(y))
    if (method or default) == METHODS[0]:
        if not isinstance(K, Tensor):
            rule = "be 'conjugate_gradient' for an operator"
            _check.refuse(NAME, "method", rule, repr(method), ValueError)
        matrix = flatten_outputs(K) if layout.axes == 4 else K
        factor = cholesky(matrix, ridge, ridge_scale=ridge_scale, precision=precision, op=NAME)
        alpha = factor.solve(targets)
        residual = factor.relative_residual(alpha, targets).max().item()
        dual = layout.values(alpha)
        return Regression(dual, residual, factor, None, layout, targets, alpha, factor.solve)
    if ridge_scale != "absolute":
        rule = "be 'absolute' for conjugate gradients"
        _check.refuse(NAME, "ridge_scale", rule, repr(ridge_scale), ValueError)
    operator = K
    if isinstance(K, Tensor):
        operator = symmetric(NAME, "K", flatten_outputs(K) if layout.axes == 4 else K)

    def solution(b: Tensor) -> Solution:
        return conjugate_gradient(
            operator,
            b,
            ridge=ridge,
            preconditioner=preconditioner,
            tolerance=tolerance,
            iterations=iterations,
        )

    found = solution(targets)
    return Regression(
        layout.values(found.x),
        found.residual.max().item(),
        None,
        found,
        layout,
        targets,
        found.x,
        lambda b: solution(b).x,
    )
