"""``dlaccel data``: which sets are there, which are missing, how to get them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from .fetch import REMOTES, fetch, remedy
from .finding import data_folder, find, one_shot_runs
from .outside import DataError, NotFoundError
from .sets import SETS, Set

REFUSED = 2


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """What ``dlaccel data`` takes."""

    folder: Path | None = None
    """Where to look; DLACCEL_DATA when not given."""
    check: bool = False
    """Read every image, so that damage shows."""


@dataclass(frozen=True)
class FetchOptions:
    """What ``dlaccel data fetch`` takes."""

    name: str
    """Which set."""
    folder: Path | None = None
    """Where to put it; DLACCEL_DATA when not given."""


@dataclass(frozen=True)
class Line:
    """One split of a set, or why it cannot be read."""

    name: str
    split: str
    count: int | None
    file: str
    note: str


def run(words: Sequence[str]) -> int:
    """``dlaccel data [fetch NAME]``: returns the exit status."""
    try:
        return _fetch(words[1:]) if words[:1] == ["fetch"] else _list(words)
    except (DataError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return REFUSED


def inventory(folder: Path | None, check: bool = False) -> Iterator[Line]:
    """A line for each split that is found, damaged ones included, and for the one-shot runs."""
    for name, entry in SETS.items():
        for split in entry.sizes if folder or entry.bundled else ():
            try:
                found = find(name, split, folder)
                if check:
                    found.read()
                yield Line(name, split, len(found.labels), found.source, found.note)
            except NotFoundError:
                continue
            except DataError as error:
                yield Line(name, split, None, "", str(error))
    if folder:
        try:
            runs = one_shot_runs(folder)
            note = f"{runs.labels.shape[1]}-way runs of Omniglot"
            yield Line("one_shot_runs", "", len(runs.labels), runs.source, note)
        except NotFoundError:
            pass
        except DataError as error:
            yield Line("one_shot_runs", "", None, "", str(error))


def _list(words: Sequence[str]) -> int:
    import tyro
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    about = "Lists the sets of images that are found; dlaccel data fetch NAME gets one."
    options = tyro.cli(ListOptions, prog="dlaccel data", description=about, args=list(words))
    folder = data_folder(options.folder)
    table = Table("set", "split", "images", "file", "note", box=box.SIMPLE_HEAD)
    whole = set()
    for line in inventory(folder, options.check):
        entry = SETS.get(line.name)
        if entry and line.count == entry.sizes[line.split]:
            whole.add((line.name, line.split))
        count = "damaged" if line.count is None else str(line.count)
        file = _below(folder, line.file)
        table.add_row(*map(Text, (line.name, line.split, count, file, line.note)))
    Console().print(table)
    for name, entry in SETS.items():
        lacking = [split for split in _main(entry) if (name, split) not in whole]
        if lacking:
            how = remedy(name, lacking[0], folder)
            print(f"missing or not whole: {name} ({', '.join(lacking)}); {how}")
    print(f"looked below {folder}" if folder else "no folder: set DLACCEL_DATA or pass --folder")
    return 0


def _main(entry: Set) -> list[str]:
    """The splits without which a set is not whole: Omniglot's small ones are parts of another."""
    return [split for split in entry.sizes if not split.startswith("small")]


def _below(folder: Path | None, file: str) -> str:
    return file.removeprefix(f"{folder}/") if folder else file


def _fetch(words: Sequence[str]) -> int:
    import tyro

    about = f"Downloads a set and checks its hash: {', '.join(REMOTES)}."
    options = tyro.cli(
        Annotated[FetchOptions, tyro.conf.arg(name=""), tyro.conf.PositionalRequiredArgs],
        prog="dlaccel data fetch",
        description=about,
        args=list(words),
    )
    folder = options.folder or data_folder(None)
    if folder is None:
        raise DataError("dlaccel.data: fetch needs a folder: set DLACCEL_DATA or pass --folder.")
    for file in fetch(options.name, folder.expanduser()):
        print(file)
    return 0
