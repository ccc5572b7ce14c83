"""A run's claims as a block of Markdown on a page of the docs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .claims import Verdict
from .folder import write_atomic
from .records import RunError
from .table import Table

if TYPE_CHECKING:
    from .run import Run

COLUMNS = ("claim", "statement", "where", "margin", "verdict")
FIRST = (Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.NOT_RUN, Verdict.HELD)
"""The order of the claims: failures first."""


def write_claims(page: Path, run: Run) -> None:
    """Puts the run's claims between ``<!-- claims: PROFILE -->`` and ``<!-- /claims -->``.

    Raises:
        RunError: when the page cannot be read, or has no such pair of lines.
    """
    begin, end = f"<!-- claims: {run.header['profile']} -->\n", "<!-- /claims -->\n"
    try:
        before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"page must be a file that can be read, got {page} ({error}).") from error
    _, closed, after = rest.partition(end)
    if not (found and closed):
        rule = f"hold the lines {begin.strip()} and {end.strip()} in this order"
        raise RunError(f"page must {rule}, got {page} without them.")
    write_atomic(page, (before + begin + claims_block(run) + end + after).encode())


def claims_block(run: Run) -> str:
    """A sentence on where the run was made, and the table of claims."""
    header = run.header
    versions, seeds, threads = header["versions"], header["seeds"], header["threads"]
    facts = ", ".join(
        [
            f"{seeds} seed{'s' * (seeds != 1)}",
            *(f"{name} {versions[name]}" for name in ("torch", "numpy", "python")),
            f"{header['device_name']}, {threads} thread{'s' * (threads != 1)}",
        ]
    )
    state = "" if run.complete else "; the run is not finished"
    claims = [finding for verdict in FIRST for finding in run.claims if finding.verdict is verdict]
    table = type(run.claims)(claims).table
    places = [table.columns.index(name) for name in COLUMNS]
    rows = tuple(tuple(row[place] for place in places) for row in table.rows)
    text = Table(COLUMNS, rows).to_markdown()
    return f"\n{facts}: {run.claims.summary()}{state}.\n\n{text}\n\n"
