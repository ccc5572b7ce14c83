"""Rows taken some at a time, so that what is computed of them stays in cache."""

from __future__ import annotations

from collections.abc import Iterator

TILE = 1 << 23
"""Bytes of a tile: a processor's last cache holds most of it."""


def tiles(rows: int, bytes_each: int) -> Iterator[slice]:
    """Nearly equal spans of the rows, of ``TILE`` bytes at most; where that is less, of 64 rows."""
    most = max(TILE // max(bytes_each, 1), 64)
    count = -(-rows // most)
    for i in range(count):
        yield slice(rows * i // count, rows * (i + 1) // count)
