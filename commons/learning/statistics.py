"""What least squares needs to know of an owner's rows: sums of products, taken in one pass.

After that pass no cost depends on the number of rows. Column 0 of a design matrix is the intercept: ones.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from commons.errors import InvalidInput

FloatArray = npt.NDArray[np.float64]


def _dump(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _load(blob: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(blob), allow_pickle=False) as arrays:
        return dict(arrays)


@dataclass(frozen=True, eq=False)
class GramStatistics:
    """The least-squares problem of one owner: d = features + 1 columns, intercept first, sums over its rows.

    Parameters
    ----------
    rows : int
        Number of rows m.
    gram : ndarray of shape (d, d)
        XᵀX.
    moment : ndarray of shape (d,)
        Xᵀy, targets in scaled units.
    target_square : float
        yᵀy, in scaled units squared.
    """

    rows: int
    gram: FloatArray
    moment: FloatArray
    target_square: float

    def mse(self, weights: FloatArray) -> float:
        """Return the mean squared error ‖Xw − y‖²/m of `weights`, in scaled units squared."""
        error = weights @ self.gram @ weights - 2 * self.moment @ weights + self.target_square
        return float(error) / self.rows

    def to_bytes(self) -> bytes:
        """Write for storage; every float survives exactly."""
        return _dump(rows=self.rows, gram=self.gram, moment=self.moment, target_square=np.float64(self.target_square))

    @classmethod
    def from_bytes(cls, blob: bytes) -> GramStatistics:
        """Read what :meth:`to_bytes` wrote."""
        data = _load(blob)
        return cls(int(data["rows"]), data["gram"], data["moment"], float(data["target_square"]))


@dataclass(frozen=True, eq=False)
class TableStatistics:
    """Sums of products of all columns of a table, from which any choice of features and target follows.

    Parameters
    ----------
    columns : tuple of str
        Names of the c columns.
    rows : int
        Number of rows.
    gram : ndarray of shape (c + 1, c + 1)
        ZᵀZ for the table Z with a column of ones put before it.
    minima, maxima : ndarray of shape (c,)
        Range of every column.
    """

    columns: tuple[str, ...]
    rows: int
    gram: FloatArray
    minima: FloatArray
    maxima: FloatArray

    @classmethod
    def accumulate(cls, blocks: Iterable[npt.ArrayLike], columns: Sequence[str]) -> TableStatistics:
        """Sum over blocks of rows, holding one block at a time.

        Parameters
        ----------
        blocks : iterable of array_like of shape (rows of the block, c)
            The table, in pieces of any length.
        columns : sequence of str
            Names of the c columns.

        Raises
        ------
        InvalidInput
            If the table has no rows, a block has another number of columns, or a value is not finite.
        """
        count = len(columns)
        rows = 0
        gram = np.zeros((count + 1, count + 1))
        minima, maxima = np.full(count, np.inf), np.full(count, -np.inf)
        for block in blocks:
            values = np.asarray(block, dtype=np.float64)
            if values.ndim != 2 or values.shape[1] != count:
                raise InvalidInput(f"a block of rows has shape {values.shape} instead of (rows, {count})")
            if not len(values):
                continue
            if not np.isfinite(values).all():
                row, column = np.argwhere(~np.isfinite(values))[0]
                raise InvalidInput(f"row {rows + row + 1} has no finite number", columns[column])
            gram[1:, 1:] += values.T @ values
            gram[0, 1:] += values.sum(axis=0)
            rows += len(values)
            minima = np.minimum(minima, values.min(axis=0))
            maxima = np.maximum(maxima, values.max(axis=0))
        if not rows:
            raise InvalidInput("the table has no rows")
        gram[1:, 0] = gram[0, 1:]
        gram[0, 0] = rows
        return cls(tuple(columns), rows, gram, minima, maxima)

    def select(self, features: Sequence[str], target: str, target_scale: float = 1) -> GramStatistics:
        """Return the least-squares problem of predicting `target` from `features`.

        Parameters
        ----------
        features : sequence of str
            Names of the feature columns, in the order of the model's weights.
        target : str
            Name of the target column.
        target_scale : float
            Public power of two that targets are divided by.

        Raises
        ------
        InvalidInput
            If a column is not in the table.
        """
        position = {name: index + 1 for index, name in enumerate(self.columns)}
        for name in (*features, target):
            if name not in position:
                raise InvalidInput(f"the table has no column {name!r}")
        chosen = [0, *(position[name] for name in features)]
        goal = position[target]
        return GramStatistics(
            rows=self.rows,
            gram=self.gram[np.ix_(chosen, chosen)],
            moment=self.gram[chosen, goal] / target_scale,
            target_square=float(self.gram[goal, goal]) / target_scale**2,
        )

    def to_bytes(self) -> bytes:
        """Write for storage; every float survives exactly."""
        return _dump(
            columns=np.array(self.columns, dtype=np.str_),
            rows=self.rows,
            gram=self.gram,
            minima=self.minima,
            maxima=self.maxima,
        )

    @classmethod
    def from_bytes(cls, blob: bytes) -> TableStatistics:
        """Read what :meth:`to_bytes` wrote."""
        data = _load(blob)
        columns = tuple(str(name) for name in data["columns"])
        return cls(columns, int(data["rows"]), data["gram"], data["minima"], data["maxima"])
