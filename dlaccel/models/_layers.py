"""What the networks of the papers on collapse are made of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn

from .. import _check
from ..nn._features import check_counts

PREACTIVATION, ACTIVATION = "preactivation", "activation"

TOP_WIDTH, TOP_INNER = 128, 50


class Network(nn.Sequential):
    """A classifier: its parts one after another, the last the head, every layer under a name.

    It takes a batch to logits ``[N, num_classes]``. Being a chain it can be cut anywhere
    (``dlaccel.collapse``).

    Attributes:
        embeddings: Names of the modules whose outputs the papers measure, from the input up.
        penultimate: Name of the module whose output goes into the head.
    """

    embeddings: tuple[str, ...]
    penultimate: str


class Images(nn.Module):
    """Lets images ``[N, channels, H, W]`` of the right size through, refuses all else.

    H = W = ``side``, or any of at least ``least``.
    """

    def __init__(
        self, network: str, channels: int, side: int | None = None, least: int = 1
    ) -> None:
        super().__init__()
        self.network = network
        self.channels = channels
        self.side = side
        self.least = least

    def forward(self, x: Tensor) -> Tensor:
        """``x`` itself."""
        _check.tensors(self.network, {"x": x})
        fits = x.ndim == 4 and x.shape[1] == self.channels
        if not fits or (self.side is not None and x.shape[2:] != (self.side, self.side)):
            sides = "H, W" if self.side is None else f"{self.side}, {self.side}"
            rule = f"have shape [N, {self.channels}, {sides}]"
            _check.refuse(self.network, "x", rule, tuple(x.shape), ValueError)
        if min(x.shape[2:]) < self.least:
            rule = f"have at least {self.least} pixels on each side"
            _check.refuse(self.network, "x", rule, tuple(x.shape), ValueError)
        return x


class Rows(nn.Module):
    """Flattens samples to rows of ``in_features`` numbers, refuses all else."""

    def __init__(self, network: str, in_features: int) -> None:
        super().__init__()
        self.network = network
        self.in_features = in_features

    def forward(self, x: Tensor) -> Tensor:
        """``[N, ...]`` to ``[N, in_features]``."""
        _check.tensors(self.network, {"x": x})
        if x.ndim < 2 or x.shape[1:].numel() != self.in_features:
            rule = f"have {self.in_features} numbers for each sample"
            _check.refuse(self.network, "x", rule, f"shape {tuple(x.shape)}", ValueError)
        return x.flatten(1)


class ResidualLayer(nn.Module):
    """x <- relu(x + W relu(V x + a) + b) with V of ``inner`` rows."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.narrow = nn.Linear(width, inner)
        self.wide = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Shape ``[N, width]`` to the same."""
        return torch.relu(x + self.wide(torch.relu(self.narrow(x))))


def linear_layer(in_features: int, width: int, *, norm: bool = True) -> nn.Sequential:
    """Modules ``linear``, ``norm`` (batch norm) and ``activation`` (ReLU) in a row."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(linear=nn.Linear(in_features, width))
    if norm:
        parts["norm"] = nn.BatchNorm1d(width)
    return nn.Sequential(parts | {"activation": nn.ReLU()})


def conv_layer(in_channels: int, width: int, *, pool: bool = False) -> nn.Sequential:
    """Modules ``conv`` (3x3), ``norm``, ``activation`` and, if asked for, ``pool`` (2x2 maxima)."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(in_channels, width, 3, padding=1),
        norm=nn.BatchNorm2d(width),
        activation=nn.ReLU(),
    )
    return nn.Sequential(parts | {"pool": nn.MaxPool2d(2)} if pool else parts)


def global_average() -> nn.Sequential:
    """``[N, width, H, W]`` to ``[N, width]``."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def top_layers(
    network: nn.Module, in_features: int, top_depth: int | None, top: str
) -> tuple[nn.Sequential, tuple[str, ...], int]:
    """The layers that the first versions of arXiv 2202.09028 put between a network and its head.

    A layer of 128 neurons, then ``top_depth`` more: ``"fc"`` 128 neurons each, measured before the
    ReLU, or ``"res"`` residual layers 128-50-128, measured after it.

    Returns:
        The layers (none when ``top_depth`` is None), the names of those that are measured when they
        are the network's ``top``, and the width that leaves them.

    Raises:
        TypeError: when ``top_depth`` is no integer.
        ValueError: when it is negative or ``top`` is another word.
    """
    name = type(network).__name__
    _check.choice(name, "top", top, ("fc", "res"))
    if top_depth is None:
        return nn.Sequential(), (), in_features
    if isinstance(top_depth, bool) or not isinstance(top_depth, int):
        rule = "be an integer or None"
        _check.refuse(name, "top_depth", rule, type(top_depth).__name__, TypeError)
    if top_depth < 0:
        _check.refuse(name, "top_depth", "be at least 0", top_depth, ValueError)
    first = linear_layer(in_features, TOP_WIDTH, norm=False)
    if top == "fc":
        rest = [linear_layer(TOP_WIDTH, TOP_WIDTH, norm=False) for _ in range(top_depth)]
        names = [f"top.{i}.linear" for i in range(top_depth + 1)]
        return nn.Sequential(first, *rest), tuple(names), TOP_WIDTH
    blocks = [ResidualLayer(TOP_WIDTH, TOP_INNER) for _ in range(top_depth)]
    names = ["top.0.linear", *(f"top.{i + 1}" for i in range(top_depth))]
    return nn.Sequential(first, *blocks), tuple(names), TOP_WIDTH


@contextmanager
def drawn_from(generator: Generator | None) -> Iterator[None]:
    """Modules made inside start as torch starts them, from ``generator`` alone if it is given."""
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    device = torch.get_default_device()
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def check_image_size(network: nn.Module, image_size: int, multiple: int) -> None:
    """``image_size`` is a positive multiple of ``multiple``."""
    name = type(network).__name__
    check_counts(name, image_size=image_size)
    if image_size % multiple:
        rule = f"be a multiple of {multiple}"
        _check.refuse(name, "image_size", rule, image_size, ValueError)
