"""Few-shot accuracy of frozen features under several heads, over random episodes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from itertools import product
from typing import Literal

from dlaccel.collapse import FewShot, draw_episodes, few_shot
from dlaccel.experiment import Trial

from .checkpoint import Embedded, embed, pixels_of
from .tasks import Task
from .training import Numbers, SourceNetwork, start

Head = Literal["ncc", "ridge", "logistic"]


def accuracy(
    trial: Trial,
    task: str,
    embedded: Embedded,
    head: Head,
    shots: int,
    *,
    normalize: bool = False,
) -> FewShot:
    """Accuracy of the configuration's k ways with ``shots`` labelled samples of each class.

    One seed sees the same episodes at every checkpoint of a task.
    """
    config = trial.config
    seed = trial.generator("episodes", task, embedded.classes, shots).initial_seed()
    episodes = draw_episodes(
        embedded.labels,
        ways=min(config.ways, embedded.classes),
        shots=shots,
        queries=config.queries,
        episodes=config.episodes,
        seed=seed,
    )
    return few_shot(embedded.features, episodes, head=head, normalize=normalize, alpha=config.ridge)


def measure_heads(trial: Trial, task: Task, made: SourceNetwork, classes: int) -> None:
    """The heads on pixels, on the untrained and on the trained network's target features.

    Logistic regression, which is fitted episode by episode, on the last alone.
    """
    features: dict[str, Callable[[], Embedded]] = {
        "pixels": cache(lambda: pixels_of(task.target, trial.device)),
        "untrained": cache(
            lambda: embed(
                start(trial, task, classes, trial.config.network), task.target, trial.device
            )
        ),
        "trained": cache(lambda: embed(made, task.target, trial.device)),
    }
    grid = product(features, trial.config.heads, (False, True), (1, 5))
    for name, head, normalize, shots in grid:
        if head == "logistic" and name != "trained":
            continue
        trial.measure(
            "heads",
            partial(_measured, trial, task.name, features[name], head, shots, normalize),
            task=task.name,
            features=name,
            head=head,
            normalized=normalize,
            shots=shots,
        )


def _measured(
    trial: Trial,
    task: str,
    embedded: Callable[[], Embedded],
    head: Head,
    shots: int,
    normalize: bool,
) -> Numbers:
    found = accuracy(trial, task, embedded(), head, shots, normalize=normalize)
    low, high = found.interval()
    classes_low, classes_high = found.interval_over_classes()
    return {
        "accuracy": found.mean,
        "interval": (high - low) / 2,
        "classes_low": classes_low,
        "classes_high": classes_high,
    }
