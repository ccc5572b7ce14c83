"""Fused kernels for layers that multiply, tangent kernels and class statistics."""

from . import collapse, data, models, nn, ops
from ._version import __version__

__all__ = ["__version__", "collapse", "data", "models", "nn", "ops"]
