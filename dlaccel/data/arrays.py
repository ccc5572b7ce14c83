"""The arrays of an npz file, read one by one and only after their headers were found true."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .outside import Array, intact, limited, refuse
from .tree import check_member

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Arrays:
    """Arrays by name.

    Raises:
        DataError: when the file is damaged, an array holds objects, or a header says another size
            than the member has.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with intact(path, "npz file"), zipfile.ZipFile(path) as archive:
            members = archive.namelist()
        self.names = tuple(name[:-4] for name in members if name.endswith(".npy"))

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> Array:
        if name not in self.names:
            refuse(self.path, f"hold an array {name!r}", self.listing())
        with intact(self.path, "npz file"), zipfile.ZipFile(self.path) as archive:
            member = archive.getinfo(f"{name}.npy")
            check_member(self.path, self.path.stat().st_size, member)
            self._check_header(archive, member)
            limited(f"{name} of {self.path}", member.file_size)
            with archive.open(member) as stream:
                array: Array = np.lib.format.read_array(stream, allow_pickle=False)
                return array

    def first(self, names: Iterable[str]) -> str | None:
        """The first of these names that the file holds."""
        return next((name for name in names if name in self.names), None)

    def listing(self) -> str:
        """What the file holds, for a refusal."""
        more = ", ..." if len(self.names) > 12 else ""
        return f"only {', '.join(self.names[:12])}{more}" if self.names else "no array"

    def _check_header(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        """The header is of one of NumPy's first two versions and says the member's own size."""
        source = f"{member.filename} of {self.path}"
        try:
            with archive.open(member) as stream:
                shape, _, dtype = HEADERS[np.lib.format.read_magic(stream)](stream)
                start = stream.tell()
        except (ValueError, KeyError, TypeError):
            refuse(source, "start with a header of NumPy's", "another one")
        if dtype.hasobject:
            refuse(source, "hold numbers or text", "Python objects")
        size = start + math.prod(shape) * dtype.itemsize
        if size != member.file_size or any(length < 0 for length in shape):
            rule = f"hold {size} bytes, as its header ({dtype}, {shape}) says"
            refuse(source, rule, member.file_size)
