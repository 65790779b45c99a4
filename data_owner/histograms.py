"""How the values of each column are spread: counted in the one pass over the rows, for this owner's eyes alone.

Bins are as wide as a power of two and begin at its multiples, so that two of them merge into one exactly. What comes
out depends on the values only, not on the blocks that they come in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from commons.learning.statistics import FloatArray
from commons.protocol.messages import Body

MOST_BINS = 32
"""Of a column: 17 to 32, or fewer of whole numbers in a small range."""
LEAST_EXPONENT = -900
"""Of a bin's width 2^e. Division by a smaller one could overflow."""


class Histogram(Body):
    """How many values of a column are in [k·width, (k + 1)·width), for the bins k from the lowest value's on.

    ``whole`` says that all values are whole numbers.
    """

    width: float
    counts: list[int]
    whole: bool


class Histograms:
    """Counts the values of every column of a table.

    Parameters
    ----------
    columns : int
        How many there are.
    """

    def __init__(self, columns: int) -> None:
        self._minima, self._maxima = np.full(columns, np.inf), np.full(columns, -np.inf)
        self._whole = np.ones(columns, dtype=bool)
        self._counts = np.zeros((columns, MOST_BINS), dtype=np.int64)
        self._exponents = np.full(columns, LEAST_EXPONENT)

    def watch(self, blocks: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """Count blocks of rows of shape (rows, columns), finite numbers, as they pass."""
        for block in blocks:
            if len(block):
                self._add(block)
            yield block

    def made(self) -> list[Histogram]:
        """Return what was counted of each column; there has to be a row."""
        return [self._histogram(column) for column in range(len(self._whole))]

    def _add(self, block: FloatArray) -> None:
        known = np.isfinite(self._minima)
        before = np.floor(np.ldexp(np.where(known, self._minima, 0), -self._exponents))
        self._minima = np.minimum(self._minima, block.min(axis=0))
        self._maxima = np.maximum(self._maxima, block.max(axis=0))
        self._whole &= (block == np.floor(block)).all(axis=0)
        exponents = _exponents(self._minima, self._maxima, self._exponents)
        lowest = np.floor(np.ldexp(self._minima, -exponents))
        # Where the bins so far go, now that they are 2^(difference of exponents) times as wide.
        merged = np.ldexp(before[:, None] + np.arange(MOST_BINS), (self._exponents - exponents)[:, None])
        self._counts = _sums(np.floor(merged).T - lowest, self._counts.T)
        self._exponents = exponents
        self._counts += _sums(np.floor(np.ldexp(block, -exponents)) - lowest)

    def _histogram(self, column: int) -> Histogram:
        exponent = int(self._exponents[column])
        counts = self._counts[column]
        whole = bool(self._whole[column])
        lowest = float(np.floor(np.ldexp(self._minima[column], -exponent)))
        if whole and exponent < 0:  # between whole numbers there is nothing
            places = np.floor(np.ldexp(lowest + np.arange(MOST_BINS), exponent)) - self._minima[column]
            exponent, counts = 0, _sums(places[:, None], counts[:, None])[0]
        last = int(np.flatnonzero(counts)[-1])
        return Histogram(width=float(np.ldexp(1.0, exponent)), counts=counts[: last + 1].tolist(), whole=whole)


def _exponents(minima: FloatArray, maxima: FloatArray, least: Any) -> Any:
    """Return the least exponents, none below `least`, with which each column needs no more than so many bins."""
    with np.errstate(divide="ignore"):  # of a constant column: minus infinity
        close = np.floor(np.log2((maxima - minima) / MOST_BINS))
    exponents = np.maximum(np.where(np.isfinite(close), close - 1, LEAST_EXPONENT).astype(np.int64), least)
    while (wide := _span(minima, maxima, exponents) >= MOST_BINS).any():
        exponents = exponents + wide
    return exponents


def _span(minima: FloatArray, maxima: FloatArray, exponents: Any) -> FloatArray:
    span: FloatArray = np.floor(np.ldexp(maxima, -exponents)) - np.floor(np.ldexp(minima, -exponents))
    return span


def _sums(places: FloatArray, weights: Any = 1) -> Any:
    """Add up weights by bin: of shape (values, columns) both; returns (columns, bins)."""
    columns = places.shape[1]
    weights = np.broadcast_to(weights, places.shape)
    flat = np.where(weights > 0, places, 0).astype(np.int64) + np.arange(columns) * MOST_BINS
    counted = np.bincount(flat.ravel(), weights.ravel(), minlength=columns * MOST_BINS)
    return counted.astype(np.int64).reshape(columns, MOST_BINS)
