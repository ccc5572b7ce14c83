"""A checkpoint's features, kept once; every number of the papers is computed from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from dlaccel.collapse import ClassGeometry, ClassStatistics, Projections
from dlaccel.data import Images

from .tasks import SETS, Source, Task, drawn_samples
from .training import Numbers, SourceNetwork

BATCH = 1024
"""Images of a forward pass of the evaluation."""


@dataclass(frozen=True)
class Embedded:
    """Features of labelled samples.

    Attributes:
        features: f(x), ``(N, p)`` float32.
        labels: ``(N,)`` int64.
        classes: C.
        logits: ``(N, l)``, of the source classifier; None where there is no network.
    """

    features: Tensor
    labels: Tensor
    classes: int
    logits: Tensor | None = None


@torch.no_grad()
def embed(made: SourceNetwork, images: Images, device: torch.device) -> Embedded:
    """f(x) of all images: what enters the head, in evaluation mode, without augmentation."""
    network = made.network.to(device).eval()
    kept: list[Tensor] = []
    layer = network.get_submodule(str(network.penultimate))
    hook = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        parts = torch.split(images.images, BATCH)
        logits = [network(made.inputs(part.to(device))) for part in parts]
    finally:
        hook.remove()
    features = torch.cat(kept).flatten(1)
    labels = images.labels.to(device)
    return Embedded(features, labels, images.num_classes, torch.cat(logits))


def pixels_of(images: Images, device: torch.device) -> Embedded:
    """The raw pixels in [0, 1] as features: the baseline without a network."""
    features = images.images.to(device).flatten(1).float() / 255
    return Embedded(features, images.labels.to(device), images.num_classes)


@dataclass(frozen=True)
class Probe:
    """What a checkpoint is evaluated on.

    Attributes:
        images: By the names in ``SETS`` and, where the task has one, ``validation``.
        matched: For each of ``SETS``, the same number of samples of each class, as a mask; none
            where a class has fewer.
    """

    images: Mapping[str, Images]
    matched: Mapping[str, Tensor]


def probe_of(task: Task, source: Source, classes: int, samples: int, generator: Generator) -> Probe:
    """At most so many classes of each set, and so many samples of each in the matched sets.

    Source classes stand in random order, so that the first of them are a random choice with their
    own labels.
    """
    few = range(min(classes, source.train.num_classes))
    images = {"train": source.train.of_classes(few), "test": source.test.of_classes(few)}
    unseen = {"target": task.target, "validation": task.validation}
    for name, each in unseen.items():
        if each is not None:
            order = torch.randperm(each.num_classes, generator=generator)
            images[name] = each.of_classes(order[:classes].sort().values)
    matched = {
        name: drawn_samples(images[name], samples, generator)
        for name in SETS
        if int(images[name].counts().min()) >= samples
    }
    return Probe(images, matched)


def take_checkpoint(made: SourceNetwork, probe: Probe, device: torch.device) -> dict[str, Embedded]:
    """One pass over the images of every set of a probe."""
    return {name: embed(made, images, device) for name, images in probe.images.items()}


def geometry_of(embedded: Embedded, moments: Literal["trace", "pooled"] = "trace") -> ClassGeometry:
    """Class means and variances."""
    statistics = ClassStatistics(embedded.classes, moments=moments)
    statistics.update(embedded.features, embedded.labels)
    return statistics.compute()


def set_numbers(
    name: str, embedded: Embedded, geometry: ClassGeometry, matched: Tensor | None
) -> Numbers:
    """q1 and q4 of one set: CDNV, directional CDNV, distances of class means.

    Averages run over pairs of classes; the median says how much a few close pairs weigh. Means of n
    samples are farther apart than those of all, so that CDNV of n samples is too small, about
    1 / (1/V + 2/n): sets are compared by that of their matched samples, all of one n.
    """
    cdnv, distances = geometry.cdnv(), geometry.distances()
    projections = Projections(geometry)
    projections.update(embedded.features, embedded.labels)
    few = None if matched is None else _cdnv_of(embedded, matched)
    return {
        f"cdnv_{name}": float(cdnv.mean),
        f"median_{name}": float(cdnv.median),
        f"matched_{name}": few,
        f"directional_{name}": float(projections.compute().cdnv.mean),
        f"min_distance_{name}": float(distances.min),
        f"mean_distance_{name}": float(distances.mean),
    }


def _cdnv_of(embedded: Embedded, rows: Tensor) -> float:
    statistics = ClassStatistics(embedded.classes)
    statistics.update(embedded.features[rows], embedded.labels[rows])
    return float(statistics.compute().cdnv().mean)
