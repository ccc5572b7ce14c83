"""Layers that multiply: products of affine maps, stacks of them, and products over neighbours."""

from __future__ import annotations

import math
from itertools import pairwise, product

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from .. import _check
from ..ops.glu import glu
from ._features import check_counts, check_width


class Multiplicative(nn.Module):
    r"""The product of two affine maps, :math:`y = (A x + a) \, (B u + b)`, element by element.

    Each output is one product gate of a multiplicative network, a polynomial of degree two
    (Ben-Shaul, Galanti and Dekel 2023, arXiv 2301.04605).

    Args:
        in_features: Width of x, whose shape is (..., in_features).
        out_features: Width of the result, (..., out_features).
        other_features: Width of u, (..., other_features); None multiplies two maps of x itself.
        bias: Whether a and b are there.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: A width is not positive, or u is missing or in excess.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        other_features: int | None = None,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        other = in_features if other_features is None else other_features
        check_counts(
            "Multiplicative",
            in_features=in_features,
            out_features=out_features,
            other_features=other,
        )
        self.other_features = other_features
        self.left = nn.Linear(in_features, out_features, bias, device=device, dtype=dtype)
        self.right = nn.Linear(other, out_features, bias, device=device, dtype=dtype)

    def forward(self, x: Tensor, u: Tensor | None = None) -> Tensor:
        """The product, for leading axes of x and u that broadcast."""
        if (u is None) != (self.other_features is None):
            rule = "be given" if u is None else "be left out where other_features is None"
            got = "None" if u is None else f"shape {tuple(u.shape)}"
            _check.refuse("Multiplicative", "u", rule, got, ValueError)
        check_width("Multiplicative", "x", x, self.left.in_features)
        if u is None:
            u = x
        else:
            check_width("Multiplicative", "u", u, self.right.in_features)
        left, right = F.linear(x, self.left.weight), F.linear(u, self.right.weight)
        if left.shape != right.shape:
            shape = torch.broadcast_shapes(left.shape, right.shape)  # type: ignore[no-untyped-call]
            left, right = left.expand(shape), right.expand(shape)
        if self.left.bias is None:
            return glu(left, right, "identity")
        # Under autocast the products come in its dtype, and the biases follow them.
        a, b = self.left.bias.to(left.dtype), self.right.bias.to(left.dtype)
        return glu(left, right, "identity", gate_bias=a, value_bias=b)


class MultiplicativeStack(nn.Module):
    r"""A multiplicative network without its read-out: :math:`z \leftarrow (A z + a) (B z + b)`.

    Without normalisation the stack is a polynomial of degree 2^layers in x, and its scale is
    unstable: with independent weights of variance 1/D and rows z of mean square q, both factors
    have mean square q and their product q^2, so that log q doubles at every layer. Two remedies:

    - ``normalize=True`` divides each row by its root mean square (after Zhang and Sennrich 2019),
      so that q = 1 before every layer. The stack is then no polynomial any more. Both factors start
      alike: weights of variance 1/D, biases uniform in [-1, 1].
    - ``normalize=False`` starts close to a linear network: b = 1, B of variance e/D with
      e = 1/layers, A of variance 1/(D (1 + e)). Then q becomes q (1 + e q)/(1 + e), which fixes
      q = 1, and log q grows by the factor (1 + 2e)/(1 + e) < 1 + e a layer: by less than Euler's
      number over the whole stack instead of 2^layers. Only the first layer has a, uniform in
      [-1, 1], at the start.

    Args:
        in_features: Width of x, shape (..., in_features).
        hidden_features: Width of every layer, and of the result.
        layers: How many products follow each other.
        normalize: Which of the two remedies.
        generator: Draws the parameters; None is torch's own.

    Raises:
        ValueError: A width or the number of layers is not positive.

    Source: the families of arXiv 2301.04605; both starting points are derived above.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        layers: int,
        *,
        normalize: bool = True,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_counts(
            "MultiplicativeStack",
            in_features=in_features,
            hidden_features=hidden_features,
            layers=layers,
        )
        self.normalize = normalize
        widths = [in_features] + [hidden_features] * layers
        self.layers = nn.ModuleList(
            Multiplicative(before, after, device="meta").to_empty(device=torch.empty(0).device)
            for before, after in pairwise(widths)
        )
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draws every parameter anew."""
        e = 1 / len(self.layers)
        for depth, layer in enumerate(self.layers):
            assert isinstance(layer, Multiplicative)
            bound = math.sqrt(3 / layer.left.in_features)  # a uniform draw of variance 1/D
            small = 1.0 if self.normalize else math.sqrt(e)
            large = 1.0 if self.normalize else 1 / math.sqrt(1 + e)
            _uniform(layer.left.weight, large * bound, generator)
            _uniform(layer.right.weight, small * bound, generator)
            _uniform(layer.left.bias, float(self.normalize or depth == 0), generator)
            _uniform(layer.right.bias, float(self.normalize), generator)
            if not self.normalize:
                nn.init.ones_(layer.right.bias)

    def forward(self, x: Tensor) -> Tensor:
        """The last layer's products, shape (..., hidden_features)."""
        for layer in self.layers:
            x = layer(x)
            if self.normalize:
                x = F.rms_norm(x, x.shape[-1:])
        return x


def _uniform(parameter: Tensor, bound: float, generator: Generator | None) -> None:
    nn.init.uniform_(parameter, -bound, bound, generator=generator)


class ProductPooling(nn.Module):
    """Multiplies groups of neighbouring features, shape (..., D) to (..., D/size).

    Derivatives of every order are right at zeros: the product is a tree, no quotient.

    Args:
        size: Features of a group.

    Raises:
        ValueError: ``size`` is not positive or does not divide the last axis.

    Source: the pooling of convolutional arithmetic circuits, Cohen, Sharir and Shashua 2016
    (arXiv 1509.05009), over features.
    """

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        check_counts("ProductPooling", size=size)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """The products."""
        if x.ndim == 0 or x.shape[-1] % self.size:
            rule = f"have a last axis that {self.size} divides"
            _check.refuse("ProductPooling", "x", rule, tuple(x.shape), ValueError)
        return _tree_product([x[..., i :: self.size] for i in range(self.size)])


class ProductPooling2d(nn.Module):
    """Multiplies square windows, shape (..., H, W) to (..., (H - size)/stride + 1, the same of W).

    Args:
        size: Rows and columns of a window.
        stride: Between windows; None is ``size``. What fills no window is left out.

    Raises:
        ValueError: ``size`` or ``stride`` is not positive, or x is smaller than a window.

    Source: Cohen, Sharir and Shashua 2016 (arXiv 1509.05009), section 3.
    """

    def __init__(self, size: int = 2, stride: int | None = None) -> None:
        super().__init__()
        self.size, self.stride = size, size if stride is None else stride
        check_counts("ProductPooling2d", size=size, stride=self.stride)

    def forward(self, x: Tensor) -> Tensor:
        """The products."""
        if x.ndim < 2 or min(x.shape[-2:]) < self.size:
            rule = f"have two last axes of at least {self.size}"
            _check.refuse("ProductPooling2d", "x", rule, tuple(x.shape), ValueError)
        rows, columns = (n - self.size + 1 for n in x.shape[-2:])
        return _tree_product(
            [
                x[..., i : i + rows : self.stride, j : j + columns : self.stride]
                for i, j in product(range(self.size), repeat=2)
            ]
        )


def _tree_product(factors: list[Tensor]) -> Tensor:
    while len(factors) > 1:
        half = len(factors) // 2
        pairs = [a * b for a, b in zip(factors[:half], factors[half : 2 * half], strict=True)]
        factors = pairs + factors[2 * half :]
    return factors[0]
