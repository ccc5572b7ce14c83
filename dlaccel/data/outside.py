"""Bytes from outside: nothing is believed, nothing is written, and a refusal is one sentence.

``dlaccel.data: <file> must <rule>, got <value>.``
"""

from __future__ import annotations

import importlib.util
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from gzip import BadGzipFile
from typing import IO, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .. import _check

Array = NDArray[Any]
Bytes = NDArray[np.uint8]

DEFLATE = 1032
"""Deflate packs at most 1032 bytes into one (258 bytes in two bits), so a larger claim is a lie."""

ARRAY_LIMIT = 2**33
"""Bytes of one array, and of all the images of a set when decoded."""

FILE_LIMIT = 2**26
"""Bytes of one encoded image or text."""

DAMAGED = (
    *(zlib.error, BadGzipFile, zipfile.BadZipFile, tarfile.TarError, struct.error),
    *(ValueError, LookupError, NotImplementedError),
)
"""What zlib, gzip, zipfile, tarfile and NumPy raise on bytes that make no sense."""


class DataError(ValueError):
    """A file that is missing, foreign, damaged or not what it says, in one sentence."""


class NotFoundError(DataError):
    """No file of a set lies where it was looked for."""


def refuse(source: object, rule: str, got: object) -> NoReturn:
    """Raises the sentence that names the file, the rule and the value."""
    _check.refuse("data", printable(source), rule, printable(got), DataError)


def printable(value: object) -> str:
    """Text that cannot break the line or steer the terminal, for names from outside."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))


def limited(source: object, size: int, limit: int = ARRAY_LIMIT) -> None:
    """``source`` holds at most ``limit`` bytes when unpacked."""
    if size > limit:
        refuse(source, f"unpack to at most {limit} bytes", size)


def need(module: str, package: str) -> None:
    """``module`` can be imported.

    Raises:
        ModuleNotFoundError: naming the package and the remedy.
    """
    if importlib.util.find_spec(module) is None:
        raise ModuleNotFoundError(
            f"dlaccel.data: {package} is not installed: pip install dlaccel[papers]"
        )


@contextmanager
def intact(source: object, kind: str) -> Iterator[None]:
    """Says in one sentence what reading a damaged file raises in a dozen ways."""
    try:
        yield
    except DataError:
        raise
    except EOFError:
        refuse(source, f"be a whole {kind}", "one that ends too soon")
    except DAMAGED:
        refuse(source, f"be a whole {kind}", "damaged data")
    except OSError as error:
        refuse(source, "be a readable file", error.strerror or str(error))


def fill(stream: IO[bytes], size: int) -> Bytes:
    """Reads exactly ``size`` bytes into an array of its own.

    Raises:
        EOFError: when the stream ends before.
    """
    buffer = np.empty(size, np.uint8)
    view, done = buffer.data, 0
    while done < size:
        chunk = stream.read(min(size - done, 2**24))
        if not chunk:
            raise EOFError
        view[done : done + len(chunk)] = chunk
        done += len(chunk)
    return buffer
