"""Tables to upload."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl


def write_csv(table: np.ndarray, columns: Sequence[str], path: Path, separator: str = ",") -> Path:
    text = io.StringIO()
    np.savetxt(text, table, fmt="%.17g", delimiter=separator, header=separator.join(columns), comments="")
    path.write_text(text.getvalue())
    return path


def write_parquet(table: np.ndarray, columns: Sequence[str], path: Path, row_group_size: int | None = None) -> Path:
    pl.DataFrame(table, schema=list(columns)).write_parquet(path, row_group_size=row_group_size)
    return path
