"""The checks on widths that every layer makes first."""

from __future__ import annotations

from torch import Tensor

from .. import _check


def check_counts(layer: str, **counts: int) -> None:
    """Every named count is a positive integer."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int):
            _check.refuse(layer, name, "be an integer", type(count).__name__, TypeError)
        if count < 1:
            _check.refuse(layer, name, "be at least 1", count, ValueError)


def check_width(layer: str, name: str, value: Tensor, width: int) -> None:
    """``value`` is a tensor whose last axis is ``width``."""
    _check.tensors(layer, {name: value})
    if value.ndim == 0 or value.shape[-1] != width:
        rule = f"have a last axis of {width}"
        _check.refuse(layer, name, rule, tuple(value.shape), ValueError)
