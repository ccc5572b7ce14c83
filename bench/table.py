"""Tables for people: one line for each case, a column for each contestant.

``python -m bench.table [PATH]`` shows a file of rows, or all files of a folder.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from .peers import COMPILE, EAGER
from .rows import OURS, RESULTS, Row, read

TITLE = "times of others over ours (± half the interquartile range)"

_FIRST = (EAGER, COMPILE)


def ratios(rows: Iterable[Row]) -> tuple[list[str], list[list[str]]]:
    """Head and lines: our time and share of the ceiling, then every other's time over ours."""
    cases: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        cases.setdefault(row.case, {})[row.who] = row
    everyone = {who for by in cases.values() for who in by} - {OURS}
    others = [*(w for w in _FIRST if w in everyone), *sorted(everyone.difference(_FIRST))]
    head = ["op", "variant", "size", "dtype", "stage", "ms", "ceiling %", *others, "error", "MiB"]
    lines = []
    for case, by in cases.items():
        ours = by.get(OURS)
        if ours is None or ours.ms is None:
            continue
        lines.append(
            [
                *case,
                f"{ours.ms:.4g}",
                "" if ours.percent is None else f"{ours.percent:.0f}",
                *(_times(by.get(who)) for who in others),
                "" if ours.error is None else f"{ours.error:.1e}",
                "" if ours.peak_mib is None else f"{ours.peak_mib:.1f}",
            ]
        )
    return head, lines


def _times(row: Row | None) -> str:
    if row is None or row.ratio is None:
        return ""
    spread = (
        "" if row.ratio_high is None else f" ±{(row.ratio_high - (row.ratio_low or 0)) / 2:.2f}"
    )
    return f"{row.ratio:.2f}{spread}"


def show(title: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Prints a table; empty columns are left out."""
    kept = [i for i in range(len(head)) if any(line[i] for line in lines)]
    widths = [max(len(head[i]), *(len(line[i]) for line in lines)) for i in kept] if lines else []
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(title)
        for line in (head, *lines):
            print("  ".join(line[i].ljust(w) for i, w in zip(kept, widths, strict=True)).rstrip())
        return
    table = Table(title=title, title_justify="left", pad_edge=False)
    for i in kept:
        table.add_column(head[i], no_wrap=True)
    for line in lines:
        table.add_row(*(line[i] for i in kept))
    width = max(shutil.get_terminal_size().columns, sum(widths) + 4 * len(widths) + 4)
    Console(width=width).print(table)


if __name__ == "__main__":
    show(TITLE, *ratios(read(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS)))
