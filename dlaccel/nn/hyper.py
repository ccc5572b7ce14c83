"""Layers whose weights a code generates."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from .. import _check
from ..ops import Plan, hyper_linear, hyper_linear_plan
from ..ops.hyper_linear import ORDERS, Order
from ._features import check_counts, check_width

Init = Literal["hyperfan_in", "hyperfan_out", "base"]
INITS: tuple[Init, ...] = ("hyperfan_in", "hyperfan_out", "base")


class HyperLinear(nn.Module):
    r"""A linear layer with generated weights, :math:`y = (H(z) + C) x + D z + b`.

    H(z) is the sum over k of z_k W[:, :, k]. The generated weights are not made: see
    :func:`ops.hyper_linear`, whose orders ``order`` chooses among.

    Initialisations, with g the gain, q the mean square of a code's entry and I, O, K the widths;
    draws are uniform:

    - ``hyperfan_in`` keeps the mean square of y at g^2 times that of x: W has variance
      g^2 / (I K q), and where biases are generated half of it, D then having g^2 / (2 K q).
    - ``hyperfan_out`` does so for gradients: W has variance g^2 / (O K q), and D what y still
      lacks, g^2 max(0, 1 - I/O) / (K q).
    - ``base`` starts from an ordinary layer: W and D are zero, C is as in ``torch.nn.Linear``.

    With base weights the first two give C and the generated weights half the variance each.

    Args:
        in_features: Width I of x.
        out_features: Width O of y.
        code_features: Width K of z.
        bias: Whether b is there.
        base_weight: Whether C is there.
        generated_bias: Whether D is there.
        init: How parameters start.
        gain: g.
        code_mean_square: q.
        order: How it is evaluated.
        generator: Draws the parameters; None is torch's own.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        TypeError: A width is no integer.
        ValueError: A width, ``gain`` or ``code_mean_square`` is not positive, a name is unknown,
            or ``init="base"`` goes without base weights.

    Source: Chang, Flokas and Lipson 2020, Principled weight initialization for hypernetworks,
    section 4; Beck et al. 2023 (arXiv 2210.11348) for ``base``.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        code_features: int,
        *,
        bias: bool = True,
        base_weight: bool = False,
        generated_bias: bool = False,
        init: Init = "hyperfan_in",
        gain: float = 1.0,
        code_mean_square: float = 1.0,
        order: Order = "auto",
        generator: Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_counts(
            "HyperLinear",
            in_features=in_features,
            out_features=out_features,
            code_features=code_features,
        )
        _check.choice("HyperLinear", "init", init, INITS)
        _check.choice("HyperLinear", "order", order, ORDERS)
        for name, value in {"gain": gain, "code_mean_square": code_mean_square}.items():
            if not value > 0:
                _check.refuse("HyperLinear", name, "be positive", value, ValueError)
        if init == "base" and not base_weight:
            rule = "be True where init is 'base'"
            _check.refuse("HyperLinear", "base_weight", rule, base_weight, ValueError)
        self.in_features, self.out_features = in_features, out_features
        self.code_features = code_features
        self.init, self.gain, self.code_mean_square = init, gain, code_mean_square
        self.order: Order = order
        shapes = {
            "weight": (out_features, in_features, code_features),
            "base_weight": (out_features, in_features) if base_weight else None,
            "bias_weight": (out_features, code_features) if generated_bias else None,
            "bias": (out_features,) if bias else None,
        }
        for name, shape in shapes.items():
            made = None if shape is None else torch.empty(shape, device=device, dtype=dtype)
            self.register_parameter(name, None if made is None else nn.Parameter(made))
        self.weight: nn.Parameter
        self.base_weight: nn.Parameter | None
        self.bias_weight: nn.Parameter | None
        self.bias: nn.Parameter | None
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draws every parameter anew; b starts at zero."""
        square, code = self.gain**2, self.code_features * self.code_mean_square
        fan = self.out_features if self.init == "hyperfan_out" else self.in_features
        weights, biases = square, 0.0  # parts of the mean square that the init keeps
        if self.bias_weight is not None and self.init == "hyperfan_in":
            weights = biases = square / 2
        elif self.bias_weight is not None:
            biases = square * max(0.0, 1 - self.in_features / self.out_features)
        if self.base_weight is not None:
            weights /= 2
        variances = {
            "weight": weights / (fan * code),
            "base_weight": weights / fan,
            "bias_weight": biases / code,
            "bias": 0.0,
        }
        if self.init == "base":
            variances = dict.fromkeys(variances, 0.0)
            variances["base_weight"] = 1 / (3 * self.in_features)  # torch.nn.Linear's
        for name, parameter in self.named_parameters(recurse=False):
            bound = math.sqrt(3 * variances[name])
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, x: Tensor, z: Tensor, z_index: Tensor | None = None) -> Tensor:
        """The layer's value.

        Args:
            x: (..., in_features), (..., N, in_features), or (T, in_features) with ``z_index``.
            z: A code for each row of x, for each N of them, or B codes; (..., code_features).
            z_index: The code of every row of x, (T,).
        """
        check_width("HyperLinear", "x", x, self.in_features)
        check_width("HyperLinear", "z", z, self.code_features)
        return hyper_linear(
            x,
            z,
            self.weight,
            self.bias,
            base_weight=self.base_weight,
            bias_weight=self.bias_weight,
            z_index=z_index,
            order=self.order,
        )

    def plan(self, x: Tensor, z: Tensor, z_index: Tensor | None = None) -> tuple[Plan, ...]:
        """How the forward pass and the two gradients go, what they cost, and why."""
        return hyper_linear_plan(x, z, self.weight, z_index=z_index, order=self.order)

    def extra_repr(self) -> str:
        """Widths, and what there is besides the weights."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"code_features={self.code_features}, bias={self.bias is not None}, "
            f"base_weight={self.base_weight is not None}, "
            f"generated_bias={self.bias_weight is not None}"
        )
