"""What else the machine does: a race on a busy machine is run again, or told apart in its rows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
QUIET = 0.05  # of the machine's time that others may take
_STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Load:
    """Processor seconds so far: of the whole machine (time stolen by its host too), and our own."""

    machine: float
    own: float
    clock: float

    @classmethod
    def now(cls) -> Load | None:
        if not _STAT.exists():
            return None
        ticks = [int(n) for n in _STAT.read_text().split("\n", 1)[0].split()[1:9]]
        busy = sum(ticks) - ticks[3] - ticks[4]  # all but idle and waiting for a disk
        times = os.times()
        return cls(busy / os.sysconf("SC_CLK_TCK"), times.user + times.system, time.perf_counter())

    def others_until(self, later: Load) -> float:
        """Share of the machine's processors that other processes took."""
        span = (later.clock - self.clock) * (os.cpu_count() or 1)
        taken = (later.machine - self.machine) - (later.own - self.own)
        return min(1.0, max(0.0, taken / span)) if span > 0 else 0.0


def during(action: Callable[[], T]) -> tuple[T, float | None]:
    """The action's result, and the share that others took meanwhile; None where nothing tells."""
    before = Load.now()
    result = action()
    after = Load.now()
    return result, before.others_until(after) if before and after else None


@dataclass
class Patience:
    """Seconds that a run may still wait for a quiet machine, in all and ``once`` for a race."""

    seconds: float = 0.0
    once: float = 60.0

    def quietly(self, action: Callable[[], T]) -> tuple[T, float | None]:
        """Runs ``action`` on a quiet machine; again while it was not quiet and patience lasts."""
        granted = left = min(self.once, self.seconds)
        while True:
            left -= _wait(left)
            start = time.perf_counter()
            result, others = during(action)
            if others is None or others <= QUIET or left <= 0:
                self.seconds -= granted - max(left, 0.0)
                return result, others
            left -= time.perf_counter() - start


def _wait(limit: float) -> float:
    """Seconds waited until others took little, or ``limit`` had passed."""
    start = time.perf_counter()
    while time.perf_counter() - start < limit:
        _, others = during(lambda: time.sleep(0.5))
        if others is None or others <= QUIET:
            break
    return time.perf_counter() - start
