"""Effective depth: the first layer that errs little enough."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch

from dlaccel.collapse.depth import effective_depth

# The errors of CONV-L-400 on CIFAR-10 that the figure of arXiv 2202.09028's repository shows for
# L = 8 and 5, as 1 - accuracy; the depths follow by eye.
EIGHT = (0.64, 0.55, 0.44, 0.29, 0.07, 0.025, 0.04, 0.002)
FIVE = (0.64, 0.54, 0.43, 0.30, 0.002)


def test_published_curves() -> None:
    assert effective_depth(EIGHT, 0.03) == 6
    assert effective_depth(FIVE, 0.03) == 5
    assert effective_depth(EIGHT, (0.0, 0.002, 0.03, 0.29, 1.0)) == (None, 8, 6, 4, 1)


def test_the_first_layer_counts_even_when_a_later_one_errs_more() -> None:
    assert effective_depth([0.5, 0.01, 0.2], 0.05) == 2


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor])
def test_kinds(kind: Any) -> None:
    errors = kind([0.5, 0.25, 0.0])
    assert effective_depth(errors, 0.25) == 2
    assert effective_depth(errors, kind([0.25, 0.125])) == (2, 3)


def test_an_equal_error_passes() -> None:
    # 13 of 1280 digits against their own share, in double precision both times.
    assert effective_depth([13 / 1280], 13 / 1280) == 1
    assert effective_depth([13 / 1280], math.nextafter(13 / 1280, 0)) is None


def test_against_a_scan() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        errors = torch.rand(7, generator=generator, dtype=torch.float64)
        limits = torch.rand(5, generator=generator, dtype=torch.float64)
        passing = errors[None] <= limits[:, None]
        first = passing.int().argmax(1) + 1
        expected = [int(d) if row.any() else None for d, row in zip(first, passing, strict=True)]
        assert list(effective_depth(errors, limits)) == expected


@pytest.mark.parametrize(
    ("errors", "epsilon", "kind", "sentence"),
    [
        ([], 0.1, ValueError, "errors must name at least one layer, got none."),
        ([0.1, math.nan], 0.1, ValueError, "errors must hold no NaN, got one at 1."),
        ([0.1], -0.5, ValueError, "epsilon must be at least 0, got -0.5."),
        ([0.1], math.nan, ValueError, "epsilon must be at least 0, got nan."),
        (torch.ones(2, 2), 0.1, ValueError, "errors must have one axis, got (2, 2)."),
        (0.1, 0.1, TypeError, "errors must be a tensor or a sequence of numbers, got float."),
        ("0.1", 0.1, TypeError, "errors must be a tensor or a sequence of numbers, got str."),
    ],
)
def test_refusals(errors: Any, epsilon: Any, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=re.escape(f"dlaccel.effective_depth: {sentence}")):
        effective_depth(errors, epsilon)
