from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commons.errors import InvalidInput
from commons.learning.statistics import FloatArray, GramStatistics, TableStatistics

COLUMNS = ["age", "income", "größe", "target"]
TABLE = np.random.default_rng(1).normal(size=(40, 4)) * [1, 1000, 0.01, 50]


@given(st.lists(st.integers(0, 40), max_size=5))
def test_blocks_of_any_size_give_the_same_statistics(cuts: list[int]) -> None:
    whole = TableStatistics.accumulate([TABLE], COLUMNS)
    pieces = TableStatistics.accumulate(np.split(TABLE, sorted(cuts)), COLUMNS)
    assert pieces.rows == whole.rows == 40
    assert pieces.columns == tuple(COLUMNS)
    np.testing.assert_allclose(pieces.gram, whole.gram, rtol=1e-12, atol=1e-9)
    np.testing.assert_array_equal(pieces.minima, TABLE.min(axis=0))
    np.testing.assert_array_equal(pieces.maxima, TABLE.max(axis=0))


def test_blocks_are_read_one_at_a_time() -> None:
    alive = 0

    class Block(np.ndarray):
        """Rows that count how many of their kind are in memory."""

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def blocks() -> Iterator[FloatArray]:
        nonlocal alive
        for start in range(0, 40, 10):
            alive += 1
            assert alive <= 2, "the one before may still be held"
            yield TABLE[start : start + 10].copy().view(Block)

    TableStatistics.accumulate(blocks(), COLUMNS)


def test_selection_is_the_least_squares_problem_of_its_columns() -> None:
    stats = TableStatistics.accumulate([TABLE], COLUMNS).select(["größe", "age"], "target", 64)
    design = np.column_stack([np.ones(40), TABLE[:, 2], TABLE[:, 0]])
    target = TABLE[:, 3] / 64
    np.testing.assert_allclose(stats.gram, design.T @ design)
    np.testing.assert_allclose(stats.moment, design.T @ target)
    assert stats.target_square == pytest.approx(target @ target)
    weights = np.array([0.5, -3.0, 0.1])
    assert stats.mse(weights) == pytest.approx(np.mean((design @ weights - target) ** 2))


@pytest.mark.parametrize(("features", "target"), [(["age", "shoe"], "target"), (["age"], "shoe")])
def test_columns_that_are_not_there_are_named(features: list[str], target: str) -> None:
    with pytest.raises(InvalidInput, match="'shoe'"):
        TableStatistics.accumulate([TABLE], COLUMNS).select(features, target)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_finite_numbers_are_located(bad: float) -> None:
    table = TABLE.copy()
    table[25, 1] = bad
    with pytest.raises(InvalidInput, match="income: row 26"):
        TableStatistics.accumulate([table[:20], table[20:]], COLUMNS)


@pytest.mark.parametrize("blocks", [[], [np.empty((0, 4))], [TABLE[:, :3]], [TABLE[0]]])
def test_tables_without_rows_or_of_another_width_are_refused(blocks: list[FloatArray]) -> None:
    with pytest.raises(InvalidInput):
        TableStatistics.accumulate(blocks, COLUMNS)


def test_stored_statistics_come_back_exactly() -> None:
    table = TableStatistics.accumulate([TABLE], COLUMNS)
    copy = TableStatistics.from_bytes(table.to_bytes())
    assert (copy.columns, copy.rows) == (table.columns, table.rows)
    for name in ("gram", "minima", "maxima"):
        np.testing.assert_array_equal(getattr(copy, name), getattr(table, name))
    stats = table.select(COLUMNS[:3], "target", 64)
    again = GramStatistics.from_bytes(stats.to_bytes())
    assert (again.rows, again.target_square) == (stats.rows, stats.target_square)
    np.testing.assert_array_equal(again.gram, stats.gram)
    np.testing.assert_array_equal(again.moment, stats.moment)
