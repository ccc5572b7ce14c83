"""Few-shot episodes: k classes, n labelled samples of each, and q others of each to be guessed.

They are drawn by counters (``dlaccel.ops.draw_episodes``): a seed gives the same episodes on every
device, and episode e is the same however many are asked for. A class's support and query are one
draw without replacement, so that they are exchangeable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _check
from ..ops.draw_episodes import PROCEDURE as DRAW
from ._batches import as_rows
from .accuracy import FewShot
from .heads import HEADS


@dataclass(frozen=True, eq=False)
class Episodes:
    """Episodes over the rows of a set of features; drawn, or given, as a fixed test is.

    Attributes:
        classes: (E, k) int64, the labels of each episode's classes.
        support: (E, k, n) int64, the rows from which a class is learned.
        query: (E, k, q) int64, the rows to be guessed.
        seed: What they were drawn with; None for given ones.

    Raises:
        TypeError: A tensor is not an int64 one.
        ValueError: Their shapes do not agree.
    """

    classes: Tensor
    support: Tensor
    query: Tensor
    seed: int | None = None

    def __post_init__(self) -> None:
        op = "Episodes"
        rows = {"support": self.support, "query": self.query}
        _check.tensors(op, {"classes": self.classes} | rows)
        _check.dtype(op, {"classes": self.classes} | rows, torch.int64)
        if self.classes.ndim != 2:
            _check.refuse(op, "classes", "have shape (E, k)", tuple(self.classes.shape), ValueError)
        for name, value in rows.items():
            if value.ndim != 3 or value.shape[:2] != self.classes.shape:
                rule = f"have the axes of classes {tuple(self.classes.shape)} and one more"
                _check.refuse(op, name, rule, tuple(value.shape), ValueError)

    def __len__(self) -> int:
        return len(self.classes)

    def to(self, device: torch.device | str) -> Episodes:
        """The same episodes on a device."""
        classes, support, query = (t.to(device) for t in (self.classes, self.support, self.query))
        return Episodes(classes, support, query, self.seed)


def draw_episodes(
    labels: Tensor, *, ways: int, shots: int, queries: int, episodes: int, seed: int
) -> Episodes:
    """Draws episodes from the classes that have ``shots + queries`` samples.

    Fewer ways or samples with the same seed are the beginning of the same episodes, as long as the
    same classes have enough samples.

    Args:
        labels: (N,) int64 or int32; samples of label -1 are not drawn.
        ways: k, classes of an episode, all different.
        shots: n, support samples of each.
        queries: q, query samples of each; may be 0.
        episodes: E.
        seed: From 0 to 2^64 - 1.

    Raises:
        TypeError: ``labels`` are no such tensor, or a number is no integer.
        ValueError: A number is too small, or classes or samples do not suffice.
    """
    op = "draw_episodes"
    check_counts(op, 2, ways=ways)
    check_counts(op, 1, shots=shots, episodes=episodes)
    check_counts(op, 0, queries=queries)
    members, offsets = class_members(op, labels)
    each = shots + queries
    eligible = (offsets.diff() >= each).nonzero().flatten()
    if ways > len(eligible):
        rule = f"be at most {len(eligible)}, the classes with shots + queries = {each} samples"
        _check.refuse(op, "ways", rule, ways, ValueError)
    classes, samples = draw(op, members, offsets, eligible, (episodes, ways, each), seed)
    return Episodes(classes, samples[..., :shots], samples[..., shots:], seed)


def draw(
    op: str,
    members: Tensor,
    offsets: Tensor,
    eligible: Tensor,
    shape: tuple[int, int, int],
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Classes (E, k) of those eligible and s members of each (E, k, s), for shape (E, k, s)."""
    check_counts(op, 0, seed=seed)
    if seed >= 2**64:
        _check.refuse(op, "seed", "be below 2^64", seed, ValueError)
    classes, samples = members.new_empty(shape[:2]), members.new_empty(shape)
    signed = seed - 2**64 if seed >= 2**63 else seed  # the same 64 bits
    DRAW(classes, samples, members, offsets, eligible, signed)
    return classes, samples


def class_members(op: str, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Rows by class: class c has ``members[offsets[c] : offsets[c + 1]]``; label -1 has none.

    Raises:
        TypeError: ``labels`` is not an int64 or int32 tensor.
        ValueError: It is not a vector, or holds a label below -1.
    """
    _check.tensors(op, {"labels": labels})
    _check.dtype(op, {"labels": labels}, torch.int64, torch.int32)
    if labels.ndim != 1:
        _check.refuse(op, "labels", "have shape (N,)", tuple(labels.shape), ValueError)
    if (wrong := labels < -1).any():
        place = int(wrong.nonzero()[0])
        _check.refuse(op, "labels", "be -1 or more", f"{int(labels[place])} at {place}", ValueError)
    counts = torch.bincount(labels.long() + 1, minlength=1)  # of label -1 first
    return labels.argsort(stable=True), counts.cumsum(0)


def few_shot(
    features: Tensor,
    episodes: Episodes,
    *,
    head: Literal["ncc", "ridge", "logistic"] = "ncc",
    normalize: bool = False,
    alpha: float = 1.0,
) -> FewShot:
    r"""Learns every episode's classes from its support, and guesses its queries.

    Args:
        features: (N, ...), one row for each sample that the episodes' rows name.
        episodes: Whose rows these are.
        head: The nearest class centre, ridge regression or logistic regression
            (:mod:`dlaccel.collapse.heads`).
        normalize: Whether rows are divided by their norm first, as in RFS (Tian et al. 2020,
            arXiv 2003.11539).
        alpha: Of ridge, whose penalty is :math:`\alpha \sqrt n`, and of logistic regression.

    Raises:
        TypeError: ``features`` is no floating tensor.
        ValueError: ``head`` is unknown, an episode has no query or no support, a row does not
            exist, ``alpha`` is not positive, or a head other than ``"ncc"`` meets a number that is
            not finite.
    """
    op = "few_shot"
    _check.tensors(op, {"features": features})
    _check.floating(op, {"features": features})
    _check.at_least_one_axis(op, "features", features)
    _check.choice(op, "head", head, HEADS)
    if not 0 < alpha < float("inf"):
        _check.refuse(op, "alpha", "be positive and finite", alpha, ValueError)
    rows = as_rows(features.detach())
    for name, value in (("support", episodes.support), ("query", episodes.query)):
        if value.numel() == 0:
            _check.refuse(op, name, "hold rows", f"shape {tuple(value.shape)}", ValueError)
        if (wrong := (value < 0) | (value >= len(rows))).any():
            got = f"{int(value[wrong][0])}"
            _check.refuse(op, name, f"name rows of features in [0, {len(rows)})", got, ValueError)
    if head != "ncc":
        check_finite(op, f"be finite for head {head!r}", rows)
    if normalize:
        rows = F.normalize(rows if rows.dtype == torch.float64 else rows.float())
    on_device = episodes.to(rows.device)
    predictions, hits = HEADS[head](rows, on_device.support, on_device.query, alpha)
    return FewShot(on_device.classes, predictions, hits)


def check_counts(op: str, least: int, **numbers: object) -> None:
    """Every number is an integer of at least ``least``."""
    for name, value in numbers.items():
        if not isinstance(value, int):
            _check.refuse(op, name, "be an integer", repr(value), TypeError)
        if value < least:
            _check.refuse(op, name, f"be at least {least}", value, ValueError)


def check_finite(op: str, rule: str, rows: Tensor) -> None:
    """Every number of the features is finite."""
    if not (finite := rows.isfinite().all(1)).all():
        place = int((~finite).nonzero()[0])
        _check.refuse(op, "features", rule, f"another number in row {place}", ValueError)
