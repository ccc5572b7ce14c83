"""The runner: command line, seeds, records, resume, claims, figures, report; no science."""

from .claims import Claim, Finding, Findings, Verdict
from .paper import Paper
from .records import SCHEMA, Records, Row, RunError
from .run import Run
from .table import Table
from .trial import Trial

__all__ = [
    "SCHEMA",
    "Claim",
    "Finding",
    "Findings",
    "Paper",
    "Records",
    "Row",
    "Run",
    "RunError",
    "Table",
    "Trial",
    "Verdict",
]
