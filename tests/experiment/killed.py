"""Kills runs of the toy paper at chosen moments; a program of its own, because it forks.

Usage: python killed.py FOLDER. An event is a write, an fsync, a rename, a truncation, a removal or
an optimiser's step. A child process runs the paper and kills itself (SIGKILL) at its n-th event; a
write is first done by half, so that lines and files are torn. Prints one JSON object for each
scenario: the events before each kill and whether the final files equal those of an unbroken run.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

import dlaccel.papers
from dlaccel.experiment import training

dlaccel.papers.__path__.append(str(Path(__file__).parent / "papers"))
from dlaccel.papers import doe2024toy as paper  # noqa: E402

TARGETS = [
    (os, "write"),
    (os, "fsync"),
    (os, "replace"),
    (os, "ftruncate"),
    (os, "unlink"),
    (torch.optim.Adam, "step"),
]


def arm(kill_at: int) -> None:
    """Makes this process kill itself at its n-th event."""
    events = itertools.count(1)

    def guard(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def guarded(*arguments: Any, **words: Any) -> Any:
            if next(events) == kill_at:
                if name == "write":
                    descriptor, data = arguments
                    function(descriptor, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **words)

        return guarded

    for owner, name in TARGETS:
        setattr(owner, name, guard(getattr(owner, name), name))


def survives(out: Path, kill_at: int | None) -> bool:
    """Runs the paper in a child; False when it was killed."""
    child = os.fork()
    if child == 0:
        if kill_at is not None:
            arm(kill_at)
        # 0 s: a checkpoint after every step; 1 s: in a run this short, after the last alone.
        training.CHECKPOINT_SECONDS = float(out.name.partition("-")[2])
        paper.run("smoke", out=out, progress=False)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert status == 0, f"the run failed: {status}"
    return True


def final(out: Path) -> dict[str, Any]:
    """What must not depend on kills: rows without times, claims, names of the files left."""
    rows = {
        path.name: [line.partition(',"seconds":')[0] for line in path.read_text().splitlines()]
        for path in out.glob("seed*.jsonl")
    }
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*"))
    return {"rows": rows, "claims": (out / "claims.json").read_text(), "names": names}


def scenario(out: Path, kills: Iterable[int], expected: dict[str, Any]) -> bool:
    """Runs again and again, killed at the given events, until a run gets through.

    Returns whether any kill fell within a run.
    """
    survived: list[int] = []
    for kill_at in kills:
        if survives(out, kill_at):
            break
        survived.append(kill_at)
    else:
        assert survives(out, None)
    print(json.dumps({"kills": survived, "same": final(out) == expected}), flush=True)
    return bool(survived)


def main(folder: Path) -> None:
    """All scenarios."""
    paper.experiment.FIGURES.clear()
    # What a run imports late would otherwise be imported by each child.
    torch.optim.Adam(torch.nn.Linear(1, 1).parameters())
    importlib.import_module("scipy.special")
    reference = folder / "reference-1"
    assert survives(reference, None)
    expected = final(reference)
    for pause, stride, chained in (("0", 11, 20), ("1", 7, 35)):
        kill_at = 1
        while scenario(folder / f"once{kill_at}-{pause}", [kill_at], expected):
            kill_at += stride
        scenario(folder / f"chain-{pause}", itertools.repeat(chained, 50), expected)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
