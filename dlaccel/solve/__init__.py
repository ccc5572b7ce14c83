"""Symmetric positive definite systems: the one place that factors a Gram matrix.

Everything is float64 but a factor that is asked for in float32, whose solves are refined to the
backward error of a float64 one. Nothing is added to a diagonal but the ridge that was asked for.
Results carry no gradient.
"""

from .eigen import Spectrum, spectrum
from .factor import Factor, cholesky
from .krylov import ConvergenceWarning, Solution, conjugate_gradient
from .ridge import ridge_regression

__all__ = [
    "ConvergenceWarning",
    "Factor",
    "Solution",
    "Spectrum",
    "cholesky",
    "conjugate_gradient",
    "ridge_regression",
    "spectrum",
]
