"""What a run may be asked for, and the three sizes that it comes in."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dlaccel.data import NAMES

from .regression import KERNELS


@dataclass(frozen=True)
class Config:
    """Sizes of the experiments E1 to E6; see the paper's page in the docs for each."""

    kernel_widths: tuple[int, ...] = (8, 16, 32, 64, 128, 256, 512, 1024)
    """E1: widths n, m of the networks that are wide."""
    kernel_initialisations: int = 1000
    """E1: networks of each width."""
    kernel_angles: int = 33
    """E1: angles of z' from -90 to 90 degrees."""
    autograd_initialisations: int = 400
    """E1: networks whose kernel is computed by torch's own derivatives."""
    gaussian_width: int = 512
    """E1: the large width at which moments of h are taken."""
    gaussian_initialisations: int = 10_000
    """E1: networks for moments of h."""
    plain_depths: tuple[int, ...] = (3, 4, 6)
    """E2: layers L of plain networks."""
    rate_widths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048)
    """E2: widths n where g is fixed or there is none."""
    square_widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    """E2: widths where that of g grows."""
    rate_initialisations: int = 200
    """E2: networks of each width."""
    path_widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    """E2 along SGD: widths n where g is fixed or there is none."""
    path_square_widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    """E2 along SGD: widths where that of g grows."""
    path_initialisations: int = 100
    """E2 along SGD: networks of each width."""
    path_steps: tuple[int, ...] = (0, 1, 10, 100)
    """E2 along SGD: steps at which terms are taken, with the activation patterns of each."""
    lazy_widths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    """Lazy dynamics: widths."""
    lazy_initialisations: int = 64
    """Lazy dynamics: networks of each width."""
    lazy_steps: int = 200
    """Lazy dynamics: steps of gradient descent."""
    rotation_data: tuple[str, ...] = ("mnist", "cifar10")
    """E3, E4: data sets by name or path."""
    rotation_samples: int = 10_000
    """E3, E4: training images, drawn once a seed; 0 takes all."""
    rotation_tests: int = 2000
    """E3, E4: test images, the first ones; 0 takes all."""
    rotation_grid: tuple[str, ...] = (
        *("10x3", "50x3", "100x3"),
        *("10x6", "50x6"),
        *("10x8", "50x8"),
    )
    """E3: width x depth of g; the first of them has the depth at which widths are compared."""
    rotation_epochs: int = 10
    """E3: epochs of training."""
    rotation_rate: float = 0.1
    """E3: learning rate of plain SGD."""
    rotation_batch: int = 100
    """E3, E4: images of a step."""
    repetitions: int = 2
    """E3, E4: networks trained side by side; the spread is over them."""
    hidden: tuple[int, ...] = (200, 200, 200)
    """E3, E4: hidden layers of f before the bottleneck."""
    bottleneck: int = 100
    """E3, E4: the layer that the published code puts before f's last; 0 leaves it out."""
    inner_relu: bool = False
    """E3, E4: ReLU after every layer of g but the last; the published code has one after the first
    alone."""
    circular_labels: bool = False
    """E3, E4: angles near 360 degrees belong to class 0; the published code gives them to the last
    class."""
    sweep_rates: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)
    """E4: learning rates, each from the same start; the published code went on with one network."""
    sweep_widths: tuple[int, ...] = (10, 50)
    """E4: widths of g, at the first depth of E3."""
    sweep_epochs: int = 3
    """E4: epochs of training."""
    records: int = 5
    """E3, E4: evaluations of a training."""
    image_data: str = "mnist"
    """E5, E6: data set by name or path; colours are averaged."""
    image_counts: tuple[int, ...] = (50, 100, 200)
    """E5, E6: training images N, the first ones."""
    skipped_images: int = 0
    """E5, E6: training images left out before them; 5000 in the published code's loader."""
    image_pixels: int = 20
    """E5, E6: pixels of each training image, drawn with replacement."""
    image_draws: int = 5
    """E5, E6: draws of pixels whose predictions are averaged."""
    test_images: int = 60
    """E5, E6: test images, the first ones."""
    bandwidth: float = 2.0
    """E5, E6: variance of A^0 in squared pixels."""
    ridge: float = 1e-6
    """E5, E6: share of K's diagonal that is added to it; 1e-9 in the published code, which inverts
    matrices that are singular but for it."""
    shrink: float = 0.0
    """E5, E6: share by which correlations are made smaller; 1e-4 in the published code."""
    kernels: tuple[str, ...] = tuple(KERNELS)
    """E5, E6: hyperkernel, NNGP, and each as the released code has it."""
    trained_counts: tuple[int, ...] = (50, 100, 200)
    """E5, E6: N at which a hypernetwork is trained on the same pixels."""
    trained_epochs: int = 100
    """E5, E6: its epochs."""

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
                if isinstance(value, tuple) and name != "hidden" and len(set(value)) < len(value):
                    _refuse(name, "hold each value once", value)
        if not set(self.trained_counts) <= set(self.image_counts):
            _refuse(
                "trained_counts", f"be of image_counts {self.image_counts}", self.trained_counts
            )

    @property
    def cells(self) -> list[tuple[int, int]]:
        """Widths and depths of ``rotation_grid``."""
        return [(int(width), int(depth)) for width, depth in map(_split, self.rotation_grid)]


def _refuse(field: str, rule: str, value: object) -> None:
    raise ValueError(f"dlaccel.littwin2020hyperkernel: {field} must {rule}, got {value!r}.")


def _split(cell: str) -> tuple[str, str]:
    width, _, depth = cell.partition("x")
    return width, depth


def _between(low: float, high: float = math.inf) -> Callable[[float], bool]:
    return lambda value: low <= value <= high and value < math.inf


def _each(holds: Callable[[Any], bool], count: int = 1) -> Callable[[Any], bool]:
    return lambda values: len(values) >= count and all(map(holds, values))


def _rising(low: float, count: int) -> Callable[[tuple[float, ...]], bool]:
    return lambda values: (
        len(values) >= count and min(values) >= low and list(values) == sorted(values)
    )


def _is_cell(cell: str) -> bool:
    if not re.fullmatch(r"\d{1,5}x\d{1,3}", cell):
        return False
    width, depth = map(int, _split(cell))
    return width >= 1 and depth >= 2


def _is_data(name: str) -> bool:
    return name in NAMES or "/" in name or name.endswith(".npz")


_DATA = f"{', '.join(NAMES)} or paths that hold a slash or end in .npz"

# Fields, the rule in words, the rule.
_RULES: tuple[tuple[tuple[str, ...], str, Callable[[Any], bool]], ...] = (
    (
        (
            *("kernel_widths", "rate_widths", "square_widths", "path_widths"),
            *("path_square_widths", "lazy_widths"),
        ),
        "be two or more ascending integers from 2",
        _rising(2, 2),
    ),
    (("path_steps",), "be one or more ascending integers from 0", _rising(0, 1)),
    (("plain_depths",), "be one or more integers from 2 to 20", _each(_between(2, 20))),
    (
        (
            *("kernel_initialisations", "autograd_initialisations", "gaussian_initialisations"),
            *("rate_initialisations", "path_initialisations", "kernel_angles"),
        ),
        "be at least 2",
        _between(2),
    ),
    (
        (
            *("lazy_initialisations", "lazy_steps", "rotation_epochs", "rotation_batch"),
            *("repetitions", "sweep_epochs", "records", "image_pixels", "image_draws"),
            *("test_images", "trained_epochs"),
        ),
        "be at least 1",
        _between(1),
    ),
    (("gaussian_width",), "be at least 64", _between(64)),
    (
        ("rotation_samples", "rotation_tests", "skipped_images", "bottleneck"),
        "be at least 0",
        _between(0),
    ),
    (("rotation_data",), f"be one or more of {_DATA}", _each(_is_data)),
    (("image_data",), f"be one of {_DATA}", _is_data),
    (
        ("rotation_grid",),
        "be one or more of the form WIDTHxDEPTH with a depth from 2",
        _each(_is_cell),
    ),
    (("hidden",), "be one or more integers from 1", _each(_between(1))),
    (("rotation_rate",), "be between 1e-8 and 10", _between(1e-8, 10)),
    (("sweep_rates",), "be one or more numbers from 1e-8 to 10", _each(_between(1e-8, 10))),
    (("sweep_widths",), "be integers from 1", _each(_between(1), 0)),
    (("image_counts",), "be one or more ascending integers from 2", _rising(2, 1)),
    (("trained_counts",), "be integers from 2", _each(_between(2), 0)),
    (("bandwidth",), "be between 0.01 and 1000", _between(0.01, 1000)),
    (("ridge",), "be between 1e-12 and 1", _between(1e-12, 1)),
    (("shrink",), "be between 0 and 0.1", _between(0, 0.1)),
    (("kernels",), f"be one or more of {', '.join(KERNELS)}", _each(KERNELS.__contains__)),
)

PROFILES: dict[str, Config] = {
    "smoke": Config(
        kernel_widths=(8, 16, 32, 64, 128, 256),
        kernel_initialisations=400,
        kernel_angles=17,
        autograd_initialisations=100,
        gaussian_width=256,
        gaussian_initialisations=2000,
        plain_depths=(4,),
        rate_widths=(32, 64, 128, 256, 512),
        square_widths=(16, 32, 64, 128),
        rate_initialisations=100,
        path_widths=(32, 64, 128, 256),
        path_square_widths=(16, 32, 64, 128),
        lazy_widths=(16, 64, 256),
        lazy_initialisations=24,
        rotation_data=("digits",),
        rotation_samples=0,
        rotation_tests=0,
        rotation_grid=("2x3", "5x3", "10x3", "50x3", "10x5", "50x5", "10x7"),
        rotation_epochs=20,
        rotation_batch=50,
        hidden=(100, 100),
        bottleneck=50,
        sweep_rates=(0.01, 0.1, 1.0),
        sweep_widths=(5, 20),
        sweep_epochs=10,
        image_data="digits",
        image_counts=(25, 50, 100),
        image_draws=3,
        test_images=50,
        bandwidth=1.0,
        ridge=1e-3,
        trained_counts=(25, 50),
    ),
    "medium": Config(),
    "paper": Config(
        kernel_widths=(8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
        kernel_angles=65,
        autograd_initialisations=1000,
        gaussian_width=1024,
        rate_widths=(32, 64, 128, 256, 512, 1024, 2048, 4096, 8192),
        square_widths=(16, 32, 64, 128, 256, 512),
        rate_initialisations=500,
        path_widths=(32, 64, 128, 256, 512, 1024),
        path_square_widths=(16, 32, 64, 128, 256, 512),
        path_initialisations=500,
        lazy_widths=(16, 32, 64, 128, 256, 512, 1024, 2048),
        rotation_tests=0,
        rotation_grid=(
            *("10x3", "50x3", "100x3"),
            *("10x6", "50x6", "100x6"),
            *("10x8", "50x8", "100x8"),
        ),
        rotation_epochs=100,
        rotation_rate=0.01,
        repetitions=20,
        sweep_rates=tuple(float(f"1e{j - 7}") for j in range(8)),
        sweep_widths=(10, 20, 50),
        sweep_epochs=100,
        records=20,
        image_counts=(50, 100, 200, 500),
        skipped_images=5000,
        test_images=10_000,
        shrink=1e-4,
        trained_counts=(50, 100, 200, 500),
    ),
}
"""smoke: about a minute on two cores; medium: under an hour; paper: the full size, on a GPU."""

SEEDS: dict[str, int] = {"smoke": 1, "medium": 1, "paper": 5}
"""Seeds of each profile; each has many networks of its own."""
