"""Class statistics of a network's layers while it trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn

from .. import _check
from ._hooks import Taps, layer_names
from .geometry import ClassGeometry
from .statistics import ClassStatistics, Kept


class Watch:
    """What :func:`watch` gives; ``with`` it, the hooks are taken off at the end.

    Attributes:
        statistics: The :class:`ClassStatistics` of each layer, which merge and reduce over
            processes; a layer has one from its first update on.
    """

    def __init__(self, taps: Taps, num_classes: int, moments: Kept) -> None:
        self.statistics: dict[str, ClassStatistics] = {}
        self._taps = taps
        self._num_classes = num_classes
        self._moments = moments

    @contextmanager
    def labels(self, labels: Tensor) -> Iterator[None]:
        """Records the one forward that runs inside, of the samples with these labels (N,).

        -1 is ignored. Run the forward alone inside: a backward that recomputes layers
        (checkpointing) would be taken for a second forward.

        Raises:
            TypeError: ``labels`` is no tensor.
            ValueError: it has not one axis, or a layer is called twice, or never.
        """
        _check.tensors("watch", {"labels": labels})
        if labels.ndim != 1:
            _check.refuse("watch", "labels", "have one axis", tuple(labels.shape), ValueError)
        with self._taps.forward(len(labels), partial(self._update, labels)):
            yield

    def compute(self) -> dict[str, ClassGeometry]:
        """The geometry of the classes in each layer, over all that was recorded since ``reset``."""
        return {name: found.compute() for name, found in self.statistics.items()}

    def reset(self) -> None:
        """Forgets what was recorded; the hooks stay."""
        self.statistics = {}

    def remove(self) -> None:
        """Takes the hooks off the network; what was recorded stays."""
        self._taps.remove()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _update(self, labels: Tensor, name: str, rows: Tensor) -> None:
        found = self.statistics.get(name)
        if found is None:
            found = ClassStatistics(self._num_classes, moments=self._moments, device=rows.device)
            self.statistics[name] = found
        found.update(rows, labels.to(rows.device, non_blocking=True))


def watch(
    model: nn.Module,
    *,
    layers: str | Sequence[str] | None = None,
    num_classes: int,
    moments: Kept = "trace",
) -> Watch:
    """Hooks that collect class statistics of layers while a network trains.

    .. code-block:: python

        watch = collapse.watch(model, num_classes=10)
        with watch.labels(y):
            loss = criterion(model(x), y)
        watch.compute()["layers.3.conv"].cdnv().mean

    Outside of ``labels`` nothing is recorded. The statistics are those of the features as the
    forward makes them: weights that change between two batches change them. Nothing in a hook waits
    for a GPU. Under ``torch.autocast`` the features are taken as they are; a network compiled with
    ``torch.compile`` has to be watched before its first call, and leaves its graph at every watched
    layer of a recorded forward.

    Args:
        model: Any module.
        layers: Names of modules or patterns, as for :func:`measure`.
        num_classes: C.
        moments: What :class:`ClassStatistics` collects.

    Raises:
        TypeError: ``model`` is no module or ``layers`` no names.
        ValueError: A layer is unknown.
    """
    names = layer_names("watch", model, layers)
    return Watch(Taps("watch", model, names), num_classes, moments)
