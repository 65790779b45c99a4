"""The Diabetes data of scikit-learn, split over data owners."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes

Table = NDArray[np.float64]
"""Rows of the ten features and then the target, shape (rows, 11)."""

TARGET = "target"
FEATURES: tuple[str, ...] = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
COLUMNS = (*FEATURES, TARGET)


def split(owners: int = 5, rows: int = 50) -> list[Table]:
    """Return rows 0 … `rows` − 1 for the first owner, the next `rows` for the second, and so on."""
    data: Any = load_diabetes()
    table = np.column_stack([data.data, data.target])
    return [table[start : start + rows] for start in range(0, owners * rows, rows)]


def to_csv(table: Table) -> bytes:
    """Return the table as CSV with a header; every number reads back exactly."""
    text = io.StringIO()
    np.savetxt(text, table, fmt="%.17g", delimiter=",", header=",".join(COLUMNS), comments="")
    return text.getvalue().encode()


def main() -> None:
    """Write tables into a directory: owner-1.csv to owner-5.csv, and buyer.csv with rows that no owner has."""
    parser = argparse.ArgumentParser(prog="python -m scripts.local.diabetes", description=main.__doc__)
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    *owners, buyer = split(6)
    for number, table in enumerate(owners, start=1):
        (directory / f"owner-{number}.csv").write_bytes(to_csv(table))
    (directory / "buyer.csv").write_bytes(to_csv(buyer))


if __name__ == "__main__":
    main()
