"""The command line, as a person uses it: exit statuses and exact sentences."""

from __future__ import annotations

import dataclasses
import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import dlaccel
import dlaccel.papers
from dlaccel.cli import main
from dlaccel.experiment.command import command_line, run_options
from dlaccel.papers import entries, find

TOY = Path(__file__).parent / "experiment" / "papers"
RUN = ["run", "doe2024toy", "--seeds", "2", "--widths", "2"]


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The invented paper, installed beside the real ones; runs go to a temporary folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(dlaccel.papers, "__path__", [*dlaccel.papers.__path__, str(TOY)])
    from dlaccel.papers import doe2024toy

    return doe2024toy


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(entries())
    assert any(
        line.split(maxsplit=3)
        == ["doe2024toy", "2401.99999", "2024", "Straight Lines Are Learned by Straight Lines"]
        for line in lines
    )


def test_registry_reads_without_importing() -> None:
    program = (
        "import sys, dlaccel.papers as p; found = [e.key for e in p.entries()]; "
        "assert not any(f'dlaccel.papers.{key}' in sys.modules for key in found); "
        "assert 'dlaccel.experiment' not in sys.modules"
    )
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True)


@pytest.mark.parametrize("name", ["doe2024toy", "2401.99999", "arXiv:2401.99999", "2401.99999v2"])
def test_find(name: str, toy: ModuleType) -> None:
    assert find(name) is toy.PAPER


def test_every_entry_agrees_with_its_paper() -> None:
    for entry in entries():
        paper = find(entry.key)
        fields = (paper.key, paper.arxiv, paper.title, paper.year)
        assert fields == (entry.key, entry.arxiv, entry.title, entry.year)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "doe2024tory"], "no paper 'doe2024tory'; did you mean doe2024toy?"),
        (["report", "???"], "no paper '???'; dlaccel list shows them all."),
        (["run"], "run needs the key or arXiv number of a paper first."),
        (["run", "--seeds", "2"], "run needs the key or arXiv number of a paper first."),
        (["rum"], "no command 'rum'; there are: list, run, report, measure, data, doctor."),
        (["list", "all"], "list takes no arguments, got 'all'."),
        ([*RUN, "--points", "0"], "points must be at least 1, got 0."),
        ([*RUN, "--seeds", "0"], "seeds must be at least 1, got 0."),
        (["report", "doe2024toy"], "There is no run of doe2024toy in runs/doe2024toy."),
        (["report", "."], ". holds no run: there is no run.json in it."),
    ],
)
def test_refusals(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.err == f"dlaccel: {sentence}\n"
    assert printed.out == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words", [["--points", "many"], ["--pints", "3"], ["--profile", "huge"]])
def test_words_that_cannot_be_parsed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*RUN, *words])
    assert caught.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_usage_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["run", "--help"]):
        assert main(words) == 0
        assert capsys.readouterr().out.startswith("usage: dlaccel COMMAND\n")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == dlaccel.__version__ + "\n"


def test_help_shows_the_defaults_of_the_profile(capsys: pytest.CaptureFixture[str]) -> None:
    texts = {}
    for profile in ("smoke", "medium"):
        for words in ([f"--profile={profile}"], ["--profile", profile]):
            with pytest.raises(SystemExit) as caught:
                main(["run", "doe2024toy", *words, "--help"])
            assert caught.value.code == 0
            texts[profile] = capsys.readouterr().out
    help_line = "How many points are drawn for each mean. (default: {})"
    assert help_line.format(64) in texts["smoke"]
    assert help_line.format(640) in texts["medium"]
    assert "(default: runs/doe2024toy/medium)" in texts["medium"]


def test_run_and_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*RUN, "--rate", "0.1"]) == 0
    first = capsys.readouterr()
    table = first.out.splitlines()
    assert any("C1" in line and "section 1" in line and "held" in line for line in table)
    assert any("C4" in line and "not run" in line for line in table)
    assert table[-1] == "report: runs/doe2024toy/smoke/report.html"
    page = tmp_path / "runs" / "doe2024toy" / "smoke" / "report.html"
    text = page.read_text()
    for words in (["doe2024toy"], ["2401.99999", "--profile", "smoke"]):
        page.unlink()
        assert main(["report", *words]) == 0
        assert capsys.readouterr().out.splitlines() == table
        assert page.read_text() == text
    assert main(["report", str(page.parent)]) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == table[:-1]


def test_the_command_in_the_report_parses_to_the_same_run(toy: ModuleType) -> None:
    config = toy.PAPER.config("medium", widths=(4, 5), noisy=True, rate=1e-7)
    command = command_line(
        toy.PAPER,
        "medium",
        dataclasses.asdict(config),
        seeds=4,
        device="cpu",
        out=Path("my runs/x"),
    )
    options = run_options(toy.PAPER, shlex.split(command)[3:])
    assert options.config == config
    assert (options.profile, options.seeds, options.device) == ("medium", 4, "cpu")
    assert options.out == Path("my runs/x")


def test_failed_claims_fail_only_under_strict(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*RUN, "--noisy"]
    assert main(words) == 0
    assert "1 failed" in capsys.readouterr().out
    assert main([*words, "--strict"]) == 1


def test_refusal_by_the_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert main([*RUN, "--out", "file/run"]) == 2
    assert capsys.readouterr().err == ("dlaccel: file/run cannot be written to: Not a directory.\n")


def test_refusal_by_the_data(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", "galanti2022transfer", "--tasks", "./none.npz", "--seeds", "1"]
    assert main(words) != 0
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("dlaccel: data: name must be one of ")
    assert "none.npz" in said


def test_interrupt_says_how_to_resume(
    toy: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(trial: Any) -> None:
        trial.measure("sum", lambda: {"sum": 2}, once=True, terms=2)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(toy.experiment, "run", interrupted)
        assert main([*RUN, "--points", "7"]) == 130
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2] == (
        "Interrupted; what was measured stands in runs/doe2024toy/smoke. Resume with"
    )
    words = shlex.split(lines[-1])
    assert words == [
        *("dlaccel", "run", "doe2024toy", "--profile", "smoke", "--seeds", "2"),
        *("--device", "auto", "--points", "7", "--widths", "2"),
    ]
    assert main(words[1:]) == 0


def test_missing_extra_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name in ("tyro", "sklearn") else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    assert main(RUN) == 2
    assert capsys.readouterr().err == (
        "dlaccel: tyro, scikit-learn are not installed: pip install dlaccel[papers]\n"
    )


def test_doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from dlaccel import _core

    report = _core.Report([("torch", "2.6"), ("openmp", "yes")], [("CUDA", "install nvcc")])
    monkeypatch.setattr(_core, "report", lambda: report)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "torch   2.6",
        "openmp  yes",
        "missing: CUDA; install nvcc",
    ]
    monkeypatch.undo()
    assert main(["doctor"]) == 0
    assert dlaccel.__version__ in capsys.readouterr().out
