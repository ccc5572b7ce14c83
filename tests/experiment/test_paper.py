"""A paper from Python, and the page that a run leaves."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import pytest
from matplotlib.figure import Figure

from dlaccel.experiment import Claim, Records, Run, RunError, Verdict
from dlaccel.experiment.environment import choose_device
from dlaccel.experiment.figures import MAX_BYTES, render

VOID = {"meta", "img", "link", "br"}


class Page(html.parser.HTMLParser):
    """Text and references of a page whose elements are properly nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.references += [v or "" for k, v in attributes if k in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture
def run(toy: ModuleType) -> Run:
    return toy.run("smoke", seeds=3, progress=False, widths=(2,))


def test_run_from_python(run: Run, toy: ModuleType) -> None:
    assert run.complete
    assert isinstance(run.records, Records)
    assert run.claims["C1"].verdict is Verdict.HELD
    assert run.claims["C4"].verdict is Verdict.NOT_RUN
    assert len(run.claims["C2"].margins) == 3
    table = run.table("regression")
    assert table.columns == ("width", "step", "loss")
    assert table.column("step") == [5, 10, 12]
    assert run.table("error").columns == ("width", "distance")
    figure = run.figure("loss_curve")
    assert isinstance(figure, Figure)
    assert len(figure.axes[0].lines) == 3
    with pytest.raises(KeyError, match="no figure 'los'; there are: loss_curve"):
        run.figure("los")
    again = toy.load(run.folder)
    assert list(again.records) == list(run.records)
    assert repr(again).startswith("Run(doe2024toy, runs/doe2024toy/smoke, complete: ")


def test_same_numbers_in_another_folder(run: Run, toy: ModuleType, tmp_path: Path) -> None:
    other = toy.run("smoke", seeds=3, out=tmp_path / "other", progress=False, widths=(2,))

    def numbers(records: Records) -> list[Any]:
        return [(row.seed, row.name, row.point, row.numbers) for row in records]

    assert numbers(other.records) == numbers(run.records)
    assert [f.to_json() for f in other.claims] == [f.to_json() for f in run.claims]


def test_files_of_a_run(run: Run) -> None:
    header = json.loads((run.folder / "run.json").read_text())
    assert header["config"] == {
        "points": 64,
        "widths": [2],
        "steps": 12,
        "rate": 0.05,
        "noisy": False,
    }
    assert (header["schema"], header["seeds"], header["device"]) == (1, 3, "cpu")
    assert set(header["versions"]) == {"dlaccel", "python", "torch", "numpy"}
    claims = json.loads((run.folder / "claims.json").read_text())
    assert [claim["verdict"] for claim in claims["claims"]] == [f.verdict.value for f in run.claims]
    picture = (run.folder / "figures" / "loss_curve.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) <= MAX_BYTES


def test_command_that_runs_it_again(run: Run) -> None:
    assert run.command == (
        "dlaccel run doe2024toy --profile smoke --seeds 3 --device cpu --widths 2"
    )


def test_report_stands_alone(run: Run) -> None:
    page = Page((run.folder / "report.html").read_text())
    text = " ".join(page.words)
    assert all(
        reference.startswith(("data:image/png;base64,", "https://arxiv.org/abs/"))
        for reference in page.references
    )
    assert sum(reference.startswith("data:") for reference in page.references) == 1
    for finding in run.claims:
        assert finding.claim.statement in text
        assert finding.verdict.value in text
    assert run.command in text
    assert "not finished" not in text
    assert "@import" not in text
    assert "url(" not in text


def test_report_escapes_what_it_is_given(
    run: Run, toy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    nasty = Claim("<i>", "a < b & <script>", '"here"', lambda rows: True)
    monkeypatch.setattr(toy.experiment, "CLAIMS", (nasty,))
    path = toy.load(run.folder).publish()
    assert "a < b & <script>" in " ".join(Page(path.read_text()).words)


def test_unfinished_run_is_read_and_reported(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def figure(records: Records) -> Figure:
        figure = Figure()
        figure.add_subplot().plot(records.select("error")[0]["distance"], 0)
        return figure

    def run(trial: Any) -> None:
        trial.measure("sum", lambda: {"sum": 2}, once=True, terms=2)
        raise InterruptedError

    monkeypatch.setattr(toy.experiment, "FIGURES", {"late": figure})
    monkeypatch.setattr(toy.experiment, "run", run)
    with pytest.raises(InterruptedError):
        toy.run(out=tmp_path / "half", progress=False)
    half = toy.load(tmp_path / "half")
    assert not half.complete
    assert half.claims["C1"].verdict is Verdict.HELD
    assert half.claims["C2"].verdict is Verdict.NOT_RUN
    text = " ".join(Page(half.publish().read_text()).words)
    assert "This run is not finished" in text
    assert "Not measured yet." in text
    assert json.loads((half.folder / "claims.json").read_text())["complete"] is False


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"points": 0}, "points must be at least 1, got 0."),
        ({"point": 3}, "no Config field 'point'; did you mean 'points'?"),
        ({"profile": "large"}, "no profile 'large'; there are: smoke, medium, paper."),
        ({"seeds": 0}, "seeds must be at least 1, got 0."),
        ({"device": "tpu"}, "device must be auto, cpu or cuda, got 'tpu'."),
    ],
)
def test_bad_arguments(toy: ModuleType, words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        toy.run(**words)
    assert not Path("runs").exists()


def test_cuda_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(RunError, match=r"^device cuda was asked for, but torch sees no CUDA dev"):
        choose_device("cuda")


def test_large_figures_are_made_to_fit() -> None:
    figure = Figure(figsize=(10, 8))
    noise = numpy.random.default_rng(0).random((800, 800, 3))
    figure.add_subplot().imshow(noise)
    picture = render(figure)
    assert 30_000 < len(picture) <= MAX_BYTES


def test_style_of_the_caller_is_untouched(run: Run) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    run.figure("loss_curve")
    assert dict(matplotlib.rcParams) == before
