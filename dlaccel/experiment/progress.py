"""What a person sees while a run goes on: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

LINE_SECONDS = 4.0


@dataclass(eq=False)
class Section:
    """Something that counts up to ``total`` (None: nobody knows)."""

    description: str
    total: int | None
    progress: Progress
    done: int = 0

    def reach(self, done: int) -> None:
        """Sets the count."""
        self.done = done
        self.progress.show(self)

    @property
    def count(self) -> str:
        """The count as text."""
        return "" if self.total is None else f"{self.done}/{self.total}"


class Progress:
    """A stack of sections; this class shows nothing, those below do."""

    def __init__(self) -> None:
        self.stack: list[Section] = []

    def begin(self, section: Section) -> None:
        """Called when a section begins."""

    def show(self, section: Section) -> None:
        """Called when its count changes."""

    def end(self, section: Section, finished: bool) -> None:
        """Called when it ends or is broken off."""

    def close(self) -> None:
        """Called once, when the run ends or is broken off."""

    def advance(self) -> None:
        """Counts one more in the innermost section."""
        if self.stack:
            self.stack[-1].reach(self.stack[-1].done + 1)

    @contextmanager
    def section(self, description: str, total: int | None) -> Iterator[Section]:
        """Opens a section inside the present one."""
        section = Section(description, total, self)
        self.stack.append(section)
        self.begin(section)
        finished = False
        try:
            yield section
            finished = True
        finally:
            self.stack.pop()
            self.end(section, finished)


class Lines(Progress):
    """Plain lines, at most one every ``LINE_SECONDS``."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._stream = stream
        self._clock = clock
        self._start = self._last = clock()

    def show(self, section: Section) -> None:
        """Prints where the run stands, unless the last line is too fresh."""
        now = self._clock()
        if now - self._last >= LINE_SECONDS:
            self._last = now
            where = " · ".join(f"{part.description} {part.count}".rstrip() for part in self.stack)
            print(f"{now - self._start:6.0f} s  {where}", file=self._stream, flush=True)


class Bars(Progress):
    """Bars of rich on a terminal; what is finished stays as a line above them."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        super().__init__()
        self._rich = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=32),
            TextColumn("{task.fields[count]}", justify="right"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: list[tuple[TaskID, float]] = []
        self._rich.start()

    def begin(self, section: Section) -> None:
        """Adds a bar, indented by its depth."""
        text = "  " * len(self._tasks) + section.description
        task = self._rich.add_task(text, total=section.total, count=section.count)
        self._tasks.append((task, time.monotonic()))

    def show(self, section: Section) -> None:
        """Moves the bar."""
        task, _ = self._tasks[self.stack.index(section)]
        self._rich.update(task, completed=section.done, count=section.count)

    def end(self, section: Section, finished: bool) -> None:
        """Removes the bar; a finished section of the paper leaves a line."""
        task, began = self._tasks.pop()
        self._rich.remove_task(task)
        if finished and len(self._tasks) == 1:
            line = f"  {section.description}, {time.monotonic() - began:.1f} s"
            self._rich.console.print(line, style="dim", markup=False, highlight=False)

    def close(self) -> None:
        """Gives the terminal back."""
        self._rich.stop()


def make_progress(shown: bool) -> Progress:
    """Bars where standard error is a terminal, else lines; nothing when not ``shown``."""
    if not shown:
        return Progress()
    return Bars() if sys.stderr.isatty() else Lines(sys.stderr)
