"""MLP-L-H of arXiv 2202.09028: the plain deep network."""

from __future__ import annotations

from torch import Generator, nn

from .. import _check
from ..nn._features import check_counts
from ._layers import ACTIVATION, PREACTIVATION, Network, Rows, drawn_from, linear_layer


class MLP(Network):
    """L layers of H neurons, each linear, batch norm, ReLU, then a linear head.

    Args:
        depth: L.
        width: H.
        in_features: Numbers in an input; images are flattened.
        num_classes: C.
        embedding: What ``embeddings`` names: ``"preactivation"``, the linear maps' outputs, as the
            published code measures, or ``"activation"``, the layers' outputs after the ReLU.
        generator: The start is drawn from it alone; else from torch's own.

    Raises:
        TypeError: when a count is no integer.
        ValueError: when one is not positive or ``embedding`` is another word.

    Source: arXiv 2202.09028, section 4.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        in_features: int = 3 * 32 * 32,
        num_classes: int = 10,
        *,
        embedding: str = PREACTIVATION,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_counts(
            "MLP", depth=depth, width=width, in_features=in_features, num_classes=num_classes
        )
        _check.choice("MLP", "embedding", embedding, (PREACTIVATION, ACTIVATION))
        self.input = Rows("MLP", in_features)
        with drawn_from(generator):
            widths = [in_features] + [width] * (depth - 1)
            self.layers = nn.Sequential(*(linear_layer(before, width) for before in widths))
            self.head = nn.Linear(width, num_classes)
        part = "linear" if embedding == PREACTIVATION else "activation"
        self.embeddings = tuple(f"layers.{i}.{part}" for i in range(depth))
        self.penultimate = f"layers.{depth - 1}.activation"
