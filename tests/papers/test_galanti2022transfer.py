"""Definitions and bounds of arXiv 2112.15121, its configuration, and a small run."""

from __future__ import annotations

import dataclasses
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("scipy")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from dlaccel.collapse import ClassGeometry, ClassStatistics
from dlaccel.data import DataError
from dlaccel.experiment import Records, Run, Verdict
from dlaccel.papers import galanti2022transfer as paper
from dlaccel.papers.galanti2022transfer import theory
from dlaccel.papers.galanti2022transfer.experiment import CLAIMS, FIGURES, PROFILES, TABLES
from dlaccel.papers.galanti2022transfer.published import PUBLISHED

NAME = "dlaccel.galanti2022transfer"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def geometry(features: Tensor, labels: Tensor) -> ClassGeometry:
    statistics = ClassStatistics(int(labels.max()) + 1)
    statistics.update(features, labels)
    return statistics.compute()


# Proposition 1


@pytest.mark.parametrize("seed", range(5))
def test_new_samples_are_bounded_for_every_pair(seed: int) -> None:
    draws = generator(seed)
    centres = torch.randn(6, 4, generator=draws, dtype=torch.float64)
    labels = torch.arange(60) % 6
    sample, fresh = (
        geometry(centres[labels] + torch.randn(60, 4, generator=draws, dtype=torch.float64), labels)
        for _ in range(2)
    )
    found = theory.new_samples(sample, fresh)
    off = ~torch.eye(6, dtype=torch.bool)
    assert (found.bound[off] >= found.fresh[off]).all()
    assert found.bound.isfinite()[off].all()
    assert found.a.diagonal().isnan().all()
    # On the same samples nothing has to be paid.
    same = theory.new_samples(sample, sample)
    assert float(same.a[off].max()) == float(same.b[off].max()) == 0
    torch.testing.assert_close(same.bound[off], sample.cdnv().pairs[off])


# Proposition 3


def test_proposition_3_in_numbers() -> None:
    assert theory.few_shot_bound(1, 5, 5) == pytest.approx(76.8)
    assert theory.informative_cdnv(5, 5) == pytest.approx(0.013, abs=5e-4)
    assert theory.few_shot_bound(1, 5, 5, s=1e12) == pytest.approx(12.8)
    assert theory.informative_cdnv(5, 5, s=1e12) == pytest.approx(0.078, abs=5e-4)
    assert theory.few_shot_bound(0.84, 5, 5) == pytest.approx(64.5, abs=0.05)


@pytest.mark.parametrize("shots", [1, 2, 5, 50, 10**6])
def test_rederived_bound_is_at_most_half_of_proposition_3(shots: int) -> None:
    ratio = theory.rederived_bound(0.3, 5, shots) / theory.few_shot_bound(0.3, 5, shots)
    assert ratio <= 0.5 + 1e-12
    assert theory.rederived_bound(1, 2, 1) == 16


def pairwise_error(own: Tensor, other: Tensor, shots: int) -> float:
    """E_n(i, j) by all supports without replacement and all other samples as queries."""
    wrong = total = 0
    for i, j in product(
        combinations(range(len(own)), shots), combinations(range(len(other)), shots)
    ):
        centre, away = own[list(i)].mean(0), other[list(j)].mean(0)
        for row in set(range(len(own))) - set(i):
            total += 1
            wrong += bool((own[row] - centre).norm() >= (own[row] - away).norm())
    return wrong / total


@pytest.mark.parametrize("shots", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_rederived_bound_holds_exactly_for_finite_classes(seed: int, shots: int) -> None:
    draws = generator(seed)
    classes = torch.randn(2, 5, 3, generator=draws, dtype=torch.float64) ** 3  # heavy tails
    classes[1] += 1 + 3 * seed
    means, cdnv = classes.mean(1), []
    variances = (classes - means[:, None]).square().sum(2).mean(1)
    squared = float((means[0] - means[1]).square().sum())
    v, w = (float(each) / squared for each in variances)
    for (a, b), (own, other) in {(v, w): (0, 1), (w, v): (1, 0)}.items():
        error = pairwise_error(classes[own], classes[other], shots)
        root = 2 * a**0.5 + (a / shots) ** 0.5 + (b / shots) ** 0.5
        assert error <= root**2 + 1e-12
        cdnv.append(error)
    assert sum(cdnv) / 2 <= theory.rederived_bound((v + w) / 2, 2, shots) + 1e-12


# The directional bound


@pytest.mark.parametrize("shots", [1, 2, 5, 100])
@pytest.mark.parametrize(
    ("directional", "cdnv"), [(0.07, 1.67), (1e-3, 0.05), (0.5, 0.5), (1e-6, 5)]
)
def test_directional_bound_is_the_least_over_a(directional: float, cdnv: float, shots: int) -> None:
    a = torch.logspace(0, 6, 200_001, dtype=torch.float64)
    a = a[(a >= 5) & (a > 2 * (2 + 2**1.5 / shots) * 1.0001)]
    first = (0.5 - 2 / a - 2**1.5 / (a * shots)) ** -2 * directional
    second = a / 4 * (2 / shots**0.5 * (cdnv**0.5 + cdnv) + cdnv / shots)
    expected = float((first + second).min())
    # The grid steps by 7e-5 in log a, far finer than the bowl of a minimum.
    assert theory.directional_bound(directional, cdnv, 2, shots) == pytest.approx(
        expected, rel=1e-4
    )
    assert theory.directional_bound(directional, cdnv, 5, shots) == pytest.approx(
        4 * theory.directional_bound(directional, cdnv, 2, shots)
    )


def test_directional_bound_keeps_four_times_the_axis_variance() -> None:
    # 4 V~ (1 + 8 / a) + a n^(-1/2) is least at a = (32 V~ n^(1/2))^(1/2), where it is
    # 4 V~ + 2 (32 V~)^(1/2) n^(-1/4), up to terms of order a^(-2).
    expected = 0.04 + 2 * 0.32**0.5 * 1e-4
    assert theory.directional_bound(0.01, 1.0, 2, 10**16) == pytest.approx(expected, rel=1e-5)


# Table 1


def test_published_numbers_carry_their_status() -> None:
    assert {row.status.partition(" (")[0] for row in PUBLISHED} == {"seen", "recalled, unverified"}
    ours = [row for row in PUBLISHED if row.method.startswith("WRN-28-4")]
    assert ours
    assert all(row.status.startswith("recalled, unverified") for row in ours)
    assert len({(row.method, row.data, row.shots) for row in PUBLISHED}) == len(PUBLISHED)


# Configuration


def raises(**changes: Any) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is compared)
        dataclasses.replace(PROFILES["smoke"], **changes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("source_classes", (1,), "be one or more integers from 2"),
        ("source_classes", (5, 5), "hold each value once"),
        ("rate", 0.0, "be between 1e-6 and 10"),
        ("steps", 0, "be at least 1"),
        ("batch", 1, "be at least 2"),
        ("weight_decay", float("nan"), "be between 0 and 1"),
        ("probed_classes", 1, "be at least 2"),
        ("shots", (1,), "be integers from 1 that hold 1 and 5"),
        ("heads", ("ridge",), "hold ncc and be of ncc, ridge, logistic"),
        ("ridge", -1.0, "be between 1e-6 and 1e6"),
        ("other_rates", (100.0,), "be numbers from 1e-6 to 10"),
    ],
)
def test_config_out_of_range_is_refused(field: str, value: object, rule: str) -> None:
    assert raises(**{field: value}) == f"{NAME}: {field} must {rule}, got {value!r}."


def test_unknown_data_and_networks_are_refused() -> None:
    assert raises(tasks=("omniglott",)).startswith(f"{NAME}: tasks must be one or more of digits, ")
    assert raises(network="wrn-27-4").startswith(f"{NAME}: network must read mlp-LAYERS-WIDTH, ")
    assert raises(records=601) == f"{NAME}: records must be at most steps = 600, got 601."
    assert dataclasses.replace(PROFILES["smoke"], tasks=("./my.npz",)).tasks == ("./my.npz",)


def test_missing_data_are_one_sentence_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        paper.run(
            "smoke", seeds=1, device="cpu", out=tmp_path, progress=False, tasks=("./none.npz",)
        )
    assert str(caught.value).startswith("dlaccel.data: name must be one of ")
    assert "none.npz" in str(caught.value)
    assert (tmp_path / "seed0.jsonl").read_text() == ""


# A small run

SMALL: dict[str, Any] = {
    "source_classes": (5, 12),
    "steps": 60,
    "records": 2,
    "episodes": 20,
    "network": "mlp-2-32",
    "other_rates": (0.01,),
    "other_networks": ("mlp-1-16",),
}
"""Fields of the smoke profile made smaller: some seconds a seed."""

EXACT = {"P1", "P3", "P3a"}
"""Claims that are proved: they must hold on every machine."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("run")
    return paper.run("smoke", seeds=2, device="cpu", out=out, progress=False, **SMALL)


def test_small_run_gives_a_verdict_on_every_claim(run: Run) -> None:
    assert run.complete
    verdicts = {finding.claim.key: finding.verdict for finding in run.claims}
    assert Verdict.NOT_RUN not in verdicts.values()
    assert {key for key in EXACT if verdicts[key] is not Verdict.HELD} == set()


def test_run_writes_all_figures_and_tables(run: Run) -> None:
    figures = {path.stem: path.stat().st_size for path in (run.folder / "figures").glob("*.png")}
    assert figures.keys() == FIGURES.keys()
    assert max(figures.values()) <= 300_000
    for name, columns in TABLES.items():
        if name != "one_shot_runs":  # Omniglot's
            assert run.table(name).columns == columns
    assert all(path.stat().st_size <= 200_000 for path in run.folder.glob("*.jsonl"))


def test_a_checkpoint_stands_for_every_network_and_record(run: Run) -> None:
    rows = run.records.of_seed(0).select("checkpoint")
    networks = rows.group("recipe", "network", "rate", "classes")
    assert len(networks) == 2 + 3
    assert {tuple(each.column("step")) for each in networks.values()} == {(0, 30, 60)}


def test_untrained_features_are_the_same_for_every_l(run: Run) -> None:
    rows = run.records.of_seed(0).select("checkpoint", recipe="main", step=0)
    assert len({row["ncc_5"] for row in rows}) == 1


def test_claims_without_measurements_are_not_run() -> None:
    assert [claim.evidence(Records()) for claim in CLAIMS] == [None] * len(CLAIMS)


def test_claims_fail_on_numbers_that_contradict_them(run: Run) -> None:
    def altered(**changes: Any) -> Records:
        return Records(
            type(row)(row.seed, row.name, row.point, {**row.numbers, **changes}, row.seconds)
            for row in run.records.of_seed(0)
            if row.name in ("checkpoint", "heads")
        )

    evidence = {claim.key: claim.evidence for claim in CLAIMS}
    for key, changes in {
        "C1": {"cdnv_train": 1.0},
        "C3": {"matched_target": 0.0},
        "C4": {"ncc_5": 0.5},
        "C5": {"ncc_5": 0.5},
        "P1": {"p1_slack": -0.1},
        "P3": {"cdnv_target": 0.0},
        "P3a": {"cdnv_target": 0.0},
        "E1a": {"accuracy": 0.5},
        "E1c": {"ncc_1": 1.0},
    }.items():
        margin = evidence[key](altered(**changes))
        assert margin is not None
        assert margin <= 0, key


def test_a_run_broken_off_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    fewer: dict[str, Any] = {"source_classes": (5,), "heads": ("ncc",), "steps": 30, "episodes": 10}

    def go_on() -> Records:
        return paper.run(
            "smoke", seeds=1, device="cpu", out=tmp_path, progress=False, **{**SMALL, **fewer}
        ).records

    whole = go_on()
    lines = (tmp_path / "seed0.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "seed0.jsonl").write_text("".join(lines[: len(lines) // 2]))
    for row, same in zip(whole, go_on(), strict=True):
        assert (row.point, row.numbers) == (same.point, same.numbers)
