"""What the geometry of classes refuses, by its exact sentence."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from test_geometry import plain
from torch import Tensor

from dlaccel.collapse.pairs import PairStatistics


def with_(**changes: Tensor | None) -> Callable[[], object]:
    return lambda: replace(plain(torch.eye(3, 2)), **changes)


REFUSED = {
    "means' axes": (
        with_(means=torch.zeros(3).double()),
        "means must have shape (C, D), got (3,).",
    ),
    "counts": (with_(counts=torch.ones(2).double()), "counts must have shape (3,), got (2,)."),
    "scatter": (
        with_(scatter=torch.eye(3).double()),
        "scatter must have shape (2, 2), got (3, 3).",
    ),
    "no scatter": (
        lambda: plain(torch.eye(3, 2)).nc1(),
        'scatter must be collected (moments="pooled" or "full"), got None.',
    ),
    "rank": (
        lambda: replace(plain(torch.eye(3, 2)), scatter=torch.eye(2).double()).nc1(rank=3),
        "rank must lie in [1, 2], got 3.",
    ),
    "variant": (
        lambda: plain(torch.eye(3, 2)).nc1("svd"),
        "variant must be one of 'pinv', 'quotient', 'trace', got 'svd'.",
    ),
    "weighting": (
        lambda: plain(torch.eye(3, 2)).global_mean("mean"),
        "weighting must be one of 'class', 'sample', got 'mean'.",
    ),
    "weight": (
        lambda: plain(torch.eye(3, 2)).nc3(torch.zeros(3, 3)),
        "weight must have shape (3, 2), got (3, 3).",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    call, sentence = REFUSED[name]
    with pytest.raises(ValueError, match="ClassGeometry") as caught:
        call()
    assert str(caught.value) == f"dlaccel.ClassGeometry: {sentence}"


def test_refused_dtype_and_bins() -> None:
    with pytest.raises(TypeError) as caught:
        with_(means=torch.eye(3, 2))()
    assert str(caught.value) == (
        "dlaccel.ClassGeometry: means must have dtype float64, got float32."
    )
    pairs = PairStatistics(torch.rand(3, 3).double(), torch.ones(3).bool())
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        pairs.histogram(0)
    with pytest.raises(ValueError, match="bins must be ascending edges, at least two, got"):
        pairs.histogram(torch.tensor([1.0, 1.0]))
