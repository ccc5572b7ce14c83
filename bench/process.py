"""Processes of our own, where a measurement needs a fresh or a differently set one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import dlaccel

_ROOT = Path(__file__).parent.parent


class Failed(RuntimeError):
    """The process ended badly; the text is the last line of what it said."""


def python(
    arguments: Sequence[str], *, given: str = "", settings: Mapping[str, str] | None = None
) -> str:
    """Runs this interpreter and returns the last line it printed.

    It imports the dlaccel that this process imported; ``settings`` are variables of its
    environment.
    """
    places = (Path(dlaccel.__file__).parent.parent, _ROOT)
    environment = {
        **os.environ,
        **(settings or {}),
        "PYTHONPATH": os.pathsep.join(map(str, places)),
    }
    done = subprocess.run(
        [sys.executable, "-P", *arguments],
        input=given, capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise Failed(said[-1] if said else f"exit status {done.returncode}")
    return done.stdout.splitlines()[-1]
