"""The patches that a convolution multiplies with its weight."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from ._sample_axis import SampleAxis
from ._uses import Columns, places_together

Sizes = int | Sequence[int]


def columns_of(
    kernel: Sequence[int], stride: Sizes, padding: Sizes | str, dilation: Sizes, groups: int
) -> Columns:
    """What takes the input (rows, channels, ...) of a convolution to (N, G, T, a)."""
    axes = len(kernel)
    strides, spread = _each(stride, axes), _each(dilation, axes)
    around = _around(kernel, padding, spread)
    # F.unfold knows images alone: a signal is an image of one row.
    one = (1,) if axes == 1 else ()

    def columns(x: Tensor, axis: SampleAxis) -> Tensor:
        if any(around):
            x = F.pad(x, around)
        patches = F.unfold(
            x.unsqueeze(-2) if axes == 1 else x,
            (*one, *kernel),
            dilation=(*one, *spread),
            stride=(*one, *strides),
        )
        count, _, places = patches.shape
        return places_together(axis, patches.view(count, groups, -1, places).mT)

    return columns


def _each(sizes: Sizes, axes: int) -> tuple[int, ...]:
    given = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    return given * axes if len(given) == 1 else given


def _around(kernel: Sequence[int], padding: Sizes | str, spread: Sequence[int]) -> list[int]:
    """What ``F.pad`` takes: before and after, the last axis first."""
    if padding == "valid":
        pairs = [(0, 0)] * len(kernel)
    elif padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, spread, strict=True)]
        pairs = [(t // 2, t - t // 2) for t in total]
    else:
        assert not isinstance(padding, str)
        pairs = [(p, p) for p in _each(padding, len(kernel))]
    return [side for pair in reversed(pairs) for side in pair]
