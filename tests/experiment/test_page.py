"""A run's claims on a page of the docs."""

from pathlib import Path
from types import ModuleType

import pytest

from dlaccel.cli import main
from dlaccel.experiment.table import Table

PAGE = "# Toy\n\n<!-- claims: smoke -->\nold\n<!-- /claims -->\n\nWhat we read from it.\n"


def test_claims_replace_their_block_alone_failures_first(toy: ModuleType, tmp_path: Path) -> None:
    run = toy.run(seeds=2, out=tmp_path / "run", progress=False)
    page = tmp_path / "toy.md"
    page.write_text(PAGE)
    assert main(["report", str(run.folder), "--page", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("# Toy\n\n<!-- claims: smoke -->\n\n2 seeds, torch ")
    assert text.endswith("|\n\n<!-- /claims -->\n\nWhat we read from it.\n")
    assert f": {run.claims.summary()}.\n" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert {row.split(" | ")[0].removeprefix("| ") for row in rows} == {
        finding.claim.key for finding in run.claims
    }
    verdicts = [row.removesuffix(" |").rsplit(" | ", 1)[1] for row in rows]
    assert verdicts == sorted(verdicts, key=["failed", "inconclusive", "not run", "held"].index)
    assert main(["report", str(run.folder), "--page", str(page)]) == 0
    assert page.read_text() == text


@pytest.mark.parametrize("text", ["# Toy\n", PAGE.replace("smoke", "medium"), None])
def test_a_page_without_the_block_is_left_alone(
    text: str | None, toy: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = toy.run(seeds=1, out=tmp_path / "run", progress=False)
    page = tmp_path / "toy.md"
    if text is not None:
        page.write_text(text)
    assert main(["report", str(run.folder), "--page", str(page)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("dlaccel: page must ")
    assert str(page) in said
    assert page.exists() == (text is not None)
    assert text is None or page.read_text() == text


def test_bars_in_a_cell_do_not_cut_it() -> None:
    assert Table(("a", "b"), (("|x|", 1),)).to_markdown().splitlines()[2] == r"| \|x\| | 1 |"
