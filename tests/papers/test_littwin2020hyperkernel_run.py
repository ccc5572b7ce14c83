"""A small run of arXiv 2003.12193 through the runner."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from dlaccel.data import DataError
from dlaccel.experiment import Records, Row, Run, Verdict
from dlaccel.experiment import training as runner
from dlaccel.papers import littwin2020hyperkernel as paper
from dlaccel.papers.littwin2020hyperkernel.experiment import CLAIMS, FIGURES, TABLES

SMALL: dict[str, Any] = {
    "kernel_widths": (8, 16, 32),
    "kernel_initialisations": 20,
    "kernel_angles": 5,
    "autograd_initialisations": 4,
    "gaussian_width": 64,
    "gaussian_initialisations": 50,
    "rate_widths": (8, 16),
    "square_widths": (4, 8),
    "rate_initialisations": 8,
    "path_widths": (8, 16),
    "path_square_widths": (4, 8),
    "path_initialisations": 4,
    "path_steps": (0, 2),
    "lazy_widths": (8, 16),
    "lazy_initialisations": 4,
    "lazy_steps": 5,
    "rotation_samples": 100,
    "rotation_tests": 50,
    "rotation_grid": ("2x3", "4x3", "6x3", "2x4", "6x4", "2x5"),
    "rotation_epochs": 2,
    "hidden": (12, 10),
    "bottleneck": 8,
    "sweep_rates": (0.1, 1.0),
    "sweep_widths": (2, 4),
    "sweep_epochs": 1,
    "records": 2,
    "image_counts": (4, 6),
    "image_draws": 2,
    "test_images": 5,
    "trained_counts": (4,),
    "trained_epochs": 3,
}
"""Fields of the smoke profile made smaller: some seconds a seed."""

EXACT = {"K1", "K2"}
"""Claims that hold at any size of a run."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("run")
    return paper.run("smoke", seeds=2, device="cpu", out=out, progress=False, **SMALL)


def test_small_run_gives_a_verdict_on_every_claim(run: Run) -> None:
    assert run.complete
    verdicts = {finding.claim.key: finding.verdict for finding in run.claims}
    assert len(verdicts) == len(CLAIMS)
    # E4 is asked only where a network beats guessing, which none need do here.
    assert {key for key in verdicts if verdicts[key] is Verdict.NOT_RUN} <= {"E4"}
    assert {key for key in EXACT if verdicts[key] is not Verdict.HELD} == set()


def test_run_writes_all_figures_and_tables(run: Run) -> None:
    figures = {path.stem: path.stat().st_size for path in (run.folder / "figures").glob("*.png")}
    assert figures.keys() == FIGURES.keys()
    assert max(figures.values()) <= 300_000
    for name, columns in TABLES.items():
        assert run.table(name).columns == columns


def test_run_broken_off_resumes_to_the_same_rows(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(paper.experiment, "FIGURES", {})  # drawn by the run beside it
    save, saved = runner.Checkpoint.save, 0

    def broken(self: runner.Checkpoint, done: int, seconds: float) -> None:
        nonlocal saved
        save(self, done, seconds)
        saved += 1
        if saved % 7 == 0:  # within the trainings of E3, of E4, of the baseline
            raise KeyboardInterrupt

    monkeypatch.setattr(runner.Checkpoint, "save", broken)
    breaks = 0
    while True:
        try:
            again = paper.run("smoke", seeds=1, device="cpu", out=tmp_path, progress=False, **SMALL)
            break
        except KeyboardInterrupt:
            breaks += 1
    assert breaks > 3
    first, second = (
        [(row.name, dict(row.point), repr(dict(row.numbers))) for row in rows]
        for rows in (run.records.of_seed(0), again.records)
    )
    assert sorted(first, key=repr) == sorted(second, key=repr)


def test_switches_of_the_published_protocol_go_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper.experiment, "FIGURES", {})
    monkeypatch.setattr(paper.experiment, "measure_concentration", lambda _: None)
    monkeypatch.setattr(paper.experiment, "measure_rates", lambda _: None)
    monkeypatch.setattr(paper.experiment, "measure_lazy", lambda _: None)
    small = SMALL | {
        "rotation_grid": ("2x4",),
        "inner_relu": True,
        "circular_labels": True,
        "bottleneck": 0,
        "skipped_images": 100,
        "shrink": 1e-4,
        "kernels": ("hyperkernel as released", "NNGP as released"),
        "sweep_widths": (),
        "trained_counts": (),
    }
    found = paper.run("smoke", seeds=1, device="cpu", out=tmp_path, progress=False, **small)
    assert found.complete
    assert found.records.select("rotation_data")[0]["majority"] == 1 / 12
    assert set(found.records.select("regression").column("method")) == {
        *small["kernels"],
        "mean image",
    }
    (facts,) = found.records.select("image_data")
    assert facts["train"] == 1280 - 100


# Claims


def row(name: str, point: dict[str, Any], **numbers: Any) -> Row:
    return Row(0, name, point, numbers, 0.0)


def kernel(case: str, iqr: tuple[float, ...]) -> list[Row]:
    widths = (16, 64, 256)
    pairs = zip(widths, iqr, strict=True)
    return [row("kernel", {"case": case, "width": w}, iqr=value) for w, value in pairs]


def slopes(network: str, *values: float) -> list[Row]:
    return [
        row("slope", {"network": network, "order": order}, slope=value)
        for order, value in enumerate(values, 1)
    ]


def path(network: str, beyond: float, third: float, fourth: float) -> list[Row]:
    cost = {1: 0.0, 2: 0.0, 3: third, 4: fourth}
    return [
        row(
            "path_slope",
            {"network": network, "at_step": step, "order": order},
            cost=value,
            beyond_linear=beyond,
        )
        for step in (0, 10)
        for order, value in cost.items()
    ]


def lazy(case: str, *values: float) -> list[Row]:
    pairs = zip((16, 64, 256), values, strict=True)
    return [row("lazy", {"case": case, "width": w}, deviation=value) for w, value in pairs]


def rotation(name: str, depth: int, accuracies: dict[int, float], rate: float = 0.1) -> list[Row]:
    return [
        row(name, {"data": "d", "width": m, "depth": depth, "rate": rate}, accuracy=value)
        for m, value in accuracies.items()
    ]


def errors(method: str, *values: float) -> list[Row]:
    return [
        row("regression", {"data": "d", "task": "t", "method": method, "images": n}, error=value)
        for n, value in zip((25, 50, 100), values, strict=False)
    ]


def gaussian(n: int, m: int, kurtosis: float, covariance: float = 0.45) -> Row:
    facts = {"covariance": covariance, "standard_error": 0.01, "theory": 0.45}
    return row("gaussian", {"n": n, "m": m}, excess_kurtosis=kurtosis, **facts)


def closed(tangent: float) -> Row:
    numbers = {"gp": 0.1, "note_gp": None, "tangent": tangent, "note_tangent": 1.0}
    return row("closed_form", {"L": 2, "z_angle": tangent}, **numbers)


def matrix(least: float, asymmetry: float) -> Row:
    numbers = {f"{k}_least": least for k in ("gp", "tangent")}
    numbers |= {f"{k}_asymmetry": asymmetry for k in ("gp", "tangent")}
    return row("kernel_matrix", {"backward_scale": True}, **numbers)


def autograd(mean: float) -> Row:
    numbers = {"standard_error": 0.003, "theory": -0.0437, "without_scale": -0.1009}
    return row("autograd_kernel", {}, mean=mean, **numbers)


def terms(first: float, last: float) -> list[Row]:
    return [
        row("term", {"network": "f wide, H = 2", "width": width, "order": 2}, size=size)
        for width, size in ((32, first), (512, last))
    ]


GOOD: dict[str, list[Row]] = {
    "closed": [closed(1.0)],
    "matrix": [matrix(1e-6, 0.0)],
    "autograd": [autograd(-0.045)],
    "both": kernel("both", (1.6, 0.8, 0.4)),
    "f only": kernel("f only", (1.7, 1.4, 1.2)),
    "g only": kernel("g only", (2.4, 2.4, 2.4)),
    "gaussian": [gaussian(8, 8, 9.0), gaussian(64, 64, 1.0), gaussian(256, 256, 0.2)],
    "plain": slopes("plain, L = 4", 0.1, -0.9, -2.1, -2.8),
    "H = 2": slopes("f wide, H = 2", 0.1, 0.2, -0.6, -1.4),
    "H = 3": slopes("f wide, H = 3", 0.1, 0.2, 0.1, -0.6),
    "both wide": slopes("both wide, H = 3", 0.4, -0.1, -0.8, -1.6),
    "terms": terms(3.0, 4.0),
    "plain path": path("plain, L = 4", -0.9, -0.9, -1.9),
    "hyper path": path("f wide, H = 2", 0.1, 0.2, -0.2),
    "both path": path("both wide, H = 2", -0.4, 0.0, -0.5),
    "lazy": lazy("both", 0.2, 0.1, 0.05),
    "not lazy": lazy("f only", 0.4, 0.35, 0.3),
    "majority": [row("rotation_data", {"data": "d"}, majority=0.125)],
    "rotation": rotation("rotation", 3, {2: 0.2, 5: 0.4, 10: 0.3, 50: 0.5}),
    "deep": rotation("rotation", 5, {10: 0.2, 50: 0.4}) + rotation("rotation", 7, {10: 0.1}),
    "sweep": rotation("rate_sweep", 3, {5: 0.3, 20: 0.4})
    + rotation("rate_sweep", 3, {5: 0.1, 20: 0.09}, rate=1.0),
    "hyperkernel": errors("hyperkernel", 0.05, 0.04, 0.03),
    "NNGP": errors("NNGP", 0.05, 0.03, 0.02),
    "mean": errors("mean image", 0.07, 0.07, 0.07),
    "trained": errors("trained", 0.1, 0.09),
}
"""Rows that support every claim."""

BAD: dict[str, dict[str, list[Row]]] = {
    "K1": {"closed": [closed(1.00001)]},
    "K2": {"matrix": [matrix(-1e-9, 0.0)]},
    "K3": {"autograd": [autograd(-0.06)]},
    "C1a": {"H = 2": slopes("f wide, H = 2", 0.1, -0.9, -1.6, -2.4)},
    "C1b": {"terms": terms(3.0, 0.2)},
    "C1c": {"H = 3": slopes("f wide, H = 3", 0.1, 0.2, -0.6, -0.9)},
    "C1d": {"hyper path": path("f wide, H = 2", -0.9, 0.2, -0.2)},
    "C2a": {"both": kernel("both", (1.6, 1.5, 1.1))},
    "C2b": {"g only": kernel("g only", (4.8, 2.9, 2.0))},
    "C2c": {"f only": kernel("f only", (1.7, 1.4, 0.3))},
    "C2d": {"both wide": slopes("both wide, H = 3", 0.1, 0.2, -0.8, -1.6)},
    "C2e": {"both path": path("both wide, H = 2", 0.2, 0.0, -0.5)},
    "C2f": {"lazy": lazy("both", 0.2, 0.21, 0.05)},
    "C2g": {"not lazy": lazy("f only", 0.4, 0.2, 0.09)},
    "C3a": {"gaussian": [gaussian(8, 8, 0.3), gaussian(64, 64, 1.0), gaussian(256, 256, 0.2)]},
    "C3b": {"gaussian": [gaussian(8, 8, 9.0), gaussian(64, 64, 1.0), gaussian(256, 256, 0.2, 0.5)]},
    "C4a": {"plain": slopes("plain, L = 4", 0.1, -0.9, -1.7, -2.8)},
    "C4b": {"plain path": path("plain, L = 4", -0.9, 0.1, -1.9)},
    "E3a": {"rotation": rotation("rotation", 3, {2: 0.2, 5: 0.4, 10: 0.3, 50: 0.39})},
    "E3b": {
        "deep": rotation("rotation", 5, {10: 0.2, 50: 0.4}) + rotation("rotation", 7, {10: 0.31})
    },
    "E3c": {"deep": rotation("rotation", 5, {10: 0.2, 50: 0.1})},
    "E4": {"sweep": rotation("rate_sweep", 3, {5: 0.3, 20: 0.29})},
    "E5a": {"NNGP": errors("NNGP", 0.05, 0.03, 0.03)},
    "E5b": {"hyperkernel": errors("hyperkernel", 0.09, 0.081, 0.08)},
    "E5c": {"trained": errors("trained", 0.1, 0.03)},
}
"""For each claim, rows in place of good ones that contradict it."""


def of(rows: dict[str, list[Row]]) -> Records:
    return Records(row for part in rows.values() for row in part)


def test_claims_without_measurements_are_not_run() -> None:
    assert [claim.evidence(Records()) for claim in CLAIMS] == [None] * len(CLAIMS)


def test_claims_hold_on_numbers_that_support_them() -> None:
    margins = {claim.key: claim.evidence(of(GOOD)) for claim in CLAIMS}
    assert {key for key, margin in margins.items() if margin is None or margin <= 0} == set()


def test_claims_fail_on_numbers_that_contradict_them() -> None:
    assert BAD.keys() == {claim.key for claim in CLAIMS}
    for claim in CLAIMS:
        margin = claim.evidence(of(GOOD | BAD[claim.key]))
        assert margin is not None
        assert margin <= 0, claim.key
        assert not math.isnan(margin)


def test_slopes_that_are_no_numbers_support_nothing() -> None:
    rows = slopes("plain, L = 4", 0.1, -0.9, -2.1)
    rows.append(row("slope", {"network": "plain, L = 4", "order": 4}, slope=None))
    margin = {claim.key: claim.evidence for claim in CLAIMS}["C4a"](of(GOOD | {"plain": rows}))
    assert margin is not None
    assert math.isnan(margin)


def test_missing_data_are_found_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DLACCEL_DATA", raising=False)
    with pytest.raises(DataError) as caught:
        paper.run("medium", device="cpu", out=tmp_path, progress=False)
    sentence = "dlaccel.data: mnist needs a folder: set DLACCEL_DATA or pass one."
    assert str(caught.value) == sentence
    assert not paper.load(tmp_path).records
