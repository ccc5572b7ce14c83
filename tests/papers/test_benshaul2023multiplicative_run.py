"""A small run of arXiv 2301.04605 through the runner, and the photograph that it fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("scipy")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from dlaccel.experiment import Records, Run, Verdict
from dlaccel.papers import benshaul2023multiplicative as paper
from dlaccel.papers.benshaul2023multiplicative.experiment import CLAIMS, FIGURES, TABLES
from dlaccel.papers.benshaul2023multiplicative.photograph import (
    Photograph,
    from_jpeg,
    psnr,
    to_jpeg,
)

SMALL: dict[str, Any] = {
    "gate_steps": 4,
    "table_degree": 8,
    "dimensions": (1, 4),
    "ridge_counts": (16, 64, 256),
    "ridge_epsilons": (0.2, 0.1),
    "ball_dimensions": (2,),
    "ball_epsilons": (0.03, 0.01),
    "ball_degree": 16,
    "fit_degrees": (4, 8),
    "height": 24,
    "width": 32,
    "parameters": 1500,
    "steps": 20,
    "record_every": 10,
    "batch": 256,
}
"""Fields of the smoke profile made smaller: some seconds a seed."""

EXACT = {
    *("C1b", "C2", "C3", "P1a", "P1b", "P2", "P4", "P5a", "P5b", "P5c", "P5d"),
    *("P6a", "P6c", "P6d", "P6e", "P7a", "P7b", "P8b", "P8c", "E7a"),
}
"""Claims that are proved for these sizes, or for all: they must hold on every machine."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("run")
    return paper.run("smoke", seeds=2, device="cpu", out=out, progress=False, **SMALL)


def test_small_run_gives_a_verdict_on_every_claim(run: Run) -> None:
    assert run.complete
    verdicts = {finding.claim.key: finding.verdict for finding in run.claims}
    assert len(verdicts) == len(CLAIMS)
    assert Verdict.NOT_RUN not in verdicts.values()
    assert {key for key in EXACT if verdicts[key] is not Verdict.HELD} == set()


def test_run_writes_all_figures_and_tables(run: Run) -> None:
    figures = {path.stem: path.stat().st_size for path in (run.folder / "figures").glob("*.png")}
    assert figures.keys() == FIGURES.keys()
    assert max(figures.values()) <= 300_000
    for name, columns in TABLES.items():
        assert run.table(name).columns == columns
    assert all(path.stat().st_size <= 200_000 for path in run.folder.glob("*.jsonl"))


def test_trained_networks_are_of_equal_size(run: Run) -> None:
    sizes = set(run.records.select("training").column("parameters"))
    # A width more or less of the widest layer, 3 hidden layers: 2 width + a few.
    assert max(sizes) - min(sizes) <= 0.1 * SMALL["parameters"]
    assert len(set(run.records.select("training").column("network"))) == 5


def test_claims_without_measurements_are_not_run() -> None:
    assert [claim.evidence(Records()) for claim in CLAIMS] == [None] * len(CLAIMS)


def test_claims_fail_on_numbers_that_contradict_them(run: Run, tmp_path: Path) -> None:
    rows = [row for row in run.records.of_seed(0) if row.name in ("network", "product_gate")]

    def altered(**changes: Any) -> Records:
        return Records(
            type(row)(row.seed, row.name, row.point, {**row.numbers, **changes}, row.seconds)
            for row in rows
        )

    by_key = {claim.key: claim.evidence for claim in CLAIMS}
    for key, changes in {
        "C1a": {"layers": 5},
        "C1b": {"neurons": 5},
        "C2": {"error": 1.0},
        "P4": {"layers": 3},
        "P5a": {"scaled": 1.1},
        "P5d": {"relu_at_least": 10**9},
        "P6a": {"error": 1.0},
        "P6e": {"promised": 0.0},
    }.items():
        margin = by_key[key](altered(**changes))
        assert margin is not None
        assert margin <= 0, key


# The photograph


def test_photograph_keeps_its_mean_and_holds_out_a_quarter() -> None:
    photograph = Photograph.load("china.jpg", 61, 64)  # 427 = 7 * 61, 640 = 10 * 64: whole boxes
    full = Photograph.load("china.jpg", 427, 640)
    assert photograph.colours.mean() == pytest.approx(float(full.colours.mean()), abs=1e-12)
    assert int(photograph.held_out.sum()) == 30 * 32
    x, y = photograph.coordinates.T
    assert torch.equal(x[:64], x[64:128])
    assert torch.equal(y[:64], y[:1].expand(64))
    assert float(x.max()) == pytest.approx(1 - 1 / 64)


def test_psnr_of_a_constant_error() -> None:
    assert psnr(torch.full((7, 3), 0.1)) == pytest.approx(20, abs=1e-5)


def test_picture_survives_the_records() -> None:
    pixels = Photograph.load("flower.jpg", 40, 60).pixels
    read = torch.from_numpy(from_jpeg(to_jpeg(pixels)).copy()).double() / 255
    assert read.shape == pixels.shape
    # JPEG at quality 92 rounds coefficients by a few levels: well above 30 dB.
    assert psnr(read - pixels) > 30
    large = torch.zeros(200, 300, 3)
    assert from_jpeg(to_jpeg(large)).shape == (96, 128, 3)
