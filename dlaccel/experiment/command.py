"""``dlaccel run`` and ``dlaccel report``: a Config as options, claims as a table."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from .claims import Verdict
from .environment import require_extra
from .folder import read_header
from .page import write_claims

if TYPE_CHECKING:
    from .paper import Paper
    from .run import Run

COLOURS = {
    Verdict.HELD: "green",
    Verdict.FAILED: "bold red",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.NOT_RUN: "dim",
}

REFUSED = 2
INTERRUPTED = 130


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run, beside the paper's own Config."""

    profile: Literal["smoke", "medium", "paper"]
    """Size of the run and so the defaults below: a minute, up to an hour, a GPU's work."""
    seeds: int
    """How many seeds, one after another; a run that stands is never made smaller."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes CUDA where there is one."""
    out: Path
    """Folder of the run; one that holds the same run unfinished is resumed."""
    strict: bool = False
    """Exit with status 1 when a claim failed."""
    config: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What ``dlaccel report`` takes beside its key or folder."""

    profile: Literal["smoke", "medium", "paper"] | None = None
    """Which run of a paper; the latest when not given."""
    page: Path | None = None
    """A page of Markdown whose block of claims of this profile is written anew."""


def run_options(paper: Paper, arguments: Sequence[str]) -> RunOptions:
    """Parses the words after ``dlaccel run KEY``.

    Raises:
        ValueError: when a value is out of range.
        SystemExit: after ``--help`` (status 0) or words that cannot be parsed (status 2).
    """
    import tyro

    profile = _profile(arguments, paper.experiment.PROFILES)
    config = paper.config(profile)
    options = dataclasses.make_dataclass(
        "Options",
        [("config", Annotated[type(config), tyro.conf.arg(name="")], config)],
        bases=(RunOptions,),
        frozen=True,
        kw_only=True,
    )
    default = options(
        profile=profile,
        seeds=paper.experiment.SEEDS[profile],
        out=paper.folder(profile),
        config=config,
    )
    parsed: RunOptions = tyro.cli(
        options,
        prog=f"dlaccel run {paper.key}",
        description=f"{paper.title} (arXiv {paper.arxiv}).",
        args=list(arguments),
        default=default,
    )
    if parsed.seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {parsed.seeds}.")
    return parsed


def run(find: Callable[[str], Paper], name: str, arguments: Sequence[str]) -> int:
    """``dlaccel run``: returns the exit status. ``find`` gives a paper for its name."""
    require_extra()
    try:
        paper = find(name)
        options = run_options(paper, arguments)
    except ValueError as error:
        return refuse(error)
    try:
        result = paper.run_config(
            options.profile,
            options.config,
            seeds=options.seeds,
            device=options.device,
            out=options.out,
        )
    except KeyboardInterrupt:
        again = command_line(
            paper,
            options.profile,
            dataclasses.asdict(options.config),
            seeds=options.seeds,
            device=options.device,
            out=options.out,
        )
        print(
            f"\nInterrupted; what was measured stands in {options.out}. Resume with\n  {again}",
            file=sys.stderr,
        )
        return INTERRUPTED
    show(result)
    return 1 if options.strict and result.claims.failed else 0


def report(find: Callable[[str], Paper], name: str, arguments: Sequence[str]) -> int:
    """``dlaccel report``: ``name`` is a paper's key, its arXiv number, or a run's folder."""
    import tyro

    require_extra()
    about = "Draws figures and report of a run again from its records, finished or not."
    prog = f"dlaccel report {name}"
    options = tyro.cli(ReportOptions, prog=prog, description=about, args=list(arguments))
    folder = Path(name) if Path(name).is_dir() else None
    try:
        paper = find(read_header(folder)["key"] if folder else name)
    except ValueError as error:
        return refuse(error)
    if folder is None and options.profile is not None:
        folder = paper.folder(options.profile)
    result = paper.load(folder)
    result.publish()
    if options.page is not None:
        write_claims(options.page, result)
    show(result)
    return 0


def command_line(
    paper: Paper,
    profile: str,
    config: Mapping[str, Any],
    *,
    seeds: int,
    device: str,
    out: Path,
) -> str:
    """The command line that makes, or goes on with, such a run."""
    fixed = ["--profile", profile, "--seeds", str(seeds), "--device", device]
    words = ["dlaccel", "run", paper.key, *fixed]
    if out != paper.folder(profile):
        words += ["--out", str(out)]
    base = dataclasses.asdict(paper.experiment.PROFILES[profile])
    for name, value in config.items():
        if name in base and _words(name, value) != _words(name, base[name]):
            words += _words(name, value)
    return shlex.join(words)


def _words(name: str, value: Any) -> list[str]:
    """A Config field as words of the command line."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return ["--" + ("" if value else "no-") + flag]
    values = value if isinstance(value, list | tuple) else [value]
    return ["--" + flag, *map(str, values)]


def refuse(error: Exception) -> int:
    """Says in one sentence why nothing was done; returns the exit status."""
    print("dlaccel: " + str(error).removeprefix("dlaccel."), file=sys.stderr)
    return REFUSED


def show(run: Run) -> None:
    """Prints the claims and where the report lies."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    title = f"{run.paper.title} (arXiv {run.paper.arxiv})"
    table = Table(title=title, title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    table.add_column("claim and its place")
    table.add_column("margin", justify="right")
    table.add_column("seeds", justify="right")
    table.add_column("verdict", no_wrap=True)
    for finding in run.claims:
        claim, verdict = finding.claim, finding.verdict
        table.add_row(
            Text(claim.key),
            Text.assemble(claim.statement, " ", (claim.where, "dim")),
            Text(finding.margin_text),
            str(len(finding.margins)),
            Text(verdict.value, style=COLOURS[verdict]),
        )
    Console().print(table)
    state = "" if run.complete else " (unfinished run)"
    print(f"{run.claims.summary()}{state}\nreport: {run.folder / 'report.html'}")


def _profile(arguments: Sequence[str], profiles: Sequence[str]) -> str:
    """The profile asked for, needed before parsing: it sets the defaults that parsing shows."""
    asked = "smoke"
    for place, word in enumerate(arguments):
        flag, equals, value = word.partition("=")
        if flag == "--profile":
            asked = value if equals else next(iter(arguments[place + 1 :]), asked)
    return asked if asked in profiles else "smoke"
