"""A network measured layer by layer, while it trains or after: what G1 to G4 and G7 share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from dlaccel.collapse.layers import Layer, Layers
from dlaccel.collapse.network import measure
from dlaccel.experiment import Trial
from dlaccel.models._layers import Network

from .config import EPSILONS, Config
from .samples import Samples, batches, load_samples
from .training import Numbers, Pupil, train

Data = Callable[[str], tuple[Samples, Samples]]
"""Training and test samples of a data set."""


def reader(config: Config, device: torch.device) -> Data:
    """Reads each data set once."""

    @cache
    def read(name: str) -> tuple[Samples, Samples]:
        return load_samples(
            name,
            count=config.samples,
            test_count=config.test_samples,
            augment=config.augment,
            device=device,
        )

    return read


def look(network: Network, x: Tensor, labels: Tensor, test: Samples) -> Layers:
    """All layers in evaluation mode, without augmentation.

    Nearest centres and CDNV of the training inputs ``x`` under the labels that were learned, and of
    the test samples under their own.
    """
    tested = batches(test.inputs, test.labels)
    return measure(network, batches(x, labels), test=tested, num_classes=test.classes)


def record_layers(
    trial: Trial,
    name: str,
    found: Callable[[], Layers],
    count: int,
    /,
    *,
    theirs: Sequence[float] | None = None,
    **where: Any,
) -> None:
    """A row for each of ``count`` layers, from 1, with ``theirs`` as far as they are known."""
    for layer in range(1, count + 1):
        beside = {}
        if theirs is not None:
            beside["theirs"] = theirs[layer - 1] if layer <= len(theirs) else None
        numbers = partial(layer_numbers, found, layer, **beside)
        trial.measure(name, numbers, **where, layer=layer)


def layer_numbers(found: Callable[[], Layers], layer: int, **beside: float | None) -> Numbers:
    """What is recorded of a layer."""
    row: Layer = found()[layer - 1]
    return {
        "ncc_train": row.ncc_train,
        "ncc_test": row.ncc_test,
        "cdnv_train": row.cdnv,
        "cdnv_test": row.cdnv_test,
        **beside,
    }


def network_numbers(found: Layers) -> Numbers:
    """What is recorded of a network: accuracies, CDNV of first and last layer, effective depths."""
    depths = found.effective_depth(EPSILONS)
    return {
        "accuracy_train": found.accuracy_train,
        "accuracy_test": found.accuracy_test,
        "cdnv_first": found[0].cdnv,
        "cdnv_last": found[-1].cdnv,
        **{depth_column(epsilon): depth for epsilon, depth in zip(EPSILONS, depths, strict=True)},
    }


def depth_column(epsilon: float) -> str:
    """The column of an effective depth: ``d_05`` for 0.05; None where no layer reaches epsilon."""
    return f"d_{epsilon:g}".replace("0.", "")


def follow(
    trial: Trial,
    name: str,
    network: Network,
    data: tuple[Samples, Samples],
    epochs: int,
    /,
    *,
    records: int = 1,
    theirs: Sequence[float] | None = None,
    **where: Any,
) -> None:
    """Trains a network; it is measured before and ``records`` times, evenly spaced.

    A row ``name`` for the network, and ``<name>_layer`` for each of its ``embeddings``.

    Args:
        trial: The trial.
        name: Of the measurement.
        network: To be trained.
        data: Training and test samples.
        epochs: How long.
        records: Evaluations beside the one before training.
        theirs: Published accuracies of the trained layers, to stand beside ours.
        where: The grid point.
    """
    samples, test = data
    network.to(trial.device)
    layers = len(network.embeddings)

    def observe(epoch: int) -> Numbers:
        found = look(network, samples.inputs, samples.labels, test)
        beside = theirs if theirs is None or epoch == epochs else ()
        record_layers(
            trial, f"{name}_layer", lambda: found, layers, theirs=beside, **where, epoch=epoch
        )
        return {"epoch": epoch, **network_numbers(found)}

    trial.measure(name, partial(observe, 0), **where, step=0)
    everything = torch.arange(len(samples), device=samples.labels.device)
    pupils = [Pupil(network, everything, samples.labels)]
    train(
        trial,
        name,
        samples,
        pupils,
        epochs,
        weight_decay=trial.config.weight_decay,
        records=records,
        observe=observe,
        **where,
    )
