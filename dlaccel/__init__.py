"""Fused kernels for layers that multiply, tangent kernels and class statistics."""

__version__ = "0.1.0"

from . import ops

__all__ = ["__version__", "ops"]
