"""What a run may be asked for, and the three sizes that it comes in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dlaccel.data import NAMES

from .networks import KINDS, parse

EPSILONS = (0.005, 0.01, 0.03, 0.05)
"""Errors for which effective depths are listed; G1 is read at .03 and .05."""


@dataclass(frozen=True)
class Config:
    """Sizes of the experiments G1 to G7; see the paper's page in the docs for each."""

    networks: tuple[str, ...] = ("CONV-50@cifar10_jpeg", "CONV-50@mnist")
    """G1 to G3: KIND-WIDTH@DATA; MLP, CONV or CONVRES; a data set's name or path."""
    depths: tuple[int, ...] = (3, 5, 8, 12, 16)
    """G1 to G3: depths L."""
    epochs: tuple[int, ...] = (40, 8)
    """G1 to G3: epochs of training, one for each of the networks."""
    records: int = 4
    """G1 to G3: evaluations, evenly spaced, beside the untrained network."""
    samples: int = 10_000
    """Training images of each data set, the first ones; 0 takes all."""
    test_samples: int = 2_000
    """Test images of each data set, drawn once; 0 takes all."""
    embedding: str = "preactivation"
    """Features of MLP and CONV: preactivation, as the published code, or activation."""
    dead_skip: bool = False
    """CONVRES without its skips, as the published code has it."""
    augment: bool = False
    """Random crops, mirrorings and rotations of images of 32 pixels in training."""
    batch: int = 64
    """Samples of a training step."""
    rate: float = 0.02
    """Learning rate of SGD with momentum 0.9."""
    weight_decay: float = 5e-3
    """G1 to G3, G7: weight decay."""
    noisy_weight_decay: float = 5e-4
    """G4 to G6: weight decay, where wrong labels are to be learned."""
    milestones: tuple[float, ...] = (0.6, 0.8, 0.9)
    """Shares of the training after which the rate is divided by 5."""
    noise_network: str = "MLP-200@mnist"
    """G4: the network trained on random labels."""
    noise_depth: int = 10
    """G4: its depth L."""
    noise_levels: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)
    """G4: shares q of labels that are redrawn from all classes, ascending."""
    noise_epochs: int = 100
    """G4: epochs of training."""
    bound_networks: tuple[str, ...] = ("MLP-100@mnist",)
    """G5, G6: networks whose test error is bounded."""
    bound_depths: tuple[int, ...] = (5, 8, 12)
    """G5, G6: their depths L."""
    bound_samples: int = 2_000
    """G5, G6: m, samples of S1 and of S2, as many of each class; 0 takes half of what there is."""
    bound_epochs: int = 60
    """G5, G6: epochs of training, over 2 m samples."""
    wrong_shares: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4)
    """G5, G6: shares p of wrong labels in S2, ascending."""
    alpha: float = 0.1
    """G5, G6: alpha of the bound."""
    epsilon: float = 0.01
    """G5, G6: epsilon of the effective depths that are compared."""
    draws: int = 3
    """G5, G6: draws of S1, S2 and the wrong labels."""
    starts: int = 2
    """G5, G6: initialisations for each draw."""
    top_network: str = "CONV-50@cifar10_jpeg"
    """G7: the network that layers are put on; also RESNET18@DATA."""
    top_network_depth: int = 3
    """G7: its depth L; a ResNet-18 has its own."""
    top_depths: tuple[int, ...] = (0, 2, 5)
    """G7: layers put between it and the head, beside a first one."""
    top_kind: str = "fc"
    """G7: fc, layers of 128 neurons, or res, residual layers 128-50-128."""
    top_epochs: int = 20
    """G7: epochs of training."""

    def __post_init__(self) -> None:
        """Refuses a field out of range with one sentence.

        Raises:
            ValueError: Naming the field, the rule and the value.
        """
        for names, rule, holds in _RULES:
            for name in names:
                value = getattr(self, name)
                if not holds(value):
                    _refuse(name, rule, value)
                several = isinstance(value, tuple) and name != "epochs"
                if several and len(set(value)) < len(value):
                    _refuse(name, "hold each value once", value)
        if len(self.epochs) != len(self.networks):
            _refuse("epochs", f"name one number for each of {self.networks}", self.epochs)


def _refuse(field: str, rule: str, value: object) -> None:
    raise ValueError(f"dlaccel.galanti2022depth: {field} must {rule}, got {value!r}.")


def _between(low: float, high: float = math.inf) -> Callable[[float], bool]:
    return lambda value: low <= value <= high and value < math.inf


def _each(holds: Callable[[Any], bool], count: int = 1) -> Callable[[Any], bool]:
    return lambda values: len(values) >= count and all(map(holds, values))


def _rising(low: float, high: float, count: int) -> Callable[[tuple[float, ...]], bool]:
    """Whether numbers in [low, high) ascend."""
    return lambda values: (
        len(values) >= count
        and all(low <= value < high for value in values)
        and list(values) == sorted(values)
    )


def _is_network(kinds: tuple[str, ...]) -> Callable[[str], bool]:
    def holds(text: str) -> bool:
        found = parse(text)
        if found is None or found.kind not in kinds:
            return False
        return found.data in NAMES or "/" in found.data or found.data.endswith(".npz")

    return holds


_SWEPT = tuple(kind for kind in KINDS if kind != "RESNET18")
_NETWORK_RULE = f"read KIND-WIDTH@DATA with KIND one of {', '.join(_SWEPT)}"

# Fields, the rule in words, the rule.
_RULES: tuple[tuple[tuple[str, ...], str, Callable[[Any], bool]], ...] = (
    (
        ("networks", "bound_networks"),
        f"be one or more that {_NETWORK_RULE}",
        _each(_is_network(_SWEPT)),
    ),
    (("noise_network",), _NETWORK_RULE, _is_network(_SWEPT)),
    (("top_network",), f"{_NETWORK_RULE} or RESNET18@DATA", _is_network(tuple(KINDS))),
    (("depths",), "be two or more integers from 2", _each(_between(2), 2)),
    (("bound_depths",), "be one or more integers from 2", _each(_between(2))),
    (("top_depths",), "be one or more integers from 0 to 20", _each(_between(0, 20))),
    (("epochs",), "be one or more integers from 1", _each(_between(1))),
    (
        (
            *("records", "noise_depth", "noise_epochs", "bound_epochs", "draws", "starts"),
            *("top_network_depth", "top_epochs"),
        ),
        "be at least 1",
        _between(1),
    ),
    (("samples", "test_samples", "bound_samples"), "be at least 0", _between(0)),
    (("batch",), "be at least 2", _between(2)),
    (("rate",), "be between 1e-6 and 10", _between(1e-6, 10)),
    (("weight_decay", "noisy_weight_decay"), "be between 0 and 1", _between(0, 1)),
    (("milestones",), "be ascending numbers in [0, 1)", _rising(0, 1, 0)),
    (("noise_levels",), "be two or more ascending numbers in [0, 1)", _rising(0, 1, 2)),
    (("wrong_shares",), "be one or more ascending numbers in [0.001, 0.5)", _rising(1e-3, 0.5, 1)),
    (("alpha",), "be between 0.001 and 0.999", _between(1e-3, 0.999)),
    (("epsilon",), "be between 0.0001 and 0.5", _between(1e-4, 0.5)),
    (
        ("embedding",),
        "be preactivation or activation",
        ("preactivation", "activation").__contains__,
    ),
    (("top_kind",), "be fc or res", ("fc", "res").__contains__),
)

PROFILES: dict[str, Config] = {
    "smoke": Config(
        networks=("MLP-64@digits",),
        depths=(2, 3, 5, 8, 12),
        epochs=(75,),
        records=3,
        samples=0,
        test_samples=0,
        rate=0.05,
        weight_decay=5e-4,
        milestones=(0.6, 0.85),
        noise_network="MLP-64@digits",
        noise_depth=8,
        noise_epochs=125,
        bound_networks=("MLP-64@digits",),
        bound_depths=(3, 8),
        bound_samples=0,
        bound_epochs=125,
        wrong_shares=(0.1, 0.3, 0.45),
        draws=2,
        top_network="MLP-64@digits",
        top_network_depth=2,
        top_depths=(0, 2, 4),
        top_epochs=30,
    ),
    "medium": Config(),
    "paper": Config(
        networks=("CONV-400@cifar10", "CONV-50@mnist", "MLP-300@cifar10", "CONVRES-500@cifar10"),
        depths=(3, 5, 8, 12, 16, 20),
        epochs=(500, 500, 500, 500),
        records=50,
        samples=0,
        test_samples=0,
        dead_skip=True,
        augment=True,
        batch=128,
        rate=0.1,
        weight_decay=5e-4,
        milestones=(0.12, 0.2, 0.4),
        noise_network="CONV-100@cifar10",
        noise_epochs=500,
        bound_networks=("CONV-50@mnist", "CONV-50@fashion_mnist", "CONV-50@cifar10"),
        bound_depths=(10, 12, 15, 18, 20),
        bound_samples=0,
        bound_epochs=200,
        wrong_shares=(0.05, 0.1, 0.2, 0.3, 0.4),
        epsilon=0.005,
        draws=5,
        top_network="RESNET18@cifar10",
        top_depths=(0, 1, 3, 5),
        top_epochs=500,
    ),
}
"""smoke: about a minute on two cores; medium: about an hour; paper: the full size, on a GPU."""

SEEDS: dict[str, int] = {"smoke": 1, "medium": 2, "paper": 3}
"""Seeds of each profile."""
