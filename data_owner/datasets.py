"""Reading a table: one streamed pass over the rows, of which only sums of products are kept."""

from __future__ import annotations

import csv
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.exceptions import PolarsError

from commons.errors import InvalidInput
from commons.learning.statistics import TableStatistics
from commons.protocol.messages import LARGEST_VALUE, DataRequirements
from data_owner.storage import Dataset

SEPARATORS = ",;\t"
BLOCK_VALUES = 500_000
MAX_COLUMNS = 1_000
MAX_HEADER_BYTES = 100_000
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def read(name: str, path: Path) -> Dataset:
    """Read a CSV file (comma, semicolon or tab; with a header) into a dataset.

    Parameters
    ----------
    name : str
        What the owner calls it.
    path : Path
        Where its bytes are.

    Raises
    ------
    InvalidInput
        It is no such table; the text says what is wrong and, where it can, in which line and column.
    """
    separator, columns = _header(path)
    try:
        table = TableStatistics.accumulate(_blocks(path, separator, columns), columns)
    except PolarsError:
        raise InvalidInput(_complaint(path, separator, columns), "file") from None
    return Dataset(id=uuid.uuid4(), name=name, rows=table.rows, statistics=table.to_bytes())


def mismatches(table: TableStatistics, requirements: DataRequirements) -> list[str]:
    """Say why a table does not fit an order.

    Returns
    -------
    list of str
        One sentence per column that is missing or out of range; empty if the table fits.
    """
    place = {column.casefold(): index for index, column in enumerate(table.columns)}
    wanted = [(name, requirements.features.range) for name in requirements.features.list]
    reasons = []
    for name, (low, high) in [*wanted, (requirements.target.name, requirements.target.range)]:
        index = place.get(name.casefold())
        if index is None:
            reasons.append(f"column {name!r} is missing")
        elif not (low <= table.minima[index] and table.maxima[index] <= high):
            reasons.append(
                f"column {name!r} goes from {table.minima[index]:g} to {table.maxima[index]:g},"
                f" outside [{low:g}, {high:g}]"
            )
    return reasons


def _header(path: Path) -> tuple[str, tuple[str, ...]]:
    with path.open("rb") as file:
        first = file.readline(MAX_HEADER_BYTES)
    if not first.strip():
        raise InvalidInput("the file is empty, or its first line is", "file")
    try:
        line = first.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise InvalidInput("this is no CSV file: its first line is not UTF-8 text", "file") from None
    if len(first) == MAX_HEADER_BYTES or not line.replace("\t", "").isprintable():
        raise InvalidInput("this is no CSV file: its first line is endless or has control characters", "file")
    separator = max(SEPARATORS, key=line.count)
    columns = tuple(column.strip() for column in next(csv.reader([line], delimiter=separator)))
    if len(columns) < 2:
        raise InvalidInput(
            "the header has one column only: separate columns with a comma, a semicolon or a tab", "file"
        )
    if len(columns) > MAX_COLUMNS:
        raise InvalidInput(f"the header has {len(columns)} columns, more than {MAX_COLUMNS}", "file")
    if "" in columns:
        raise InvalidInput(f"column {columns.index('') + 1} of the header has no name", "file")
    folded = [column.casefold() for column in columns]
    if twice := sorted({column for column in folded if folded.count(column) > 1}):
        raise InvalidInput(f"the header names columns twice: {', '.join(twice)}", "file")
    if all(NUMBER.fullmatch(column) for column in columns):
        raise InvalidInput("the first line has numbers only: give the table a header with column names", "file")
    return separator, columns


def _blocks(path: Path, separator: str, columns: tuple[str, ...]) -> Iterator[NDArray[np.float64]]:
    frames = pl.scan_csv(
        path,
        separator=separator,
        schema={column: pl.Float64() for column in columns},
        has_header=False,
        skip_rows=1,
        truncate_ragged_lines=False,
        low_memory=True,
    ).collect_batches(chunk_size=max(1, BLOCK_VALUES // len(columns)), maintain_order=True)
    empty = True
    for frame in frames:
        values = frame.filter(~pl.all_horizontal(pl.all().is_null())).to_numpy()  # blank lines are no rows
        if not (np.abs(values) <= LARGEST_VALUE).all():  # what is missing is NaN here, and NaN is not less
            raise InvalidInput(_complaint(path, separator, columns), "file")
        empty = empty and not len(values)
        yield values
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
                    if not NUMBER.fullmatch(text.strip()):
                        what = f"{text[:40]!r} is no number" if text else "a number is missing"
                        return f"line {lines.line_num}, column {column!r}: {what}"
                    if abs(float(text)) > LARGEST_VALUE:
                        return f"line {lines.line_num}, column {column!r}: {text[:40]} is beyond {LARGEST_VALUE:g}"
                found = "this is no CSV table that can be read: are there spaces around its numbers?"
        except csv.Error as error:
            return f"line {lines.line_num}: {error}"
    return found
