"""Histograms are exact whatever the numbers are and however they are cut into blocks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commons.protocol.messages import LARGEST_VALUE
from data_owner.histograms import MOST_BINS, Histogram, Histograms

VALUES = st.floats(-LARGEST_VALUE, LARGEST_VALUE, allow_nan=False) | st.integers(-50, 50).map(float)


def counted(values: npt.ArrayLike, cuts: tuple[int, ...] = ()) -> list[Histogram]:
    table = np.asarray(values, dtype=np.float64)
    made = Histograms(table.shape[1])
    blocks = np.split(table, cuts)
    assert sum(len(block) for block in made.watch(blocks)) == len(table)
    return made.made()


@given(st.lists(VALUES, min_size=1, max_size=40), st.sets(st.integers(0, 40), max_size=5))
def test_every_value_is_counted_in_its_bin_however_the_table_is_cut(values: list[float], cuts: set[int]) -> None:
    column = np.array(values)[:, None]
    [found] = counted(column, tuple(sorted(cuts)))
    assert [found] == counted(column)
    assert len(found.counts) <= MOST_BINS and found.counts[0] > 0 and found.counts[-1] > 0
    lowest = np.floor(min(values) / found.width)
    places = [int(np.floor(value / found.width) - lowest) for value in values]
    assert found.counts == [places.count(place) for place in range(len(found.counts))]
    assert found.whole == all(value.is_integer() for value in values)
    if found.whole:
        assert found.width >= 1


def test_columns_are_counted_apart() -> None:
    found = counted([[0, 1.5, -7], [1, 2.5, -7], [1, 10.5, -7]], (1,))
    assert (found[0].counts, found[0].width, found[0].whole) == ([1, 2], 1, True)
    assert (sum(found[1].counts), found[1].whole) == (3, False)
    assert (found[2].counts, found[2].whole) == ([3], True)


@pytest.mark.parametrize("spread", [1, 1e-6, 1e9])
def test_a_column_that_varies_has_more_than_half_of_the_bins(spread: float) -> None:
    values = np.random.default_rng(1).normal(3, spread, (1000, 1))
    [found] = counted(values, (10, 20, 500))
    assert MOST_BINS // 2 <= len(found.counts) <= MOST_BINS
