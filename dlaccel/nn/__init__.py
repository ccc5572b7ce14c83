"""Layers, to be used where those of ``torch.nn`` are."""

from .bilinear import Bilinear
from .gated import GatedMLP
from .hyper import HyperLinear
from .multiplicative import Multiplicative, MultiplicativeStack, ProductPooling, ProductPooling2d

__all__ = [
    "Bilinear",
    "GatedMLP",
    "HyperLinear",
    "Multiplicative",
    "MultiplicativeStack",
    "ProductPooling",
    "ProductPooling2d",
]
