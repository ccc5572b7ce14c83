"""Every layer of a network measured while the data streams through it twice, nothing stored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor, nn

from .. import _check
from ._batches import Batches, eager, evaluating, home, pairs, repeatable
from ._hooks import Taps, layer_names, penultimate_of
from .geometry import ClassGeometry
from .layers import Layer, Layers
from .nearest_centre import NearestCentre
from .projection import Projections
from .statistics import ClassStatistics


def measure(
    model: nn.Module,
    loader: Batches,
    *,
    layers: str | Sequence[str] | None = None,
    test: Batches | None = None,
    num_classes: int | None = None,
    device: torch.device | str | None = None,
) -> Layers:
    """Class statistics of every layer at once.

    The first sweep over ``loader`` collects counts, means and variances; the second calls each
    sample by the nearest centre and projects it on the centres; ``test`` is swept once. For a layer
    of D numbers the state is a few times (C, D) float64, whatever the number of samples. The model
    runs in eval mode, uncompiled, without gradient, and under ``torch.autocast`` where that is on;
    each module's mode is put back. The statistics are float64.

    Args:
        model: Any module that takes the batches' inputs.
        loader: Batches (inputs, labels, ...), such as a ``DataLoader`` or a list of them; labels
            (N,) int64 or int32, -1 is ignored.
        layers: Names of modules or patterns (``*`` matches dots too); by default those of the
            model's ``embeddings`` where it has them, else every module without children that owns
            parameters. A layer gives a tensor with a row for each sample, which is flattened, or a
            tuple that begins with one.
        test: Batches on which the centres of ``loader`` are tried.
        num_classes: C; by default the width of the model's output.
        device: Where inputs and labels go; by default where the model's first parameter is.

    Returns:
        A row for each layer, in the order in which a forward reaches them.

    Raises:
        TypeError: An argument, a batch or a layer's output is of another kind; a loader that can be
            swept only once, as a generator, is refused.
        ValueError: A layer is unknown, never called or called twice in a forward, a loader is
            empty, labels are out of range.

    Source: arXiv 2202.09028, sections 2 and 5; arXiv 2112.15121, section 4.
    """
    names = layer_names("measure", model, layers)
    top = penultimate_of(model) if layers is None else None
    watched = tuple(dict.fromkeys([*names, *([top] if top else [])]))
    repeatable("measure", "loader", loader)
    place = home(model, device)
    with torch.no_grad(), eager(), evaluating(model), Taps("measure", model, watched) as taps:
        stream = pairs("measure", "loader", loader, place)
        if num_classes is None:
            first = next(stream)
            num_classes = _outputs(model(first[0]))
            stream = chain([first], stream)
        moments = _Moments(num_classes)
        _sweep(model, taps, stream, moments)
        order = tuple(taps.order)
        geometries = moments.compute()
        train, projected = _Calls(geometries), _Projected(geometries)
        again = pairs("measure", "loader, in its second sweep,", loader, place)
        _sweep(model, taps, again, train, projected)
        tested = None
        if test is not None:
            tested = _Moments(num_classes), _Calls(geometries)
            _sweep(model, taps, pairs("measure", "test", test, place), *tested)
    rows = {
        name: _row(name, geometries[name], projected.layers[name], train, tested) for name in order
    }
    return Layers(
        rows=tuple(row for name, row in rows.items() if name in names),
        penultimate=rows[top] if top else None,
        num_classes=num_classes,
        accuracy_train=train.network_accuracy(),
        accuracy_test=tested[1].network_accuracy() if tested else None,
    )


def _outputs(output: object) -> int:
    """C, from the model's output (N, C)."""
    if not isinstance(output, Tensor) or output.ndim != 2:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        rule = "be given for a model whose output is not (N, C)"
        _check.refuse("measure", "num_classes", rule, f"None and {got}", ValueError)
    return output.shape[1]


class _Observer(Protocol):
    """What a sweep shows every batch to."""

    def layer(self, name: str, rows: Tensor, labels: Tensor) -> None:
        """Features (N, D) of one layer."""

    def network(self, output: object, labels: Tensor) -> None:
        """What the network gave, once every layer was seen."""


def _sweep(
    model: nn.Module,
    taps: Taps,
    stream: Iterable[tuple[Tensor, Tensor]],
    *observers: _Observer,
) -> None:
    for x, labels in stream:

        def receive(name: str, rows: Tensor, labels: Tensor = labels) -> None:
            for observer in observers:
                observer.layer(name, rows, labels.to(rows.device))

        with taps.forward(len(labels), receive):
            output = model(x)
        for observer in observers:
            observer.network(output, labels)


class _Moments:
    """Counts, means and variances of every layer."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.layers: dict[str, ClassStatistics] = {}

    def layer(self, name: str, rows: Tensor, labels: Tensor) -> None:
        if name not in self.layers:
            self.layers[name] = ClassStatistics(self.num_classes, device=rows.device)
        self.layers[name].update(rows, labels)

    def network(self, output: object, labels: Tensor) -> None:
        pass

    def compute(self) -> dict[str, ClassGeometry]:
        return {name: statistics.compute() for name, statistics in self.layers.items()}


class _Projected:
    """Spreads along the lines between centres."""

    def __init__(self, geometries: Mapping[str, ClassGeometry]) -> None:
        self.layers = {name: Projections(found) for name, found in geometries.items()}

    def layer(self, name: str, rows: Tensor, labels: Tensor) -> None:
        self.layers[name].update(rows, labels)

    def network(self, output: object, labels: Tensor) -> None:
        pass


class _Calls:
    """How often each layer's nearest centre is right, and at odds with the network.

    Counts stay where they are made until they are read: no batch waits for a GPU.
    """

    def __init__(self, geometries: Mapping[str, ClassGeometry]) -> None:
        self._centres = {name: NearestCentre(found.means) for name, found in geometries.items()}
        self._calls: dict[str, Tensor] = {}
        self._counts: dict[tuple[str, str], Tensor] = {}
        self._scored = True

    def layer(self, name: str, rows: Tensor, labels: Tensor) -> None:
        self._calls[name] = self._centres[name].predict(rows)
        self._count("right", name, (self._calls[name] == labels) & (labels >= 0))

    def network(self, output: object, labels: Tensor) -> None:
        used = labels >= 0
        self._count("samples", "", used)
        self._scored &= isinstance(output, Tensor) and output.ndim == 2
        if not isinstance(output, Tensor) or not self._scored:
            return
        own = output.argmax(1)
        self._count("right", "", (own == labels) & used)
        for name, calls in self._calls.items():
            self._count("other", name, (calls != own.to(calls.device)) & used.to(calls.device))

    def accuracy(self, name: str) -> float:
        """Of a layer's nearest centre."""
        return self._share("right", name)

    def network_accuracy(self) -> float | None:
        """None for a network that gives no scores."""
        return self._share("right", "") if self._scored else None

    def mismatch(self, name: str) -> float | None:
        """Share of the samples that a layer's nearest centre and the network call differently."""
        return self._share("other", name) if self._scored else None

    def _count(self, what: str, name: str, hits: Tensor) -> None:
        now = hits.sum()
        before = self._counts.get((what, name))
        self._counts[what, name] = now if before is None else before + now

    def _share(self, what: str, name: str) -> float:
        samples = int(self._counts["samples", ""])
        return int(self._counts[what, name]) / samples if samples else math.nan


def _row(
    name: str,
    geometry: ClassGeometry,
    projections: Projections,
    train: _Calls,
    test: tuple[_Moments, _Calls] | None,
) -> Layer:
    spread, projected = geometry.cdnv(), projections.compute()
    return Layer(
        name=name,
        width=geometry.means.shape[1],
        cdnv=float(spread.mean),
        cdnv_median=float(spread.median),
        directional_cdnv=float(projected.cdnv.mean),
        variance=float(geometry.variances.nanmean()),
        distance=float(geometry.distances().min),
        nc1=float(projected.nc1),
        ncc_train=train.accuracy(name),
        nc4_train=train.mismatch(name),
        cdnv_test=float(test[0].layers[name].compute().cdnv().mean) if test else None,
        ncc_test=test[1].accuracy(name) if test else None,
        nc4_test=test[1].mismatch(name) if test else None,
        geometry=geometry,
    )
