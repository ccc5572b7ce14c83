"""Pickles of plain data and uint8 arrays, read without calling anything that a pickle names.

CIFAR's python archives are pickles, which may otherwise run any code. Here only operations that
build data pass, and the few names that an array's pickle needs stand for classes of this file.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from typing import Any, NoReturn

import numpy as np

from .outside import Bytes, refuse

OPERATIONS = {
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK"),
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1"),
    *(
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINBYTES",
        "SHORT_BINBYTES",
    ),
    *("EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "LIST", "APPEND"),
    *("APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1"),
    *("TUPLE2", "TUPLE3", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "PUT", "BINPUT", "LONG_BINPUT"),
}
MEMO = {"PUT", "BINPUT", "LONG_BINPUT"}


class _DType:
    """Stands for ``numpy.dtype``; only unsigned bytes are known."""

    def __init__(self, code: object, *_: object) -> None:
        if code not in ("u1", b"u1"):
            raise _Foreign(f"an array of {code!r}")

    def __setstate__(self, state: object) -> None:
        pass  # byte order and the like, of which bytes have none


class _Array:
    """Stands for an array: first empty, then given its shape and bytes."""

    values: Bytes

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, columns_first, raw = state
        if isinstance(raw, str):  # written by Python 2, read as latin-1
            raw = raw.encode("latin-1")
        if not isinstance(dtype, _DType) or len(raw) != math.prod(shape):
            raise _Foreign(f"{len(raw)} bytes for an array of shape {tuple(shape)}")
        flat = np.frombuffer(bytearray(raw), np.uint8)
        self.values = flat.reshape(shape, order="F" if columns_first else "C")


class _Encoder:
    """Stands for ``_codecs.encode``, by which Python 3 writes bytes in an old protocol."""

    __slots__ = ()

    def __call__(self, text: str, codec: str) -> bytes:
        if codec != "latin1":
            raise _Foreign(f"the codec {codec!r}")
        return text.encode("latin1")

    def __setstate__(self, state: object) -> None:
        raise _Foreign("a state for a codec")


ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _Encoder(),
}


class _Foreign(Exception):
    """What the pickle holds that it must not."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise _Foreign(f"{module}.{name}") from None

    def persistent_load(self, key: Any) -> NoReturn:
        raise _Foreign("a persistent name")


def unpickle(source: str, data: bytes) -> dict[str, Any]:
    """The dictionary that a pickle holds, its keys as text and its arrays as uint8 arrays.

    Raises:
        DataError: when it holds anything but plain data and uint8 arrays, or is damaged.
    """
    rule = "hold a pickle of plain data and uint8 arrays alone"
    try:
        _scan(data)
        found = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except _Foreign as foreign:
        refuse(source, rule, foreign)
    except Exception:  # a damaged pickle may raise anything; nothing foreign has run
        refuse(source, rule, "a damaged one")
    if not isinstance(found, dict):
        refuse(source, "hold a pickled dictionary", type(found).__name__)
    return {_text(key): _plain(value) for key, value in found.items()}


def _scan(data: bytes) -> None:
    """Refuses other operations, and places in the memo that make the unpickler grow at will."""
    for operation, argument, _ in pickletools.genops(data):
        if operation.name not in OPERATIONS:
            raise _Foreign(f"the operation {operation.name}")
        if operation.name in MEMO and not 0 <= int(argument or 0) <= len(data):
            raise _Foreign(f"the memo's place {argument}")


def _plain(value: Any) -> Any:
    return getattr(value, "values", None) if isinstance(value, _Array) else value


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
