"""Reading a table: one streamed pass over the rows, of which only sums of products are kept."""

from __future__ import annotations

import uuid
from pathlib import Path

from commons.errors import InvalidInput
from commons.learning.statistics import TableStatistics
from commons.protocol.messages import DataRequirements
from commons.tables import isolated
from data_owner.storage import Dataset


def read(name: str, path: Path, most_values: int) -> Dataset:
    """Read a CSV or Parquet file into a dataset.

    Parameters
    ----------
    name : str
        What the owner calls it.
    path : Path
        Where its bytes are.
    most_values : int
        How many numbers a Parquet file may have.

    Raises
    ------
    InvalidInput
        It is no such table; the text says what is wrong and, where it can, in which line and column.
    """
    with isolated.opened(path, most_values) as file:
        if len(file.columns) < 2:
            raise InvalidInput(
                "the header has one column only: separate columns with a comma, a semicolon or a tab", "file"
            )
        table = TableStatistics.accumulate(file.blocks, file.columns)
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
