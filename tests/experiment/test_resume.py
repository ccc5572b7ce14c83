"""A run killed at any moment resumes to the same numbers, to the last bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

RUN = """
import sys
import dlaccel.papers
dlaccel.papers.__path__.append(sys.argv.pop(1))
from dlaccel.cli import main
sys.exit(main())
"""


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def test_killed_at_many_events(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "killed.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(result["same"] for result in results), results
    # The kills fell within the runs, and the chains were long.
    assert sum(len(result["kills"]) == 1 for result in results) > 30
    assert max(len(result["kills"]) for result in results) >= 8


def test_command_line_killed_from_outside(tmp_path: Path) -> None:
    words = ["run", "2401.99999", "--seeds", "1", "--steps", "1000", "--out"]
    command = [sys.executable, "-c", RUN, str(HERE / "papers"), *words]

    def start(out: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*command, str(tmp_path / out)],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    broken = start("broken")
    log = tmp_path / "broken" / "seed0.jsonl"
    while broken.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") > 40):
        time.sleep(0.01)
    broken.send_signal(signal.SIGKILL)
    broken.communicate()
    assert broken.returncode == -signal.SIGKILL
    torn = log.read_bytes()
    assert b'"complete"' not in torn
    for out in ("broken", "whole"):
        errors = (run := start(out)).communicate()[1]
        assert run.returncode == 0, errors
    texts = [(tmp_path / out / "seed0.jsonl").read_text() for out in ("broken", "whole")]
    assert texts[0].startswith(torn.rpartition(b"\n")[0].decode())
    broken_rows, whole_rows = (
        [line.partition(',"seconds":')[0] for line in text.splitlines()] for text in texts
    )
    assert broken_rows == whole_rows
