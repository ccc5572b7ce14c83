"""Acceptance lines: a target, what was measured, and whether the machine was quiet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .gate import relative_error
from .load import QUIET
from .measure import Effort, Found
from .rows import OURS, Row
from .table import show
from .timing import Contestant, Race, Spread, race

Calls = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Line:
    """One target. ``kind`` is at least, or at most."""

    what: str
    kind: str
    target: float
    measured: Spread
    others: float | None = None  # share of the machine that other processes took

    @property
    def met(self) -> bool:
        if self.kind == "at least":
            return self.measured.median >= self.target
        return self.measured.median <= self.target

    @property
    def verdict(self) -> str:
        """What a busy machine says is told as such: its ratios are not the code's."""
        said = "yes" if self.met else "NO"
        return f"{said}, busy" if self.others is not None and self.others > QUIET else said

    @property
    def cells(self) -> list[str]:
        m = self.measured
        spread = "" if m.low == m.high else f"{m.low:.2f}..{m.high:.2f}"
        busy = "" if self.others is None else f"{100 * self.others:.0f}"
        return [
            self.what, f"{self.kind} {self.target:g}", f"{m.median:.3g}", spread,
            self.verdict, busy,
        ]  # fmt: skip

    def row(self) -> Row:
        """The line as a row: its target stands for the stage."""
        m, others = self.measured, self.others
        return Row(
            "accept", self.what, "", "", f"{self.kind} {self.target:g}", OURS,
            ratio=m.median, ratio_low=m.low, ratio_high=m.high,
            others=None if others is None else 100 * others,
        )  # fmt: skip


@dataclass
class Lines:
    """The lines of a group as they come, and what else was found."""

    effort: Effort
    lines: list[Line] = field(default_factory=list)
    found: Found = field(default_factory=Found)
    others: float | None = None  # of the race that the next lines are from

    def quietly(self, run: Callable[[], Race]) -> Race:
        result, self.others = self.effort.patience.quietly(run)
        return result

    def race(self, calls: Calls) -> Race:
        """All calls in one race on the CPU; their times go to the notes."""
        contestants = [Contestant(who, call, lambda turn: ()) for who, call in calls.items()]
        rounds, budget = self.effort.rounds, 2 * self.effort.budget
        cpu = torch.device("cpu")
        result = self.quietly(partial(race, contestants, cpu, rounds=rounds, budget=budget))
        for who in result.seconds:
            time = result.time(who)
            self.found.notes.append(
                f"{who}: {1e3 * time.median:.3f} ms ({1e3 * time.low:.3f}..{1e3 * time.high:.3f})"
            )
        return result

    def admits(self, what: str, ours: Tensor, truth: Tensor, limit: float) -> bool:
        """Ours is timed where it is right; else the refusal is kept."""
        error = relative_error(ours, truth)
        if error > limit:
            self.found.refused.append(f"{what}: relative error {error:.1e}, above {limit:.1e}.")
        return error <= limit

    def add(self, what: str, kind: str, target: float, measured: Spread) -> None:
        self.lines.append(Line(what, kind, target, measured, self.others))

    def shown(self, title: str) -> Found:
        """Prints the lines, and gives a row for each."""
        head = ["line", "target", "measured", "quartiles", "met", "others %"]
        show(title, head, [line.cells for line in self.lines])
        self.found.rows = [line.row() for line in self.lines]
        return self.found
