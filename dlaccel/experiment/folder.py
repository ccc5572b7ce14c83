"""A run's folder on disk: atomic writes, one writer at a time, and clear refusals."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .records import SCHEMA, RunError

try:
    import fcntl
except ImportError:  # Windows has no flock; there nothing keeps a second writer out.
    fcntl = None  # type: ignore[assignment]

PARTIAL = ".partial"

# Parts of run.json and their types.
HEADER = {
    "key": str,
    "profile": str,
    "config": dict,
    "seeds": int,
    "started": str,
    "device": str,
    "device_name": str,
    "threads": int,
    "versions": dict,
}
# Parts of run.json that may change when a run is resumed; each change is kept under "resumed".
ENVIRONMENT = ("device_name", "threads", "versions", "commit")


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns a failed write into one sentence.

    Raises:
        RunError: for any OSError inside.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"The disk is full: {folder} could not be written to; what it holds stays, "
                "and the same command resumes the run once there is room."
            ) from error
        raise RunError(f"{folder} cannot be written to: {error.strerror or error}.") from error


def write_all(descriptor: int, data: bytes) -> None:
    """Writes every byte; a full disk may take only the first few of them at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_atomic(path: Path, data: bytes) -> None:
    """Replaces ``path`` by ``data``: at every moment it is the old file or the new one, whole.

    Raises:
        RunError: when the disk is full or the folder cannot be written to.
    """
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=path.name, suffix=PARTIAL, dir=path.parent)
        try:
            try:
                os.chmod(name, 0o644)
                write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise


def write_json(path: Path, content: Any) -> None:
    """Writes ``content`` as indented JSON, atomically."""
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())


def read_header(folder: Path) -> dict[str, Any]:
    """The content of ``run.json``.

    Raises:
        RunError: when the folder holds no run, a broken one, or one of a later schema.
    """
    path = folder / "run.json"
    try:
        header: dict[str, Any] = json.loads(path.read_bytes())
        schema = int(header["schema"])
        if schema <= SCHEMA and not all(isinstance(header[k], kind) for k, kind in HEADER.items()):
            raise TypeError
    except FileNotFoundError:
        raise RunError(f"{folder} holds no run: there is no run.json in it.") from None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError):
        raise RunError(
            f"{path} is broken: it is not the JSON that dlaccel wrote; nothing was changed."
        ) from None
    if schema > SCHEMA:
        raise RunError(
            f"{path} was written by a later dlaccel (schema {schema}, this one reads up to "
            f"{SCHEMA}); nothing was changed."
        )
    return header


class Folder:
    """The one writer of a run folder; a context manager that holds the lock.

    Raises:
        RunError: when the folder cannot be made or written, holds something else, or is in use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def __enter__(self) -> Folder:
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            strange = self._strange()
            if strange:
                raise RunError(
                    f"{self.path} holds {strange} but no run.json, so it is not the folder of a "
                    "run; nothing was changed."
                )
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._take_lock()
            with writing(self.path):
                for left in self.path.rglob("*" + PARTIAL):
                    left.unlink()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _strange(self) -> str | None:
        """The name of a file that a run killed before its first run.json cannot have left."""
        names = sorted(entry.name for entry in self.path.iterdir())
        if "run.json" in names:
            return None
        ours = [name for name in names if name == "lock" or name.endswith(PARTIAL)]
        return next((name for name in names if name not in ours), None)

    def _take_lock(self) -> None:
        if fcntl is None or self._lock is None:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{self.path} is in use by another dlaccel process.") from None

    def claim(self, header: dict[str, Any]) -> dict[str, Any]:
        """Makes this the folder of the run that ``header`` describes, or checks that it already is.

        Args:
            header: Content of ``run.json``; its key, profile, config, device must be what stands.

        Returns:
            The header that holds: the first start's, with as many seeds as were ever asked for.

        Raises:
            RunError: when the folder holds another run; nothing is changed then.
        """
        path = self.path / "run.json"
        header = json.loads(json.dumps(header, default=str))
        if not path.exists():
            write_json(path, header)
            return header
        standing = read_header(self.path)
        for difference in _differences(standing, header):
            raise RunError(
                f"{self.path} holds a run with {difference} asked for; "
                "give another --out, or remove the folder to start again."
            )
        held = dict(standing, seeds=max(standing["seeds"], header["seeds"]))
        latest = [standing, *standing.get("resumed", [])][-1]
        if any(latest.get(field) != header[field] for field in ENVIRONMENT):
            now = {field: header[field] for field in ("started", *ENVIRONMENT)}
            held["resumed"] = [*standing.get("resumed", []), now]
        if held != standing:
            write_json(path, held)
        return held


def _differences(standing: dict[str, Any], asked: dict[str, Any]) -> Iterator[str]:
    for field in ("key", "profile", "device"):
        if standing.get(field) != asked[field]:
            yield f"{field} {standing.get(field)}, not the {asked[field]}"
    old, new = standing.get("config", {}), asked["config"]
    for field in old | new:
        if old.get(field) != new.get(field) or (field in old) != (field in new):
            was = json.dumps(old[field]) if field in old else "no value"
            now = json.dumps(new[field]) if field in new else "none"
            yield f"{field} = {was}, not the {now}"
