"""Experiment G7: layers put on top of a network that would do without them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from dlaccel.experiment import Trial
from dlaccel.models._layers import Network

from .following import Data, follow
from .networks import make_network, parsed, put_on_top
from .samples import Samples, batches
from .training import MOMENTUM, Numbers

PROBE_RATE = 0.01
"""Learning rate of the linear probes, whose features have variance 1."""


def measure_top(trial: Trial, data: Data) -> None:
    """Trains the network with more and more layers on top; then a linear probe for every layer."""
    config = trial.config
    named = parsed(config.top_network)
    for top_depth in config.top_depths:
        samples, test = data(named.data)
        generator = trial.generator("topped network", top_depth)
        network = make_network(named, config.top_network_depth, samples, config, generator)
        put_on_top(network, top_depth, config.top_kind, generator)
        where = {"network": named.network, "data": named.data, "top_depth": top_depth}
        follow(trial, "top", network, (samples, test), config.top_epochs, **where)
        shuffle = trial.generator("probe", top_depth)
        found = cache(partial(probe, network, samples, test, config.batch, shuffle))
        for layer, name in enumerate(network.embeddings, 1):
            accuracy = partial(_of_layer, found, name)
            trial.measure("probe", accuracy, **where, layer=layer, module=name)


def _of_layer(found: Callable[[], dict[str, float]], name: str) -> Numbers:
    return {"accuracy_test": found()[name]}


def probe(
    network: Network, samples: Samples, test: Samples, batch: int, shuffle: Generator
) -> dict[str, float]:
    """Test accuracy of a linear classifier on each of the network's embeddings.

    All are trained in one epoch of SGD from zero, on features brought to mean 0 and variance 1 by
    the statistics of the batch (of the epoch, when tested); the network stands still.
    """
    network.eval()
    features: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> None:
        features[name] = output.detach().flatten(1)

    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: keep(name, output)
        )
        for name in network.embeddings
    ]
    try:
        with torch.no_grad():
            network(samples.inputs[:2])
        probes = {
            name: _probe(features[name].shape[1], samples.classes).to(samples.inputs.device)
            for name in network.embeddings
        }
        weights = [weight for each in probes.values() for weight in each.parameters()]
        optimizer = torch.optim.SGD(weights, PROBE_RATE, MOMENTUM)
        order = torch.randperm(len(samples), generator=shuffle).to(samples.labels.device)
        for rows in torch.split(order, batch):
            if len(rows) < 2:
                continue
            with torch.no_grad():
                network(samples.inputs[rows])
            y = samples.labels[rows]
            losses = [F.cross_entropy(each(features[name]), y) for name, each in probes.items()]
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        right = dict.fromkeys(probes, 0)
        with torch.no_grad():
            for x, y in batches(test.inputs, test.labels):
                network(x)
                for name, each in probes.items():
                    right[name] += int((each.eval()(features[name]).argmax(1) == y).sum())
    finally:
        for hook in hooks:
            hook.remove()
    return {name: count / len(test) for name, count in right.items()}


def _probe(width: int, classes: int) -> nn.Sequential:
    head = nn.Linear(width, classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    # momentum None: the statistics of the whole epoch, evenly.
    return nn.Sequential(nn.BatchNorm1d(width, momentum=None, affine=False), head)
