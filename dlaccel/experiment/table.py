"""Tables of numbers: aligned text for a terminal, HTML for the report."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class Estimate(float):
    """A mean over seeds that also carries the sample standard deviation ``deviation``."""

    deviation: float

    def __new__(cls, mean: float, deviation: float) -> Estimate:
        """Makes the float ``mean`` with its deviation."""
        self = super().__new__(cls, mean)
        self.deviation = deviation
        return self

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Estimate:
        """Mean and sample standard deviation (divisor n - 1) of at least two numbers."""
        mean = math.fsum(numbers) / len(numbers)
        variance = math.fsum((number - mean) ** 2 for number in numbers) / (len(numbers) - 1)
        return cls(mean, math.sqrt(variance))


def format_value(value: Any) -> str:
    """Text of one cell: four significant digits, two for a deviation, nothing for None."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case Estimate():
            return f"{_digits(value, 4)} ± {_digits(value.deviation, 2)}"
        case float():
            return _digits(value, 4)
        case int():
            return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return str(value)


def _digits(number: float, digits: int) -> str:
    return f"{number:#.{digits}g}".removesuffix(".")


def html_value(value: Any) -> str:
    """HTML of one cell."""
    text = format_value(value)
    return html_number(text) if isinstance(value, float | int) else html.escape(text)


def html_number(text: str) -> str:
    """HTML of a text of numbers: powers of ten and minus signs as they are printed."""
    text = re.sub(r"(?<=\d)e\+?(-?)0*(\d+)", r"·10<sup>\1\2</sup>", html.escape(text))
    return text.replace("-", "−")


@dataclass(frozen=True)
class Table:
    """Columns and rows; ``print(table)`` aligns it, ``to_html()`` sets it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[Any]:
        """The values of one column; ValueError when there is none of that name."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def _is_numeric(self, place: int) -> bool:
        return all(isinstance(row[place], int | float | None) for row in self.rows)

    def __str__(self) -> str:
        cells = [self.columns, *(tuple(format_value(value) for value in row) for row in self.rows)]
        widths = [max(len(line[place]) for line in cells) for place in range(len(self.columns))]
        align = [
            str.rjust if self._is_numeric(place) else str.ljust for place in range(len(widths))
        ]
        lines = [
            "  ".join(
                pad(cell, width) for pad, cell, width in zip(align, line, widths, strict=True)
            )
            for line in cells
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(line.rstrip() for line in lines)

    def to_markdown(self) -> str:
        """A table of Markdown."""
        lines = [self.columns, ("---",) * len(self.columns)]
        lines += [tuple(format_value(value) for value in row) for row in self.rows]
        cells = ((cell.replace("|", "\\|") for cell in line) for line in lines)
        return "\n".join("| " + " | ".join(line) + " |" for line in cells)

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self) -> str:
        """An HTML ``table`` element; numeric columns carry the class ``number``."""
        kind = [
            ' class="number"' if self._is_numeric(place) else ""
            for place in range(len(self.columns))
        ]
        head = "".join(
            f"<th{k}>{html.escape(column.replace('_', ' '))}</th>"
            for k, column in zip(kind, self.columns, strict=True)
        )
        body = "\n".join(
            "<tr>"
            + "".join(
                f"<td{k}>{html_value(value)}</td>" for k, value in zip(kind, row, strict=True)
            )
            + "</tr>"
            for row in self.rows
        )
        return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
