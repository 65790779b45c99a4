"""Reading a table: one streamed pass over the rows, of which only sums of products are kept."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.exceptions import PolarsError

from commons.errors import InvalidInput
from commons.learning.statistics import TableStatistics
from commons.protocol.messages import DataRequirements
from data_owner.storage import Dataset

SEPARATORS = ",;\t"
BLOCK_ROWS = 50_000
MAX_COLUMNS = 1_000


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
        It is no such table; the text says what is wrong and, where it can, in which row and column.
    """
    separator, columns = _header(path)
    try:
        table = TableStatistics.accumulate(_blocks(path, separator, columns), columns)
    except (PolarsError, UnicodeDecodeError) as error:
        raise InvalidInput(_explain(str(error)), "file") from None
    if table.rows == 0:
        raise InvalidInput("the table has a header but no rows", "file")
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
        first = file.readline(1_000_000)
    if not first.strip():
        raise InvalidInput("the file is empty", "file")
    try:
        line = first.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise InvalidInput("this is no CSV file: its first line is not UTF-8 text", "file") from None
    if "\x00" in line:
        raise InvalidInput("this is no CSV file: its first line has NUL bytes", "file")
    separator = max(SEPARATORS, key=line.count)
    columns = tuple(column.strip().strip('"').strip() for column in line.split(separator))
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
    if all(_is_number(column) for column in columns):
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
    ).collect_batches(chunk_size=BLOCK_ROWS, maintain_order=True)
    row = 0
    for frame in frames:
        values = frame.filter(~pl.all_horizontal(pl.all().is_null())).to_numpy()  # blank lines are no rows
        bad = ~np.isfinite(values)
        if bad.any():
            place = np.argwhere(bad)[0]
            raise InvalidInput(
                f"row {row + int(place[0]) + 1} has no finite number in column {columns[place[1]]!r}"
                " (missing, NaN or infinite)",
                "file",
            )
        row += len(values)
        yield values


def _explain(error: str) -> str:
    if "found more fields" in error:
        return "a row has more fields than the header: the lines are ragged, or the separator differs"
    if "could not parse" in error:
        return f"text stands where a number belongs: {error.splitlines()[0]}"
    return f"this is no CSV table: {error.splitlines()[0]}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
