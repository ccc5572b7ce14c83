"""One seed's file of measurements: a line each, appended the moment it is known."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from .folder import write_all, writing
from .records import LOADERS, SCHEMA, Row, RunError, identity


class Log:
    """The rows of one seed that stand on disk; a context manager where it is to be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Row] = {}
        self.complete = False
        self._descriptor: int | None = None
        self._whole = self._read()

    @classmethod
    def of(cls, folder: Path, seed: int) -> Log:
        """The log of ``seed`` in a run folder; empty when there is no such file.

        Raises:
            RunError: when a line other than a torn last one is broken, or is of a later schema.
        """
        return cls(folder / f"seed{seed}.jsonl")

    def find(self, name: str, point: dict[str, Any]) -> Row | None:
        """The row of a measurement that stands, or None."""
        return self.rows.get(identity(name, point))

    def append(self, row: Row) -> Row:
        """Writes the row as one line.

        Raises:
            RunError: when the disk is full or the file cannot be written; earlier lines stay.
        """
        self._append(row.to_line())
        self.rows[identity(row.name, row.point)] = row
        return row

    def finish(self) -> None:
        """Writes the line that says that this seed is complete."""
        self._append(json.dumps({"schema": SCHEMA, "complete": True}, separators=(",", ":")))
        self.sync()
        self.complete = True

    def sync(self) -> None:
        """Has the disk hold every line, so that no checkpoint can outlive the lines before it."""
        if self._descriptor is not None:
            with writing(self.path.parent):
                os.fsync(self._descriptor)

    def __enter__(self) -> Log:
        with writing(self.path.parent):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o644)
            os.ftruncate(self._descriptor, self._whole)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _append(self, line: str) -> None:
        if self._descriptor is None:
            raise RuntimeError(f"{self.path} is not open for writing.")
        with writing(self.path.parent):
            size = os.fstat(self._descriptor).st_size
            try:
                write_all(self._descriptor, line.encode() + b"\n")
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, size)
                raise

    def _read(self) -> int:
        """Reads the lines; returns the size of the whole ones, as a kill may tear the last."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise RunError(f"{self.path} cannot be read: {error.strerror}.") from error
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].split(b"\n")[:-1], start=1):
            self._read_line(number, line)
        return whole

    def _read_line(self, number: int, line: bytes) -> None:
        try:
            content = json.loads(line)
            schema = content["schema"]
            if isinstance(schema, int) and schema > SCHEMA:
                raise RunError(
                    f"{self.path}, line {number}, was written by a later dlaccel (schema {schema}, "
                    f"this one reads up to {SCHEMA}); nothing was changed."
                )
            if content.get("complete") is True:
                self.complete = True
                return
            row = LOADERS[schema](content)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RunError(
                f"{self.path}, line {number}, is broken; nothing was changed: "
                "restore the file, or remove the folder to start again."
            ) from None
        self.rows[identity(row.name, row.point)] = row
