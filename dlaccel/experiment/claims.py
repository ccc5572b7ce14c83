"""Claims of a paper, and the verdicts that a run gives on them."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .records import Records
from .table import Table, format_value

CONFIDENCE = 0.95


class Verdict(enum.Enum):
    """What a run says about a claim."""

    HELD = "held"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Claim:
    """One ordering, trend or inequality of a paper.

    Attributes:
        key: Short name, e.g. "C1".
        statement: One sentence.
        where: Its place in the paper (or in the notes on it).
        evidence: Sees one seed's rows; returns a margin, above 0 where the claim is supported, a
            bool for an exact fact, or None when its measurements are absent.
        statistical: Judged by the 95 % Student interval of the margins over seeds, instead of seed
            by seed.
    """

    key: str
    statement: str
    where: str
    evidence: Callable[[Records], float | bool | None]
    statistical: bool = False


@dataclass(frozen=True)
class Finding:
    """A claim with its verdict.

    Attributes:
        claim: The claim.
        verdict: What the run says.
        margins: One for each seed that has its measurements.
        mean: Mean margin; None without margins.
        interval: 95 % Student interval of the mean; None for an exact claim or under two seeds.
    """

    claim: Claim
    verdict: Verdict
    margins: tuple[float | bool, ...]
    mean: float | None
    interval: tuple[float, float] | None

    @property
    def margin_text(self) -> str:
        """The margin as the table shows it."""
        if not self.margins:
            return ""
        if all(isinstance(margin, bool) for margin in self.margins):
            return f"true in {sum(self.margins)} of {len(self.margins)}"
        if self.interval is not None:
            low, high = (format_value(end) for end in self.interval)
            return f"{format_value(self.mean)} [{low}, {high}]"
        if len(set(self.margins)) == 1:
            return format_value(float(self.margins[0]))
        return (
            f"{format_value(float(min(self.margins)))} to {format_value(float(max(self.margins)))}"
        )

    def to_json(self) -> dict[str, Any]:
        """What ``claims.json`` holds of it."""
        return {
            "key": self.claim.key,
            "statement": self.claim.statement,
            "where": self.claim.where,
            "statistical": self.claim.statistical,
            "verdict": self.verdict.value,
            "margins": list(self.margins),
            "mean": self.mean,
            "interval": None if self.interval is None else list(self.interval),
            "seeds": len(self.margins),
        }


class Findings(Sequence[Finding]):
    """All claims of a paper with their verdicts; prints as a table, ``findings["C1"]`` is one."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self._findings = tuple(findings)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            return {finding.claim.key: finding for finding in self}[index]
        return self._findings[index]

    def __len__(self) -> int:
        return len(self._findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._findings)

    @property
    def failed(self) -> tuple[Finding, ...]:
        """Those that failed."""
        return tuple(finding for finding in self if finding.verdict is Verdict.FAILED)

    @property
    def table(self) -> Table:
        """Key, claim, where, margin, seeds, verdict."""
        rows = tuple(
            (
                f.claim.key,
                f.claim.statement,
                f.claim.where,
                f.margin_text,
                len(f.margins),
                f.verdict.value,
            )
            for f in self
        )
        return Table(("claim", "statement", "where", "margin", "seeds", "verdict"), rows)

    def summary(self) -> str:
        """How many claims got each verdict, e.g. ``3 held, 1 failed``."""
        counts = {verdict: sum(f.verdict is verdict for f in self) for verdict in Verdict}
        return ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)

    def __str__(self) -> str:
        return str(self.table)

    __repr__ = __str__


def student_interval(margins: Sequence[float]) -> tuple[float, float]:
    """95 % Student interval of the mean: m -+ t s / sqrt(n), s with divisor n - 1, n >= 2."""
    from scipy.special import stdtrit

    count = len(margins)
    mean = math.fsum(margins) / count
    deviation = math.sqrt(math.fsum((margin - mean) ** 2 for margin in margins) / (count - 1))
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(count)
    return mean - half, mean + half


def judge(claim: Claim, records: Records, complete: frozenset[int]) -> Finding:
    """The verdict of a run on one claim.

    Args:
        claim: The claim.
        records: All rows of the run.
        complete: Seeds whose trial is over. In the others evidence that stumbles over rows that
            are not there yet counts as not run.

    Raises:
        TypeError: when a statistical claim's evidence returns a bool.
    """
    found = [
        _margin(claim, records.of_seed(seed), seed in complete)
        for seed in sorted({*records.seeds(), *complete})
    ]
    margins = tuple(margin for margin in found if margin is not None)
    if not margins:
        return Finding(claim, Verdict.NOT_RUN, (), None, None)
    mean = math.fsum(margins) / len(margins)
    if not claim.statistical:
        held = all(margin > 0 for margin in margins)
        return Finding(claim, Verdict.HELD if held else Verdict.FAILED, margins, mean, None)
    if any(isinstance(margin, bool) for margin in margins):
        raise TypeError(
            f"claim {claim.key} is statistical: its evidence must return a number, not a bool."
        )
    if len(margins) < 2:
        return Finding(claim, Verdict.INCONCLUSIVE, margins, mean, None)
    low, high = student_interval(margins)
    verdict = Verdict.HELD if low > 0 else Verdict.FAILED if high < 0 else Verdict.INCONCLUSIVE
    return Finding(claim, verdict, margins, mean, (low, high))


def _margin(claim: Claim, records: Records, complete: bool) -> float | bool | None:
    try:
        margin = claim.evidence(records)
    except (LookupError, ValueError):
        if complete:
            raise
        return None
    if margin is None:
        return None
    # NumPy's bool and float are not Python's; claims.json and the verdicts want the latter.
    return bool(margin) if type(margin).__name__.startswith("bool") else float(margin)
