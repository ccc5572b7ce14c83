"""The baseline of E5 and E6: a hypernetwork with Fourier features, trained on the same points."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor, nn

from dlaccel.experiment import Trial

from .networks import ROOT2, Architecture
from .regression import Pairs, unit

META_WIDTH = 100
"""n."""

PRIMARY_WIDTH = 32
"""m, and the number of Fourier features."""

LAYERS = 3
"""L and H."""

IMAGES = 5
"""Images of a step; all their points are taken together."""

RATE = 1e-2
"""Learning rate of Adam, which did better than SGD in a prototype."""


class FourierHypernetwork(nn.Module):
    """h of the paper with z replaced by 2^(1/2) cos(omega z + b), whose covariance is Gaussian."""

    def __init__(self, inputs: int, bandwidth: float, generator: Generator) -> None:
        super().__init__()
        self.architecture = Architecture(
            inputs,
            META_WIDTH,
            LAYERS,
            (*[(PRIMARY_WIDTH, PRIMARY_WIDTH)] * (LAYERS - 1), (1, PRIMARY_WIDTH)),
        )
        drawn = self.architecture.draw(1, generator, torch.device("cpu"))
        self.weights = nn.ParameterList(nn.Parameter(weight[0]) for weight in drawn)
        frequency = torch.randn(2, PRIMARY_WIDTH, generator=generator) / math.sqrt(bandwidth)
        self.register_buffer("frequency", frequency)
        phase = 2 * math.pi * torch.rand(PRIMARY_WIDTH, generator=generator)
        self.register_buffer("phase", phase)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Grey values ``[B, k]`` at points z ``[B, k, 2]`` of images x ``[B, d]``, |x|^2 = d."""
        q = x
        for weight in self.weights[:-1]:
            q = ROOT2 * _linear(q, weight).relu()
        a = ROOT2 * torch.cos(z @ self.get_buffer("frequency") + self.get_buffer("phase"))
        shapes = self.architecture.primary
        generated = _linear(q, self.weights[-1])
        blocks = torch.split(generated, [out * into for out, into in shapes], -1)
        for v, shape in zip(blocks[:-1], shapes[:-1], strict=True):
            a = ROOT2 * _linear(a, torch.unflatten(v, -1, shape)).relu()
        return _linear(a, torch.unflatten(blocks[-1], -1, shapes[-1]))[..., 0]


def _linear(a: Tensor, weight: Tensor) -> Tensor:
    """W a / n^(1/2), the last axis of ``a`` being a layer."""
    return a @ weight.mT / math.sqrt(weight.shape[-1])


def train_hypernetwork(
    trial: Trial,
    images: Tensor,
    pairs: Pairs,
    side: int,
    tests: Tensor,
    epochs: int,
    where: dict[str, Any],
) -> Tensor:
    """Trains on the points of N images; returns predictions at all pixels of the test images."""
    config, device = trial.config, trial.device
    draws = trial.generator("trained", *where.values())
    network = FourierHypernetwork(images.shape[1], config.bandwidth, draws).to(device)
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    x, z, values = _scaled(images), _coordinates(pairs.pixels, side), pairs.values.float()
    steps = math.ceil(len(x) / IMAGES) * epochs

    def step(_: int) -> dict[str, Tensor]:
        rows = torch.randint(len(x), (IMAGES,), generator=draws).to(device)
        loss = (network(x[rows], z[rows]) - values[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach()}

    state: dict[str, Any] = {"network": network, "optimizer": optimizer, "draws": draws}
    trial.train("trained_hypernetwork", state, steps, step, every=max(1, steps // 4), **where)
    everywhere = _coordinates(torch.arange(side**2, device=device)[None], side)
    with torch.no_grad():
        parts = [
            network(part, everywhere.expand(len(part), -1, -1))
            for part in torch.split(_scaled(tests), 100)
        ]
    return torch.cat(parts).double()


def _scaled(images: Tensor) -> Tensor:
    return (unit(images) * math.sqrt(images.shape[1])).float()


def _coordinates(pixels: Tensor, side: int) -> Tensor:
    return torch.stack([pixels // side, pixels % side], -1).float()
