"""The acceptance lines: targets for the CPU, two threads, float32, each in one interleaved run."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import partial

import torch

from dlaccel.ops import SPECS

from . import gated_mlp, memory, overhead
from .cases import Buffers, Case
from .gate import Errors
from .gated_mlp import CAST, Mlp
from .lines import Line, Lines
from .load import Patience
from .measure import Effort, Found, admit
from .peers import COMPILE, EAGER, entrants
from .process import Failed, python
from .roofline import MUL, bandwidth
from .rows import OURS, Row
from .timing import Spread, race

THREADS = 2
_CPU = torch.device("cpu")
# What makes torch, oneDNN and MKL behave as on a processor without native bfloat16.
_NO_NATIVE_BFLOAT16 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
_WEIGHTS_MIB = 3 * 256 * 704 * 4 / 2**20


def measure(effort: Effort) -> Found:
    """Measures every line, prints them, and gives a row for each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        made = Lines(effort)
        _large(made)
        _small(made)
        _bfloat16(made)
    finally:
        torch.set_num_threads(threads)
    return made.shown("acceptance")


def _large(made: Lines) -> None:
    """(2048, 2816) float32, everything in one race."""
    buffers = Buffers(Case(SPECS[0], "silu", (2048, 2816), torch.float32), _CPU)
    everyone, _ = entrants(buffers.case, _CPU, compiled=made.effort.compiled)
    known = admit(everyone, buffers, made.found)
    if OURS not in known:
        return
    _accuracy(made, known[OURS], known[EAGER])
    contestants = [
        c for c in bandwidth(buffers.moved("forward"), torch.float32, _CPU) if c.who == MUL
    ]
    for stage in ("forward", "out", "backward"):
        for entrant in everyone:
            if entrant.who not in known or (stage == "out" and entrant.who != OURS):
                continue
            who = f"{entrant.who} {stage}"
            contestants.append(buffers.contestant(who, entrant.function, stage))
    rounds, budget = made.effort.rounds, 3 * made.effort.budget
    result = made.quietly(partial(race, contestants, _CPU, rounds=rounds, budget=budget))
    where = "glu silu (2048, 2816)"
    for stage, who, target in (
        ("forward", EAGER, 2.0),
        ("forward", COMPILE, 1.5),
        ("backward", EAGER, 2.0),
    ):
        if who in known:
            ratio = result.ratio(f"{who} {stage}", f"{OURS} {stage}")
            made.add(f"{where} {stage}: {who} over ours", "at least", target, ratio)
    made.add(f"{where} out=: ours over {MUL}", "at most", 1.3, result.ratio(f"{OURS} out", MUL))
    for who in result.seconds:
        time = result.time(who)
        made.found.notes.append(
            f"{where} {who}: {1e3 * time.median:.3f} ms "
            f"({1e3 * time.low:.3f}..{1e3 * time.high:.3f})"
        )


def _accuracy(made: Lines, ours: Errors, eager: Errors) -> None:
    # 1 %: the rounding errors of two right kernels differ by chance.
    for name, own, theirs in (
        ("result", ours.result, eager.result),
        ("gradients", ours.gradients, eager.gradients),
    ):
        what = f"glu silu float32 error of the {name}: ours over eager's"
        made.add(what, "at most", 1.01, Spread.of([own / theirs]))


def _small(made: Lines) -> None:
    """64 x 64: the host's time."""
    calls = overhead.calls(_CPU)
    limits = {"identity": 2.5, "identity, gradient wanted": 4.0}
    for case, contestants in calls.items():
        run = partial(overhead.host_race, contestants, 100, made.effort.budget)
        result = made.quietly(run)
        if case in limits:
            ratio = result.ratio(OURS, overhead.PLAIN)
            made.add(f"glu {case} (64, 64): ours over a * b", "at most", limits[case], ratio)
        else:
            ratio = result.ratio(EAGER, OURS)
            made.add("glu silu (64, 64): eager over ours", "at least", 1, ratio)


def _bfloat16(made: Lines) -> None:
    """The gated MLP, in a process held to AVX2 where this processor has native bfloat16."""
    held = _NO_NATIVE_BFLOAT16 if gated_mlp.native_bfloat16() else {}
    effort = [made.effort.rounds, made.effort.budget, made.effort.patience.seconds]
    try:
        answer = json.loads(python(["-m", "bench.accept", json.dumps(effort)], settings=held))
    except Failed as failure:
        made.found.notes.append(f"bfloat16 GatedMLP: not measured: {failure}")
        return
    made.found.notes += answer["notes"]
    made.found.refused += answer["refused"]
    made.lines += [
        Line(**{**line, "measured": Spread(**line["measured"])}) for line in answer["lines"]
    ]


def _bfloat16_lines(effort: Effort) -> Lines:
    made = Lines(effort)
    mlp = Mlp(512, 256, 704, torch.bfloat16, _CPU)
    capability = torch.backends.cpu.get_cpu_capability()
    label = f"GatedMLP bfloat16 (512; 256, 704) forward, torch {capability}"
    made.found.notes.append(f"{label}: native bfloat16 products: {gated_mlp.native_bfloat16()}")
    measured, races = gated_mlp.measure_one(mlp, effort, ("forward",))
    made.found.refused += measured.refused
    if not races:
        return made
    result = races["forward"]
    made.others = None if measured.rows[0].others is None else measured.rows[0].others / 100
    made.add(f"{label}: torch's own over ours", "at least", 5, result.ratio(EAGER, OURS))
    made.add(f"{label}: ours over casting and back", "at most", 1, result.ratio(OURS, CAST))
    for who in result.seconds:
        made.found.notes.append(f"{label} {who}: {result.time(who).median * 1e3:.3f} ms")
    peaks = {r.who: r.peak_mib for r in memory.filled("gated_mlp", [
        Row(*mlp.words, "forward", who) for who in (OURS, EAGER, CAST)])}  # fmt: skip
    if peaks.get(OURS) is not None:
        made.found.notes.append(
            f"{label}: peak MiB " + ", ".join(f"{w} {p:.2f}" for w, p in peaks.items())
        )
        spared = Spread.of([(peaks[CAST] or 0.0) - (peaks[OURS] or 0.0)])
        what = f"{label}: MiB less than casting, which copies the weights"
        made.add(what, "at least", _WEIGHTS_MIB, spared)
    return made


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    rounds, budget, seconds = json.loads(sys.argv[1])
    made = _bfloat16_lines(Effort(rounds, budget, False, Patience(seconds)))
    lines = [asdict(line) for line in made.lines]
    print(json.dumps({"lines": lines, "notes": made.found.notes, "refused": made.found.refused}))
