"""Where the tensors of a layer hold the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SampleAxis:
    """One axis of samples; or axis 0 holds ``places`` rows of each sample, flattened.

    Attributes:
        axis: The axis.
        places: Rows of that axis that belong to each sample.
        sample_major: The rows of one sample stand together, else those of one place.
    """

    axis: int = 0
    places: int = 1
    sample_major: bool = True

    def first(self, tensor: Tensor) -> Tensor:
        """(N, ...) of a tensor of this layout; (N, places, ...) where it is flattened."""
        if self.places == 1:
            return tensor.movedim(self.axis, 0)
        if self.sample_major:
            return tensor.reshape(-1, self.places, *tensor.shape[1:])
        return tensor.reshape(self.places, -1, *tensor.shape[1:]).transpose(0, 1)

    def keeps_apart(self, cotangent: Tensor, sample: int) -> bool:
        """Whether the cotangent of one sample's output vanishes at all other samples."""
        rows = cotangent.movedim(self.axis, 0)
        place = torch.arange(len(rows), device=rows.device)
        owner = place // self.places if self.sample_major else place % (len(rows) // self.places)
        return not rows[owner != sample].any()


def possible(shapes: Mapping[int, tuple[int, ...]], candidates: Sequence[int]) -> list[SampleAxis]:
    """What explains the shapes that a tensor had with so many samples each."""
    found = []
    for axis in candidates:
        each = {shape[axis] / samples for samples, shape in shapes.items()}
        places = each.pop()
        if each or places < 1 or places != int(places):
            continue
        if places == 1:
            found.append(SampleAxis(axis))
        elif axis == 0:
            found += [SampleAxis(0, int(places), major) for major in (True, False)]
    return found
