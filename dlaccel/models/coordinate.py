"""Networks that are fitted as functions of coordinates in [-1, 1].

Every network takes ``[N, in_features]`` to ``[N, out_features]``, has ``hidden_layers`` layers of
``hidden_features`` neurons and an affine read-out, and is drawn from ``generator`` alone where one
is given.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import pairwise
from typing import Protocol

import torch
from torch import Generator, Tensor, nn

from .. import _check
from ..nn import MultiplicativeStack
from ..nn._features import check_counts


class ReLUNetwork(nn.Module):
    """Layers z <- relu(W z + b), W with the variance 2/D of He et al. 2015 (arXiv 1502.01852)."""

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        hidden_layers: int,
        out_features: int,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        widths = _widths(self, in_features, hidden_features, hidden_layers, out_features)
        self.hidden = nn.ModuleList(
            _affine(before, after, math.sqrt(6 / before), generator)
            for before, after in pairwise(widths)
        )
        self.output = _affine(hidden_features, out_features, None, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Values ``[N, out_features]`` at x ``[N, in_features]``."""
        for layer in self.hidden:
            x = torch.relu(layer(x))
        return _value(self.output, x)


class SineNetwork(nn.Module):
    r"""SIREN, layers :math:`z \leftarrow \sin(\omega (W z + b))`.

    The first W is uniform within 1/in_features, the others within sqrt(6/D)/omega, so that each
    pre-activation is close to a standard normal.

    Source: Sitzmann et al. 2020 (arXiv 2006.09661), section 3.2 and theorem 1.8.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        hidden_layers: int,
        out_features: int,
        *,
        omega: float = 30.0,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.omega = omega
        widths = _widths(self, in_features, hidden_features, hidden_layers, out_features)
        inner = math.sqrt(6 / hidden_features) / omega
        self.hidden = nn.ModuleList(
            _affine(before, after, inner if depth else 1 / in_features, generator)
            for depth, (before, after) in enumerate(pairwise(widths))
        )
        self.output = _affine(hidden_features, out_features, inner, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Values ``[N, out_features]`` at x ``[N, in_features]``."""
        for layer in self.hidden:
            x = torch.sin(self.omega * layer(x))
        return _value(self.output, x)


class SineFilter(nn.Module):
    r""":math:`g(x) = \sin(\omega x + \phi)`, phases uniform over the circle."""

    def __init__(
        self, in_features: int, hidden_features: int, scale: float, generator: Generator | None
    ) -> None:
        super().__init__()
        self.phase = _affine(
            in_features, hidden_features, scale / math.sqrt(in_features), generator
        )
        nn.init.uniform_(self.phase.bias, -math.pi, math.pi, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Shape ``[N, hidden_features]``."""
        return torch.sin(_value(self.phase, x))


class GaborFilter(SineFilter):
    r""":math:`g(x) = e^{-\gamma |x - \mu|^2 / 2} \sin(\omega x + \phi)`.

    Gamma follows the Gamma distribution of shape ``alpha`` and rate 1, mu is uniform in
    [-1, 1]^in_features, and omega is wider by sqrt(gamma).
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        scale: float,
        alpha: float,
        generator: Generator | None,
    ) -> None:
        super().__init__(in_features, hidden_features, scale, generator)
        self.mu = nn.Parameter(torch.empty(hidden_features, in_features))
        nn.init.uniform_(self.mu, -1, 1, generator=generator)
        # The only sampler of this distribution that takes a generator.
        shapes = torch.full((hidden_features,), alpha, device="cpu")  # where the generator is
        gamma = torch._standard_gamma(shapes, generator=generator).to(self.phase.weight.device)
        self.gamma = nn.Parameter(gamma)
        with torch.no_grad():
            self.phase.weight.mul_(gamma.sqrt()[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """Shape ``[N, hidden_features]``."""
        distance = x.square().sum(-1, keepdim=True) - 2 * x @ self.mu.T + self.mu.square().sum(-1)
        return torch.exp(-0.5 * self.gamma * distance) * super().forward(x)


class _FilterNetwork(nn.Module):
    """Multiplicative filters: z_1 = g_1(x), z_{l+1} = (W z_l + b) * g_{l+1}(x)."""

    def __init__(
        self, filters: list[SineFilter], out_features: int, generator: Generator | None
    ) -> None:
        super().__init__()
        width = filters[0].phase.out_features
        self.filters = nn.ModuleList(filters)
        self.hidden = nn.ModuleList(
            _affine(width, width, 1 / math.sqrt(width), generator) for _ in filters[1:]
        )
        self.output = _affine(width, out_features, None, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Values ``[N, out_features]`` at x ``[N, in_features]``."""
        first, *others = self.filters
        z = first(x)
        for layer, g in zip(self.hidden, others, strict=True):
            z = layer(z) * g(x)
        return _value(self.output, z)


class FourierFilterNetwork(_FilterNetwork):
    """FourierNet: a multiplicative filter network of sines, one filter for each hidden layer.

    A filter's frequencies are uniform within ``input_scale``/sqrt(hidden_layers in_features), in
    radians per unit of a coordinate. The published 256 suits images of some 256 pixels a side;
    take the number of pixels for others, or what lies between the pixels is noise.

    Source: Fathony et al. 2021, "Multiplicative Filter Networks" (ICLR), eq. 4 to 6; the start is
    that of its published code.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        hidden_layers: int,
        out_features: int,
        *,
        input_scale: float = 256.0,
        generator: Generator | None = None,
    ) -> None:
        _widths(self, in_features, hidden_features, hidden_layers, out_features)
        scale = input_scale / math.sqrt(hidden_layers)
        filters = [
            SineFilter(in_features, hidden_features, scale, generator) for _ in range(hidden_layers)
        ]
        super().__init__(filters, out_features, generator)


class GaborFilterNetwork(_FilterNetwork):
    """GaborNet: like :class:`FourierFilterNetwork` with sines under Gaussian windows.

    ``alpha`` is the shape of the distribution of a whole product's window, shared by the filters.

    Source: Fathony et al. 2021, eq. 9; the start is that of its published code.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        hidden_layers: int,
        out_features: int,
        *,
        input_scale: float = 256.0,
        alpha: float = 6.0,
        generator: Generator | None = None,
    ) -> None:
        _widths(self, in_features, hidden_features, hidden_layers, out_features)
        scale = input_scale / math.sqrt(hidden_layers)
        filters: list[SineFilter] = [
            GaborFilter(in_features, hidden_features, scale, alpha / hidden_layers, generator)
            for _ in range(hidden_layers)
        ]
        super().__init__(filters, out_features, generator)


class MultiplicativeNetwork(nn.Module):
    """A :class:`~dlaccel.nn.MultiplicativeStack` and an affine read-out.

    With ``normalize=False`` it is a polynomial of degree 2^hidden_layers in x.

    Source: the networks of Ben-Shaul, Galanti and Dekel 2023 (arXiv 2301.04605).
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        hidden_layers: int,
        out_features: int,
        *,
        normalize: bool = True,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        _widths(self, in_features, hidden_features, hidden_layers, out_features)
        self.hidden = MultiplicativeStack(
            in_features, hidden_features, hidden_layers, normalize=normalize, generator=generator
        )
        self.output = _affine(hidden_features, out_features, None, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Values ``[N, out_features]`` at x ``[N, in_features]``."""
        return _value(self.output, self.hidden(x))


class CoordinateNetwork(Protocol):
    """A class whose arguments are those of the networks here."""

    def __call__(
        self, in_features: int, hidden_features: int, hidden_layers: int, out_features: int, /
    ) -> nn.Module:
        """The network."""
        ...


def width_for(
    cls: CoordinateNetwork, parameters: int, in_features: int, hidden_layers: int, out_features: int
) -> int:
    """The hidden width whose number of parameters is nearest to ``parameters``, at least 1.

    Args:
        cls: A network of this module, or a class with the same arguments.
        parameters: The number wanted; of two widths equally near, the smaller is taken.
        in_features: Of the network.
        hidden_layers: Of the network.
        out_features: Of the network.

    Raises:
        ValueError: ``parameters`` is not positive.
    """
    if parameters < 1:
        _check.refuse("width_for", "parameters", "be at least 1", parameters, ValueError)

    def count(width: int) -> int:
        with torch.device("meta"):
            network = cls(in_features, width, hidden_layers, out_features)
        return sum(parameter.numel() for parameter in network.parameters())

    # Every layer has a bias, so that the count grows by more than 1 with each unit of width.
    above = bisect_left(range(parameters + 1), parameters, lo=1, key=count)
    return min((max(above - 1, 1), above), key=lambda width: abs(count(width) - parameters))


def _widths(
    network: nn.Module,
    in_features: int,
    hidden_features: int,
    hidden_layers: int,
    out_features: int,
) -> list[int]:
    """Of the input and of every hidden layer, once the arguments are known to be positive."""
    check_counts(
        type(network).__name__,
        in_features=in_features,
        hidden_features=hidden_features,
        hidden_layers=hidden_layers,
        out_features=out_features,
    )
    return [in_features] + [hidden_features] * hidden_layers


def _affine(
    in_features: int, out_features: int, bound: float | None, generator: Generator | None
) -> nn.Linear:
    """Weights uniform within ``bound`` (None: 1/sqrt(in_features)), biases within the latter."""
    layer = nn.Linear(in_features, out_features, device="meta")
    layer = layer.to_empty(device=torch.empty(0).device)  # unlike a default start: draws nothing
    usual = 1 / math.sqrt(in_features)
    reach = usual if bound is None else bound
    nn.init.uniform_(layer.weight, -reach, reach, generator=generator)
    nn.init.uniform_(layer.bias, -usual, usual, generator=generator)
    return layer


def _value(layer: nn.Module, x: Tensor) -> Tensor:
    result: Tensor = layer(x)
    return result
