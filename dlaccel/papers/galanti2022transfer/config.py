"""What a run may be asked for, and the three sizes that it comes in."""

from __future__ import annotations

from dataclasses import dataclass

from .._source_training import (
    NETWORK_RULE,
    SourceConfig,
    between,
    check_fields,
    each,
    is_network,
)


@dataclass(frozen=True)
class Config(SourceConfig):
    """Sizes of the experiments E1 to E4; see the paper's page in the docs for each."""

    tasks: tuple[str, ...] = ("omniglot", "tiny_imagenet")
    source_classes: tuple[int, ...] = (10, 30, 100, 300, 964)
    network: str = "conv4-32"
    rate: float = 0.05
    steps: int = 1500
    batch: int = 64
    weight_decay: float = 5e-4
    records: int = 4
    probed_classes: int = 200
    matched_samples: int = 5
    shots: tuple[int, ...] = (1, 5)
    other_rates: tuple[float, ...] = (0.0125, 0.2)
    """E3: further learning rates, on the first task with the most source classes."""
    other_networks: tuple[str, ...] = ("plain-10-1", "mlp-3-256")
    """E3: further networks, on the first task with the most source classes."""

    def __post_init__(self) -> None:
        """Refuses a field out of range with one sentence.

        Raises:
            ValueError: Naming the field, the rule and the value.
        """
        check_fields(self, "galanti2022transfer", _RULES)


_RULES = (
    (("other_rates",), "be numbers from 1e-6 to 10", each(between(1e-6, 10), 0)),
    (("other_networks",), NETWORK_RULE, each(is_network, 0)),
)

PROFILES: dict[str, Config] = {
    "smoke": Config(
        tasks=("digits",),
        source_classes=(5, 12, 24, 48),
        network="mlp-3-128",
        steps=600,
        batch=32,
        records=6,
        matched_samples=40,
        episodes=300,
        other_networks=("mlp-1-128", "mlp-5-128"),
    ),
    "medium": Config(),
    "paper": Config(
        tasks=("cifar100", "cifar100_superclasses", "mini_imagenet.npz", "emnist.npz"),
        source_classes=(5, 10, 20, 30, 40, 50, 64),
        network="wrn-28-4",
        rate=2**-4,
        steps=60_000,
        records=30,
        matched_samples=50,
        episodes=2000,
        other_rates=(2**-2, 2**-3, 2**-5, 2**-6),
        other_networks=("plain-16-2", "plain-28-4", "wrn-16-4"),
    ),
}
"""smoke: about a minute on two cores; medium: about an hour; paper: a GPU, data from the user."""

SEEDS: dict[str, int] = {"smoke": 3, "medium": 5, "paper": 3}
"""Seeds of each profile."""
