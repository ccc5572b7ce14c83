"""Timing: interleaved rounds in random order, the median and the quartiles.

Every contestant runs once in every round, so that a machine that slows down slows all of them, and
ratios are taken within a round. On the CPU the host's clock is read around enough calls to fill
``REGION`` seconds. On CUDA events are recorded behind a sleeping kernel that lasts until the host
has queued all calls: they measure the device's time alone, ``bench.overhead`` the host's.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

REGION = 200e-6  # s; 5000 times the clock's grain
MOST_CALLS = 500  # in one region: each may hold a prepared graph
WARM_UP = 3
FEWEST_ROUNDS = 5  # of a race whose budget is spent
_CYCLES_PER_SECOND = 2e9  # at most, of a GPU's clock: the sleep may last longer, never shorter
_SLEEPS = 3  # tries to outlast the host; one that synchronises by itself is timed as it is


@dataclass(frozen=True)
class Contestant:
    """What is timed: ``function(*prepare(turn))``, its result's release included, not ``prepare``.

    Attributes:
        who: The name in rows and tables.
        function: Allocates nothing but what the op itself allocates.
        prepare: Arguments of a turn. Turns count calls, so that buffers can rotate.
    """

    who: str
    function: Callable[..., Any]
    prepare: Callable[[int], Sequence[Any]]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        ordered = sorted(values)
        if len(ordered) < 2:
            return cls(ordered[0], ordered[0], ordered[0])
        low, median, high = statistics.quantiles(ordered, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass
class Race:
    """Seconds for one call, by contestant and round."""

    seconds: dict[str, list[float]]

    @property
    def rounds(self) -> int:
        return len(next(iter(self.seconds.values())))

    def time(self, who: str) -> Spread:
        return Spread.of(self.seconds[who])

    def ratio(self, who: str, base: str) -> Spread:
        """Time of ``who`` over the time of ``base``, round by round."""
        pairs = zip(self.seconds[who], self.seconds[base], strict=True)
        return Spread.of(theirs / ours for theirs, ours in pairs)


def race(
    contestants: Sequence[Contestant],
    device: torch.device,
    *,
    rounds: int = 30,
    budget: float = 6.0,
    seed: int = 0,
) -> Race:
    """Times all contestants for ``rounds`` rounds, fewer where ``budget`` seconds pass first."""
    region = _cuda_region if device.type == "cuda" else _host_region
    order = list(contestants)
    result = Race({c.who: [] for c in order})
    turns = dict.fromkeys(result.seconds, 0)

    def run(contestant: Contestant, calls: int) -> float:
        start = turns[contestant.who]
        turns[contestant.who] += calls
        return region(contestant, range(start, start + calls))

    calls = {}
    for contestant in order:
        estimate = min(run(contestant, 1) for _ in range(WARM_UP))
        calls[contestant.who] = min(MOST_CALLS, max(1, math.ceil(REGION / max(estimate, 1e-9))))
        run(contestant, calls[contestant.who])
    shuffle = random.Random(seed).shuffle
    end = time.perf_counter() + budget
    collecting = gc.isenabled()
    gc.disable()
    try:
        for done in range(rounds):
            if done >= FEWEST_ROUNDS and time.perf_counter() > end:
                break
            shuffle(order)
            for contestant in order:
                result.seconds[contestant.who].append(run(contestant, calls[contestant.who]))
    finally:
        if collecting:
            gc.enable()
    return result


def _host_region(contestant: Contestant, turns: range) -> float:
    function = contestant.function
    prepared = [contestant.prepare(turn) for turn in turns]
    start = time.perf_counter()
    for arguments in prepared:
        function(*arguments)
    return (time.perf_counter() - start) / len(turns)


def _cuda_region(contestant: Contestant, turns: range) -> float:
    function = contestant.function
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    sleep = 20e-6 + 60e-6 * len(turns)  # s; a forward and backward takes the host about 60 us
    for _ in range(_SLEEPS):
        prepared = [contestant.prepare(turn) for turn in turns]
        torch.cuda.synchronize()
        torch.cuda._sleep(int(sleep * _CYCLES_PER_SECOND))  # type: ignore[no-untyped-call]
        start = time.perf_counter()
        begin.record()
        for arguments in prepared:
            function(*arguments)
        end.record()
        queued = time.perf_counter() - start
        torch.cuda.synchronize()
        if queued < sleep:
            break
        sleep = 2 * queued
    return float(begin.elapsed_time(end)) * 1e-3 / len(turns)
