"""Tables are read in one streamed pass, of which sums remain (tests/integration has what is refused)."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from commons.errors import InvalidInput
from data_owner import datasets


def csv(table: np.ndarray, columns: list[str], path: Path) -> Path:
    text = io.StringIO()
    np.savetxt(text, table, fmt="%.17g", delimiter=",", header=",".join(columns), comments="")
    path.write_text(text.getvalue())
    return path


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "BLOCK_VALUES", 1000)


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (17, 11), (2_001, 50), (5_000, 2), (3, 999)])
def test_sums_are_those_of_all_rows(tmp_path: Path, rows: int, columns: int) -> None:
    table = np.random.default_rng(rows).normal(size=(rows, columns))
    names = [f"x{index}" for index in range(columns)]
    dataset = datasets.read("rows.csv", csv(table, names, tmp_path / "rows.csv"))
    design = np.column_stack([np.ones(rows), table])
    found = dataset.table
    assert (dataset.name, dataset.rows, found.rows, found.columns) == ("rows.csv", rows, rows, tuple(names))
    np.testing.assert_allclose(found.gram, design.T @ design, rtol=1e-9, atol=1e-9)
    assert found.minima.tolist() == table.min(axis=0).tolist()
    assert found.maxima.tolist() == table.max(axis=0).tolist()


def test_bad_number_is_found_beyond_the_first_block(tmp_path: Path) -> None:
    path = csv(np.ones((datasets.BLOCK_VALUES // 2 + 10, 2)), ["a", "b"], tmp_path / "rows.csv")
    with path.open("a") as file:
        file.write("1,nan\n")
    line = datasets.BLOCK_VALUES // 2 + 12
    with pytest.raises(InvalidInput, match=f"file: line {line}, column 'b': 'nan' is no number"):
        datasets.read("rows.csv", path)


def test_quoted_header_may_hold_the_separator(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('"weight, kg","said ""so"""\n70,1\n')
    assert datasets.read("rows.csv", path).table.columns == ("weight, kg", 'said "so"')
