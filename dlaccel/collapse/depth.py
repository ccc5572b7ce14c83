"""Effective depth: from which layer on the classes are separated by their centres."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import overload

from torch import Tensor

from .. import _check


@overload
def effective_depth(errors: Sequence[float] | Tensor, epsilon: float) -> int | None: ...
@overload
def effective_depth(
    errors: Sequence[float] | Tensor, epsilon: Sequence[float] | Tensor
) -> tuple[int | None, ...]: ...
def effective_depth(
    errors: Sequence[float] | Tensor, epsilon: float | Sequence[float] | Tensor
) -> int | tuple[int | None, ...] | None:
    r""":math:`d^\epsilon = \min \{ l : err_l \le \epsilon \}`, layers counted from 1.

    Args:
        errors: Error of the nearest class centre on the training samples, layer after layer, (L,).
        epsilon: The error that is let pass, or several.

    Returns:
        The layer, None when every layer errs more; a tuple of them for several epsilon.

    Raises:
        ValueError: ``errors`` is empty, has another shape or holds a NaN; an epsilon is negative.

    Source: arXiv 2202.09028, definition of the epsilon-effective depth.
    """
    layers = _numbers("errors", errors)
    if not layers:
        _check.refuse("effective_depth", "errors", "name at least one layer", "none", ValueError)
    for place, error in enumerate(layers):
        if math.isnan(error):
            _check.refuse("effective_depth", "errors", "hold no NaN", f"one at {place}", ValueError)
    several = isinstance(epsilon, Sequence) or (isinstance(epsilon, Tensor) and epsilon.ndim > 0)
    limits = _numbers("epsilon", epsilon if several else [epsilon])
    for limit in limits:
        if not limit >= 0:
            _check.refuse("effective_depth", "epsilon", "be at least 0", limit, ValueError)
    depths = tuple(
        next((depth for depth, error in enumerate(layers, 1) if error <= limit), None)
        for limit in limits
    )
    return depths if several else depths[0]


def _numbers(argument: str, given: object) -> list[float]:
    """The numbers of a tensor (n,) or a sequence."""
    if isinstance(given, Tensor):
        if given.ndim != 1:
            rule = "have one axis"
            _check.refuse("effective_depth", argument, rule, tuple(given.shape), ValueError)
        given = given.tolist()
    if not isinstance(given, Sequence) or isinstance(given, str):
        rule = "be a tensor or a sequence of numbers"
        _check.refuse("effective_depth", argument, rule, type(given).__name__, TypeError)
    return [float(number) for number in given]
