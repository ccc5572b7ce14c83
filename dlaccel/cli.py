"""The command line: ``dlaccel list | run | report | measure | data | doctor``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

USAGE = """\
usage: dlaccel COMMAND

  list                   the reproduced papers
  run KEY [options]      run a paper, or go on with a run that was broken off
  report KEY | FOLDER    draw the report of a run again, finished or not
  measure collapse ...   class statistics of every layer of a network of yours
  data [fetch NAME]      the sets of images that are found, and how to get the others
  doctor                 what was built, what was picked, and what is missing

KEY is a paper's key or its arXiv number; dlaccel run KEY --help shows its options."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status.

    0: done; 1: a claim failed under ``--strict``; 2: refused or broken off, said in one sentence;
    130: interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    match words:
        case [] | ["-h" | "--help" | "help", *_]:
            print(USAGE)
            return 0
        case ["--version"]:
            from dlaccel import __version__

            print(__version__)
            return 0
        case [command, *rest] if command in COMMANDS:
            try:
                return COMMANDS[command](rest)
            except KeyboardInterrupt:
                return 130
    return _usage(f"no command {words[0]!r}; there are: {', '.join(COMMANDS)}.")


def _list(words: Sequence[str]) -> int:
    from dlaccel.papers import entries

    if words:
        return _usage(f"list takes no arguments, got {words[0]!r}.")
    found = entries()
    width = max((len(entry.key) for entry in found), default=0)
    for entry in found:
        print(f"{entry.key:{width}}  {entry.arxiv}  {entry.year}  {entry.title}")
    return 0


def _doctor(words: Sequence[str]) -> int:
    from dlaccel._core import report

    if words:
        return _usage(f"doctor takes no arguments, got {words[0]!r}.")
    found = report()
    width = max((len(name) for name, _ in found.lines), default=0)
    for name, text in found.lines:
        print(f"{name:{width}}  {text}")
    for what, remedy in found.missing:
        print(f"missing: {what}; {remedy}")
    return 0


def _experiment(words: Sequence[str], command: str) -> int:
    from dlaccel.data import DataError
    from dlaccel.experiment import RunError
    from dlaccel.experiment import command as commands
    from dlaccel.papers import find

    match words:
        case ["-h" | "--help", *_]:
            print(USAGE)
            return 0
        case [key, *rest] if not key.startswith("-"):
            try:
                verb = commands.run if command == "run" else commands.report
                return verb(find, key, rest)
            except (RunError, DataError) as error:
                return commands.refuse(error)
    return _usage(f"{command} needs the key or arXiv number of a paper first.")


def _data(words: Sequence[str]) -> int:
    from dlaccel.data import command as data
    from dlaccel.experiment import RunError
    from dlaccel.experiment import command as commands
    from dlaccel.experiment.environment import require_extra

    try:
        require_extra()
    except RunError as error:
        return commands.refuse(error)
    return data.run(words)


def _measure(words: Sequence[str]) -> int:
    from dlaccel.measure.command import measure

    return measure(words)


def _usage(problem: str) -> int:
    print(f"dlaccel: {problem}", file=sys.stderr)
    return 2


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "list": _list,
    "run": lambda words: _experiment(words, "run"),
    "report": lambda words: _experiment(words, "report"),
    "measure": _measure,
    "data": _data,
    "doctor": _doctor,
}

if __name__ == "__main__":
    sys.exit(main())
