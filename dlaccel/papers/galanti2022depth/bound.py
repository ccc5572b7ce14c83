"""Experiments G5 and G6: the bound with corrupted labels, and its two assumptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dlaccel.experiment import Row, Trial

from .config import Config
from .following import Data, look
from .networks import Named, make_network, parsed
from .norms import norm_bounds
from .samples import EVALUATED, Samples
from .theory import (
    Estimate,
    Mistakes,
    balanced_samples,
    bound_estimate,
    minimal_depth,
    monotonicity_failures,
    wrong_labels,
)
from .training import Numbers, Pupil, train_all


@dataclass(frozen=True, eq=False)
class Draw:
    """S1, S2 and the wrong labels of S2, on the device of the samples.

    Attributes:
        first: Rows of S1.
        second: Rows of S2.
        wrong: Labels of S2 with a share p wrong, by p.
    """

    first: Tensor
    second: Tensor
    wrong: dict[float, Tensor]


def measure_bound(trial: Trial, data: Data) -> None:
    """For each network: effective depths on S1 and on S1 u S~2 at every L, then the bound."""
    config = trial.config
    for text in config.bound_networks:
        named = parsed(text)
        samples, test = data(named.data)
        draws = [_draw(trial, samples, text, number) for number in range(config.draws)]
        where: dict[str, Any] = {"network": named.network, "data": named.data}
        rows = []
        for depth in config.bound_depths:
            rows += _train(trial, named, samples, test, draws, **where, depth=depth)
        minimal = _minimal(config, rows)
        for depth in config.bound_depths:
            of_depth = [row for row in rows if row["depth"] == depth]
            chance = 1 - 1 / samples.classes
            _compare(trial, of_depth, minimal, chance, **where, depth=depth)


def _draw(trial: Trial, samples: Samples, text: str, number: int) -> Draw:
    config, labels = trial.config, samples.labels.cpu()
    least = int(torch.bincount(labels, minlength=samples.classes).min())
    per_class = config.bound_samples // samples.classes or least // 2
    generator = trial.generator("S1, S2", text, number)
    first, second = balanced_samples(labels, per_class, 2, generator)
    device = trial.device
    wrong = {
        p: wrong_labels(labels[second], p, samples.classes, generator).to(device)
        for p in config.wrong_shares
    }
    return Draw(first.to(device), second.to(device), wrong)


def _train(
    trial: Trial,
    named: Named,
    samples: Samples,
    test: Samples,
    draws: Sequence[Draw],
    /,
    **where: Any,
) -> list[Row]:
    """Networks of one depth: a row for each, and the mistakes of those that learned S1 alone."""
    config, depth = trial.config, where["depth"]
    # p = 0 stands for S1 alone.
    points = [
        (number, p, start)
        for number in range(config.draws)
        for p in (0.0, *config.wrong_shares)
        for start in range(config.starts)
    ]
    pupils: list[Pupil] = []
    for number, p, start in points:
        generator = trial.generator("bound network", named.data, depth, start)
        network = make_network(named, depth, samples, config, generator).to(trial.device)
        draw, labels = draws[number], samples.labels
        chosen = torch.cat([draw.first, draw.second]) if p else draw.first
        learned = torch.cat([labels[draw.first], draw.wrong[p]]) if p else labels[draw.first]
        pupils.append(Pupil(network, chosen, learned))
    train_all(trial, "bound_training", samples, pupils, config.bound_epochs, **where)
    rows = [
        trial.measure(
            "bound_network",
            partial(_look, pupil, samples, test, config.epsilon, clean=p == 0),
            **where,
            draw=number,
            p=p,
            start=start,
        )
        for (number, p, start), pupil in zip(points, pupils, strict=True)
    ]
    clean = [
        [pupils[points.index((number, 0.0, start))].network for start in range(config.starts)]
        for number in range(config.draws)
    ]
    for number, networks in enumerate(clean):
        mistakes = partial(_mistakes, trial, networks, samples, draws[number].second)
        trial.measure("mistakes", mistakes, **where, draw=number)
    return rows


def _look(pupil: Pupil, samples: Samples, test: Samples, epsilon: float, *, clean: bool) -> Numbers:
    """The effective depth of a network on what it learned; for S1 also what it does beside it."""
    x = samples.inputs[pupil.rows]
    found = look(pupil.network, x, pupil.labels, test)
    assert found.accuracy_train is not None
    assert found.accuracy_test is not None
    numbers: Numbers = {
        "effective_depth": found.effective_depth(epsilon),
        "error_train": 1 - found.accuracy_train,
        "error_test": 1 - found.accuracy_test,
    }
    return {**numbers, **norm_bounds(pupil.network, x, pupil.labels)} if clean else numbers


def _minimal(config: Config, rows: Sequence[Row]) -> dict[float, list[int]]:
    """The least depth found on S1 u S~2 by any network of any L, for each draw, by p."""
    deepest = max(config.bound_depths)
    found: dict[tuple[float, int], list[int | None]] = {}
    for row in rows:
        found.setdefault((row["p"], row["draw"]), []).append(row["effective_depth"])
    return {
        p: [minimal_depth(found[p, number], deepest) for number in range(config.draws)]
        for p in config.wrong_shares
    }


def _compare(
    trial: Trial,
    rows: Sequence[Row],
    minimal: Mapping[float, Sequence[int]],
    chance: float,
    /,
    **where: Any,
) -> None:
    """The estimate at each p, the best of them beside the test error and other bounds, delta^2."""
    config, depth = trial.config, where["depth"]
    clean = [row for row in rows if row["p"] == 0]
    effective = [
        [row["effective_depth"] or depth + 1 for row in clean if row["draw"] == number]
        for number in range(config.draws)
    ]
    failures = monotonicity_failures(minimal, config.alpha)
    estimates = []
    for p in config.wrong_shares:
        estimate = bound_estimate(effective, minimal[p], p, config.alpha)
        estimates.append(estimate)
        shown = {
            "effective": _mean([_mean(each) for each in effective]),
            "minimal": _mean(minimal[p]),
            "error_train": _mean([row["error_train"] for row in rows if row["p"] == p]),
            "probability": estimate.probability,
            "estimate": estimate.value,
            "delta_2": failures.get(p),
        }
        trial.measure("bound_at", partial(dict, shown), **where, p=p)
    best = partial(_best, estimates, clean)
    trial.measure("bound", lambda: {**best(), "epsilon": config.epsilon, "chance": chance}, **where)


def _best(estimates: Sequence[Estimate], clean: Sequence[Row]) -> Numbers:
    best = min(estimates, key=lambda estimate: estimate.value)
    errors = [row["error_test"] for row in clean]
    numbers: Numbers = {
        "error_test": _mean(errors),
        "error_worst": max(errors),
        "estimate": best.value,
        "p": best.p,
        "place": estimates.index(best),
    }
    for name in ("frobenius", "spectral"):
        bounds = [row[name] for row in clean if row[name] is not None]
        numbers[name] = _mean(bounds) if bounds else None
    return numbers


@torch.no_grad()
def _mistakes(
    trial: Trial, networks: Sequence[nn.Module], samples: Samples, rows: Tensor
) -> Numbers:
    """Of networks trained on S1, on the samples of S2 with their true labels."""
    x = samples.inputs[rows]
    predictions = torch.stack(
        [
            torch.cat([network.eval()(part).argmax(1) for part in torch.split(x, EVALUATED)])
            for network in networks
        ]
    )
    generator = trial.generator("uniform mistakes")
    found = Mistakes.of(predictions.cpu(), samples.labels[rows].cpu(), samples.classes, generator)
    return {
        "mistakes": found.count,
        "labels": found.labels,
        "labels_uniform": found.labels_uniform,
        "overlap": found.overlap,
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
