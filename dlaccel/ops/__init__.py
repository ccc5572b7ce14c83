"""The operators: functions on torch tensors, each with a reference in plain torch."""

from . import glu as _glu
from ._glu_family import ACTIVATIONS, Activation
from .glu import glu, glu_packed

SPECS = (*_glu.SPECS,)

__all__ = ["ACTIVATIONS", "SPECS", "Activation", "glu", "glu_packed"]
