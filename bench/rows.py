"""Rows: one measurement each, a line of JSON in ``bench/results/<device>.jsonl``.

A file keeps the newest row of each key and nothing of its history, which is the repository's.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dlaccel import _core

from .timing import Race

RESULTS = Path(__file__).parent / "results"
LARGEST = 200_000  # bytes of a tracked file
OURS = "dlaccel"  # the contestant that ratios are over


@dataclass(frozen=True)
class Provenance:
    """Where and when a row was measured."""

    device: str
    threads: int
    isa: str
    commit: str
    versions: str
    date: str


@dataclass(frozen=True)
class Row:
    """One contestant of one race. Absent figures are None and are left out of the file.

    Attributes:
        op: Name of the spec, or of the group's own case.
        variant: The spec's variant and, after a comma, a memory layout that is not contiguous.
        size: As the spec writes it, joined by x.
        dtype: Without ``torch.``.
        stage: forward, out, backward, backward expanded, both, or the group's own word.
        who: dlaccel, eager, compile, liger, fla, or the group's own word.
        ms: Median; ``ms_low`` and ``ms_high`` are the quartiles.
        gbps: Bytes that must move, over the median.
        percent: Of the ceiling measured in the same race: the floor over the median.
        ratio: Median over rounds of this time over dlaccel's, with quartiles.
        error: Relative L2 error against float64, the largest over results or gradients.
        peak_mib: Memory taken above the inputs, at its highest.
        first_ms: The first call of the case, compilation and allocation included.
        ceiling_gbps: The faster of a copy and ``torch.mul(a, b, out=o)``, same bytes, same rounds.
        rounds: How many the medians are over.
        cache: rotated (buffers larger than the last-level cache take turns) or warm.
        others: Percent of the machine's processor time that other processes took meanwhile.
    """

    op: str
    variant: str
    size: str
    dtype: str
    stage: str
    who: str
    ms: float | None = None
    ms_low: float | None = None
    ms_high: float | None = None
    gbps: float | None = None
    percent: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    error: float | None = None
    peak_mib: float | None = None
    first_ms: float | None = None
    ceiling_gbps: float | None = None
    rounds: int | None = None
    cache: str | None = None
    others: float | None = None
    device: str = ""
    threads: int = 0
    isa: str = ""
    commit: str = ""
    versions: str = ""
    date: str = ""

    @property
    def case(self) -> tuple[str, ...]:
        """What was measured, whoever did it."""
        return (self.op, self.variant, self.size, self.dtype, self.stage)

    @property
    def key(self) -> tuple[str, ...]:
        """A newer row replaces an older one of the same key."""
        return (*self.case, self.who, self.device, str(self.threads), self.isa)

    def at(self, where: Provenance) -> Row:
        return dataclasses.replace(self, **dataclasses.asdict(where))

    def line(self) -> str:
        kept = {
            name: float(f"{value:.4g}") if isinstance(value, float) else value
            for name, value in dataclasses.asdict(self).items()
            if value is not None
        }
        return json.dumps(kept, separators=(",", ":"))


def timed(
    words: tuple[str, str, str, str, str], who: str, result: Race, others: float | None, **more: Any
) -> Row:
    """A contestant's row of a race; ``others`` is a share, ``more`` what the race does not know."""
    time = result.time(who)
    ratio = result.ratio(who, OURS) if who != OURS else None
    return Row(
        *words, who,
        ms=1e3 * time.median, ms_low=1e3 * time.low, ms_high=1e3 * time.high,
        ratio=ratio.median if ratio else 1.0,
        ratio_low=ratio.low if ratio else None,
        ratio_high=ratio.high if ratio else None,
        rounds=result.rounds,
        others=None if others is None else 100 * others,
        **more,
    )  # fmt: skip


_FIELDS = {field.name for field in dataclasses.fields(Row)}


def read(path: Path) -> list[Row]:
    """Rows of a file, or of all ``*.jsonl`` of a folder. Unknown fields are left out."""
    paths = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    rows = []
    for each in paths:
        for number, line in enumerate(each.read_text().splitlines(), 1):
            try:
                fields = {k: v for k, v in json.loads(line).items() if k in _FIELDS}
                rows.append(Row(**fields))
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{each}:{number} must be a row of a benchmark, got {line!r:.60}."
                ) from error
    return rows


def merge(path: Path, rows: Iterable[Row]) -> list[Row]:
    """Puts rows into a file in place of older ones of their keys; returns those it had to drop.

    Where the file would pass ``LARGEST`` bytes, the rows of the oldest run go, its last ones first:
    a run begins with what tells most.
    """
    by_key = {row.key: row for row in (read(path) if path.exists() else [])}
    for row in rows:
        by_key.pop(row.key, None)
        by_key[row.key] = row
    kept = list(by_key.values())
    lines = [row.line() + "\n" for row in kept]
    excess, dropped = sum(map(len, lines)) - LARGEST, set[int]()
    for i in sorted(range(len(kept)), key=lambda i: (kept[i].date, -i)):
        if excess <= 0:
            break
        excess -= len(lines[i])
        dropped.add(i)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text("".join(line for i, line in enumerate(lines) if i not in dropped))
    partial.replace(path)
    return [kept[i] for i in sorted(dropped)]


def provenance(device: torch.device) -> Provenance:
    """Of rows measured now, by this process, on ``device``."""
    if device.type == "cuda":
        name, isa = torch.cuda.get_device_name(device), _capability(device)
    else:
        name, isa = _cpu(), f"{_core.ISA}, torch {torch.backends.cpu.get_cpu_capability()}"
    return Provenance(
        device=name,
        threads=torch.get_num_threads(),
        isa=isa,
        commit=_commit(),
        versions=f"torch {torch.__version__}, python {platform.python_version()}",
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M"),
    )


def file_name(device: str) -> str:
    """``AMD EPYC, 2 cores`` -> ``amd-epyc-2-cores.jsonl``."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-") + ".jsonl"


def _capability(device: torch.device) -> str:
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


def _cpu() -> str:
    facts: dict[str, str] = {}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    model = facts.get("model name", platform.processor() or platform.machine())
    family = f" family {facts['cpu family']}" if "cpu family" in facts else ""
    return f"{model}{family}, {os.cpu_count()} cores"


def _commit() -> str:
    root = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", root, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git(
            "status", "--porcelain", "--untracked-files=no", "--", "csrc", "dlaccel", "bench"
        )
        return git("rev-parse", "--short", "HEAD") + "+" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("DLACCEL_COMMIT", "unknown")
