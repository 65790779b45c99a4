"""From the bytes of a CSV or Parquet file to blocks of numbers, holding one block at a time.

The bytes are anybody's. Services do not call this in their own process: see :mod:`commons.tables.isolated`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.exceptions import PolarsError

from commons.errors import InvalidInput
from commons.protocol.messages import LARGEST_VALUE

SEPARATORS = ",;\t"
CSV_BLOCK_VALUES, PARQUET_BLOCK_VALUES = 500_000, 2_000_000
MAX_COLUMNS = 1_000
MAX_HEADER_BYTES = 100_000
MAX_QUOTED = 40
"""Characters of a file that a complaint about it repeats."""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
PARQUET_MAGIC = b"PAR1"
NO_TABLE = "this is neither CSV nor Parquet (a spreadsheet can be saved as CSV)"

Block = npt.NDArray[np.float64]


def decode(path: Path, most_values: int) -> tuple[tuple[str, ...], Iterator[Block]]:
    """Read a table of numbers with named columns.

    Parameters
    ----------
    path : Path
        A CSV file (comma, semicolon or tab; with a header) or a Parquet file; its first bytes say which.
    most_values : int
        How many numbers a Parquet file may have. It says so before anything of it is decoded, and its own size says
        nothing: a kilobyte holds a billion equal numbers.

    Returns
    -------
    tuple of str, iterator of ndarray of shape (rows of the block, columns)
        The columns' names, and the rows in their order. The iterator raises InvalidInput as well, when it gets there.

    Raises
    ------
    InvalidInput
        It is no such table; the text says what is wrong and, where it can, in which line and column.
    """
    with path.open("rb") as file:
        is_parquet = file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
    if is_parquet:
        return _decode_parquet(path, most_values)
    separator, columns = _header(path)
    return columns, _csv_blocks(path, separator, columns)


def _require_columns(columns: Sequence[str]) -> None:
    if len(columns) > MAX_COLUMNS:
        raise InvalidInput(f"the header has {len(columns)} columns, more than {MAX_COLUMNS}", "file")
    if "" in columns:
        raise InvalidInput(f"column {columns.index('') + 1} of the header has no name", "file")
    folded = [column.casefold() for column in columns]
    if twice := sorted({column for column in folded if folded.count(column) > 1}):
        raise InvalidInput(f"the header names columns twice: {', '.join(twice)}", "file")


def _header(path: Path) -> tuple[str, tuple[str, ...]]:
    with path.open("rb") as file:
        first = file.readline(MAX_HEADER_BYTES)
    if not first.strip():
        raise InvalidInput("the file is empty, or its first line is", "file")
    try:
        line = first.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise InvalidInput(f"{NO_TABLE}: its first line is not UTF-8 text", "file") from None
    if len(first) == MAX_HEADER_BYTES or not line.replace("\t", "").isprintable():
        raise InvalidInput(f"{NO_TABLE}: its first line is endless or has control characters", "file")
    separator = max(SEPARATORS, key=line.count)
    columns = tuple(column.strip() for column in next(csv.reader([line], delimiter=separator)))
    _require_columns(columns)
    if all(NUMBER.fullmatch(column) for column in columns):
        raise InvalidInput("the first line has numbers only: give the table a header with column names", "file")
    return separator, columns


def _csv_blocks(path: Path, separator: str, columns: tuple[str, ...]) -> Iterator[Block]:
    frames = pl.scan_csv(
        path,
        separator=separator,
        schema={column: pl.Float64() for column in columns},
        has_header=False,
        skip_rows=1,
        truncate_ragged_lines=False,
        low_memory=True,
        glob=False,
    ).collect_batches(chunk_size=max(1, CSV_BLOCK_VALUES // len(columns)), maintain_order=True)
    empty = True
    try:
        for frame in frames:
            values = frame.filter(~pl.all_horizontal(pl.all().is_null())).to_numpy()  # blank lines are no rows
            if not (np.abs(values) <= LARGEST_VALUE).all():  # what is missing is NaN here, and NaN is not less
                raise InvalidInput(_complaint(path, separator, columns), "file")
            empty = empty and not len(values)
            yield values
    except PolarsError:
        raise InvalidInput(_complaint(path, separator, columns), "file") from None
    if empty:
        raise InvalidInput("the table has a header but no rows", "file")


def _complaint(path: Path, separator: str, columns: tuple[str, ...]) -> str:
    """Say which line of a refused file is to blame: a second, slower reading."""
    found = "the table has a header but no rows"
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        lines = csv.reader(file, delimiter=separator)
        try:
            next(lines)
            for fields in lines:
                if not any(fields):
                    continue
                if len(fields) != len(columns):
                    return (
                        f"line {lines.line_num}: the number of fields is {len(fields)}, in the header it is"
                        f" {len(columns)}: is the separator the same everywhere?"
                    )
                for column, text in zip(columns, fields, strict=True):
                    if (what := _fault(text)) is not None:
                        return f"line {lines.line_num}, column {column!r}: {what}"
                found = "this is no CSV table that can be read: are there spaces around its numbers?"
        except csv.Error as error:
            return f"line {lines.line_num}: {error}"
    return found


def _fault(text: str) -> str | None:
    if not text:
        return "a number is missing"
    quoted = text[:MAX_QUOTED]
    if not NUMBER.fullmatch(text.strip()):
        decimal_comma = NUMBER.fullmatch(text.strip().replace(",", ".", 1))
        return f"{quoted!r} is no number{': write decimals with a point' if decimal_comma else ''}"
    return f"{quoted} is beyond {LARGEST_VALUE:g}" if abs(float(text)) > LARGEST_VALUE else None


def _decode_parquet(path: Path, most_values: int) -> tuple[tuple[str, ...], Iterator[Block]]:
    try:
        schema = pl.read_parquet_schema(path)
        frame = pl.scan_parquet(path, glob=False, hive_partitioning=False, low_memory=True)
        rows = int(frame.select(pl.len()).collect().item())  # in the file's last bytes: nothing is decoded for it
    except PolarsError:
        raise _damaged() from None
    columns = tuple(name.strip() for name in schema)
    if not all(column.isprintable() for column in columns):
        raise InvalidInput("a column's name has control characters", "file")
    _require_columns(columns)
    for column, kind in zip(columns, schema.values(), strict=True):
        if not kind.is_numeric():
            raise InvalidInput(f"column {column!r} has no numbers: its type is {kind}"[:200], "file")
    if not rows or not columns:
        raise InvalidInput("the table has no rows", "file")
    if rows * len(columns) > most_values:
        raise InvalidInput(
            f"the table has {rows} rows × {len(columns)} columns, more than {most_values} numbers: split it", "file"
        )
    return columns, _parquet_blocks(frame, rows, columns)


def _parquet_blocks(frame: pl.LazyFrame, rows: int, columns: tuple[str, ...]) -> Iterator[Block]:
    # By slices, which skip the pages before them: a batch comes out of a whole row group in memory, of any size.
    step = max(1, PARQUET_BLOCK_VALUES // len(columns))
    numbers = frame.select(pl.all().cast(pl.Float64))
    for start in range(0, rows, step):
        try:
            block = numbers.slice(start, step).collect(engine="streaming")
        except PolarsError:
            raise _damaged() from None
        if len(block) != min(step, rows - start):
            raise _damaged()
        values = block.to_numpy()
        if len(faults := np.argwhere(~(np.abs(values) <= LARGEST_VALUE))):  # what is missing is NaN here
            row, place = (int(index) for index in faults[0])
            raise InvalidInput(f"row {start + row + 1}, column {columns[place]!r}: {_lack(block[row, place])}", "file")
        yield values


def _lack(value: Any) -> str:
    if value is None:
        return "a number is missing"
    return "NaN is no number" if np.isnan(value) else f"{value:g} is beyond {LARGEST_VALUE:g}"


def _damaged() -> InvalidInput:
    return InvalidInput(
        "this is no Parquet file that can be read: it is damaged, or says what it does not hold", "file"
    )
