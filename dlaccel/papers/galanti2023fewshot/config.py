"""What a run may be asked for, and the three sizes that it comes in."""

from __future__ import annotations

from dataclasses import dataclass

from .._source_training import SourceConfig, between, check_fields, each, positive


@dataclass(frozen=True)
class Config(SourceConfig):
    """Sizes of the experiments X1 to X6; see the paper's page in the docs for each."""

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
    shots: tuple[int, ...] = (1, 2, 5, 10)
    numbers_of_ways: tuple[int, ...] = (2, 5, 10, 20)
    """q3: k of the k-way errors; one above the number of classes is left out."""
    draws: int = 50
    """q2, q3: supports drawn for every class."""
    samples: tuple[int, ...] = (5, 10)
    """X4: m, samples of each source class, beside all that there are."""
    samples_classes: int = 100
    """X4: l at which m is varied."""
    gaussian_dimensions: tuple[int, ...] = (4, 16, 64, 256)
    """T4, T5: dimensions p of the Gaussian classes."""
    gaussian_cdnv: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    """T4: CDNVs of the Gaussian classes."""
    gaussian_draws: int = 50_000
    """T4, T5: draws of the Gaussian classes."""
    rate_dimensions: tuple[int, ...] = (8, 32, 128)
    """Rate of l: dimensions p of the random class means."""
    rate_classes: tuple[int, ...] = (8, 16, 32, 64, 128, 256, 512)
    """Rate of l: numbers of classes."""
    rate_repeats: int = 60
    """Rate of l: draws of the class means."""

    def __post_init__(self) -> None:
        """Refuses a field out of range with one sentence.

        Raises:
            ValueError: Naming the field, the rule and the value.
        """
        check_fields(self, "galanti2023fewshot", _RULES)
        if self.samples_classes not in self.source_classes:
            raise ValueError(
                "dlaccel.galanti2023fewshot: samples_classes must be one of source_classes "
                f"{self.source_classes}, got {self.samples_classes}."
            )


_RULES = (
    (("draws",), "be at least 1", positive),
    (("samples_classes", "rate_repeats"), "be at least 2", between(2)),
    (("gaussian_draws",), "be at least 1000", between(1000)),
    (
        ("numbers_of_ways",),
        "be integers from 2 that hold 2",
        lambda ways: 2 in ways and all(map(between(2), ways)),
    ),
    (("samples",), "be integers from 1", each(positive, 0)),
    (("gaussian_dimensions",), "be two or more integers from 1", each(positive, 2)),
    (("gaussian_cdnv",), "be numbers from 1e-4 to 100", each(between(1e-4, 100))),
    # Below five dimensions the CDNV of random means has no variance, so no rate.
    (("rate_dimensions",), "be one or more integers from 5", each(between(5))),
    (("rate_classes",), "be two or more integers from 2", each(between(2), 2)),
)

PROFILES: dict[str, Config] = {
    "smoke": Config(
        tasks=("digits",),
        source_classes=(5, 12, 24, 48),
        network="mlp-3-128",
        steps=600,
        batch=32,
        records=6,
        matched_samples=8,
        episodes=300,
        draws=20,
        gaussian_draws=4000,
        samples=(8, 16, 32, 64),
        samples_classes=24,
    ),
    "medium": Config(),
    "paper": Config(
        tasks=("cifar100", "cifar100_superclasses", "mini_imagenet.npz", "emnist.npz"),
        source_classes=(5, 10, 20, 40, 64),
        network="wrn-28-4",
        rate=2**-4,
        steps=60_000,
        records=30,
        matched_samples=50,
        episodes=2000,
        shots=(1, 5, 10, 20),
        draws=200,
        samples=(50, 100, 300),
        samples_classes=64,
        gaussian_draws=200_000,
    ),
}
"""smoke: about a minute on two cores; medium: about an hour; paper: a GPU, data from the user."""

SEEDS: dict[str, int] = {"smoke": 3, "medium": 5, "paper": 3}
"""Seeds of each profile."""
