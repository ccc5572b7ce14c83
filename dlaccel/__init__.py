"""Fused kernels for layers that multiply, tangent kernels and class statistics."""

from . import collapse, data, models, nn, ntk, ops, solve
from ._version import __version__
from .ops import log_paths

__all__ = ["__version__", "collapse", "data", "log_paths", "models", "nn", "ntk", "ops", "solve"]
