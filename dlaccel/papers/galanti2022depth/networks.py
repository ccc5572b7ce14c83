"""The networks by name, and layers put on top of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from torch import Generator, nn

from dlaccel import models
from dlaccel.models._layers import Network, drawn_from, top_layers

from .samples import Samples

if TYPE_CHECKING:
    from .config import Config


@dataclass(frozen=True)
class Named:
    """A network of any depth, and the data that it is trained on.

    Attributes:
        kind: A key of ``KINDS``.
        width: H; 0 for a network that has its own.
        data: Name or path.
    """

    kind: str
    width: int
    data: str

    @property
    def network(self) -> str:
        """The paper's name without the depth."""
        return f"{self.kind}-{self.width}" if self.width else self.kind


def parse(text: str) -> Named | None:
    """What ``KIND-WIDTH@DATA`` or ``RESNET18@DATA`` says; None for anything else."""
    found = re.fullmatch(r"([A-Z]+\d*)(?:-([1-9]\d*))?@(.+)", text)
    if found is None or found[1] not in KINDS or (found[2] is None) != (found[1] == "RESNET18"):
        return None
    return Named(found[1], int(found[2] or 0), found[3])


def parsed(text: str) -> Named:
    """As :func:`parse`, for a text that the configuration has let pass."""
    found = parse(text)
    assert found is not None
    return found


def make_network(
    named: Named, depth: int, samples: Samples, config: Config, generator: Generator
) -> Network:
    """An untrained network for these samples, its start drawn from ``generator``."""
    return KINDS[named.kind](named.width, depth, samples, config, generator)


def _mlp(
    width: int, depth: int, samples: Samples, config: Config, generator: Generator
) -> models.MLP:
    return models.MLP(
        depth,
        width,
        samples.channels * samples.side**2,
        samples.classes,
        embedding=config.embedding,
        generator=generator,
    )


def _conv(
    width: int, depth: int, samples: Samples, config: Config, generator: Generator
) -> models.Conv:
    return models.Conv(
        depth,
        width,
        samples.classes,
        in_channels=samples.channels,
        image_size=samples.side,
        embedding=config.embedding,
        generator=generator,
    )


def _conv_res(
    width: int, depth: int, samples: Samples, config: Config, generator: Generator
) -> models.ConvRes:
    return models.ConvRes(
        depth,
        width,
        samples.classes,
        in_channels=samples.channels,
        image_size=samples.side,
        dead_skip=config.dead_skip,
        generator=generator,
    )


def _resnet(
    width: int, depth: int, samples: Samples, config: Config, generator: Generator
) -> models.ResNet18:
    return models.ResNet18(samples.classes, in_channels=samples.channels, generator=generator)


KINDS: dict[str, Callable[[int, int, Samples, Config, Generator], Network]] = {
    "MLP": _mlp,
    "CONV": _conv,
    "CONVRES": _conv_res,
    "RESNET18": _resnet,
}
"""Builders of networks by the paper's names for them."""


def put_on_top(network: Network, top_depth: int, kind: str, generator: Generator) -> None:
    """Puts a layer of 128 neurons and ``top_depth`` more between a network and a new head (G7)."""
    head = cast(nn.Linear, network.head)
    del network.head  # what is put in comes before the new one
    with drawn_from(generator):
        network.top, names, width = top_layers(network, head.in_features, top_depth, kind)
        network.head = nn.Linear(width, head.out_features)
    network.embeddings = (*network.embeddings, *names)
    network.penultimate = "top"
