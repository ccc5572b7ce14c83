"""Two result sets side by side: ``python -m bench.compare BEFORE AFTER``.

The ratio is BEFORE's time over AFTER's: above 1 is faster. Where the quartiles of both touch, the
difference is below the spread and called a tie.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .rows import Row, read
from .table import show


def verdict(before: Row, after: Row) -> str:
    """faster, slower or tie, as AFTER stands to BEFORE."""
    low = after.ms_low if after.ms_low is not None else after.ms
    high = after.ms_high if after.ms_high is not None else after.ms
    old_low = before.ms_low if before.ms_low is not None else before.ms
    old_high = before.ms_high if before.ms_high is not None else before.ms
    if low is None or high is None or old_low is None or old_high is None:
        return ""
    if high < old_low:
        return "faster"
    return "slower" if low > old_high else "tie"


def pairs(before: list[Row], after: list[Row]) -> list[tuple[Row, Row]]:
    """Rows of one case, contestant, device and thread count."""
    old = {row.key: row for row in before}
    return [(old[row.key], row) for row in after if row.key in old]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("before", type=Path, help="a .jsonl file, or a folder of them")
    parser.add_argument("after", type=Path)
    parser.add_argument("--who", default="dlaccel", help="the contestant to compare")
    parser.add_argument("--all", action="store_true", help="show ties as well")
    chosen = parser.parse_args(arguments)
    for path in (chosen.before, chosen.after):
        if not path.exists():
            parser.error(f"{path} does not exist.")
    found = [p for p in pairs(read(chosen.before), read(chosen.after)) if p[1].who == chosen.who]
    lines = []
    for old, new in found:
        what = verdict(old, new)
        if old.ms and new.ms and (chosen.all or what != "tie"):
            spread = f"{new.ms_low or new.ms:.4g}..{new.ms_high or new.ms:.4g}"
            lines.append(
                [
                    *new.case,
                    f"{old.ms:.4g}",
                    f"{new.ms:.4g}",
                    spread,
                    f"{old.ms / new.ms:.2f}",
                    what,
                ]
            )
    head = ["op", "variant", "size", "dtype", "stage", "before ms", "after ms", "quartiles"]
    ties = len(found) - len(lines)
    title = f"{chosen.who}: {len(found)} rows in both" + ("" if chosen.all else f", {ties} ties")
    show(title, [*head, "before / after", "verdict"], lines)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
