"""Files below one path, be it a folder, a zip or a tar: listed, then read into memory one by one.

Nothing is extracted, so that a name can point nowhere; links inside archives are not followed.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

from .outside import DEFLATE, FILE_LIMIT, fill, intact, limited, refuse

TAR_LIMIT = 2**31
"""Bytes that a tar may unpack to; the largest that is read, CIFAR's, holds 186 MB."""

DEPTH = 6
"""Folders below the root that are looked into."""


@dataclass(frozen=True)
class Tree:
    """What lies below ``path``: sizes by name, the parts of a name joined by ``/``, sorted."""

    path: Path
    sizes: Mapping[str, int]
    kind: Kind

    def read(self, names: Iterable[str], limit: int = FILE_LIMIT) -> Iterator[tuple[str, bytes]]:
        """Each named file, below the tree's path, with its bytes, in the order of the names.

        Raises:
            DataError: when one is larger than ``limit`` bytes, or damaged.
        """
        wanted = list(names)
        for name in wanted:
            limited(f"{self.path}/{name}", self.sizes[name], limit)
        with intact(self.path, self.kind.name):
            for name, data in self.kind.read(self.path, wanted):
                yield f"{self.path}/{name}", data

    def one(self, name: str, limit: int = FILE_LIMIT) -> bytes:
        """The bytes of one file."""
        return next(self.read([name], limit))[1]


def open_tree(path: Path) -> Tree:
    """Lists what lies below a folder, a zip, or a tar (gzipped or not).

    Raises:
        DataError: when it is none of them, or damaged.
    """
    kind = _kind(path)
    with intact(path, kind.name):
        sizes = {name: size for name, size in kind.sizes(path) if not _hidden(name)}
    return Tree(path, dict(sorted(sizes.items())), kind)


class Kind(Protocol):
    """How one kind of tree is listed and read."""

    name: str

    def sizes(self, path: Path) -> Iterator[tuple[str, int]]: ...  # noqa: D102
    def read(self, path: Path, names: list[str]) -> Iterator[tuple[str, bytes]]: ...  # noqa: D102


class _Folder:
    name = "folder"

    def sizes(self, path: Path) -> Iterator[tuple[str, int]]:
        for place, folders, files in os.walk(path, followlinks=True):
            below = Path(place).relative_to(path)
            if len(below.parts) >= DEPTH:
                folders.clear()
            for name in files:
                yield (below / name).as_posix(), os.stat(os.path.join(place, name)).st_size

    def read(self, path: Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
        for name in names:
            yield name, (path / name).read_bytes()


class _Zip:
    name = "zip"

    def sizes(self, path: Path) -> Iterator[tuple[str, int]]:
        room = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    check_member(path, room, member)
                    yield member.filename, member.file_size

    def read(self, path: Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                with archive.open(name) as stream:
                    yield name, stream.read()


class _Tar:
    name = "tar"

    def sizes(self, path: Path) -> Iterator[tuple[str, int]]:
        for _, member in self._members(path):
            yield member.name, member.size

    def read(self, path: Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
        wanted, found = set(names), {}
        for archive, member in self._members(path):
            if member.name in wanted:
                stream = archive.extractfile(member)
                assert stream is not None  # it is a plain file
                found[member.name] = fill(stream, member.size).tobytes()
        for name in names:
            yield name, found[name]

    def _members(self, path: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        opened = gzip.open if _starts(path, b"\x1f\x8b") else open
        with opened(path, "rb") as stream:
            counted = _Counted(path, cast(IO[bytes], stream))
            with tarfile.open(fileobj=counted, mode="r|") as archive:
                for member in archive:
                    if member.isreg():
                        yield archive, member


class _Counted(io.RawIOBase):
    """A stream that refuses to give more than a tar may hold."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path, self.stream, self.given = path, stream, 0

    def read(self, size: int = -1) -> bytes:
        chunk = self.stream.read(size)
        self.given += len(chunk)
        limited(self.path, self.given, TAR_LIMIT)
        return chunk


def check_member(path: Path, room: int, member: zipfile.ZipInfo) -> None:
    """A member of a zip of ``room`` bytes can be as large as it says, and is not locked."""
    if member.flag_bits & 1:
        refuse(f"{path}/{member.filename}", "be readable without a password", "an encrypted one")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        rule, got = "be stored or packed by deflate", f"method {member.compress_type}"
        refuse(f"{path}/{member.filename}", rule, got)
    packed = min(member.compress_size, room)
    most = packed * (DEFLATE if member.compress_type == zipfile.ZIP_DEFLATED else 1)
    if member.file_size > most:
        rule = f"unpack to at most {most} bytes, as {packed} packed ones can"
        refuse(f"{path}/{member.filename}", rule, member.file_size)


def _kind(path: Path) -> Kind:
    if path.is_dir():
        return _Folder()
    if zipfile.is_zipfile(path):
        return _Zip()
    if _starts(path, b"\x1f\x8b") or _starts(path, b"ustar", 257):
        return _Tar()
    refuse(path, "be a folder, a zip or a tar", "another file")


def _starts(path: Path, magic: bytes, at: int = 0) -> bool:
    with intact(path, "file"), open(path, "rb") as stream:
        stream.seek(at)
        return stream.read(len(magic)) == magic


def _hidden(name: str) -> bool:
    parts = name.removeprefix("./").split("/")
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts)
