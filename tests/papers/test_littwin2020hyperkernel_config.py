"""What the configuration of arXiv 2003.12193 refuses, by its exact sentence."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from dlaccel.data import NAMES
from dlaccel.papers.littwin2020hyperkernel.experiment import PROFILES

NAME = "dlaccel.littwin2020hyperkernel"
_DATA = f"{', '.join(NAMES)} or paths that hold a slash or end in .npz"
_KERNELS = "hyperkernel, hyperkernel as released, NNGP, NNGP as released"


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("kernel_widths", (8,), "be two or more ascending integers from 2"),
        ("rate_widths", (64, 32), "be two or more ascending integers from 2"),
        ("lazy_widths", (16, 16), "hold each value once"),
        ("path_steps", (), "be one or more ascending integers from 0"),
        ("path_steps", (-1, 1), "be one or more ascending integers from 0"),
        ("plain_depths", (1,), "be one or more integers from 2 to 20"),
        ("kernel_initialisations", 1, "be at least 2"),
        ("lazy_steps", 0, "be at least 1"),
        ("gaussian_width", 63, "be at least 64"),
        ("bottleneck", -1, "be at least 0"),
        ("rotation_data", ("cats",), f"be one or more of {_DATA}"),
        ("image_data", "cats", f"be one of {_DATA}"),
        ("rotation_grid", ("3",), "be one or more of the form WIDTHxDEPTH with a depth from 2"),
        ("rotation_grid", ("5x1",), "be one or more of the form WIDTHxDEPTH with a depth from 2"),
        ("hidden", (0,), "be one or more integers from 1"),
        ("rotation_rate", float("nan"), "be between 1e-8 and 10"),
        ("sweep_rates", (0.1, 20.0), "be one or more numbers from 1e-8 to 10"),
        ("sweep_widths", (0,), "be integers from 1"),
        ("image_counts", (1,), "be one or more ascending integers from 2"),
        ("bandwidth", 0.0, "be between 0.01 and 1000"),
        ("ridge", 0.0, "be between 1e-12 and 1"),
        ("shrink", 0.2, "be between 0 and 0.1"),
        ("kernels", ("NTK",), f"be one or more of {_KERNELS}"),
        ("trained_counts", (30,), "be of image_counts (25, 50, 100)"),
    ],
)
def test_config_out_of_range_is_refused(field: str, value: object, rule: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is compared)
        dataclasses.replace(PROFILES["smoke"], **{field: value})
    assert str(caught.value) == f"{NAME}: {field} must {rule}, got {value!r}."


def test_cells_are_width_and_depth() -> None:
    changed = dataclasses.replace(PROFILES["smoke"], rotation_grid=("50x3", "7x12"))
    assert changed.cells == [(50, 3), (7, 12)]
