"""Tangent kernels: of any network, and of infinitely wide ones."""

from ._activations import ABRelu
from ._kernels import Kernels
from .convolutional import infinite_convolutional
from .dynamics import Dynamics, Gaussian, Trajectory, gradient_descent, gradient_flow
from .empirical import Entry, Plan, empirical, plan
from .hyperkernel import fourier_covariance, hyperkernel
from .infinite import infinite
from .operator import Estimate, Operator
from .out_of_core import open, write
from .regression import Regression, flatten_outputs, regress

__all__ = [
    "ABRelu",
    "Dynamics",
    "Entry",
    "Estimate",
    "Gaussian",
    "Kernels",
    "Operator",
    "Plan",
    "Regression",
    "Trajectory",
    "empirical",
    "flatten_outputs",
    "fourier_covariance",
    "gradient_descent",
    "gradient_flow",
    "hyperkernel",
    "infinite",
    "infinite_convolutional",
    "open",
    "plan",
    "regress",
    "write",
]
