"""Rows, their lines of JSON, and what is read out of them."""

from __future__ import annotations

import json
import math

import numpy
import pytest
import torch

from dlaccel.experiment import Records, Row
from dlaccel.experiment.records import LOADERS, SCHEMA, plain
from dlaccel.experiment.table import Estimate, Table, format_value, html_value


def rows() -> Records:
    return Records(
        Row(seed, "error", {"m": m, "kind": kind}, {"value": m + seed / 2}, 0.5)
        for seed in (0, 1)
        for kind in ("relu", "product")
        for m in (1, 2)
    )


def test_row_is_a_flat_frozen_mapping() -> None:
    row = Row(3, "error", {"m": 2}, {"value": 0.5}, 1.25)
    assert dict(row) == {"seed": 3, "name": "error", "m": 2, "value": 0.5, "seconds": 1.25}
    assert row == Row(3, "error", {"m": 2}, {"value": 0.5}, 1.25)
    assert hash(row) == hash(Row(3, "error", {"m": 2}, {"value": 0.5}, 1.25))
    with pytest.raises(TypeError):
        row["m"] = 3  # type: ignore[index]
    with pytest.raises(KeyError, match="'error' has no column 'n', only seed, name, m, value, sec"):
        row["n"]


@pytest.mark.parametrize("column", ["m", "seed", "name", "seconds"])
def test_column_given_twice(column: str) -> None:
    with pytest.raises(ValueError, match=f"measurement 'error': column '{column}' is given twice."):
        Row(0, "error", {"m": 1}, {column: 2}, 0.0)


@pytest.mark.parametrize("value", [0.1, 5e-324, -0.0, math.inf, 2**70, "ε", True, None])
def test_line_keeps_every_bit(value: object) -> None:
    row = Row(1, "x", {"at": value}, {"value": value}, 0.25, once=True)
    line = json.loads(row.to_line())
    back = LOADERS[line["schema"]](line)
    assert back == row
    assert repr(back["value"]) == repr(value)
    assert back.to_line() == row.to_line()


def test_nan_survives_a_line() -> None:
    line = json.loads(Row(1, "x", {}, {"value": math.nan}, 0.0).to_line())
    assert math.isnan(LOADERS[SCHEMA](line)["value"])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (numpy.float64(0.1), 0.1),
        (numpy.int32(3), 3),
        (numpy.bool_(True), True),
        (numpy.str_("a"), "a"),
        (torch.tensor(2.5), 2.5),
        (torch.tensor([4]), 4),
    ],
)
def test_scalars_are_unwrapped(value: object, expected: object) -> None:
    assert plain(value, "x") == expected
    assert type(plain(value, "x")) is type(expected)


def test_other_values_are_refused() -> None:
    with pytest.raises(TypeError, match=r"error: value must be a number or a string, got list\."):
        plain([1], "error: value")
    with pytest.raises(TypeError, match=r"error: value must be one number or string, got several"):
        plain(torch.ones(2), "error: value")


def test_select_column_group() -> None:
    records = rows()
    assert len(records) == 8
    assert records.names() == ["error"]
    assert records.seeds() == [0, 1]
    assert records.select("error", m=2, kind="relu").column("value") == [2, 2.5]
    assert not records.select("other")
    assert not records.select("error", absent=1)
    assert list(records.group("m")) == [1, 2]
    assert list(records.group("kind", "m"))[:2] == [("relu", 1), ("relu", 2)]
    assert all(isinstance(group, Records) for group in records.group("m").values())
    assert records[-1]["m"] == 2
    assert len(records[2:4]) == 2


def test_rows_that_no_seed_changes_belong_to_every_seed() -> None:
    once = Row(0, "exact", {}, {"value": 1}, 0.0, once=True)
    records = Records([once, *rows()])
    assert once in records.of_seed(1)
    assert {row.seed for row in records.of_seed(1).select("error")} == {1}


def test_table_pools_seeds() -> None:
    table = rows().table("error")
    assert table.columns == ("m", "kind", "value")
    assert [row[:2] for row in table.rows] == [(m, k) for k in ("relu", "product") for m in (1, 2)]
    mean = table.rows[0][2]
    assert mean == 1.25  # of 1 and 1.5, whose deviation is sqrt(2 * 0.25^2 / 1)
    assert mean.deviation == pytest.approx(0.25 * math.sqrt(2), rel=1e-15)


def test_table_names_what_is_missing() -> None:
    with pytest.raises(KeyError, match="no measurement 'eror'; there are: error"):
        rows().table("eror")
    with pytest.raises(
        KeyError, match="'error' has no column 'n', only seed, name, m, kind, value"
    ):
        rows().table("error", ("n",))


@pytest.mark.parametrize(
    ("value", "text", "page"),
    [
        (None, "", ""),
        (True, "yes", "yes"),
        (12, "12", "12"),
        (-1048576, "-1,048,576", "−1,048,576"),
        (0.123456, "0.1235", "0.1235"),
        (1234.0, "1234", "1234"),
        (1.5e-7, "1.500e-07", "1.500·10<sup>−7</sup>"),
        (-2e20, "-2.000e+20", "−2.000·10<sup>20</sup>"),
        (math.nan, "nan", "nan"),
        (Estimate(2.0, 0.125), "2.000 ± 0.12", "2.000 ± 0.12"),
        ("<b>1e-07", "<b>1e-07", "&lt;b&gt;1e-07"),
    ],
)
def test_cells(value: object, text: str, page: str) -> None:
    assert format_value(value) == text
    assert html_value(value) == page


def test_table_aligns_and_sets() -> None:
    table = Table(("kind", "big_value"), (("relu", 1.0), ("a<b", 22)))
    assert str(table) == "kind  big_value\n----  ---------\nrelu      1.000\na<b          22"
    assert table.column("kind") == ["relu", "a<b"]
    page = table.to_html()
    assert '<th class="number">big value</th>' in page
    assert "<td>a&lt;b</td>" in page
