"""What the configuration of arXiv 2202.09028 refuses, by its exact sentence."""

from __future__ import annotations

import dataclasses

import pytest
from test_galanti2022depth import NAME, raises

from dlaccel.papers.galanti2022depth.experiment import PROFILES

_KINDS = "read KIND-WIDTH@DATA with KIND one of MLP, CONV, CONVRES"


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("networks", ("MLP-64",), f"be one or more that {_KINDS}"),
        ("networks", ("RESNET18@digits",), f"be one or more that {_KINDS}"),
        ("networks", ("MLP-64@cats",), f"be one or more that {_KINDS}"),
        ("networks", (), f"be one or more that {_KINDS}"),
        ("noise_network", "MLP-x@digits", _KINDS),
        ("top_network", "VGG-3@digits", f"{_KINDS} or RESNET18@DATA"),
        ("depths", (3,), "be two or more integers from 2"),
        ("depths", (3, 3), "hold each value once"),
        ("bound_depths", (1,), "be one or more integers from 2"),
        ("top_depths", (21,), "be one or more integers from 0 to 20"),
        ("epochs", (0,), "be one or more integers from 1"),
        ("records", 0, "be at least 1"),
        ("samples", -1, "be at least 0"),
        ("batch", 1, "be at least 2"),
        ("rate", 0.0, "be between 1e-6 and 10"),
        ("noisy_weight_decay", -1e-3, "be between 0 and 1"),
        ("milestones", (0.5, 0.2), "be ascending numbers in [0, 1)"),
        ("noise_levels", (0.5,), "be two or more ascending numbers in [0, 1)"),
        ("wrong_shares", (0.1, 0.5), "be one or more ascending numbers in [0.001, 0.5)"),
        ("alpha", 1.0, "be between 0.001 and 0.999"),
        ("epsilon", float("nan"), "be between 0.0001 and 0.5"),
        ("embedding", "linear", "be preactivation or activation"),
        ("top_kind", "conv", "be fc or res"),
    ],
)
def test_config_out_of_range_is_refused(field: str, value: object, rule: str) -> None:
    message = raises(lambda: dataclasses.replace(PROFILES["smoke"], **{field: value}))
    assert message == f"{NAME}: {field} must {rule}, got {value!r}."


def test_epochs_go_with_networks() -> None:
    message = raises(lambda: dataclasses.replace(PROFILES["smoke"], epochs=(1, 2)))
    assert message == (
        f"{NAME}: epochs must name one number for each of ('MLP-64@digits',), got (1, 2)."
    )
