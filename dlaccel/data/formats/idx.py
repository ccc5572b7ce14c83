"""IDX, the format of the MNIST family, gzipped or not: a magic number, sizes, bytes."""

from __future__ import annotations

import gzip
import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import torch

from ..images import Unread, column, numbered
from ..outside import DEFLATE, Bytes, fill, intact, limited, refuse

UNSIGNED_BYTE = 8
GZIP = b"\x1f\x8b"


def idx(images: Path, labels: Path | None = None) -> Unread:
    """A pair of IDX files: images (N, H, W) and labels (N,), both of unsigned bytes.

    Args:
        images: the images file.
        labels: the labels file; None looks beside the images, where ``images-idx3`` reads
            ``labels-idx1``.

    Raises:
        DataError: when a header is foreign, says another size than the file has, or the two
            disagree.
    """
    labels = labels or labels_beside(images)
    named = column(read_array(labels, 1), str(labels), "labels")
    with _opened(images) as stream:
        count = _header(images, stream, 3)[0]
    if count != len(named):
        refuse(labels, f"hold a label for each of {count} images in {images.name}", len(named))

    def pixels() -> torch.Tensor:
        return torch.from_numpy(read_array(images, 3)).unsqueeze(1)

    return Unread(named, numbered(named, str(labels)), pixels, str(images))


def read_array(path: Path, axes: int) -> Bytes:
    """The array of an IDX file of unsigned bytes with that many axes.

    Raises:
        DataError: when the header is foreign or the file holds less or more than it says.
    """
    with _opened(path) as stream:
        shape = _header(path, stream, axes)
        size = math.prod(shape)
        try:
            values = fill(stream, size)
        except EOFError:
            refuse(path, f"hold {size} bytes after its header, as {shape} says", "fewer")
        if stream.read(1):
            refuse(path, f"hold {size} bytes after its header, as {shape} says", "more")
    return values.reshape(shape)


def labels_beside(images: Path) -> Path:
    """The labels file of an images file, packed like it or not.

    Raises:
        DataError: when there is none.
    """
    name = re.sub(r"images([-.])idx3", r"labels\1idx1", images.name).removesuffix(".gz")
    for candidate in (images.with_name(name), images.with_name(f"{name}.gz")):
        if candidate != images and candidate.is_file():
            return candidate
    refuse(images, f"have {name} or {name}.gz beside it", "none")


def _header(path: Path, stream: IO[bytes], axes: int) -> tuple[int, ...]:
    """The sizes, after the file was found large enough for them."""
    start = 4 + 4 * axes
    head = stream.read(start)
    magic = struct.pack(">HBB", 0, UNSIGNED_BYTE, axes)
    if head[:4] != magic:
        rule = f"be an IDX file of unsigned bytes with {axes} axes (it starts with {magic.hex()})"
        refuse(path, rule, head[:4].hex() or "an empty file")
    if len(head) < start:
        refuse(path, f"hold an IDX header of {start} bytes", len(head))
    shape = struct.unpack(f">{axes}I", head[4:])
    size, room = start + math.prod(shape), path.stat().st_size
    if isinstance(stream, gzip.GzipFile):
        if size > room * DEFLATE:
            rule = f"hold {size} bytes when unpacked, as its header {shape} says"
            refuse(path, rule, f"{room} packed ones")
    elif size != room:
        refuse(path, f"hold {size} bytes, as its header {shape} says", room)
    limited(path, size)
    return shape


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The unpacked bytes; whether they are packed is told by the content, not by the name."""
    with intact(path, "IDX file"), open(path, "rb") as raw:
        packed = raw.read(2) == GZIP
        raw.seek(0)
        if not packed:
            yield raw
            return
        with gzip.open(raw) as stream:
            yield cast(IO[bytes], stream)
