"""Many hypernetworks of the paper's form at once, with their derivatives by hand.

S networks see the same B inputs. A plain network is one without g whose f has one output.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor

CHUNK = 2**24
"""Weights that are drawn at a time."""

ROOT2 = math.sqrt(2)


@dataclass(frozen=True)
class Architecture:
    """Sizes of f and g.

    Attributes:
        inputs: d, the length of x.
        width: n.
        depth: L, layers of weights of f.
        primary: The shape ``(m_l, m_(l-1))`` of each V^l; empty: f has one output, h = f.
    """

    inputs: int
    width: int
    depth: int
    primary: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, inputs: int, n: int, meta_depth: int, m: int, primary_depth: int) -> Architecture:
        """Width n of f and m of g, inputs of one length; ``primary_depth`` 0: no g."""
        sides = [inputs, *[m] * (primary_depth - 1), 1]
        primary = tuple((out, into) for into, out in pairwise(sides))
        return cls(inputs, n, meta_depth, primary if primary_depth else ())

    @property
    def outputs(self) -> int:
        """P, outputs of f."""
        return sum(out * into for out, into in self.primary) if self.primary else 1

    @property
    def layers(self) -> list[tuple[int, int]]:
        """The shape of each W^l."""
        sides = [self.inputs, *[self.width] * (self.depth - 1), self.outputs]
        return [(out, into) for into, out in pairwise(sides)]

    @property
    def count(self) -> int:
        """Number of weights."""
        return sum(out * into for out, into in self.layers)

    def chunks(self, networks: int) -> Iterator[int]:
        """Numbers of networks to draw together, so that their weights fit in ``CHUNK``."""
        most = max(1, CHUNK // self.count)
        for start in range(0, networks, most):
            yield min(most, networks - start)

    def draw(
        self,
        networks: int,
        generator: Generator,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> list[Tensor]:
        """Standard normal W^l, ``[S, n_l, n_(l-1)]`` each."""
        return [
            torch.randn(networks, *shape, generator=generator, dtype=dtype, device=device)
            for shape in self.layers
        ]


@dataclass(frozen=True)
class Pass:
    """Outputs of S networks at B inputs, and their gradients in factors.

    dh/dW^l = delta^l (q^(l-1))^T / n_(l-1)^(1/2).

    Attributes:
        outputs: h, ``[S, B]``.
        inputs: q^(l-1) for l = 1 .. L, ``[S, B, n_(l-1)]``.
        deltas: dh/dy^l for l = 1 .. L, ``[S, B, n_l]``.
        meta_masks: Which neurons of f are active, for l = 1 .. L - 1.
        primary_masks: Those of g, for l = 1 .. H - 1.
    """

    outputs: Tensor
    inputs: list[Tensor]
    deltas: list[Tensor]
    meta_masks: list[Tensor]
    primary_masks: list[Tensor]

    def tangent_kernel(self) -> Tensor:
        """K(b, b') = <grad h(u_b), grad h(u_b')>, ``[S, B, B]``."""
        return sum(  # type: ignore[return-value]
            (q @ q.mT) / q.shape[-1] * (delta @ delta.mT)
            for q, delta in zip(self.inputs, self.deltas, strict=True)
        )

    def step(self, weights: Sequence[Tensor], amounts: Tensor) -> None:
        """Adds sum_b amounts_b grad h(u_b) to the weights; ``amounts`` is ``[S, B]``."""
        for weight, q, delta in zip(weights, self.inputs, self.deltas, strict=True):
            scaled = delta * (amounts / math.sqrt(q.shape[-1]))[..., None]
            weight.baddbmm_(scaled.mT, q)


def outputs(architecture: Architecture, weights: Sequence[Tensor], x: Tensor, z: Tensor) -> Tensor:
    """Values h, ``[S, B]``, differentiable by torch; x ``[B, d]``, z ``[B, m_0]``."""
    return _forward(architecture, weights, x, z)[0]


def forward_backward(
    architecture: Architecture, weights: Sequence[Tensor], x: Tensor, z: Tensor
) -> Pass:
    """Values h with their gradients in factors, as :class:`Pass` has it."""
    value, qs, meta_masks, generated, activities, primary_masks = _forward(
        architecture, weights, x, z
    )
    delta = torch.ones_like(value)[..., None]
    blocks: list[Tensor] = []
    places = list(zip(architecture.primary, generated, activities, strict=True))
    for place, ((out, into), v, a) in reversed(list(enumerate(places))):
        delta = delta / math.sqrt(into)
        blocks.insert(0, (delta[..., None] * a[..., None, :]).flatten(-2))
        if place:
            back = (delta[..., None, :] @ torch.unflatten(v, -1, (out, into)))[..., 0, :]
            delta = ROOT2 * back * primary_masks[place - 1]
    top = torch.cat(blocks, -1) if blocks else delta
    deltas = [top]
    for weight, mask in zip(weights[:0:-1], meta_masks[::-1], strict=True):
        back = deltas[0] @ weight / math.sqrt(weight.shape[-1])
        deltas.insert(0, ROOT2 * back * mask)
    return Pass(value, qs, deltas, meta_masks, primary_masks)


def _forward(
    architecture: Architecture, weights: Sequence[Tensor], x: Tensor, z: Tensor
) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """Values h, q^l, masks of f, V^l flat, a^(l-1), masks of g."""
    q = x.expand(len(weights[0]), *x.shape[-2:])
    qs, meta_masks = [q], []
    for weight in weights[:-1]:
        y = q @ weight.mT / math.sqrt(q.shape[-1])
        meta_masks.append(y > 0)
        q = ROOT2 * y.relu()
        qs.append(q)
    y = q @ weights[-1].mT / math.sqrt(q.shape[-1])
    if not architecture.primary:
        return y[..., 0], qs, meta_masks, [], [], []
    generated = list(torch.split(y, [out * into for out, into in architecture.primary], -1))
    a = z.expand(len(y), *z.shape[-2:])
    activities: list[Tensor] = [a]
    primary_masks: list[Tensor] = []
    for place, ((out, into), v) in enumerate(zip(architecture.primary, generated, strict=True)):
        u = (torch.unflatten(v, -1, (out, into)) @ a[..., None])[..., 0] / math.sqrt(into)
        if place == len(generated) - 1:
            return u[..., 0], qs, meta_masks, generated, activities, primary_masks
        primary_masks.append(u > 0)
        a = ROOT2 * u.relu()
        activities.append(a)
    raise AssertionError("a primary network has a last layer")
