"""Layers, to be used where those of ``torch.nn`` are."""

from .gated import GatedMLP
from .multiplicative import Multiplicative, MultiplicativeStack, ProductPooling, ProductPooling2d

__all__ = [
    "GatedMLP",
    "Multiplicative",
    "MultiplicativeStack",
    "ProductPooling",
    "ProductPooling2d",
]
