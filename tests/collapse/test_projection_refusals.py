"""What projections and nc4 refuse, by its exact sentence."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_projection import CLASSES, batch, geometry_of

from dlaccel.collapse.projection import Projections, nc4


def test_refusals() -> None:
    features, labels = batch(torch.float32)
    geometry = geometry_of(features, labels)
    projections = Projections(geometry)
    other = Projections(geometry_of(features + 1, labels))
    wrong = labels.clone()
    wrong[250] = CLASSES
    weight = torch.zeros(CLASSES, 20)
    bad: dict[str, tuple[type[Exception], Callable[[], Any]]] = {
        "Projections: geometry must be a ClassGeometry, got Tensor.": (
            TypeError,
            lambda: Projections(geometry.means),  # type: ignore[arg-type]
        ),
        "Projections: features must have shape (N, ...) with 20 numbers in a row, got (300, 19).": (
            ValueError,
            lambda: projections.update(features[:, 1:], labels),
        ),
        "Projections: features must have dtype float64, float32, bfloat16 or float16, got int64.": (
            TypeError,
            lambda: projections.update(features.long(), labels),
        ),
        "Projections: labels must have shape (300,), got (299,).": (
            ValueError,
            lambda: projections.update(features, labels[1:]),
        ),
        "Projections: labels must have dtype int64 or int32, got float32.": (
            TypeError,
            lambda: projections.update(features, labels.float()),
        ),
        "Projections: labels must lie in [0, 6) or be -1, got 6 at 250.": (
            ValueError,
            lambda: projections.update(features, wrong),
        ),
        "Projections: other must be a Projections, got int.": (
            TypeError,
            lambda: projections.merge(3),  # type: ignore[arg-type]
        ),
        "Projections: other must be made from the same means, got other means.": (
            ValueError,
            lambda: projections.merge(other),
        ),
        "nc4: geometry must be a ClassGeometry, got Tensor.": (
            TypeError,
            lambda: nc4(features, features, geometry.means),  # type: ignore[arg-type]
        ),
        "nc4: logits must have shape (300, 6), got (300, 20).": (
            ValueError,
            lambda: nc4(features, features, geometry),
        ),
        "nc4: weight must have shape (6, 20), got (20, 6).": (
            ValueError,
            lambda: nc4(features, (weight.T, None), geometry),
        ),
        "nc4: bias must have shape (6,), got (20,).": (
            ValueError,
            lambda: nc4(features, (weight, weight[0]), geometry),
        ),
        "nc4: features must have shape (N, ...) with 20 numbers in a row, got (300, 19).": (
            ValueError,
            lambda: nc4(features[:, 1:], (weight, None), geometry),
        ),
    }
    for sentence, (kind, call) in bad.items():
        with pytest.raises(kind) as caught:
            call()
        assert str(caught.value) == f"dlaccel.{sentence}"
    assert not projections._sums.any()  # nothing of a refused batch is counted
