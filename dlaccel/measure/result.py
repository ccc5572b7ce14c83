"""What ``dlaccel measure collapse`` found: as text, as a record, as a figure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..collapse.cutting import Comparison, compare, cut
from ..collapse.figures import by_layer
from ..collapse.layers import Layers
from ..data import Images
from ..experiment.environment import describe
from ..experiment.figures import STYLE, render
from ..experiment.folder import write_atomic, write_json

if TYPE_CHECKING:
    from .command import Options

SCHEMA = 1
RECORD, FIGURE = "collapse.json", "collapse.png"


@dataclass(frozen=True)
class Depth:
    """An effective depth, and the network cut there.

    Attributes:
        epsilon: Training error of the nearest centre that is let pass.
        depth: The first layer that passes, from 1; None when none does.
        cut: The network beside its cut, on the test images where there are some.
    """

    epsilon: float
    depth: int | None
    cut: Comparison | None


@dataclass(frozen=True)
class Result:
    """The layers, and what lies above each effective depth."""

    layers: Layers
    depths: tuple[Depth, ...]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        layers: Layers,
        epsilon: Sequence[float],
        loader: Iterable[Sequence[Tensor]],
        device: torch.device,
    ) -> Result:
        """Cuts the model at each effective depth and compares the two on ``loader``."""
        depths = layers.effective_depth(tuple(epsilon))
        cuts: dict[int, Comparison] = {}
        for depth in {depth for depth in depths if depth is not None}:
            layer = layers[depth - 1]
            shorter = cut(model, layer.name, layer.geometry.means)
            cuts[depth] = compare(model, shorter, loader, device=device)
        found = (
            Depth(limit, depth, None if depth is None else cuts[depth])
            for limit, depth in zip(epsilon, depths, strict=True)
        )
        return cls(layers, tuple(found))

    def text(self) -> str:
        """A table of the layers, a line for the network, a line for each effective depth."""
        shares = {"training": self.layers.accuracy_train, "test": self.layers.accuracy_test}
        own = ", ".join(
            f"{share:.2%} {name}" for name, share in shares.items() if share is not None
        )
        lines = [self.layers.table(), f"accuracy of the network: {own or 'no scores (N, C)'}"]
        return "\n".join([*lines, *(self._sentence(found) for found in self.depths)])

    def _sentence(self, found: Depth) -> str:
        total = len(self.layers)
        if found.depth is None or found.cut is None:
            return f"effective depth at ε = {found.epsilon:g}: none of {total} layers"
        which = "training" if self.layers.accuracy_test is None else "test"
        return (
            f"effective depth at ε = {found.epsilon:g}: {found.depth} of {total} layers "
            f"({self.layers[found.depth - 1].name}); cut there: "
            f"{found.cut.accuracy_cut:.2%} {which} accuracy for {found.cut.accuracy:.2%}, "
            f"{found.cut.speed:.2f} times as fast"
        )

    def write(
        self,
        options: Options,
        command: str,
        device: torch.device,
        train: Images,
        test: Images | None,
    ) -> None:
        """Writes the record and the figure to ``options.out``.

        Raises:
            RunError: The folder cannot be written to or the disk is full.
        """
        import matplotlib

        layers = self.layers
        record: dict[str, Any] = {
            "schema": SCHEMA,
            "command": command,
            "options": json.loads(json.dumps(asdict(options), default=str)),
            "weights_sha256": _digest(options.weights),
            "environment": describe(device),
            "data": {name: _about(images) for name, images in (("train", train), ("test", test))},
            "num_classes": layers.num_classes,
            "accuracy_train": layers.accuracy_train,
            "accuracy_test": layers.accuracy_test,
            "layers": [layer.to_json() for layer in layers],
            "penultimate": layers.penultimate and layers.penultimate.to_json(),
            "depths": [asdict(found) for found in self.depths],
        }
        with matplotlib.rc_context(STYLE):
            picture = render(by_layer(layers, epsilon=options.epsilon))
        write_json(options.out / RECORD, record)
        write_atomic(options.out / FIGURE, picture)


def _digest(path: Path | None) -> str | None:
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


def _about(images: Images | None) -> dict[str, Any] | None:
    if images is None:
        return None
    return {"source": images.source, "note": images.note, "images": len(images)}
