"""The networks that are trained on source classes, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from dlaccel import models

FREQUENCIES = 16
"""Points on a side of the grid of frequencies on which a convolution's norm is looked up."""


@dataclass(frozen=True)
class Shape:
    """What the data ask of a network.

    Attributes:
        channels: Of the images.
        side: Height and width of the images.
        classes: C.
    """

    channels: int
    side: int
    classes: int


Build = Callable[[tuple[int, ...], Shape, Generator | None], nn.Module]


def _mlp(numbers: tuple[int, ...], shape: Shape, generator: Generator | None) -> nn.Module:
    depth, width = numbers
    inputs = shape.channels * shape.side**2
    return models.MLP(depth, width, inputs, shape.classes, generator=generator)


def _conv4(numbers: tuple[int, ...], shape: Shape, generator: Generator | None) -> nn.Module:
    (width,) = numbers
    return models.Conv4(
        shape.classes,
        width,
        in_channels=shape.channels,
        image_size=shape.side,
        generator=generator,
    )


def _wide(numbers: tuple[int, ...], shape: Shape, generator: Generator | None) -> nn.Module:
    depth, factor = numbers
    return models.WideResNet(
        depth, factor, shape.classes, in_channels=shape.channels, generator=generator
    )


def _plain(numbers: tuple[int, ...], shape: Shape, generator: Generator | None) -> nn.Module:
    depth, factor = numbers
    return models.PlainConv(
        depth, factor, shape.classes, in_channels=shape.channels, generator=generator
    )


# Kind -> how many numbers follow, whether the first is the depth of a wide network, the builder.
_KINDS: dict[str, tuple[int, bool, Build]] = {
    "mlp": (2, False, _mlp),
    "conv4": (1, False, _conv4),
    "wrn": (2, True, _wide),
    "plain": (2, True, _plain),
}


def parse_network(name: str) -> tuple[Build, tuple[int, ...]]:
    """The builder and the numbers of a name such as ``wrn-28-4``.

    Raises:
        ValueError: when the name describes no network.
    """
    kind, *words = name.split("-")
    if kind not in _KINDS or not all(word.isdecimal() for word in words):
        raise ValueError(f"no network {name!r}.")
    count, wide, build = _KINDS[kind]
    numbers = tuple(map(int, words))
    if len(numbers) != count or min(numbers) < 1:
        raise ValueError(f"no network {name!r}.")
    if wide and (numbers[0] < 10 or numbers[0] % 6 != 4):
        raise ValueError(f"no network {name!r}.")
    return build, numbers


def make_network(name: str, shape: Shape, generator: Generator | None = None) -> nn.Module:
    """The network of that name, its start drawn from ``generator``."""
    build, numbers = parse_network(name)
    return build(numbers, shape, generator)


@torch.no_grad()
def spectral_norms(network: nn.Module) -> dict[str, float]:
    """Spectral norm of every linear, convolution and batch norm layer below the head, by name.

    Of a convolution with wrapped borders: the largest singular value of its transfer function over
    a grid of frequencies. Of a batch norm: the largest factor that it applies in evaluation. Their
    product is a stand-in for the complexity C(f) of T1.
    """
    norms = {}
    for name, module in network.named_modules():
        if name.startswith("head"):
            continue
        if isinstance(module, nn.Linear):
            norms[name] = float(torch.linalg.matrix_norm(module.weight.double(), 2))
        elif isinstance(module, nn.Conv2d):
            norms[name] = _convolution_norm(module.weight.double())
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_var is not None
            factor = module.weight.abs() * (module.running_var + module.eps).rsqrt()
            norms[name] = float(factor.max())
    return norms


def _convolution_norm(kernel: Tensor) -> float:
    """Of ``(out, in, h, w)`` weights, by the Gram matrix of the smaller side."""
    transfer = torch.fft.fft2(kernel, s=(FREQUENCIES, FREQUENCIES)).permute(2, 3, 0, 1)
    # The kernel is real: the other half of the frequencies has the same singular values.
    half = transfer[: FREQUENCIES // 2 + 1].flatten(0, 1)
    wide = half.shape[1] <= half.shape[2]
    gram = half @ half.mH if wide else half.mH @ half
    return float(torch.linalg.eigvalsh(gram)[:, -1].max().clamp(min=0).sqrt())
