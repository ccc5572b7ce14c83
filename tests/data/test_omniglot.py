"""Omniglot's zips and one-shot runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import drawn, png, refusal, write_tree

from dlaccel.data.formats.omniglot import omniglot
from dlaccel.data.formats.omniglot import one_shot_runs as read_runs

INK = {}  # (alphabet, character, drawer) -> where ink is
for _alphabet in ("Greek", "Anglo-Saxon"):
    for _character in (1, 2):
        for _drawer in (1, 10, 2):
            INK[_alphabet, _character, _drawer] = drawn(6, 6, seed=len(INK)) > 180


def drawing(ink: np.ndarray) -> bytes:
    """One bit deep, black ink on white, as the official files."""
    return png(np.where(ink, 0, 255).astype(np.uint8), "1")


@pytest.mark.parametrize("place", ["images_background.zip", "images_background"])
@pytest.mark.parametrize("above", ["", "images_background/", "python/images_background/"])
def test_characters(place: str, above: str, tmp_path: Path) -> None:
    files = {
        f"{above}{a}/character0{c}/0{c}9_{d:02}.png": drawing(ink) for (a, c, d), ink in INK.items()
    }
    found = omniglot(write_tree(tmp_path / place, files)).read()
    keys = sorted(INK)
    ink = torch.from_numpy(np.stack([INK[key] for key in keys]))
    assert torch.equal(found.images[:, 0], ink * torch.tensor(255, dtype=torch.uint8))
    assert found.class_names == tuple(
        f"{a}/character0{c}" for a in ("Anglo-Saxon", "Greek") for c in (1, 2)
    )
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert found.groups["alphabet"].tolist() == [0] * 6 + [1] * 6
    assert found.groups["drawer"].tolist() == [0, 1, 9] * 4


def test_foreign_zip(tmp_path: Path) -> None:
    path = write_tree(tmp_path / "images_background.zip", {"a/b.png": b""})
    assert refusal(lambda: omniglot(path)) == (
        f"{path} must hold images as ALPHABET/characterNN/NNNN_NN.png, got none."
    )


PAIRS = {"run01": [2, 0, 1], "run02": [0, 2, 1]}


def run_files(above: str = "") -> dict[str, bytes]:
    files = {}
    for r, (run, pairs) in enumerate(PAIRS.items()):
        lines = []
        for k, place in enumerate(pairs):
            test, training = f"{run}/test/item0{k + 1}.png", f"{run}/training/class0{place + 1}.png"
            lines.append(f"{test} {training}\n")
            files[above + test] = drawing(drawn(6, 6, seed=10 * r + k) > 99)
            name = f"{above}{run}/training/class0{k + 1}.png"
            files[name] = drawing(drawn(6, 6, seed=50 + 10 * r + k) > 99)
        files[f"{above}{run}/class_labels.txt"] = "".join(lines).encode()
    return files


@pytest.mark.parametrize("place", ["all_runs.zip", "all_runs"])
@pytest.mark.parametrize("above", ["", "all_runs/"])
def test_one_shot_runs(place: str, above: str, tmp_path: Path) -> None:
    found = read_runs(write_tree(tmp_path / place, run_files(above)))
    assert found.labels.tolist() == list(PAIRS.values())
    assert found.training.shape == found.test.shape == (2, 3, 1, 6, 6)
    for r in range(2):
        for k in range(3):
            test, training = drawn(6, 6, seed=10 * r + k), drawn(6, 6, seed=50 + 10 * r + k)
            assert np.array_equal(found.test[r, k, 0] == 255, test > 99)
            assert np.array_equal(found.training[r, k, 0] == 255, training > 99)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (
            b"run01/test/item01.png run01/training/class09.png\n",
            "name a test file and its training file in each line, "
            "got 'run01/test/item01.png run01/training/class09.png'.",
        ),
        (
            b"run01/test/item01.png\n",
            "name a test file and its training file in each line, got 'run01/test/item01.png'.",
        ),
        (
            b"run01/test/item01.png run01/training/class01.png\n",
            "name a test file for each of 3 training files, got 1.",
        ),
    ],
)
def test_tables_of_runs(table: bytes, sentence: str, tmp_path: Path) -> None:
    name = "run01/class_labels.txt"
    path = write_tree(tmp_path / "all_runs.zip", run_files() | {name: table})
    assert refusal(lambda: read_runs(path)) == f"{path}/{name} must {sentence}"


def test_runs_have_one_size(tmp_path: Path) -> None:
    files = {name: data for name, data in run_files().items() if not name.startswith("run02")}
    lines = b"run02/test/item01.png run02/training/class01.png\n"
    image = drawing(drawn(6, 6) > 99)
    files |= {"run02/class_labels.txt": lines, "run02/test/item01.png": image}
    path = write_tree(tmp_path / "all_runs.zip", files | {"run02/training/class01.png": image})
    assert refusal(lambda: read_runs(path)) == (
        f"{path}/run02/class_labels.txt must name 3 test images, as the first run does, got 1."
    )
    other = write_tree(tmp_path / "other.zip", {"a.txt": b""})
    assert refusal(lambda: read_runs(other)) == (
        f"{other} must hold runs as runNN/class_labels.txt, got none."
    )
