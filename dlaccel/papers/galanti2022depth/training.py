"""Training one network, or many of one shape side by side; killed and resumed to the same bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import stack_module_state

from dlaccel.experiment import Trial
from dlaccel.models import MLP
from dlaccel.models._layers import Network

from .samples import Samples

Numbers = dict[str, Any]

LOSSES = 5
"""Losses that are recorded of a training whose networks are measured at its end alone."""

MOMENTUM = 0.9
DECAY = 0.2
"""Of the learning rate, as in the published code; its README says 0.1."""


@dataclass(frozen=True, eq=False)
class Pupil:
    """A network and what it learns.

    Attributes:
        network: The network, on the device of the samples.
        rows: Which samples.
        labels: What they are said to be, one for each row.
    """

    network: Network
    rows: Tensor
    labels: Tensor


class Stack:
    """MLPs of one shape trained as one: many small products become few large ones.

    The parameters are copies; ``unstack`` writes them back into the networks.
    """

    def __init__(self, networks: Sequence[MLP]) -> None:
        self.networks = networks
        self.parameters, self.buffers = stack_module_state(list(networks))

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs in training mode: ``[K, B, ...]`` to ``[K, B, C]``."""
        h = x.flatten(2)
        for i in range(len(self.networks[0].layers)):
            h = torch.relu(self._norm(f"layers.{i}.norm", self._linear(f"layers.{i}.linear", h)))
        return self._linear("head", h)

    def _linear(self, name: str, h: Tensor) -> Tensor:
        weight, bias = (self.parameters[f"{name}.{part}"] for part in ("weight", "bias"))
        return torch.baddbmm(bias[:, None], h, weight.mT)

    def _norm(self, name: str, h: Tensor) -> Tensor:
        """Batch norm of K times as many columns, ``[B, K H]``; updates the running statistics."""
        weight, bias = (self.parameters[f"{name}.{part}"] for part in ("weight", "bias"))
        mean, var = (self.buffers[f"{name}.running_{part}"] for part in ("mean", "var"))
        self.buffers[f"{name}.num_batches_tracked"] += 1
        columns = h.transpose(0, 1).flatten(1)
        statistics = (mean.view(-1), var.view(-1), weight.flatten(), bias.flatten())
        normed = F.batch_norm(columns, *statistics, training=True)
        return normed.view(len(h[0]), *weight.shape).transpose(0, 1)

    def state_dict(self) -> dict[str, Any]:
        """All numbers, by name."""
        return {"parameters": dict(self.parameters), "buffers": dict(self.buffers)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Writes them in place."""
        for mine, saved in ((self.parameters, "parameters"), (self.buffers, "buffers")):
            for name, value in mine.items():
                value.copy_(state[saved][name])

    def unstack(self) -> None:
        """Gives each network its part."""
        stacked = {**self.parameters, **self.buffers}
        for place, network in enumerate(self.networks):
            network.load_state_dict({name: value[place] for name, value in stacked.items()})


def train_all(
    trial: Trial,
    name: str,
    samples: Samples,
    pupils: Sequence[Pupil],
    epochs: int,
    /,
    **where: Any,
) -> None:
    """Trains networks on labels of which some are wrong (G4 to G6).

    MLPs of one shape as one, other networks one after another, told apart by ``place``.
    """
    decay, records = trial.config.noisy_weight_decay, min(LOSSES, epochs)
    if all(isinstance(pupil.network, MLP) for pupil in pupils):
        train(trial, name, samples, pupils, epochs, weight_decay=decay, records=records, **where)
        return
    for place, pupil in enumerate(pupils):
        one, at = [pupil], {**where, "place": place}
        train(trial, name, samples, one, epochs, weight_decay=decay, records=records, **at)


def train(
    trial: Trial,
    name: str,
    samples: Samples,
    pupils: Sequence[Pupil],
    epochs: int,
    /,
    *,
    weight_decay: float,
    records: int = 1,
    observe: Callable[[int], Numbers] | None = None,
    **where: Any,
) -> None:
    """Trains the networks by SGD with momentum, each on its own rows, all for the same steps.

    An epoch is one pass over the rows of the pupil that has most. Each pupil draws its own
    permutation when it has been through its rows; the last, incomplete batch of a pass is left out.

    Args:
        trial: Its config gives batch, rate and milestones.
        name: Of the measurement.
        samples: What ``rows`` count in.
        pupils: One, or several MLPs of one shape.
        epochs: How long.
        weight_decay: Weight decay.
        records: Evaluations, evenly spaced over the epochs.
        observe: Numbers to record, of the epochs done.
        where: The grid point.
    """
    config = trial.config
    least, most = (pick(len(pupil.rows) for pupil in pupils) for pick in (min, max))
    batch = min(config.batch, least)
    per_epoch = most // batch
    steps = epochs * per_epoch
    stack = Stack([cast(MLP, pupil.network) for pupil in pupils]) if len(pupils) > 1 else None
    model: Any = stack or pupils[0].network
    optimizer = torch.optim.SGD(
        stack.parameters.values() if stack else model.parameters(),
        config.rate,
        MOMENTUM,
        weight_decay=weight_decay,
    )
    milestones = [round(share * steps) for share in config.milestones]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, DECAY)
    shifts = trial.generator("augment", name, *where.values())

    @lru_cache(len(pupils))
    def order(place: int, passed: int) -> Tensor:
        generator = trial.generator("order", name, place, passed, *where.values())
        return torch.randperm(len(pupils[place].rows), generator=generator)

    def drawn(step: int, place: int) -> Tensor:
        passed, at = divmod(step, len(pupils[place].rows) // batch)
        return order(place, passed)[at * batch : (at + 1) * batch].to(samples.labels.device)

    done = 0
    for pupil in pupils:
        pupil.network.train()

    def step(i: int) -> Numbers:
        nonlocal done
        done = i + 1
        chosen = [drawn(i, place) for place in range(len(pupils))]
        rows = torch.stack([p.rows[at] for p, at in zip(pupils, chosen, strict=True)])
        y = torch.stack([p.labels[at] for p, at in zip(pupils, chosen, strict=True)])
        x = samples.draw(rows.flatten(), shifts)
        logits = stack(x.view(*rows.shape, *x.shape[1:])) if stack else model(x)[None]
        # The sum over networks of each one's mean loss: no network feels another.
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum") / batch
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return {"loss": loss.detach() / len(pupils)}

    trial.train(
        name,
        {"model": model, "optimizer": optimizer, "schedule": schedule, "shifts": shifts},
        steps,
        step,
        every=per_epoch * -(-epochs // records),
        observe=None if observe is None else lambda: observe(done // per_epoch),
        **where,
    )
    if stack:
        stack.unstack()
