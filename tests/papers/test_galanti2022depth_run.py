"""A small run of arXiv 2202.09028 through the runner."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from dlaccel.experiment import Records, Row, Run, Verdict
from dlaccel.experiment import training as runner
from dlaccel.papers import galanti2022depth as paper
from dlaccel.papers.galanti2022depth.config import EPSILONS
from dlaccel.papers.galanti2022depth.evidence import depth_of, settled
from dlaccel.papers.galanti2022depth.experiment import CLAIMS, FIGURES, TABLES
from dlaccel.papers.galanti2022depth.following import depth_column

SMALL: dict[str, Any] = {
    "networks": ("MLP-16@digits", "CONV-6@digits"),
    "depths": (2, 4),
    "epochs": (3, 1),
    "samples": 400,
    "test_samples": 100,
    "noise_network": "MLP-16@digits",
    "noise_depth": 3,
    "noise_levels": (0.0, 0.5),
    "noise_epochs": 2,
    "bound_networks": ("MLP-16@digits", "CONVRES-4@digits"),
    "bound_depths": (2, 3),
    "draws": 1,
    "bound_epochs": 1,
    "bound_samples": 100,
    "wrong_shares": (0.1, 0.3),
    "top_network": "CONV-6@digits",
    "top_depths": (0, 2),
    "top_epochs": 1,
}
"""Fields of the smoke profile made smaller: some seconds a seed."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("run")
    return paper.run("smoke", seeds=2, device="cpu", out=out, progress=False, **SMALL)


def test_small_run_gives_a_verdict_on_every_claim(run: Run) -> None:
    assert run.complete
    verdicts = {finding.claim.key: finding.verdict for finding in run.claims}
    assert len(verdicts) == len(CLAIMS)
    assert set(verdicts.values()) <= {Verdict.HELD, Verdict.FAILED}


def test_run_writes_all_figures_and_tables(run: Run) -> None:
    figures = {path.stem: path.stat().st_size for path in (run.folder / "figures").glob("*.png")}
    assert figures.keys() == FIGURES.keys()
    assert max(figures.values()) <= 300_000
    for name, columns in TABLES.items():
        assert run.table(name).columns == columns


def test_every_layer_is_measured_before_and_after(run: Run) -> None:
    rows = run.records.select("depth_layer", network="MLP-16", depth=4, seed=0)
    assert [(row["epoch"], row["layer"]) for row in rows] == [
        (epoch, layer) for epoch in (0, 1, 2, 3) for layer in (1, 2, 3, 4)
    ]
    for row in rows:
        assert 0 <= row["ncc_train"] <= 1
        assert row["cdnv_train"] > 0


def test_effective_depths_follow_from_the_rows_of_layers(run: Run) -> None:
    for row in run.records.select("depth"):
        where = {name: row[name] for name in ("seed", "network", "depth", "epoch")}
        layers = run.records.select("depth_layer", **where)
        for epsilon in EPSILONS:
            found = row[depth_column(epsilon)]
            assert depth_of(layers, epsilon) == (row["depth"] + 1 if found is None else found)


def test_same_start_and_nested_labels_at_every_noise_level(run: Run) -> None:
    starts = run.records.select("noise_layer", seed=0, epoch=0, layer=1)
    spreads = starts.column("cdnv_test")  # test labels are clean, so the start alone decides
    assert len(spreads) == 2
    assert spreads[0] == spreads[1]


def test_bound_is_the_best_of_its_grid(run: Run) -> None:
    for row in run.records.select("bound"):
        where = {name: row[name] for name in ("seed", "network", "depth")}
        at = run.records.select("bound_at", **where)
        assert row["estimate"] == min(at.column("estimate"))
        assert row["place"] == at.column("p").index(row["p"])
        assert (row["frobenius"] is None) == (row["network"] == "CONVRES-4")


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
        if saved % 19 == 0:  # within the training of a network, of a stack, ...
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


def test_images_of_ones_own_go_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper.experiment, "FIGURES", {})
    generator = np.random.default_rng(0)
    labels = np.arange(60, dtype=np.uint8) % 3
    images = generator.integers(0, 80, (60, 12, 12), np.uint8) + 60 * labels[:, None, None]
    path = tmp_path / "own.npz"
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    small = SMALL | {
        "networks": (f"CONVRES-4@{path}",),
        "epochs": (1,),
        "noise_network": f"MLP-16@{path}",
        "bound_networks": (f"MLP-16@{path}",),
        "bound_samples": 0,
        "top_network": f"MLP-16@{path}",
        "batch": 8,
    }
    out = tmp_path / "run"
    found = paper.run("smoke", seeds=1, device="cpu", out=out, progress=False, **small)
    assert found.complete
    assert set(found.records.select("depth").column("data")) == {str(path)}
    assert set(found.records.select("bound").column("chance")) == {1 - 1 / 3}


# Claims


def test_claims_without_measurements_are_not_run() -> None:
    assert [claim.evidence(Records()) for claim in CLAIMS] == [None] * len(CLAIMS)


def layers(
    name: str, by: str, key: float, accuracies: list[float], spreads: list[float]
) -> list[Row]:
    return [
        Row(
            0,
            f"{name}_layer",
            {"network": "N", "data": "d", by: key, "epoch": 1, "layer": layer},
            {"ncc_train": accuracy, "cdnv_train": spread},
            0.0,
        )
        for layer, (accuracy, spread) in enumerate(zip(accuracies, spreads, strict=True), 1)
    ]


def noise(q: float, train: float, test: float) -> Row:
    point = {"network": "N", "data": "d", "q": q, "epoch": 1}
    return Row(0, "noise", point, {"accuracy_train": train, "accuracy_test": test}, 0.0)


def bound(depth: int, estimate: float, error: float, place: int) -> Row:
    point = {"network": "N", "data": "d", "depth": depth}
    return Row(0, "bound", point, {"estimate": estimate, "error_test": error, "place": place}, 0.0)


GOOD = [
    *layers("depth", "depth", 3, [0.5, 0.97, 0.995], [0.4, 0.2, 0.1]),
    *layers("depth", "depth", 4, [0.52, 0.98, 0.992, 1.0], [0.4, 0.2, 0.1, 0.05]),
    *layers("noise", "q", 0.0, [0.9, 0.99], [0.4, 0.2]),
    *layers("noise", "q", 0.5, [0.5, 0.9], [2.4, 1.2]),
    *(noise(0.0, 1.0, 0.9), noise(0.5, 0.98, 0.5)),
    *(bound(3, 0.11, 0.05, 0), bound(4, 0.22, 0.04, 1)),
]

BAD = {
    "C1a": layers("depth", "depth", 5, [0.5, 0.97, 0.95], [0.4, 0.2, 0.1]),
    "C1b": layers("depth", "depth", 5, [0.5, 0.97, 0.99], [0.4, 0.2, 0.25]),
    "C1c": layers("depth", "depth", 5, [0.5, 0.97, 0.99], [0.4, 0.2, 0.06]),
    "C2a": layers("depth", "depth", 5, [0.5, 0.6, 0.99], [0.4, 0.2, 0.01]),
    "C2b": layers("depth", "depth", 5, [0.5, 0.6, 0.9, 0.9, 0.9], [0.4, 0.2, 0.1, 0.1, 0.01]),
    "C2c": layers("depth", "depth", 5, [0.56, 0.97, 0.99], [0.4, 0.2, 0.01]),
    "C3a": layers("noise", "q", 0.75, [0.4, 0.91], [9.0, 9.0]),
    "C3b": layers("noise", "q", 0.75, [0.4, 0.8], [9.0, 1.1]),
    "C3c": layers("noise", "q", 0.75, [0.4, 0.96], [9.0, 9.0]),
    "C3d": [noise(0.75, 0.96, 0.4)],
    "C4a": [bound(5, 0.1, 0.11, 0)],
    "C4b": [bound(5, 0.33, 0.04, 2)],
}
"""For each claim, rows that contradict it beside the good ones."""


def test_claims_hold_on_numbers_that_support_them() -> None:
    margins = {claim.key: claim.evidence(Records(GOOD)) for claim in CLAIMS}
    assert {key for key, margin in margins.items() if margin is None or margin <= 0} == set()


def test_claims_fail_on_numbers_that_contradict_them() -> None:
    assert BAD.keys() == {claim.key for claim in CLAIMS}
    for claim in CLAIMS:
        margin = claim.evidence(Records([*GOOD, *BAD[claim.key]]))
        assert margin is not None
        assert margin <= 0, claim.key
        assert not math.isnan(margin)


def test_nan_supports_nothing() -> None:
    rows = layers("depth", "depth", 5, [0.5, 0.97, 0.99], [0.4, math.nan, 0.01])
    margin = {claim.key: claim.evidence for claim in CLAIMS}["C1b"](Records([*GOOD, *rows]))
    assert margin is not None
    assert math.isnan(margin)


def test_settled_depths_leave_out_networks_that_are_too_shallow() -> None:
    curves = {
        2: layers("depth", "depth", 2, [0.3, 0.6], [1.0, 1.0]),
        3: layers("depth", "depth", 3, [0.3, 0.6, 0.97], [1.0, 1.0, 1.0]),
        5: layers("depth", "depth", 5, [0.3, 0.6, 0.96, 0.99, 0.99], [1.0] * 5),
    }
    curves = {float(depth): curve for depth, curve in curves.items()}
    assert settled(curves, 0.05) == [3, 3]
    assert settled(curves, 0.001) == []
