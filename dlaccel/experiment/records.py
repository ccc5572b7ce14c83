"""Rows of numbers, as a run writes them and as claims, tables and figures read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from .table import Estimate, Table, format_value

SCHEMA = 1
RESERVED = frozenset({"seed", "name", "seconds"})

Value = float | int | str | bool | None


class RunError(Exception):
    """A run cannot start, go on or be read; the message is one sentence for a person."""


def plain(value: Any, owner: str) -> Value:
    """Returns ``value`` as a Python scalar; NumPy scalars and one-element tensors are unwrapped.

    Raises:
        TypeError: when it is anything but a number, a string or None.
    """
    if hasattr(value, "item") and getattr(value, "size", None) is not None:
        try:
            value = value.item()
        except (RuntimeError, ValueError):
            raise TypeError(f"{owner} must be one number or string, got several.") from None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{owner} must be a number or a string, got {type(value).__name__}.")


def identity(name: str, point: Mapping[str, Value]) -> str:
    """The text that tells one measurement of a seed from another: its name and grid point."""
    return json.dumps([name, dict(point)], sort_keys=True)


@dataclass(frozen=True)
class Row(Mapping[str, Any]):
    """One measurement: a frozen mapping over seed, name, grid point, numbers and seconds, flat.

    ``seconds`` is wall time, the only column that a repeated run does not reproduce bit for bit.
    """

    seed: int
    name: str
    point: Mapping[str, Value]
    numbers: Mapping[str, Value]
    seconds: float
    once: bool = False
    _columns: Mapping[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        twice = sorted(
            set(self.point) & set(self.numbers) | (RESERVED & {*self.point, *self.numbers})
        )
        if twice:
            raise ValueError(f"measurement {self.name!r}: column {twice[0]!r} is given twice.")
        head = {"seed": self.seed, "name": self.name}
        columns = {**head, **self.point, **self.numbers, "seconds": self.seconds}
        object.__setattr__(self, "_columns", columns)

    def __getitem__(self, column: str) -> Any:
        try:
            return self._columns[column]
        except KeyError:
            known = ", ".join(self._columns)
            raise KeyError(f"{self.name!r} has no column {column!r}, only {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __hash__(self) -> int:
        return hash((self.seed, identity(self.name, self.point)))

    def to_line(self) -> str:
        """One line of JSON; floats keep every bit, NaN and infinities are written bare."""
        head: dict[str, Any] = {"schema": SCHEMA, "seed": self.seed, "name": self.name}
        if self.once:
            head["once"] = True
        body = {"point": self.point, "numbers": self.numbers, "seconds": round(self.seconds, 6)}
        return json.dumps(head | body, separators=(",", ":"))


def _row_1(line: Mapping[str, Any]) -> Row:
    for part in ("point", "numbers"):
        for column, value in line[part].items():
            plain(value, column)
    if not isinstance(line["name"], str):
        raise TypeError("name must be a string.")
    once = line.get("once", False) is True
    seed, seconds = int(line["seed"]), float(line["seconds"])
    return Row(seed, line["name"], line["point"], line["numbers"], seconds, once)


# Schema version of a line -> its reader. A later version adds its own here and keeps these.
LOADERS: dict[int, Callable[[Mapping[str, Any]], Row]] = {1: _row_1}


class Records(Sequence[Row]):
    """Rows of a run, of one seed or of a selection, in the order in which they were measured."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._rows = tuple(rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Records: ...
    def __getitem__(self, index: int | slice) -> Row | Records:
        return Records(self._rows[index]) if isinstance(index, slice) else self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        names = ", ".join(self.names())
        return f"Records({len(self)} rows: {names})"

    def names(self) -> list[str]:
        """The measurements' names, in order of first appearance."""
        return list(dict.fromkeys(row.name for row in self))

    def seeds(self) -> list[int]:
        """The seeds that have rows, ascending."""
        return sorted({row.seed for row in self})

    def of_seed(self, seed: int) -> Records:
        """The rows of one seed, together with those that no seed can change (``once``)."""
        return Records(row for row in self if row.seed == seed or row.once)

    def select(self, name: str | None = None, **columns: Value) -> Records:
        """The rows named ``name`` (any name when None) whose columns equal the given values."""
        missing = object()
        return Records(
            row
            for row in self
            if (name is None or row.name == name)
            and all(row.get(column, missing) == value for column, value in columns.items())
        )

    def column(self, name: str) -> list[Any]:
        """One value for each row; KeyError when a row lacks the column."""
        return [row[name] for row in self]

    def group(self, *by: str) -> dict[Any, Records]:
        """Rows by the value of one column or the tuple of several, in order of appearance."""
        groups: dict[Any, list[Row]] = {}
        for row in self:
            key = tuple(row[column] for column in by)
            groups.setdefault(key[0] if len(by) == 1 else key, []).append(row)
        return {key: Records(rows) for key, rows in groups.items()}

    def table(self, name: str, columns: Sequence[str] | None = None) -> Table:
        """One line for each grid point; over several seeds a number is mean and deviation.

        Args:
            name: The measurement's name.
            columns: Columns to show; by default the grid point's and the numbers'.

        Raises:
            KeyError: when there is no such measurement, or a column that no row has.
        """
        rows = self.select(name)
        if not rows:
            raise KeyError(
                f"no measurement {name!r}; there are: {', '.join(self.names()) or 'none'}"
            )
        known = dict.fromkeys(column for row in rows for column in row)
        shown = tuple(columns or (column for column in known if column not in RESERVED))
        unknown = [column for column in shown if column not in known]
        if unknown:
            raise KeyError(f"{name!r} has no column {unknown[0]!r}, only {', '.join(known)}")
        points: dict[str, list[Row]] = {}
        for row in rows:
            points.setdefault(identity(row.name, row.point), []).append(row)
        lines = [
            tuple(_pool([row.get(column) for row in at]) for column in shown)
            for at in points.values()
        ]
        return Table(shown, tuple(lines))


def _pool(values: Sequence[Value]) -> Any:
    """One cell from the values of several seeds."""
    if all(value == values[0] for value in values):
        return values[0]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == len(values):
        return Estimate.of(numbers)
    return ", ".join(dict.fromkeys(format_value(value) for value in values))
