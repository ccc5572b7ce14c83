"""Experiments G1 to G3: the same network at many depths; and G4: with random labels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from dlaccel.collapse.layers import Layers
from dlaccel.collapse.network import measure
from dlaccel.experiment import Trial

from .following import (
    Data,
    follow,
    layer_numbers,
    look,
    network_numbers,
    record_layers,
)
from .networks import make_network, parsed
from .published import reference
from .samples import batches
from .theory import noisy_labels
from .training import Numbers, Pupil, train_all


def measure_pixels(trial: Trial, data: Data) -> None:
    """The baseline without a network: class centres of the images themselves."""
    config = trial.config
    named = [*config.networks, config.noise_network]
    for name in dict.fromkeys(parsed(text).data for text in named):
        trial.measure("pixels", partial(_pixels, data, name), once=True, data=name)


def _pixels(data: Data, name: str) -> Numbers:
    samples, test = data(name)
    numbers = samples.inputs[0].numel()
    head = nn.Linear(numbers, samples.classes, device=samples.inputs.device)
    images = nn.Sequential(OrderedDict(pixels=nn.Flatten(), head=head))
    train = batches(samples.inputs, samples.labels)
    found = measure(images, train, layers="pixels", test=batches(test.inputs, test.labels))
    return {"classes": samples.classes, **layer_numbers(lambda: found, 1)}


def measure_depths(trial: Trial, data: Data) -> None:
    """Trains each network at each depth and measures its layers as it goes."""
    config = trial.config
    for text, epochs in zip(config.networks, config.epochs, strict=True):
        named = parsed(text)
        _, published = reference(named.network, named.data)
        for depth in config.depths:
            samples = data(named.data)
            generator = trial.generator("network", text, depth)
            network = make_network(named, depth, samples[0], config, generator)
            follow(
                trial,
                "depth",
                network,
                samples,
                epochs,
                records=config.records,
                theirs=published.get(depth, ()),
                network=named.network,
                data=named.data,
                depth=depth,
            )


def measure_noise(trial: Trial, data: Data) -> None:
    """Trains one network on labels of which a share q is redrawn, from one start, nested in q."""
    config = trial.config
    named, depth = parsed(config.noise_network), config.noise_depth
    samples, test = data(named.data)
    everything = torch.arange(len(samples), device=trial.device)
    pupils = {}
    for q in config.noise_levels:
        generator = trial.generator("noise network")
        network = make_network(named, depth, samples, config, generator).to(trial.device)
        draws = trial.generator("noise labels")
        labels = noisy_labels(samples.labels.cpu(), q, samples.classes, draws)
        pupils[q] = Pupil(network, everything, labels.to(trial.device))
    where: dict[str, Any] = {"network": named.network, "data": named.data, "depth": depth}

    def record(epoch: int) -> None:
        for q, pupil in pupils.items():
            found = cache(partial(look, pupil.network, samples.inputs, pupil.labels, test))
            at = {**where, "q": q, "epoch": epoch}
            record_layers(trial, "noise_layer", found, depth, **at)
            trial.measure("noise", partial(_network, found), **at)

    record(0)
    train_all(trial, "noise_training", samples, list(pupils.values()), config.noise_epochs, **where)
    record(config.noise_epochs)


def _network(found: Callable[[], Layers]) -> Numbers:
    return network_numbers(found())
