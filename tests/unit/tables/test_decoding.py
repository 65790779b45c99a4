"""CSV and Parquet give the same numbers, and what is no table of numbers is refused in plain words."""

from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from commons.errors import InvalidInput
from commons.protocol.messages import LARGEST_VALUE
from commons.tables import decoding
from tests.unit.tables.tables import write_csv, write_parquet

MOST_VALUES = 10**6


def decode(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    columns, blocks = decoding.decode(path, MOST_VALUES)
    return columns, np.concatenate(list(blocks))


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "CSV_BLOCK_VALUES", 1000)
        patch.setattr(decoding, "PARQUET_BLOCK_VALUES", 1000)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


TABLES = st.tuples(st.integers(1, 40), st.integers(1, 6)).flatmap(
    lambda shape: arrays.arrays(np.float64, shape, elements=st.floats(-LARGEST_VALUE, LARGEST_VALUE))
)


@settings(deadline=None)
@given(TABLES, st.sampled_from(",;\t"), st.integers(1, 50), st.booleans())
def test_csv_and_parquet_give_every_number_back(
    folder: Path, table: np.ndarray, separator: str, row_group_size: int, byte_order_mark: bool
) -> None:
    columns = [f"x{index}" for index in range(table.shape[1])]
    as_csv = write_csv(table, columns, folder / "table.csv", separator)
    if byte_order_mark:
        as_csv.write_bytes(b"\xef\xbb\xbf" + as_csv.read_bytes())
    as_parquet = write_parquet(table, columns, folder / "table.parquet", row_group_size)
    for path in (as_csv, as_parquet):
        found_columns, found = decode(path)
        assert found_columns == tuple(columns)
        np.testing.assert_array_equal(found, table)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2_001, 50), (5_000, 2), (3, 1_000)])
@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_rows_keep_their_order_over_blocks(folder: Path, rows: int, columns: int, write: Any) -> None:
    table = np.random.default_rng(rows).normal(size=(rows, columns))
    names = [f"x{index}" for index in range(columns)]
    found_columns, blocks = decoding.decode(write(table, names, folder / "table"), MOST_VALUES)
    found = list(blocks)
    assert found_columns == tuple(names)
    assert max(block.size for block in found) <= max(1000, columns)
    np.testing.assert_array_equal(np.concatenate(found), table)


def test_bad_number_is_found_beyond_the_first_block(folder: Path) -> None:
    path = write_csv(np.ones((510, 2)), ["a", "b"], folder / "table.csv")
    with path.open("a") as file:
        file.write("1,nan\n")
    with pytest.raises(InvalidInput, match="file: line 512, column 'b': 'nan' is no number"):
        decode(path)
    table = np.ones((511, 2))
    table[510, 1] = np.nan
    with pytest.raises(InvalidInput, match="file: row 511, column 'b': NaN is no number"):
        decode(write_parquet(table, ["a", "b"], folder / "table.parquet"))


def test_quoted_header_may_hold_the_separator(folder: Path) -> None:
    path = folder / "quoted.csv"
    path.write_text('"weight, kg","said ""so"""\n70,1\n')
    assert decode(path)[0] == ("weight, kg", 'said "so"')


def test_decimal_comma_is_refused_with_the_way_to_write_it(folder: Path) -> None:
    path = folder / "commas.csv"
    path.write_text("a;b\n1,5;2\n")
    with pytest.raises(InvalidInput, match="line 2, column 'a': '1,5' is no number: write decimals with a point"):
        decode(path)


@pytest.mark.parametrize("compress", [gzip.compress, lambda content: b"\x78\x9c" + content])
def test_compressed_csv_is_refused(folder: Path, compress: Any) -> None:
    path = folder / "rows.csv.gz"
    path.write_bytes(compress(b"a,b\n" + b"1,2\n" * 1000))
    with pytest.raises(InvalidInput, match="this is neither CSV nor Parquet"):
        decode(path)


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([1, 2], dtype=pl.Int8),
        pl.Series([1, 2], dtype=pl.UInt64),
        pl.Series([1, 2], dtype=pl.Float32),
        pl.Series([Decimal("1.0"), Decimal("2.0")]),
    ],
    ids=lambda values: str(values.dtype),
)
def test_parquet_numbers_of_any_type_are_taken(folder: Path, values: pl.Series) -> None:
    path = folder / "typed.parquet"
    pl.DataFrame({" Age ": values, "b": [3.0, 4.0]}).write_parquet(path)
    columns, table = decode(path)
    assert (columns, table.tolist()) == (("Age", "b"), [[1, 3], [2, 4]])


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"a": ["1", "2"], "b": [1, 2]}, "column 'a' has no numbers: its type is String"),
        ({"a": [True, False]}, "column 'a' has no numbers: its type is Boolean"),
        ({"a": [[1.0], [2.0]]}, "column 'a' has no numbers: its type is List"),
        ({"a": [1.0, None]}, "row 2, column 'a': a number is missing"),
        ({"a": [1.0, float("nan")]}, "row 2, column 'a': NaN is no number"),
        ({"a": [float("-inf"), 1.0]}, "row 1, column 'a': -inf is beyond 1e\\+15"),
        ({"a": [1e200, 1.0]}, "row 1, column 'a': 1e\\+200 is beyond 1e\\+15"),
        ({"a": [2**63, 1]}, "row 1, column 'a': 9.22337e\\+18 is beyond 1e\\+15"),
        ({"a": [1.0], "A": [1.0]}, "the header names columns twice: a"),
        ({"a": [1.0], "": [1.0]}, "column 2 of the header has no name"),
        ({"a\nb": [1.0]}, "a column's name has control characters"),
        ({f"x{index}": [1.0] for index in range(1001)}, "the header has 1001 columns, more than 1000"),
        ({"a": pl.Series([], dtype=pl.Float64)}, "the table has no rows"),
        ({}, "the table has no rows"),
    ],
)
def test_parquet_that_is_no_table_of_numbers_is_refused(folder: Path, table: dict[str, Any], words: str) -> None:
    path = folder / "bad.parquet"
    pl.DataFrame(table).write_parquet(path)
    with pytest.raises(InvalidInput, match=f"file: {words}"):
        decode(path)


def test_parquet_with_more_numbers_than_allowed_is_refused_before_it_is_decoded(folder: Path) -> None:
    path = folder / "many.parquet"
    pl.DataFrame({"a": pl.repeat(1.0, MOST_VALUES // 2 + 1, eager=True)}).with_columns(b="a").write_parquet(path)
    content = bytearray(path.read_bytes())
    content[4:100] = bytes(96)  # its pages are rubbish: whoever decodes them says something else
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="500001 rows × 2 columns, more than 1000000 numbers"):
        decoding.decode(path, MOST_VALUES)
