"""Folders that refuse, disks that fill, files that others wrote: one exact sentence each."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dlaccel.experiment import RunError
from dlaccel.experiment.folder import Folder, write_atomic


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a run, but for the times."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(folder: Path) -> list[str]:
    files = sorted(folder.glob("seed*.jsonl"))
    lines = [line for path in files for line in path.read_text().splitlines()]
    return [line.partition(',"seconds":')[0] for line in lines]


def sentence(call: Any, *arguments: Any, **words: Any) -> str:
    with pytest.raises(RunError) as caught:
        call(*arguments, **words)
    return str(caught.value)


@pytest.fixture
def done(toy: ModuleType, tmp_path: Path) -> Path:
    """The folder of a finished run."""
    return toy.run(out=tmp_path / "done", progress=False).folder


def test_default_folder_and_latest(toy: ModuleType, tmp_path: Path) -> None:
    run = toy.run(seeds=1, progress=False)
    assert run.folder == Path("runs/doe2024toy/smoke")
    assert toy.load().folder == run.folder
    assert {path.name for path in run.folder.iterdir()} == {
        "run.json",
        "seed0.jsonl",
        "claims.json",
        "figures",
        "report.html",
        "lock",
    }


def test_unwritable_folder_is_refused_first(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy.experiment, "run", lambda trial: pytest.fail("it ran"))
    file = tmp_path / "file"
    file.write_text("mine")
    out = file / "run"
    assert sentence(toy.run, out=out) == f"{out} cannot be written to: Not a directory."
    assert sentence(toy.run, out=file) == f"{file} cannot be written to: File exists."
    assert file.read_text() == "mine"


def test_folder_of_something_else_is_refused(toy: ModuleType, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    expected = (
        f"{other} holds thesis.tex but no run.json, so it is not the folder of a run; "
        "nothing was changed."
    )
    assert sentence(toy.run, out=other) == expected
    assert content(other) == {"thesis.tex": b"mine"}


def test_what_a_kill_left_before_the_first_header_is_no_obstacle(
    toy: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").touch()
    (tmp_path / "run" / "run.jsonabc.partial").write_text('{"schema"')
    run = toy.run(seeds=1, out=tmp_path / "run", progress=False)
    assert run.complete
    assert not list(run.folder.glob("*.partial"))


def test_missing_run(toy: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert sentence(toy.load, path) == f"{path} holds no run: there is no run.json in it."
    assert sentence(toy.load) == "There is no run of doe2024toy in runs/doe2024toy."


@pytest.mark.parametrize(
    ("words", "difference"),
    [
        ({"points": 65}, "points = 64, not the 65 asked for"),
        ({"widths": (2, 4)}, "widths = [2, 3], not the [2, 4] asked for"),
        ({"profile": "medium"}, "profile smoke, not the medium asked for"),
    ],
)
def test_another_config_is_refused(
    toy: ModuleType, done: Path, words: dict[str, Any], difference: str
) -> None:
    before = content(done)
    expected = (
        f"{done} holds a run with {difference}; "
        "give another --out, or remove the folder to start again."
    )
    assert sentence(toy.run, out=done, progress=False, **words) == expected
    assert content(done) == before


def test_a_field_that_was_not_there_is_another_config(toy: ModuleType, done: Path) -> None:
    header = json.loads((done / "run.json").read_text())
    del header["config"]["noisy"]
    (done / "run.json").write_text(json.dumps(header))
    text = sentence(toy.run, out=done, progress=False)
    assert "holds a run with noisy = no value, not the false asked for" in text
    assert toy.load(done).complete


def test_run_of_another_paper(toy: ModuleType, done: Path) -> None:
    header = json.loads((done / "run.json").read_text())
    (done / "run.json").write_text(json.dumps(header | {"key": "roe2020else"}))
    assert sentence(toy.load, done) == f"{done} holds a run of roe2020else, not of doe2024toy."
    assert "holds a run with key roe2020else, not the doe2024toy asked for" in sentence(
        toy.run, out=done
    )


def test_later_schema(toy: ModuleType, done: Path) -> None:
    header = json.loads((done / "run.json").read_text())
    (done / "run.json").write_text(json.dumps(header | {"schema": 2}))
    before = content(done)
    path = done / "run.json"
    expected = (
        f"{path} was written by a later dlaccel (schema 2, this one reads up to 1); "
        "nothing was changed."
    )
    assert sentence(toy.load, done) == expected
    assert sentence(toy.run, out=done, progress=False) == expected
    assert content(done) == before


def test_line_of_a_later_schema(toy: ModuleType, done: Path) -> None:
    path = done / "seed1.jsonl"
    with path.open("a") as stream:
        stream.write('{"schema":7,"row":[]}\n')
    number = len(path.read_text().splitlines())
    before = content(done)
    expected = (
        f"{path}, line {number}, was written by a later dlaccel (schema 7, this one reads up to 1);"
        " nothing was changed."
    )
    assert sentence(toy.load, done) == expected
    assert sentence(toy.run, out=done, progress=False) == expected
    assert content(done) == before


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "\x00\x00",
        '{"schema":"1"}',
        '{"schema":1,"seed":0,"name":"x","point":{},"seconds":0}',
        '{"schema":1,"seed":0,"name":"x","point":{},"numbers":{"v":[1]},"seconds":0}',
        '{"schema":1,"seed":0,"name":["x"],"point":{},"numbers":{},"seconds":0}',
        '{"schema":1,"seed":0,"name":"x","point":{"seed":1},"numbers":{},"seconds":0}',
    ],
)
def test_broken_line(toy: ModuleType, done: Path, line: str) -> None:
    path = done / "seed0.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[2:], ""]))
    before = content(done)
    expected = (
        f"{path}, line 2, is broken; nothing was changed: "
        "restore the file, or remove the folder to start again."
    )
    assert sentence(toy.load, done) == expected
    assert sentence(toy.run, out=done, progress=False) == expected
    assert content(done) == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema":1}', '{"schema":"one"}', "null"])
def test_broken_header(toy: ModuleType, done: Path, text: str) -> None:
    path = done / "run.json"
    path.write_text(text)
    expected = f"{path} is broken: it is not the JSON that dlaccel wrote; nothing was changed."
    assert sentence(toy.load, done) == expected
    assert sentence(toy.run, out=done, progress=False) == expected
    assert path.read_text() == text


def test_every_torn_last_line_is_dropped(toy: ModuleType, done: Path) -> None:
    expected = rows(done)
    path = done / "seed1.jsonl"
    whole = path.read_bytes()
    start = whole.rindex(b'{"schema":1,"seed"')
    for cut in (start + 1, start + 40, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert not toy.load(done).complete
        assert path.read_bytes() == whole[:cut]
        assert toy.run(out=done, progress=False).complete
        assert rows(done) == expected


def test_two_processes_in_one_folder(toy: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "run"
    with Folder(path):
        assert sentence(toy.run, out=path) == f"{path} is in use by another dlaccel process."
    assert toy.run(seeds=1, out=path, progress=False).complete


def test_more_seeds_extend_a_run_and_fewer_do_not_shrink_it(toy: ModuleType, done: Path) -> None:
    before = rows(done)
    run = toy.run(seeds=3, out=done, progress=False)
    assert rows(done)[: len(before)] == before
    assert run.records.seeds() == [0, 1, 2]
    assert list(toy.run(seeds=1, out=done, progress=False).records) == list(run.records)


def test_environment_that_changed_is_kept(
    toy: ModuleType, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = json.loads((done / "run.json").read_text())
    older = header | {"versions": header["versions"] | {"torch": "2.6.0"}}
    (done / "run.json").write_text(json.dumps(older))
    for _ in range(2):
        run = toy.run(out=done, progress=False)
        assert run.header["versions"]["torch"] == "2.6.0"
        (resumed,) = run.header["resumed"]
        assert resumed["versions"] == header["versions"]
    assert "Resumed" in (done / "report.html").read_text()


class FullDisk:
    """Takes the place of os.write: the disk is full after ``room`` more bytes."""

    def __init__(self, room: int, number: int = errno.ENOSPC) -> None:
        self.room = room
        self.number = number
        self.write = os.write

    def __call__(self, descriptor: int, data: Any) -> int:
        taken = min(self.room, len(data))
        if taken == 0 and len(data):
            raise OSError(self.number, os.strerror(self.number))
        self.room -= taken
        return self.write(descriptor, data[:taken])


@pytest.mark.parametrize("room", [0, 100, 700, 1000, 2000, 9000, 40000])
def test_full_disk(
    toy: ModuleType, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    out = tmp_path / "full"
    with monkeypatch.context() as full:
        full.setattr(os, "write", FullDisk(room))
        text = sentence(toy.run, out=out, progress=False)
    places = (out, out / "checkpoints", out / "figures")
    assert text in [
        f"The disk is full: {place} could not be written to; what it holds stays, "
        "and the same command resumes the run once there is room."
        for place in places
    ]
    assert not list(out.rglob("*.partial"))
    standing = rows(out)
    assert toy.run(out=out, progress=False).complete
    assert set(standing) <= set(rows(out))
    assert rows(out) == rows(done)


def test_other_failures_to_write_name_their_reason(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "failing"
    with monkeypatch.context() as failing:
        failing.setattr(os, "write", FullDisk(0, errno.EIO))
        text = sentence(toy.run, out=out)
    assert text == f"{out} cannot be written to: Input/output error."


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 KiB, where one can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(disk)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user cannot mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_disk_that_is_really_full(toy: ModuleType, done: Path, small_disk: Path) -> None:
    out = small_disk / "run"
    assert sentence(toy.run, out=out, progress=False).startswith("The disk is full: ")
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert toy.run(out=out, progress=False).complete
    assert rows(out) == rows(done)


def test_atomic_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "claims.json"
    write_atomic(path, b"old")
    with monkeypatch.context() as full:
        full.setattr(os, "write", FullDisk(2))
        sentence(write_atomic, path, b"new")
    assert content(tmp_path) == {"claims.json": b"old"}
