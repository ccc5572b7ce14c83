"""Activations by name, and what their kernels need to know of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .. import _check


@dataclass(frozen=True)
class ABRelu:
    r"""The rectifier :math:`\phi(x) = a \min(x, 0) + b \max(x, 0)`.

    ReLU is (0, 1), the absolute value (-1, 1), a leaky ReLU (slope, 1), a linear map (1, 1).

    Raises:
        ValueError: a and b are not finite, or both 0.
    """

    a: float
    b: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.a) and math.isfinite(self.b)) or self.a == self.b == 0:
            got = (self.a, self.b)
            _check.refuse("ntk.ABRelu", "a and b", "be finite and not both 0", got, ValueError)

    @property
    def contrast(self) -> float:
        """How far from linear: :math:`(a - b)^2 / (a^2 + b^2)`."""
        top = max(abs(self.a), abs(self.b))  # so that (-a, a) is at 2 to the last digit
        a, b = self.a / top, self.b / top
        return min(2.0, (a - b) ** 2 / (a**2 + b**2))

    @property
    def gain(self) -> float:
        r""":math:`\sqrt{E \phi(u)^2}` for u of variance 1."""
        return math.hypot(self.a, self.b) / math.sqrt(2)


Function = Callable[[Tensor], Tensor]
ERF = "erf"
RECTIFIERS = {
    "relu": ABRelu(0.0, 1.0),
    "leaky_relu": ABRelu(0.01, 1.0),
    "abs": ABRelu(-1.0, 1.0),
    "linear": ABRelu(1.0, 1.0),
}
FUNCTIONS: dict[str, Function] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "sin": torch.sin,
}

Activation = str | ABRelu | Function


def resolve(op: str, activation: Activation) -> ABRelu | str | Function:
    """A rectifier, ``"erf"``, or a function for quadrature."""
    if isinstance(activation, str):
        _check.choice(op, "activation", activation, (*RECTIFIERS, ERF, *FUNCTIONS))
        return RECTIFIERS.get(activation) or FUNCTIONS.get(activation) or ERF
    if not isinstance(activation, ABRelu) and not callable(activation):
        rule = "be a name, an ABRelu or a function"
        _check.refuse(op, "activation", rule, type(activation).__name__, TypeError)
    return activation
