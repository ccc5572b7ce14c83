"""The networks of the papers."""

from . import coordinate
from .conv import Conv, ConvRes
from .conv4 import Conv4
from .mlp import MLP
from .resnet import ResNet18
from .vgg import VGG
from .wide_resnet import PlainConv, WideResNet

__all__ = [
    "MLP",
    "VGG",
    "Conv",
    "Conv4",
    "ConvRes",
    "PlainConv",
    "ResNet18",
    "WideResNet",
    "coordinate",
]
