"""A run read back from its folder: records, claims, tables, figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .claims import Findings, judge
from .command import command_line
from .figures import close, draw, render
from .folder import read_header, write_atomic, write_json
from .log import Log
from .records import SCHEMA, Records
from .report import make_report
from .table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .paper import Paper


class Run:
    """A run read from its folder: records, claims, tables, figures.

    Attributes:
        paper: The paper.
        folder: Where it lies.
        header: Content of ``run.json``.
        records: All rows, seed after seed.
        claims: The claims with their verdicts.
        complete: Whether every seed is over.
    """

    def __init__(self, paper: Paper, folder: Path) -> None:
        self.paper = paper
        self.folder = folder
        self.header = read_header(folder)
        logs = [Log.of(folder, seed) for seed in range(self.header["seeds"])]
        self.records = Records(row for log in logs for row in log.rows.values())
        done = frozenset(seed for seed, log in enumerate(logs) if log.complete)
        self.complete = len(done) == len(logs)
        self.claims = Findings(
            [judge(claim, self.records, done) for claim in paper.experiment.CLAIMS]
        )

    def __repr__(self) -> str:
        state = "complete" if self.complete else "unfinished"
        return f"Run({self.paper.key}, {self.folder}, {state}: {self.claims.summary()})"

    @property
    def command(self) -> str:
        """The command line that makes this run again."""
        return command_line(
            self.paper,
            self.header["profile"],
            self.header["config"],
            seeds=self.header["seeds"],
            device=self.header["device"],
            out=self.folder,
        )

    def table(self, name: str) -> Table:
        """A measurement's table, with the paper's columns where it names some.

        Raises:
            KeyError: when there is no such measurement.
        """
        return self.records.table(name, self.paper.experiment.TABLES.get(name))

    def figure(self, name: str) -> Figure:
        """A figure of the paper, drawn from this run's records.

        Raises:
            KeyError: when there is no such figure.
        """
        figures = self.paper.experiment.FIGURES
        if name not in figures:
            raise KeyError(f"no figure {name!r}; there are: {', '.join(figures)}")
        return draw(figures[name], self.records)

    def publish(self) -> Path:
        """Writes ``claims.json``, ``figures/*.png`` and ``report.html``; returns the latter's path.

        Raises:
            RunError: when the disk is full or the folder cannot be written to.
        """
        head = {"schema": SCHEMA, "complete": self.complete}
        write_json(
            self.folder / "claims.json", head | {"claims": [f.to_json() for f in self.claims]}
        )
        pictures = dict(self._pictures())
        for name, picture in pictures.items():
            write_atomic(self.folder / "figures" / f"{name}.png", picture)
        path = self.folder / "report.html"
        write_atomic(path, make_report(self, pictures).encode())
        return path

    def _pictures(self) -> Iterator[tuple[str, bytes]]:
        for name in self.paper.experiment.FIGURES:
            try:
                figure = self.figure(name)
                yield name, render(figure)
                close(figure)
            except (LookupError, ValueError):
                # A figure may need rows that an unfinished run has not measured yet.
                if self.complete:
                    raise
