"""``dlaccel data`` as a person uses it, and downloads from a server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from image_files import drawn, idx_bytes, png, write, write_idx, write_tree

from dlaccel import data
from dlaccel.cli import main
from dlaccel.data.fetch import REMOTES, Remote
from dlaccel.data.sets import SETS

Captured = pytest.CaptureFixture[str]
LABELS = np.arange(7, dtype=np.uint8)


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DLACCEL_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.chdir(tmp_path)


def rows(out: str) -> list[list[str]]:
    """The cells of the table."""
    table = [line for line in out.splitlines() if line.startswith("  ")]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table]


def test_without_a_folder(capsys: Captured) -> None:
    assert main(["data"]) == 0
    out = capsys.readouterr().out
    table = [row for row in rows(out) if row]
    assert table[1:] == [
        ["digits", "train", "1280", "scikit-learn's load_digits"],
        ["digits", "test", "517", "scikit-learn's load_digits"],
    ]
    lines = out.splitlines()
    assert (
        "missing or not whole: mnist (train, test); dlaccel data fetch mnist --folder DIR" in lines
    )
    assert lines[-1] == "no folder: set DLACCEL_DATA or pass --folder"
    for name in SETS:
        assert (name == "digits") != any(f"whole: {name} (" in line for line in lines)


def test_what_is_found(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "mnist", "train", drawn(7, 4, 4), LABELS)
    broken = write_idx(tmp_path / "mnist", "t10k", drawn(7, 4, 4), LABELS[:5])
    image = png(drawn(5, 5), "1")
    runs = {
        "run01/test/item01.png": image,
        "run01/training/class01.png": image,
        "run01/class_labels.txt": b"run01/test/item01.png run01/training/class01.png\n",
    }
    write_tree(tmp_path / "all_runs.zip", runs)
    monkeypatch.setenv("DLACCEL_DATA", str(tmp_path))
    for words in ([], ["--folder", str(tmp_path)]):
        assert main(["data", *words]) == 0
        out = capsys.readouterr().out
        assert [row for row in rows(out) if row][3:] == [
            [
                "mnist",
                "train",
                "7",
                "mnist/train-images-idx3-ubyte",
                "7 of 60000 images; sorted by class",
            ],
            [
                "mnist",
                "test",
                "damaged",
                f"dlaccel.data: {tmp_path}/mnist/t10k-labels-idx1-ubyte must hold a label for each "
                f"of 7 images in {broken.name}, got 5.",
            ],
            ["one_shot_runs", "1", "all_runs.zip", "1-way runs of Omniglot"],
        ]
        remedy = f"dlaccel data fetch mnist --folder {tmp_path}"
        assert f"missing or not whole: mnist (train, test); {remedy}" in out.splitlines()
        assert out.splitlines()[-1] == f"looked below {tmp_path}"


def test_check_reads_the_pixels(tmp_path: Path, capsys: Captured) -> None:
    images = write_idx(tmp_path, "train", drawn(7, 4, 4), LABELS, packed=True)
    images.write_bytes(gzip.compress(idx_bytes(drawn(7, 4, 4))[:-1]))
    for words, count in ([], "7"), (["--check"], "damaged"):
        assert main(["data", "--folder", str(tmp_path), *words]) == 0
        assert ["mnist", "train", count] in [row[:3] for row in rows(capsys.readouterr().out)]


def test_refusals(tmp_path: Path, capsys: Captured) -> None:
    for words, sentence in (
        (["--folder", "nowhere"], "folder must exist, got 'nowhere'."),
        (["fetch", "mnist"], "fetch needs a folder: set DLACCEL_DATA or pass --folder."),
        (
            ["fetch", "svhn", "--folder", "x"],
            f"name must be one of {', '.join(REMOTES)}, omniglot_28, got 'svhn'.",
        ),
    ):
        assert main(["data", *words]) == 2
        printed = capsys.readouterr()
        assert printed.err == f"dlaccel.data: {sentence}\n"
        assert printed.out == ""
    assert not (tmp_path / "x").exists()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is served, with MNIST's files as the remote ones."""
    folder = tmp_path / "served"
    images, labels = idx_bytes(drawn(7, 4, 4)), idx_bytes(LABELS)
    for stem in ("train", "t10k"):
        write(folder / f"{stem}-images-idx3-ubyte.gz", images, packed=True)
        write(folder / f"{stem}-labels-idx1-ubyte.gz", labels, packed=True)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *words: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    hashes = {
        path.name: f"md5:{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}"
        for path in sorted(folder.iterdir())
    }
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setitem(REMOTES, "mnist", Remote(f"http://127.0.0.1:{http.server_port}/", hashes))
    yield folder
    http.shutdown()
    thread.join()
    http.server_close()


def test_fetch(server: Path, tmp_path: Path, capsys: Captured) -> None:
    for _ in range(2):  # the second finds the files
        assert main(["data", "fetch", "mnist", "--folder", "got"]) == 0
        assert str(Path("got/mnist/train-images-idx3-ubyte.gz")) in capsys.readouterr().out
    assert len(data.load("mnist", "test", tmp_path / "got")) == 7
    (server / "t10k-labels-idx1-ubyte.gz").unlink()
    assert main(["data", "fetch", "mnist", "--folder", "got"]) == 0


def test_fetch_refuses_another_hash(server: Path, tmp_path: Path, capsys: Captured) -> None:
    name = "t10k-images-idx3-ubyte.gz"
    (server / name).write_bytes(b"changed on the way")
    assert main(["data", "fetch", "mnist", "--folder", "got"]) == 2
    known = REMOTES["mnist"].hashes[name]
    assert capsys.readouterr().err == (
        f"dlaccel.data: {REMOTES['mnist'].address}{name} must have the hash {known}, "
        "got another; nothing was kept.\n"
    )
    assert list((tmp_path / "got" / "mnist").iterdir()) == []


def test_fetch_without_an_answer(server: Path, capsys: Captured) -> None:
    name = "t10k-images-idx3-ubyte.gz"
    (server / name).unlink()
    assert main(["data", "fetch", "mnist", "--folder", "got"]) == 2
    assert capsys.readouterr().err == (
        f"dlaccel.data: {REMOTES['mnist'].address}{name} could not be fetched: HTTPError.\n"
    )


def test_known_hashes_are_hashes() -> None:
    lengths = {"md5": 32, "sha256": 64}
    for name, remote in REMOTES.items():
        assert name in SETS
        assert remote.address.startswith("http")
        for known in remote.hashes.values():
            algorithm, digits = known.split(":")
            assert len(bytes.fromhex(digits)) * 2 == lengths[algorithm]
