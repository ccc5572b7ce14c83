"""R hypernetworks for rotations, trained side by side; the form of the published code."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from .rotation_task import CLASSES


class RotationNetworks(nn.Module):
    """f: d - hidden .. hidden - bottleneck - P with biases; g: d - m .. m - 12 without.

    The weights of g are f's outputs, one set for each image. ReLU stands between the layers of f
    and after the first layer of g, or after each of its layers but the last. Weights and biases of
    f start as ``torch.nn.Linear``'s do.

    Args:
        networks: R.
        inputs: d.
        width: m.
        depth: Layers of g.
        hidden: Widths of f's hidden layers.
        bottleneck: Width of f's last hidden layer; 0 for none.
        inner_relu: Whether the inner layers of g have a ReLU.
        generator: Draws the start.
    """

    def __init__(
        self,
        networks: int,
        inputs: int,
        width: int,
        depth: int,
        *,
        hidden: tuple[int, ...],
        bottleneck: int,
        inner_relu: bool,
        generator: Generator,
    ) -> None:
        super().__init__()
        sides = [inputs, *[width] * (depth - 1), CLASSES]
        self.shapes = [(out, into) for into, out in pairwise(sides)]
        self.inner_relu = inner_relu
        generated = sum(out * into for out, into in self.shapes)
        layers = [inputs, *hidden, *([bottleneck] if bottleneck else []), generated]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for into, out in pairwise(layers):
            bound = 1 / math.sqrt(into)
            for shape, kept in (((into, out), self.weights), ((1, out), self.biases)):
                drawn = torch.rand(networks, *shape, generator=generator)
                kept.append(nn.Parameter((2 * drawn - 1) * bound))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Logits ``[R, B, 12]`` from x, y ``[R, B, d]``."""
        layers = list(zip(self.weights, self.biases, strict=True))
        for weight, bias in layers[:-1]:
            x = torch.baddbmm(bias, x, weight).relu()
        weight, bias = layers[-1]
        a = y
        for place, (part, shift, (out, into)) in enumerate(self._generated(weight, bias)):
            v = torch.unflatten(torch.baddbmm(shift, x, part), -1, (out, into))
            a = (v @ a[..., None])[..., 0]
            if place == 0 or (self.inner_relu and place < len(self.shapes) - 1):
                a = a.relu()
        return a

    def _generated(
        self, weight: Tensor, bias: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, tuple[int, int]]]:
        sizes = [out * into for out, into in self.shapes]
        return zip(
            torch.split(weight, sizes, -1), torch.split(bias, sizes, -1), self.shapes, strict=True
        )


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each network, ``[R]``, from ``[R, B, 12]`` and ``[R, B]``."""
    flat = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return flat.view(labels.shape).mean(1)


@torch.no_grad()
def descend(networks: RotationNetworks, rates: Tensor) -> None:
    """A step of gradient descent with a rate for each network, ``[R]``; clears the gradients."""
    for parameter in networks.parameters():
        if parameter.grad is not None:
            parameter.sub_(rates[:, None, None] * parameter.grad)
            parameter.grad = None
