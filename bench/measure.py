"""One case of an op, measured: gate, race, rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import torch

from .cases import Buffers, Case
from .gate import Errors, Oracle, errors, refusal
from .load import Patience
from .peers import EAGER, Entrant, entrants
from .roofline import CEILINGS, bandwidth, matmul_rate
from .rows import OURS, Row, timed
from .timing import Contestant, Race, race


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    rounds: int = 30
    budget: float = 6.0  # s for a race
    compiled: bool = True
    patience: Patience = field(default_factory=Patience)


@dataclass
class Found:
    """What came of a case."""

    rows: list[Row] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # ours, and wrong
    notes: list[str] = field(default_factory=list)


def measure(case: Case, stages: Iterable[str], device: torch.device, effort: Effort) -> Found:
    """Every stage of a case, all contestants in one race for each."""
    buffers = Buffers(case, device)
    everyone, absent = entrants(case, device, compiled=effort.compiled)
    found = Found(notes=absent)
    known = admit(everyone, buffers, found)
    if OURS not in known:
        return found
    racing = [e for e in everyone if e.who in known]
    for stage in stages:
        field_of_stage = [e for e in racing if stage != "out" or e.who == OURS]
        contestants = [
            *bandwidth(buffers.moved(stage), case.dtype, device),
            *(buffers.contestant(e.who, e.function, stage, e.overwrites) for e in field_of_stage),
        ]
        run = partial(race, contestants, device, rounds=effort.rounds, budget=effort.budget)
        result, others = effort.patience.quietly(run)
        peaks = {c.who: cuda_peak(c) for c in contestants} if device.type == "cuda" else {}
        found.rows += _rows(buffers, stage, result, known, peaks, others)
    return found


def admit(everyone: list[Entrant], buffers: Buffers, found: Found) -> dict[str, Errors]:
    """The errors of those that are right; the others are told of."""
    oracle = Oracle.of(buffers)
    known: dict[str, Errors] = {}
    case = " ".join(buffers.case.words)
    for entrant in sorted(everyone, key=lambda e: e.who == OURS):  # eager before ours
        try:
            measured = errors(entrant.function, buffers, oracle)
            ours = entrant.who == OURS
            why = refusal(buffers, measured, known.get(EAGER) if ours else None)
        except Exception as error:
            if entrant.who == EAGER:
                raise
            why = f"it raises {type(error).__name__}: {str(error).splitlines()[0]:.200}"
        if why is None or entrant.who == EAGER:  # the yardstick's error is for the row to tell
            known[entrant.who] = measured
        else:
            (found.refused if entrant.who == OURS else found.notes).append(
                f"{case}: {entrant.who} is not timed: {why}."
            )
    return known


def _rows(
    buffers: Buffers,
    stage: str,
    result: Race,
    known: dict[str, Errors],
    peaks: dict[str, float],
    others: float | None,
) -> list[Row]:
    case, moved = buffers.case, buffers.moved(stage)
    ceiling = max(moved / result.time(who).median for who in CEILINGS)
    flops = case.spec.flops(buffers.sets[0].tensors) * (1 if stage in ("forward", "out") else 3)
    compute = case.dtype if buffers.device.type == "cuda" else torch.float32
    floor = max(moved / ceiling, flops / matmul_rate(compute, buffers.device))
    rows = []
    for who in result.seconds:
        if who not in known:
            continue
        median = result.time(who).median
        rows.append(
            timed(
                (*case.words, stage), who, result, others,
                gbps=moved / median / 1e9, percent=100 * floor / median,
                error=known[who].of(stage), peak_mib=peaks.get(who), first_ms=known[who].first_ms,
                ceiling_gbps=ceiling / 1e9, cache=buffers.cache,
            )
        )  # fmt: skip
    return rows


def cuda_peak(contestant: Contestant) -> float:
    """MiB that the allocator gave out during a call, above what was there before."""
    arguments = contestant.prepare(0)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    contestant.function(*arguments)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20
