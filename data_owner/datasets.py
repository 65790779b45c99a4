"""Reading a table: one streamed pass over the rows, of which only sums of products are kept."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from commons.errors import InvalidInput
from commons.learning.statistics import TableStatistics
from commons.protocol.messages import DataRequirements
from commons.tables import isolated
from data_owner.histograms import Histograms
from data_owner.storage import Dataset, Outline


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
        histograms = Histograms(len(file.columns))
        table = TableStatistics.accumulate(histograms.watch(file.blocks), file.columns)
    return Dataset(
        id=uuid.uuid4(),
        name=name,
        rows=table.rows,
        statistics=table.to_bytes(),
        histograms=[each.model_dump(mode="json") for each in histograms.made()],
    )


@dataclass(frozen=True)
class Mismatch:
    """A column of an order that a table lacks, or that has values beyond what the order asks for.

    Parameters
    ----------
    column : str
        As the order calls it.
    wanted : tuple of float
        Its lower and upper bound in the order.
    found : tuple of float, optional
        Its least and largest value in the table; None if the table has no such column.
    """

    column: str
    wanted: tuple[float, float]
    found: tuple[float, float] | None

    def __str__(self) -> str:
        """Say so in a sentence."""
        if self.found is None:
            return f"column {self.column!r} is missing"
        (least, largest), (low, high) = self.found, self.wanted
        return f"column {self.column!r} goes from {least:g} to {largest:g}, outside [{low:g}, {high:g}]"


@dataclass(frozen=True)
class Comparison:
    """A dataset beside an order: it fits if there are no mismatches."""

    dataset: Outline
    mismatches: tuple[Mismatch, ...]


def mismatches(dataset: Outline, requirements: DataRequirements) -> list[Mismatch]:
    """Return why a dataset does not fit an order: nothing if it does."""
    wanted = [(name, requirements.features.range) for name in requirements.features.list]
    found = []
    for name, (low, high) in [*wanted, (requirements.target.name, requirements.target.range)]:
        bounds = dataset.ranges.get(name.casefold())
        if bounds is None or not (low <= bounds[0] and bounds[1] <= high):
            found.append(Mismatch(name, (low, high), bounds))
    return found
