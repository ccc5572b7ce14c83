"""Verdicts: exact claims seed by seed, statistical ones by an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy
import pytest

from dlaccel.experiment import Claim, Findings, Records, Row, Verdict
from dlaccel.experiment.claims import judge, student_interval


def verdict(margins: Sequence[Any], statistical: bool = False) -> Verdict:
    """The verdict on a claim whose evidence for seed k is the k-th margin."""
    records = Records(Row(seed, "x", {}, {}, 0.0) for seed in range(len(margins)))
    claim = Claim("C1", "so it is.", "eq. 1", lambda rows: margins[rows[0].seed], statistical)
    return judge(claim, records, frozenset(records.seeds())).verdict


@pytest.mark.parametrize(
    ("margins", "expected"),
    [
        ([True, True], Verdict.HELD),
        ([True, False], Verdict.FAILED),
        ([numpy.bool_(False)], Verdict.FAILED),
        ([0.1, 1e-9], Verdict.HELD),
        ([0.1, 0.0], Verdict.FAILED),
        ([0.1, math.nan], Verdict.FAILED),
        ([None, None], Verdict.NOT_RUN),
        ([None, 1.0], Verdict.HELD),
    ],
)
def test_exact(margins: list[Any], expected: Verdict) -> None:
    assert verdict(margins) is expected


@pytest.mark.parametrize(
    ("margins", "expected"),
    [
        ([1.0, 1.1, 0.9], Verdict.HELD),
        ([-1.0, -1.1, -0.9], Verdict.FAILED),
        ([1.0, -0.5, 0.2], Verdict.INCONCLUSIVE),
        # t = 12.71 with one degree of freedom: the interval of 1 and 1.4 reaches below 0.
        ([1.0, 1.4], Verdict.INCONCLUSIVE),
        ([5.0], Verdict.INCONCLUSIVE),
        ([5.0, None], Verdict.INCONCLUSIVE),
        ([math.nan, 1.0, 1.0], Verdict.INCONCLUSIVE),
        ([None], Verdict.NOT_RUN),
    ],
)
def test_statistical(margins: list[Any], expected: Verdict) -> None:
    assert verdict(margins, statistical=True) is expected


def test_student_interval_against_a_printed_table() -> None:
    # Quantile 0.975 of Student's t with 4 degrees of freedom: 2.776 in every printed table.
    margins = [1.0, 2.0, 3.0, 4.0, 5.0]
    low, high = student_interval(margins)
    half = 2.776 * math.sqrt(2.5) / math.sqrt(5)
    assert (low + high) / 2 == pytest.approx(3.0, rel=1e-14)
    assert (high - low) / 2 == pytest.approx(half, rel=2e-4)  # the table's rounding


def test_statistical_claim_wants_numbers() -> None:
    with pytest.raises(TypeError, match="claim C1 is statistical: its evidence must return a num"):
        verdict([True, True], statistical=True)


def test_evidence_may_stumble_over_an_unfinished_seed_only() -> None:
    records = Records([Row(0, "x", {}, {}, 0.0)])
    claim = Claim("C1", "so it is.", "eq. 1", lambda rows: rows.select("late")[0]["value"])
    assert judge(claim, records, frozenset()).verdict is Verdict.NOT_RUN
    with pytest.raises(IndexError):
        judge(claim, records, frozenset({0}))


def test_findings_print_and_are_found_by_key() -> None:
    records = Records([Row(0, "x", {}, {}, 0.0)])
    claims = [
        Claim("C1", "one.", "eq. 1", lambda rows: 0.5),
        Claim("C2", "two.", "eq. 2", lambda rows: False),
    ]
    findings = Findings([judge(claim, records, frozenset({0})) for claim in claims])
    assert findings["C2"].verdict is Verdict.FAILED
    assert [finding.claim.key for finding in findings.failed] == ["C2"]
    assert findings.summary() == "1 held, 1 failed"
    assert str(findings).splitlines() == [
        "claim  statement  where  margin          seeds  verdict",
        "-----  ---------  -----  --------------  -----  -------",
        "C1     one.       eq. 1  0.5000              1  held",
        "C2     two.       eq. 2  true in 0 of 1      1  failed",
    ]
