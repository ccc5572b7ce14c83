"""Class statistics in one pass over labelled features, on one machine or many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self

import torch
import torch.distributed as dist
from torch import Tensor

from .. import _check
from ._batches import as_rows
from ._moments import Moments, check_finite, check_names, saved_width
from ._reduction import common_width, device_of, reduced
from ._room import refuse_too_large
from .geometry import ClassGeometry

Kept = Literal["trace", "pooled", "full"]
NAME = "ClassStatistics"
VERSION = 1
CPU = torch.device("cpu")


class ClassStatistics:
    r"""Counts, means and spreads of labelled features, class by class, in one pass.

    Every sample is counted about a shift: with the first sample of its class nothing cancels,
    however small the class is beside its distance from the origin. Sums are float64. ::

        statistics = ClassStatistics(num_classes=10)
        for x, y in loader:
            statistics.update(model.features(x), y)
        statistics.compute().cdnv().mean

    ``update``, ``compute`` and ``reset`` are those of a torchmetrics loop. The same updates give
    the same bits, whatever the number of threads. Other batches or another order change means by
    about 1e-15, and variances by 1e-15 times :math:`1 + \|s - \mu_c\|^2 / v_c`: with the first
    sample of a class 1e-15 too, with a common shift 1e-7 where classes lie 10,000 spreads apart.

    Classes: without samples, the mean and the variance are NaN; with one sample the variance is.
    A NaN or infinity in a sample spoils its own class alone, and the pooled scatter. A label of -1
    and a weight of 0 leave a sample out. A weight of w counts as w equal samples, but for the rule
    on single samples.

    On a GPU ``update`` does not wait for it. A wrong label or weight there is left for ``compute``,
    ``merge``, ``all_reduce`` and ``state_dict`` to raise; that update and all later ones count
    nothing, until ``reset``. On the CPU ``update`` raises, and counts nothing of the batch.

    Args:
        num_classes: C. Labels lie in [0, C).
        dim: D; by default the width of the first features.
        moments: ``"trace"`` keeps counts, means and the traces of the covariances, 8 C (2 D + 3)
            bytes. ``"pooled"`` also keeps the covariance within classes, 8 D^2 bytes, and
            ``"full"`` the covariance of each class, 8 C D^2 bytes.
        shift: ``"first"``, each class's first sample; ``"common"``, the first sample of all, fewer
            numbers for ranks to agree on; or a tensor (D,) that they know beforehand.
        device: Of the statistics; by default that of the first features.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: An argument has the wrong value; or the statistics would take more than half
            of the device's memory, since ``merge`` holds a second copy.
    """

    def __init__(
        self,
        num_classes: int,
        dim: int | None = None,
        *,
        moments: Kept = "trace",
        shift: Literal["first", "common"] | Tensor = "first",
        device: torch.device | str | None = None,
    ) -> None:
        _positive("num_classes", num_classes)
        _check.choice(NAME, "moments", moments, ("trace", "pooled", "full"))
        self.num_classes = num_classes
        self.moments = moments
        self.device = None if device is None else torch.device(device)
        self._dim = dim
        self._given: Tensor | None = None
        self._state: Moments | None = None
        if isinstance(shift, Tensor):
            self._give(shift)
        else:
            _check.choice(NAME, "shift", shift, ("first", "common"))
        self.shift: str = "given" if isinstance(shift, Tensor) else shift
        if self._dim is not None:
            _positive("dim", self._dim)
            refuse_too_large(NAME, moments, num_classes, self._dim, self.device or CPU)

    @property
    def dim(self) -> int | None:
        """D, where it is known."""
        return self._state.width if self._state else self._dim

    @torch.inference_mode(False)
    def update(self, features: Tensor, labels: Tensor, weight: Tensor | None = None) -> None:
        """Counts a batch.

        Args:
            features: (N, ...) of any floating dtype and strides, taken as (N, D).
            labels: (N,) int64 or int32, class numbers, or -1.
            weight: (N,) of any floating dtype, finite and not negative.

        Raises:
            TypeError: An argument is no tensor or has the wrong dtype.
            ValueError: A shape or a device is wrong; on the CPU, a label or a weight is.
        """
        _check.tensors(NAME, {"features": features, "labels": labels})
        _check.at_least_one_axis(NAME, "features", features)
        rows = as_rows(features)
        width = self._dim or rows.shape[1]
        state = self._state or self._empty(width, self.device or rows.device)
        state.add(rows, labels, weight, adopt=self.shift != "given")
        self._keep(state)

    @torch.inference_mode(False)
    def merge(self, other: ClassStatistics) -> Self:
        """Adds what another object has counted. The shifts of this one stay where they are in use.

        Raises:
            TypeError: ``other`` is no ClassStatistics.
            ValueError: Number of classes, width, moments or kind of shift differ; or a GPU's
                labels or weights were wrong.
        """
        if not isinstance(other, ClassStatistics):
            _check.refuse(NAME, "other", f"be a {NAME}", type(other).__name__, TypeError)
        for name, mine in self._about().items():
            if other._about()[name] != mine:
                got = repr(other._about()[name])
                _check.refuse(NAME, f"other.{name}", f"be {mine!r}", got, ValueError)
        if None not in (self.dim, other.dim) and self.dim != other.dim:
            _check.refuse(NAME, "other.dim", f"be {self.dim}", other.dim, ValueError)
        self._raise_fault()
        other._raise_fault()
        theirs = other._state
        if theirs is None:
            return self
        state = self._state or self._empty(theirs.width, self.device or theirs.device)
        theirs = theirs.to(state.device)
        kept = state.used() | (self.shift == "given")
        state.shifts = torch.where(kept, state.shifts, theirs.shifts)
        state.buffer += theirs.about(state.shifts).buffer
        self._keep(state)
        return self

    @torch.inference_mode(False)
    def all_reduce(self, group: dist.ProcessGroup | None = None) -> Self:
        """Adds what all ranks have counted; afterwards each holds the total.

        All ranks must have been made alike, and all must call; one may have counted nothing. The
        collectives are all_reduces: one of two numbers, unless ``dim`` was given; one of the
        shifts, which become their mean, unless the shift was given; and one of a flat buffer with
        everything else. Call it once, or on a copy (``copy.deepcopy``): what a rank counts
        afterwards, it adds to the total. Without ``torch.distributed`` nothing changes.

        Raises:
            ValueError: On every rank, where the labels or weights of a GPU were wrong on one, or
                widths differ.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return self
        device = self.device or device_of(group)
        width = self._dim or common_width(NAME, self.dim, device, group)
        if width is not None:
            state = self._state or self._empty(width, device)
            self._keep(reduced(NAME, state, self.shift == "given", group))
        return self

    def compute(self) -> ClassGeometry:
        """The statistics of what was counted so far; waits for the device.

        Raises:
            ValueError: A GPU's labels or weights were wrong.
        """
        self._raise_fault()
        state = self._state or self._empty(self._dim or 0, self.device or CPU)
        p = state.parts
        n = p.counts[:, None]
        offsets = p.sums / n  # of the means from the shifts; NaN where there are none
        variances = (p.squares / p.counts - offsets.square().sum(1)).clamp(min=0)
        several = p.samples > 1
        geometry = ClassGeometry(
            counts=p.counts.clone(),
            means=state.shifts + offsets,
            variances=variances.where(several, torch.nan),
        )
        if self.moments == "trace":
            return geometry
        roots = torch.where(n > 0, offsets, 0) * n.sqrt()
        within = (p.scatter.sum(0) - roots.mT @ roots) / p.counts.sum()
        geometry = replace(geometry, scatter=within)
        if self.moments == "pooled":
            return geometry
        covariances = p.scatter / n[..., None]
        covariances -= offsets[:, :, None] * offsets[:, None, :]
        covariances[~several] = torch.nan
        return replace(geometry, class_covariances=covariances)

    def reset(self) -> None:
        """Forgets what was counted, a fault too, and an inferred width."""
        self._state = None

    @torch.inference_mode(False)
    def to(self, device: torch.device | str) -> Self:
        """Moves the statistics."""
        self.device = torch.device(device)
        if self._state:
            self._keep(self._state.to(self.device))
        return self

    def state_dict(self) -> dict[str, Any]:
        """Copies of the tensors, and what they are of; ``torch.load(weights_only=True)`` reads it.

        Raises:
            ValueError: A GPU's labels or weights were wrong.
        """
        self._raise_fault()
        tensors = self._state.tensors() if self._state else None
        return {**self._about(), "tensors": tensors}

    @torch.inference_mode(False)
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the place of what was counted.

        Raises:
            TypeError: ``state`` or something in it has the wrong type or dtype.
            ValueError: ``state`` is of another version, number of classes, width, moments or kind
                of shift, or a shape is wrong.
        """
        check_names(NAME, "state", {*self._about(), "tensors"}, state)
        for name, mine in self._about().items():
            if type(state[name]) is not type(mine) or state[name] != mine:
                _check.refuse(
                    NAME, f"state[{name!r}]", f"be {mine!r}", repr(state[name]), ValueError
                )
        if state["tensors"] is None:
            self._state = None
            return
        tensors = state["tensors"]
        width = saved_width(NAME, tensors)
        if self._dim not in (None, width):
            _check.refuse(NAME, "the width of sums", f"be {self._dim}", width, ValueError)
        loaded = self._empty(width, self.device or tensors["sums"].device)
        shifts = loaded.shifts.clone()
        loaded.load(NAME, tensors)
        self._keep(loaded.about(shifts) if self.shift == "given" else loaded)

    def __repr__(self) -> str:
        shown = f"num_classes={self.num_classes}, dim={self.dim}"
        return f"{NAME}({shown}, moments={self.moments!r}, shift={self.shift!r})"

    def _about(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "num_classes": self.num_classes,
            "moments": self.moments,
            "shift": self.shift,
        }

    def _matrices(self) -> int:
        return {"trace": 0, "pooled": 1, "full": self.num_classes}[self.moments]

    def _give(self, shift: Tensor) -> None:
        _check.floating(NAME, {"shift": shift})
        if shift.ndim != 1 or self._dim not in (None, len(shift)):
            rule = f"have shape ({'D' if self._dim is None else self._dim},)"
            _check.refuse(NAME, "shift", rule, tuple(shift.shape), ValueError)
        check_finite(NAME, "shift", shift)
        self._given = shift.detach().double().clone()
        self._dim = len(shift)

    def _keep(self, state: Moments) -> None:
        self._state, self.device = state, state.device

    def _empty(self, width: int, device: torch.device) -> Moments:
        refuse_too_large(NAME, self.moments, self.num_classes, width, device)
        rows = self.num_classes if self.shift == "first" else 1
        state = Moments.zeros(self.num_classes, width, self._matrices(), rows, device)
        if self._given is not None:
            state.shifts.copy_(self._given)
        return state

    def _raise_fault(self) -> None:
        if self._state:
            self._state.raise_fault()


def _positive(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        _check.refuse(NAME, name, "be a positive integer", repr(value), ValueError)
