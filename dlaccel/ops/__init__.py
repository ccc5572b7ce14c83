"""The operators: functions on torch tensors, each with a reference in plain torch."""

from .glu import ACTIVATIONS, glu, glu_packed

__all__ = ["ACTIVATIONS", "glu", "glu_packed"]
