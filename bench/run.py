"""Measures: ``python -m bench.run [--group ops|gated_mlp|overhead|accept|collapse|ntk|hyper ...]``.

A wrong kernel is refused, shown, and makes the exit status 1. Rows go to ``--out`` and to
bench/results/<device>.jsonl; the table of ratios comes last.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from dlaccel import _core
from dlaccel.ops import SPECS

from . import accept, collapse, gated_mlp, hyper, memory, ntk, overhead
from .cases import select
from .load import Patience
from .measure import Effort, Found, measure
from .peers import EAGER
from .rows import OURS, RESULTS, Row, file_name, merge, provenance
from .table import TITLE, ratios, show


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--group", nargs="+", choices=tuple(_GROUPS), default=["ops", "overhead"])
    parser.add_argument("--op", nargs="+", default=[s.name for s in SPECS], help="names of specs")
    parser.add_argument("--variant", nargs="+", help="names of variants; default: all")
    parser.add_argument("--size", choices=("small", "cpu", "gpu"), help="default: the device's")
    parser.add_argument(
        "--dtype", nargs="+", choices=("float32", "bfloat16", "float16", "float64"),
        help="the first is measured most; default: float32 bfloat16, on CUDA the reverse",
    )  # fmt: skip
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, help="default: torch's")
    parser.add_argument("--out", type=Path, help="a folder that takes the rows too")
    parser.add_argument("--no-save", action="store_true", help="leave bench/results as it is")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--quick", action="store_true", help="7 rounds, one size and variant")
    parser.add_argument("--budget", type=float, default=1e9, help="seconds; no case starts later")
    parser.add_argument(
        "--patience", type=float, default=0.0, help="seconds to wait for a quiet machine, in all"
    )
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.op) - {s.name for s in SPECS}
    if unknown:
        parser.error(f"--op must be among {', '.join(s.name for s in SPECS)}, got {min(unknown)}.")
    if chosen.threads is not None and chosen.threads < 1:
        parser.error(f"--threads must be positive, got {chosen.threads}.")
    return chosen


def pick_device(wanted: str) -> torch.device:
    """A device whose kernels are there; a benchmark of the fallback would tell nothing."""
    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" or (wanted == "auto" and has_gpu):
        if not has_gpu:
            raise SystemExit("bench.run: --device cuda needs a GPU that torch can use.")
        if _core.cuda() is None:
            raise SystemExit("bench.run: this build holds no CUDA module: see `dlaccel doctor`.")
        return torch.device("cuda", torch.cuda.current_device())
    if _core.CPU is None:
        raise SystemExit("bench.run: this build holds no CPU module: see `dlaccel doctor`.")
    return torch.device("cpu")


def _dtypes(chosen: argparse.Namespace, device: torch.device) -> list[str]:
    default = ["float32", "bfloat16"] if device.type == "cpu" else ["bfloat16", "float32"]
    return chosen.dtype or default


def _ops(chosen: argparse.Namespace, device: torch.device, effort: Effort) -> Iterator[Found]:
    specs = [s for s in SPECS if s.name in chosen.op]
    dtypes = [getattr(torch, name) for name in _dtypes(chosen, device)]
    group = chosen.size or ("gpu" if device.type == "cuda" else "cpu")
    rows: list[Row] = []
    for planned in select(specs, group, dtypes, quick=chosen.quick):
        if chosen.variant and planned.case.variant not in chosen.variant:
            continue
        print("  ", *planned.case.words, flush=True)
        compiled = effort.compiled and planned.compiled
        found = measure(planned.case, planned.stages, device, replace(effort, compiled=compiled))
        rows += found.rows
        yield found
    if device.type == "cpu":
        yield Found(memory.filled("op", [r for r in rows if r.who in (OURS, EAGER)]))


def _gated_mlp(chosen: argparse.Namespace, device: torch.device, effort: Effort) -> Iterator[Found]:
    rows: list[Row] = []
    for found in gated_mlp.measure(device, _dtypes(chosen, device), effort, quick=chosen.quick):
        rows += found.rows
        yield found
    if device.type == "cpu":
        yield Found(memory.filled("gated_mlp", [r for r in rows if r.who != gated_mlp.PRODUCTS]))


def _overhead(chosen: argparse.Namespace, device: torch.device, effort: Effort) -> Iterator[Found]:
    rows, _ = effort.patience.quietly(lambda: overhead.measure(device))
    yield Found(rows)


def _accept(chosen: argparse.Namespace, device: torch.device, effort: Effort) -> Iterator[Found]:
    yield accept.measure(effort)


def _collapse(chosen: argparse.Namespace, device: torch.device, effort: Effort) -> Iterator[Found]:
    yield collapse.measure(effort)


def _hyper(chosen: argparse.Namespace, device: torch.device, effort: Effort) -> Iterator[Found]:
    yield hyper.measure(effort)


def _ntk(chosen: argparse.Namespace, device: torch.device, effort: Effort) -> Iterator[Found]:
    yield ntk.measure(effort)


_GROUPS: dict[str, Callable[..., Iterator[Found]]] = {
    "ops": _ops,
    "gated_mlp": _gated_mlp,
    "overhead": _overhead,
    "accept": _accept,
    "collapse": _collapse,
    "ntk": _ntk,
    "hyper": _hyper,
}


def main(arguments: list[str] | None = None) -> int:
    chosen = parse(arguments)
    device = pick_device(chosen.device)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    rounds, budget = (7, 1.0) if chosen.quick else (30, 6.0)
    effort = Effort(rounds, budget, not chosen.no_compile, Patience(chosen.patience))
    where = provenance(device)
    print(f"{where.device}: {where.isa}, {where.threads} threads, {where.versions}, {where.commit}")
    deadline = time.monotonic() + chosen.budget
    rows: list[Row] = []
    refused: list[str] = []
    for group in chosen.group:
        print(group, flush=True)
        cases = _GROUPS[group](chosen, device, effort)
        while time.monotonic() < deadline and (found := next(cases, None)):
            new = [row.at(where) if not row.device else row for row in found.rows]
            rows += new
            refused += found.refused
            for note in found.notes:
                print("   ", note)
            for line in found.refused:
                print("    REFUSED:", line, file=sys.stderr)
            _save(new, chosen)
        if time.monotonic() >= deadline:
            print(f"{group}: the budget of {chosen.budget:g} s is spent, what is left is left out.")
    show(TITLE, *ratios(rows))
    for line in refused:
        print("REFUSED:", line)
    return 1 if refused else 0


def _save(rows: list[Row], chosen: argparse.Namespace) -> None:
    """After every case, so that a run that is cut short leaves what it has."""
    for folder in ([] if chosen.no_save else [RESULTS]) + ([chosen.out] if chosen.out else []):
        for device in {row.device for row in rows}:
            mine = [row for row in rows if row.device == device]
            dropped = merge(folder / file_name(device), mine)
            if dropped:
                print(f"{file_name(device)} is full: {len(dropped)} oldest rows were left out.")


if __name__ == "__main__":
    raise SystemExit(main())
