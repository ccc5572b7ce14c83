"""Fields that both papers have, and how a field out of range is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .network import parse_network
from .tasks import TASKS, is_path

HEADS = ("ncc", "ridge", "logistic")
"""Classifiers on frozen features: nearest class centre, ridge regression, logistic regression."""

Rule = tuple[tuple[str, ...], str, Callable[[Any], bool]]
"""Fields, the rule in words, the rule."""


@dataclass(frozen=True)
class SourceConfig:
    """Sources, targets, how a source classifier is trained, how its features are tried."""

    tasks: tuple[str, ...]
    """Data: digits, omniglot, tiny_imagenet, cifar100, cifar100_superclasses, or the path of an
    image folder or an npz file."""
    source_classes: tuple[int, ...]
    """l: numbers of source classes; more than a task has stands for all that it has."""
    network: str
    """mlp-LAYERS-WIDTH, conv4-WIDTH, wrn-DEPTH-FACTOR or plain-DEPTH-FACTOR (no skips)."""
    rate: float
    """Learning rate of SGD with momentum 0.9."""
    steps: int
    """Training steps, the same for every l; the rate falls to a tenth for the last quarter."""
    batch: int
    """Samples of a step."""
    weight_decay: float
    """Weight decay."""
    records: int
    """Checkpoints that are evaluated, evenly spaced, beside the untrained network."""
    probed_classes: int
    """Classes of each set, drawn once a seed, on which a checkpoint is evaluated."""
    matched_samples: int
    """Samples of each class on which CDNVs of different sets are compared."""
    shots: tuple[int, ...]
    """n: labelled samples of each target class; 1 and 5 are among them."""
    ways: int = 5
    """k: classes of an episode."""
    queries: int = 15
    """Samples of each class that an episode classifies."""
    episodes: int = 600
    """Episodes of an accuracy."""
    heads: tuple[str, ...] = HEADS
    """Classifiers on frozen features: ncc, ridge, logistic."""
    ridge: float = 1.0
    """alpha of the ridge regulariser alpha n^(1/2)."""


def between(low: float, high: float = math.inf) -> Callable[[float], bool]:
    """Whether a number lies in [low, high] and is finite."""
    return lambda value: low <= value <= high and value < math.inf


def each(holds: Callable[[Any], bool], count: int = 1) -> Callable[[Any], bool]:
    """Whether there are ``count`` values or more, and each holds."""
    return lambda values: len(values) >= count and all(map(holds, values))


positive = between(1)


def is_network(name: str) -> bool:
    """Whether ``name`` describes a network."""
    try:
        parse_network(name)
    except ValueError:
        return False
    return True


NETWORK_RULE = (
    "read mlp-LAYERS-WIDTH, conv4-WIDTH, wrn-DEPTH-FACTOR or plain-DEPTH-FACTOR, with a DEPTH of "
    "6 n + 4"
)

_RULES: tuple[Rule, ...] = (
    (
        ("tasks",),
        f"be one or more of {', '.join(TASKS)} or paths that hold a slash or end in .npz",
        each(lambda name: name in TASKS or is_path(name)),
    ),
    (("source_classes",), "be one or more integers from 2", each(between(2))),
    (("network",), NETWORK_RULE, is_network),
    (("rate",), "be between 1e-6 and 10", between(1e-6, 10)),
    (("steps", "records", "queries"), "be at least 1", positive),
    (
        ("batch", "ways", "episodes", "probed_classes", "matched_samples"),
        "be at least 2",
        between(2),
    ),
    (("weight_decay",), "be between 0 and 1", between(0, 1)),
    (
        ("shots",),
        "be integers from 1 that hold 1 and 5",
        lambda shots: {1, 5} <= set(shots) and all(map(positive, shots)),
    ),
    (
        ("heads",),
        f"hold ncc and be of {', '.join(HEADS)}",
        lambda heads: {"ncc"} <= set(heads) <= set(HEADS),
    ),
    (("ridge",), "be between 1e-6 and 1e6", between(1e-6, 1e6)),
)


def check_fields(config: SourceConfig, paper: str, rules: Iterable[Rule]) -> None:
    """Refuses a field out of range with one sentence.

    Raises:
        ValueError: naming the field, the rule and the value.
    """
    for names, rule, holds in (*_RULES, *rules):
        for name in names:
            value = getattr(config, name)
            if not holds(value):
                raise ValueError(f"dlaccel.{paper}: {name} must {rule}, got {value!r}.")
            if isinstance(value, tuple) and len(set(value)) < len(value):
                raise ValueError(
                    f"dlaccel.{paper}: {name} must hold each value once, got {value!r}."
                )
    if config.records > config.steps:
        raise ValueError(
            f"dlaccel.{paper}: records must be at most steps = {config.steps}, "
            f"got {config.records}."
        )
