"""The operators: functions on torch tensors, each with a reference in plain torch."""

from . import class_moments as _class_moments
from . import glu as _glu
from . import mixed_product as _mixed_product
from ._glu_family import ACTIVATIONS, Activation
from .glu import glu, glu_packed

SPECS = (*_glu.SPECS,)
PROCEDURES = (_class_moments.SPEC, _mixed_product.SPEC)

__all__ = ["ACTIVATIONS", "PROCEDURES", "SPECS", "Activation", "glu", "glu_packed"]
