"""What measuring a network refuses, and in which words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from small_networks import CLASSES, Backwards, Lambda, batches, clusters
from torch import Tensor, nn

from dlaccel.collapse.network import measure
from dlaccel.models import MLP


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def small() -> MLP:
    return MLP(3, 8, 6, CLASSES)


def none() -> Iterator[tuple[Tensor, Tensor]]:
    yield from ()


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"model": "model"}, TypeError, "model must be a torch.nn.Module, got str."),
        ({"model": nn.ReLU()}, ValueError, "model must hold modules with parameters, got none."),
        (
            {"layers": "layer.0"},
            ValueError,
            "layers must name modules of the model (input, layers, layers.0, layers.0.linear, "
            "layers.0.norm and 10 more), got 'layer.0'.",
        ),
        ({"layers": [3]}, TypeError, "layers must be names of modules, got int."),
        ({"layers": []}, ValueError, "layers must name at least one module, got none."),
        (
            {"loader": none()},
            TypeError,
            "loader must be swept twice, as a DataLoader or a list of batches can, got generator.",
        ),
        (
            {"loader": 3},
            TypeError,
            "loader must be swept twice, as a DataLoader or a list of batches can, got int.",
        ),
        ({"loader": []}, ValueError, "loader must hold at least one batch, got none."),
        ({"test": []}, ValueError, "test must hold at least one batch, got none."),
        (
            {"loader": [torch.ones(2, 6)]},
            TypeError,
            "loader must give batches (inputs, labels), got Tensor.",
        ),
        (
            {"loader": [(torch.ones(2, 6), [0, 1])]},
            TypeError,
            "the labels of loader must be a torch.Tensor, got list.",
        ),
        (
            {"loader": [(torch.ones(2, 6), torch.zeros(2, 1, dtype=torch.int64))]},
            ValueError,
            "the labels of loader must have one axis, got (2, 1).",
        ),
        (
            {"loader": [(torch.ones(2, 6), torch.zeros(3, dtype=torch.int64))]},
            ValueError,
            "layer 'layers.0.linear' must give a row for each of the 3 labels, got shape (2, 8).",
        ),
        (
            {"model": Backwards(), "layers": ["bottom", "idle"]},
            ValueError,
            "layers must be called in every forward, got none of 'idle'",
        ),
        (
            {"model": Backwards("bottom", "middle", "middle", "top"), "layers": "middle"},
            ValueError,
            "layer 'middle' must be called once in a forward, got a second call.",
        ),
        (
            {"model": nn.Sequential(nn.Linear(6, 3), Lambda(lambda x: {"x": x}))},
            ValueError,
            "num_classes must be given for a model whose output is not (N, C), got None and dict.",
        ),
        (
            {
                "model": nn.Sequential(nn.Linear(6, 3), Lambda(lambda x: {"x": x})),
                "num_classes": 3,
            },
            TypeError,
            "layer '1' must give a tensor or a tuple that begins with one, got dict.",
        ),
    ],
)
def test_refusals(change: dict[str, Any], kind: type[Exception], sentence: str) -> None:
    given = {"model": small(), "loader": batches(*clusters())} | change
    with pytest.raises(kind, match=re.escape(f"dlaccel.measure: {sentence}")):
        measure(given.pop("model"), given.pop("loader"), **given)


def test_a_label_beyond_the_classes() -> None:
    train = batches(*clusters())
    wrong = [(x, y + 3 * (torch.arange(len(y)) == 5)) for x, y in train]
    rule = re.escape("labels must lie in [0, 3) or be -1, got ")
    with pytest.raises(ValueError, match=rule):
        measure(small(), wrong)
    with pytest.raises(ValueError, match=rule):
        measure(small(), train, test=wrong)
