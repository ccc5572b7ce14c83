"""Peak memory of a CPU call: resident pages above those before it, at their highest.

Counts whatever the process touches: torch's tensors, the kernels' own scratch, a library's buffers.
It runs in a process of its own (``python -m bench.memory``), where the C library maps every block
of more than 64 KiB by itself and gives it back on release, so that no freed page hides a new one.
Buffers that a library keeps after its first call are not seen. Linux alone; exact to some 0.1 MiB.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dlaccel.ops import SPECS

from . import gated_mlp
from .cases import Buffers, from_words
from .peers import entrants
from .process import Failed, python
from .rows import Row
from .timing import Contestant

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_SETTINGS = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def filled(kind: str, rows: Sequence[Row]) -> list[Row]:
    """Rows with their peak memory, measured in one process of its own, on as many threads."""
    requests = [
        {"kind": kind, "who": r.who, "stage": r.stage, "op": r.op, "variant": r.variant,
         "size": r.size, "dtype": r.dtype}
        for r in rows
    ]  # fmt: skip
    threads = str(torch.get_num_threads())
    try:
        answer = python(
            ["-m", "bench.memory", threads], given=json.dumps(requests), settings=_SETTINGS
        )
    except Failed as failure:
        print(f"peak memory is not known: {failure}", file=sys.stderr)
        return []
    found: list[float | None] = json.loads(answer)
    return [replace(row, peak_mib=peak) for row, peak in zip(rows, found, strict=True)]


def peak(function: Callable[..., Any], prepare: Callable[[], Sequence[Any]]) -> float | None:
    """MiB above the state in which the arguments are ready, in the third call."""
    if not os.access(_CLEAR, os.W_OK):
        return None
    for _ in range(2):
        function(*prepare())
    arguments = prepare()
    _CLEAR.write_text("5")  # the high-water mark starts again from here
    before = _resident("VmRSS")
    function(*arguments)
    return max(0.0, _resident("VmHWM") - before)


def _resident(field: str) -> float:
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
    return int(lines[field].split()[0]) / 1024


def _main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    found = []
    for request in json.load(sys.stdin):
        contestant = _contestant(**request)
        found.append(peak(contestant.function, partial(contestant.prepare, 0)))
    print(json.dumps(found))


def _contestant(kind: str, who: str, stage: str, **words: str) -> Contestant:
    """The contestant of an op's case, or of a gated MLP's, by the words of its row."""
    if kind == "gated_mlp":
        return gated_mlp.from_words(**words).contestant(who, stage)
    buffers = Buffers(from_words(SPECS, **words), torch.device("cpu"))
    found, _ = entrants(buffers.case, buffers.device, compiled=False)
    (entrant,) = (e for e in found if e.who == who)
    return buffers.contestant(who, entrant.function, stage)


if __name__ == "__main__":
    _main()
