"""Inequalities T1 to T5 of arXiv 2212.12532, its configuration, and a small run."""

from __future__ import annotations

import dataclasses
import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("scipy")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from dlaccel.collapse import centre_errors
from dlaccel.experiment import Records, Run, Verdict
from dlaccel.papers import galanti2023fewshot as paper
from dlaccel.papers.galanti2022transfer.theory import rederived_bound
from dlaccel.papers.galanti2023fewshot import theory
from dlaccel.papers.galanti2023fewshot.experiment import CLAIMS, FIGURES, PROFILES, TABLES
from dlaccel.papers.galanti2023fewshot.synthetic import gaussian_error, squared_margins

NAME = "dlaccel.galanti2023fewshot"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clusters(classes: int, each: int, spread: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Samples around random centres, class after class."""
    draws = generator(seed)
    centres = torch.randn(classes, 4, generator=draws, dtype=torch.float64)
    labels = torch.arange(classes).repeat_interleave(each)
    noise = torch.randn(len(labels), 4, generator=draws, dtype=torch.float64)
    return centres[labels] + spread * noise, labels


# T1


def test_main_bound_gives_its_terms_apart() -> None:
    terms = theory.main_bound(0.1, 4.0, ways=5, shots=2, samples=100, source_classes=64)
    assert terms == theory.MainBound(pytest.approx(0.4), 1.25, 0.4, 0.125)


# T2


@pytest.mark.parametrize("ways", [2, 3, 5])
def test_union_bound_holds_on_the_same_draws(ways: int) -> None:
    features, labels = clusters(6, 8, 1.0)
    found = centre_errors(features, labels, shots=2, draws=30, seed=1)
    error, pairwise = float(found.k_way(ways).mean()), float(found.pairs.nanmean())
    bound = theory.union_bound(pairwise, ways)
    assert error <= bound + 1e-12
    assert (ways == 2) == (abs(error - bound) < 1e-12)


# T3


def test_ramp_is_at_least_the_indicator_and_lipschitz() -> None:
    margins = torch.linspace(-3, 3, 2001, dtype=torch.float64)
    relaxed = theory.ramp(margins, 0.7)
    assert (relaxed >= (margins <= 0).double()).all()
    assert float((relaxed.diff() / margins.diff()).abs().max()) <= 1 / 0.7 + 1e-9
    assert float(relaxed[margins >= 0.7].max()) == 0


# T4


@pytest.mark.parametrize("shots", [1, 2, 5, 100, 10**6])
def test_pairwise_bound_is_above_the_one_that_is_proved_with_less(shots: int) -> None:
    # That one is checked by enumeration in test_galanti2022transfer.py.
    assert theory.pairwise_bound(0.2, shots) >= rederived_bound(0.2, 2, shots)


def test_pairwise_bound_in_numbers() -> None:
    assert theory.pairwise_bound(0.5, 1) == 24
    assert theory.pairwise_bound(0.5, 4) == 12
    assert theory.spherical_bound(0.5, 4, 8) == 3
    assert theory.pairwise_bound(1.875, 5) == pytest.approx(42)


@pytest.mark.parametrize("p", [1, 8, 64])
def test_gaussian_error_of_the_kernel_is_the_true_one(p: int) -> None:
    # 800 samples of each class stand for the population, so that the error e of the pair is an
    # average over 1600 independent queries and, for each draw, over 2 supports a class.
    samples, draws, sigma = 800, 400, math.sqrt(0.5 / p)
    margins = squared_margins(p, sigma, sigma, 2, 40_000, generator(p))
    truth = float((margins <= 0).double().mean())
    exact = gaussian_error(p, 0.5, 2, 20_000, np.random.default_rng(p))
    assert abs(exact - truth) <= 4.5 * math.sqrt(truth * (1 - truth) * (1 / 40_000 + 1 / 20_000))
    features = sigma * torch.randn(2 * samples, p, generator=generator(1))
    features[samples:, 0] += 1
    labels = torch.arange(2).repeat_interleave(samples)
    found = float(centre_errors(features, labels, shots=2, draws=draws, seed=0).pairs.nanmean())
    # Queries, draws and the truth's own draws add variances of at most e (1 - e) over their number;
    # 4.5 standard deviations are passed once in 1e5 tries.
    variance = truth * (1 - truth) * (1 / (2 * samples) + 1 / draws + 1 / 40_000)
    assert abs(found - truth) <= 4.5 * math.sqrt(variance)


# T5 and the rate


@pytest.mark.parametrize("shots", [1, 3])
def test_squared_margin_is_exact_for_finite_classes(shots: int) -> None:
    # All draws with replacement from two points a class: the expectation is a finite sum.
    own, other = torch.tensor([[0.0], [2.0]]), torch.tensor([[7.0], [13.0]])
    total, count = 0.0, 0
    for x in own:
        for i in product(own, repeat=shots):
            for j in product(other, repeat=shots):
                to_j = x - torch.stack(j).mean(0)
                to_i = x - torch.stack(i).mean(0)
                total += float(to_j.square() - to_i.square())
                count += 1
    # Means 1 and 10, variances 1 and 9.
    expected = theory.squared_margin(9.0, 1.0, 9.0, shots)
    assert total / count == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("p", [3, 5, 40])
def test_cdnv_of_random_classes_by_the_density_of_chi_squared(p: int) -> None:
    from scipy.integrate import quad
    from scipy.stats import chi2

    inverse, _ = quad(lambda x: chi2.pdf(x, p) / x, 0, 50 * p, points=[0.1, 1, p], limit=500)
    assert theory.gaussian_class_cdnv(p, 0.3) == pytest.approx(p * 0.09 * inverse / 2, rel=1e-6)


# Configuration


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("numbers_of_ways", (3, 5), "be integers from 2 that hold 2"),
        ("draws", 0, "be at least 1"),
        ("samples", (0,), "be integers from 1"),
        ("gaussian_dimensions", (3,), "be two or more integers from 1"),
        ("gaussian_cdnv", (0.0,), "be numbers from 1e-4 to 100"),
        ("gaussian_draws", 10, "be at least 1000"),
        ("rate_dimensions", (4,), "be one or more integers from 5"),
        ("rate_classes", (8,), "be two or more integers from 2"),
        ("rate_repeats", 1, "be at least 2"),
        ("samples_classes", 7, "be one of source_classes (5, 12, 24, 48)"),
    ],
)
def test_config_out_of_range_is_refused(field: str, value: object, rule: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is compared)
        dataclasses.replace(PROFILES["smoke"], **{field: value})
    assert str(caught.value) == f"{NAME}: {field} must {rule}, got {value!r}."


# A small run

SMALL: dict[str, Any] = {
    "source_classes": (5, 12),
    "samples_classes": 12,
    "samples": (8, 32),
    "steps": 60,
    "records": 2,
    "episodes": 20,
    "network": "mlp-2-32",
    "draws": 4,
    "gaussian_dimensions": (4, 32),
    "gaussian_cdnv": (0.03, 0.3, 1.0),
    "gaussian_draws": 2000,
    "rate_dimensions": (8, 32),
    "rate_classes": (8, 32, 128),
    "rate_repeats": 20,
}
"""Fields of the smoke profile made smaller: some seconds a seed."""

EXACT = {"T2a", "T2b", "T4a", "T4b", "T4c", "S1", "S2", "S3", "S4"}
"""Claims that are proved, or that hold by far for these sizes: they must hold on every machine."""


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
        assert run.table(name).columns == columns
    assert all(path.stat().st_size <= 200_000 for path in run.folder.glob("*.jsonl"))


def test_no_number_is_given_as_the_papers() -> None:
    assert not any("publish" in column for columns in TABLES.values() for column in columns)


def test_random_subsets_of_all_classes_are_all_classes(run: Run) -> None:
    (row,) = run.records.of_seed(0).select("distances", classes=12)
    assert row["subset_ratio"] == pytest.approx(row["ratio"], rel=1e-9)
    assert row["subset_low"] == pytest.approx(row["subset_high"], rel=1e-9)


def test_errors_without_samples_enough_are_left_out(run: Run) -> None:
    rows = run.records.of_seed(0).select("checkpoint", samples=8)
    assert {row["pair_train_10"] for row in rows} == {None}
    assert all(row["pair_train_5"] is not None for row in rows)


def test_claims_without_measurements_are_not_run() -> None:
    assert [claim.evidence(Records()) for claim in CLAIMS] == [None] * len(CLAIMS)


def test_claims_fail_on_numbers_that_contradict_them(run: Run) -> None:
    def altered(**changes: Any) -> Records:
        names = ("checkpoint", "distances", "exponent", "gaussian", "rate", "squared_margin")
        return Records(
            type(row)(row.seed, row.name, row.point, {**row.numbers, **changes}, row.seconds)
            for row in run.records.of_seed(0)
            if row.name in names
        )

    evidence = {claim.key: claim.evidence for claim in CLAIMS}
    for key, changes in {
        "T2a": {"way5_1": 4.1},
        "T2b": {"way2_1": 0.9},
        "T4a": {"cdnv_target": 0.0},
        "T4b": {"cdnv_test": 0.0, "pair_test_1": 0.1},
        "T4c": {"cdnv_target": 0.0},
        "X1a": {"cdnv_train": 1.0},
        "X2a": {"pair_target_1": 0.1},
        "X2b": {"pair_target_1": 0.1, "pair_test_1": 0.05},
        "X3": {"ratio": 0.4},
        "X4a": {"pair_target_1": 0.1, "pair_target_2": 0.1},
        "X4b": {"matched_train": 0.2, "matched_test": 0.4},
        "X4c": {"slope": 0.1},
        "X5": {"cdnv_train": 0.3},
        "S1": {"t4": 0.0},
        "S2": {"t4_spherical": 0.0},
        "S3": {"error": 0.2},
        "S4": {"mean": 5.0},
        "S5": {"deviation": 0.2},
    }.items():
        margin = evidence[key](altered(**changes))
        assert margin is not None
        assert margin <= 0, key
