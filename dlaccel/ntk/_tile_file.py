"""A kernel in a file, written tile by tile at positions, and a sidecar of what is done.

The file is NumPy's ``.npy``. The sidecar holds one line that describes the run and one character
for each tile, set after the tile's bytes are on the disk; a single byte is written whole or not at
all, so a process may be killed at any time and several may write.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .. import _check
from ._evaluation import Span
from ._forms import Outputs

TODO, DONE = b"0", b"1"
LONGEST = 1 << 16  # bytes of the line that describes a run


def sidecar_of(path: Path) -> Path:
    """Where the state of a kernel's file stands."""
    return path.with_name(path.name + ".tiles")


@dataclass(frozen=True)
class Run:
    """What is written where.

    Attributes:
        op: Who asks, for the sentences.
        path: Of the file.
        description: Equal for two calls that write the same.
        shape: Of the kernel.
        outputs: Which kernel it is.
        tiles: Their number.
        dtype: Of the file.
    """

    op: str
    path: Path
    description: Mapping[str, object]
    shape: tuple[int, ...]
    outputs: Outputs
    tiles: int
    dtype: np.dtype[Any]

    @property
    def line(self) -> bytes:
        """The first line of the sidecar."""
        return json.dumps(dict(self.description), sort_keys=True).encode() + b"\n"


@dataclass(eq=False)
class TileFile:
    """An open file and its sidecar.

    Attributes:
        run: What is written.
        data: Descriptor of the file.
        state: Descriptor of the sidecar.
        head: Bytes before the first entry.
    """

    run: Run
    data: int
    state: int
    head: int

    def close(self) -> None:
        """Closes both."""
        os.close(self.data)
        os.close(self.state)

    def pending(self) -> list[int]:
        """The tiles that are not done."""
        marks = os.pread(self.state, self.run.tiles, len(self.run.line))
        return [place for place in range(len(marks)) if marks[place : place + 1] != DONE]

    def write(self, rows: Span, columns: Span, tile: Tensor) -> None:
        """Writes a tile at its place."""
        first = self.run.outputs == "block_diagonal"
        kernels = self.run.shape[0] if first else 1
        samples, others = self.run.shape[first : first + 2]
        values = np.ascontiguousarray(tile.cpu().numpy())
        values = values.reshape(kernels, rows[1] - rows[0], columns[1] - columns[0], -1)
        each = values.shape[-1] * values.itemsize
        for kernel, matrix in enumerate(values):
            for row, entries in enumerate(matrix, rows[0]):
                place = ((kernel * samples + row) * others + columns[0]) * each
                _write_at(self.data, memoryview(entries).cast("B"), self.head + place)

    def finish(self, place: int) -> None:
        """Marks a tile as done, once its bytes are on the disk."""
        os.fsync(self.data)
        _write_at(self.state, memoryview(DONE), len(self.run.line) + place)
        os.fsync(self.state)


def prepare(run: Run) -> None:
    """Makes the file and its sidecar, or sees that those there belong to this run.

    Raises:
        ValueError: They belong to another.
    """
    path, sidecar = run.path, sidecar_of(run.path)
    if not sidecar.exists():
        if path.exists():
            rule = "name a file that is not there or that this run began"
            _check.refuse(run.op, "path", rule, f"{path} without {sidecar.name}", ValueError)
        _replace(sidecar, run.line + TODO * run.tiles)
    _check_sidecar(run)
    if not path.exists():
        if DONE in sidecar.read_bytes()[len(run.line) :]:
            rule = "name the file of the tiles that are done"
            _check.refuse(run.op, "path", rule, f"{sidecar} without {path.name}", ValueError)
        room = path.with_name(path.name + ".new")
        np.lib.format.open_memmap(room, mode="w+", dtype=run.dtype, shape=run.shape)
        os.replace(room, path)


def opened(run: Run) -> TileFile:
    """Opens a prepared file to write.

    Raises:
        ValueError: The file is another run's, or no kernel of this shape.
    """
    _check_sidecar(run)
    whole = np.load(run.path, mmap_mode="r", allow_pickle=False)
    if whole.shape != run.shape or whole.dtype != run.dtype:
        rule = f"hold a kernel {run.shape} of {run.dtype}"
        _check.refuse(run.op, "path", rule, f"{whole.shape} of {whole.dtype}", ValueError)
    head = int(whole.offset)
    data, state = os.open(run.path, os.O_RDWR), os.open(sidecar_of(run.path), os.O_RDWR)
    return TileFile(run, data, state, head)


def unfinished(path: Path) -> tuple[int, int] | None:
    """How many tiles of how many are not done; None without a sidecar."""
    sidecar = sidecar_of(path)
    if not sidecar.exists():
        return None
    marks = sidecar.read_bytes().partition(b"\n")[2]
    return len(marks) - marks.count(DONE), len(marks)


def _check_sidecar(run: Run) -> None:
    sidecar = sidecar_of(run.path)
    with sidecar.open("rb") as file:
        line = file.readline(LONGEST)
    if line == run.line and sidecar.stat().st_size == len(line) + run.tiles:
        return
    try:
        found = json.loads(line)
        odd = [key for key, value in run.description.items() if found.get(key) != value]
    except (ValueError, AttributeError):
        odd = []
    got = f"another run's, which differs in {', '.join(odd)}" if odd else f"no state in {sidecar}"
    _check.refuse(run.op, "path", "be this run's file", got, ValueError)


def _replace(path: Path, content: bytes) -> None:
    room = path.with_name(path.name + ".new")
    with room.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(room, path)


def _write_at(descriptor: int, content: memoryview, place: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, place)
        content, place = content[written:], place + written
