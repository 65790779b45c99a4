"""Predictions: what a finished model makes of rows that a user sends, or has uploaded in a file."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ForeignKey, Select, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from commons.database import Database, now, page
from commons.errors import Conflict, InvalidInput, NotFound
from commons.lifecycle import find
from commons.protocol.messages import LARGEST_VALUE
from commons.tables import isolated
from commons.users.storage import User
from model_buyer.storage import Base, Model, Status

MAX_ROWS = 100_000

FloatArray = npt.NDArray[np.float64]


class File(Base):
    """A table that a user uploaded. Its bytes lie in the service's folder of files, under its id.

    ``user_id`` is None for those from before users logged in: nobody can use them any more.
    """

    __tablename__ = "files"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    user_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey(User.id))
    name: Mapped[str]
    rows: Mapped[int]
    columns: Mapped[list[Any]]
    created: Mapped[datetime] = mapped_column(default=now)


class Prediction(Base):
    """What a model predicted, and how well, if the rows had the target.

    ``values`` are the predictions as float64, in the target's units; ``mse`` is in their square. ``file_id`` may be
    that of a file which is gone.
    """

    __tablename__ = "predictions"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    model_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    file_id: Mapped[uuid.UUID | None]
    rows: Mapped[int]
    mse: Mapped[float | None]
    r2: Mapped[float | None]
    values: Mapped[bytes] = mapped_column(deferred=True, deferred_raiseload=True)
    created: Mapped[datetime] = mapped_column(default=now, index=True)


@dataclass(frozen=True)
class FittedModel:
    """A finished linear model, in the units of the order's columns.

    Parameters
    ----------
    features : tuple of str
        Names of its d columns, in the order of the coefficients.
    target : str
        Name of the column that it predicts.
    intercept : float
    coefficients : ndarray of shape (d,)
    """

    features: tuple[str, ...]
    target: str
    intercept: float
    coefficients: FloatArray

    @classmethod
    def of(cls, model: Model) -> FittedModel:
        """Return what came of an order; Conflict while it is not finished."""
        if model.status != Status.FINISHED or model.weights is None:
            raise Conflict(f"model {model.id} is {model.status}: it predicts when it is FINISHED")
        requirements = model.parsed_order.data_requirements
        intercept, *coefficients = model.weights
        return cls(requirements.features.list, requirements.target.name, intercept, np.array(coefficients))

    def predict(self, rows: FloatArray) -> FloatArray:
        """Return the predictions, of shape (rows,), for `rows` of shape (rows, d)."""
        return rows @ self.coefficients + self.intercept


class Predictions:
    """The buyer's files and predictions.

    Parameters
    ----------
    database : Database
        Where they are listed.
    folder : Path
        Where the files' bytes lie.
    most_values : int
        How many numbers a file may have.
    """

    def __init__(self, database: Database, folder: Path, most_values: int) -> None:
        self._database = database
        self._folder = folder
        self._most_values = most_values
        self.forget_removed()

    def keep(self, user_id: uuid.UUID, save: Callable[[Path], str]) -> File:
        """Keep a table for predictions.

        Parameters
        ----------
        user_id : UUID
            Whose it is.
        save : callable
            Writes the table's bytes to the path it is given, and returns what the user calls it.

        Raises
        ------
        InvalidInput
            It is no table, or has too many rows.
        """
        file_id = uuid.uuid4()
        path = self._path(file_id)
        try:
            name = save(path)
            with isolated.opened(path, self._most_values) as table:
                rows = sum(len(block) for block in _bounded(table.blocks))
            file = File(id=file_id, user_id=user_id, name=name, rows=rows, columns=list(table.columns))
            with self._database.write() as session:
                session.add(file)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return file

    def forget(self, user_id: uuid.UUID, file_id: uuid.UUID) -> None:
        """Delete a user's file; NotFound if it has none of that id. What was predicted from it stays."""
        with self._database.write() as session:
            session.delete(_own_file(session, user_id, file_id))
        self._path(file_id).unlink(missing_ok=True)

    def predict_file(self, model: Model, file_id: uuid.UUID) -> tuple[Prediction, FloatArray]:
        """Predict for every row of a file of the user who ordered the model.

        Returns
        -------
        Prediction, ndarray of shape (rows,)
            The second are its values.

        Raises
        ------
        NotFound, Conflict
            The user has no such file, or the model is not finished.
        InvalidInput
            The file's columns are not the model's.
        """
        fitted = FittedModel.of(model)
        with self._database.read() as session:
            file = _own_file(session, model.user_id, file_id)
        places, goal = _places(file.columns, fitted)
        predicted, targets = [], []
        with isolated.opened(self._path(file_id), self._most_values) as table:
            for block in table.blocks:
                predicted.append(fitted.predict(block[:, places]))
                if goal is not None:
                    targets.append(block[:, goal])
        return self._add(model.id, file_id, np.concatenate(predicted), np.concatenate(targets) if targets else None)

    def predict_rows(self, model: Model, rows: Sequence[Any]) -> tuple[Prediction, FloatArray]:
        """Predict for rows that are either lists of numbers, in the order of the model's features, or named numbers.

        Returns
        -------
        Prediction, ndarray of shape (rows,)
            The second are its values.

        Raises
        ------
        Conflict
            The model is not finished.
        InvalidInput
            A row has not the model's columns, or something else than numbers.
        """
        fitted = FittedModel.of(model)
        table, targets = _table(rows, fitted)
        return self._add(model.id, None, fitted.predict(table), targets)

    def get(self, user_id: uuid.UUID, prediction_id: uuid.UUID) -> tuple[Prediction, FloatArray]:
        """Return a user's prediction and its values; NotFound if it has none of that id."""
        with self._database.read() as session:
            prediction = session.scalar(_of(user_id).where(Prediction.id == prediction_id))
            if prediction is None:
                raise NotFound(f"there is no prediction {prediction_id}")
            values = session.scalars(select(Prediction.values).where(Prediction.id == prediction_id)).one()
        return prediction, np.frombuffer(values)

    def page(
        self, user_id: uuid.UUID, limit: int, offset: int, model_id: uuid.UUID | None = None
    ) -> tuple[list[Prediction], int]:
        """Return `limit` of a user's predictions after the first `offset`, the newest first, and how many it has.

        Parameters
        ----------
        user_id : UUID
        limit, offset : int
        model_id : UUID, optional
            With which model they were made, if only those are wanted.
        """
        found = _of(user_id).order_by(Prediction.created.desc(), Prediction.id)
        if model_id is not None:
            found = found.where(Prediction.model_id == model_id)
        with self._database.read() as session:
            return page(session, found, limit, offset)

    def forget_removed(self) -> None:
        """Delete what was predicted with models that are removed: at every start too, lest a crash keep some."""
        removed = select(Model.id).where(Model.removed.is_not(None))
        with self._database.write() as session:
            session.execute(delete(Prediction).where(Prediction.model_id.in_(removed)))

    def _add(
        self, model_id: uuid.UUID, file_id: uuid.UUID | None, values: FloatArray, targets: FloatArray | None
    ) -> tuple[Prediction, FloatArray]:
        mse, r2 = (None, None) if targets is None else score(values, targets)
        prediction = Prediction(
            id=uuid.uuid4(),
            model_id=model_id,
            file_id=file_id,
            rows=len(values),
            mse=mse,
            r2=r2,
            values=values.tobytes(),
        )
        with self._database.write() as session:
            if find(session, Model, model_id).removed is not None:  # meanwhile
                raise NotFound(f"there is no model {model_id}")
            session.add(prediction)
        return prediction, values

    def _path(self, file_id: uuid.UUID) -> Path:
        return self._folder / file_id.hex


def _of(user_id: uuid.UUID) -> Select[Prediction]:
    return (
        select(Prediction)
        .join(Model, Model.id == Prediction.model_id)
        .where(Model.user_id == user_id, Model.removed.is_(None))
    )


def _own_file(session: Session, user_id: uuid.UUID, file_id: uuid.UUID) -> File:
    file = session.get(File, file_id)
    if file is None or file.user_id != user_id:
        raise NotFound(f"there is no file {file_id}")
    return file


def score(predicted: FloatArray, targets: FloatArray) -> tuple[float, float | None]:
    """Return the mean squared error, and the coefficient of determination R² = 1 − Σ(y − ŷ)² / Σ(y − ȳ)².

    R² is None where all targets are the same, for then it is not defined.
    """
    squares = float(((targets - predicted) ** 2).sum())
    varies = targets.min() < targets.max()
    spread = float(((targets - targets.mean()) ** 2).sum())
    return squares / len(targets), 1 - squares / spread if varies and spread else None


def _bounded(blocks: Iterable[FloatArray]) -> Iterable[FloatArray]:
    rows = 0
    for block in blocks:
        rows += len(block)
        if rows > MAX_ROWS:
            raise InvalidInput(f"the table has more than {MAX_ROWS} rows: split it", "file")
        yield block


def _places(columns: Sequence[str], fitted: FittedModel) -> tuple[list[int], int | None]:
    place = {column.casefold(): index for index, column in enumerate(columns)}
    missing = [name for name in fitted.features if name.casefold() not in place]
    if missing:
        raise InvalidInput(f"the file has no column {', '.join(map(repr, missing))}", "file_id")
    known = {name.casefold() for name in (*fitted.features, fitted.target)}
    extra = [column for column in columns if column.casefold() not in known]
    if extra:
        reason = f"the model has no feature {', '.join(map(repr, extra))}, nor is its target called so"
        raise InvalidInput(reason, "file_id")
    return [place[name.casefold()] for name in fitted.features], place.get(fitted.target.casefold())


def _table(rows: Sequence[Any], fitted: FittedModel) -> tuple[FloatArray, FloatArray | None]:
    first = rows[0]
    folded = {name.casefold() for name in first} if isinstance(first, dict) else set()
    scored = fitted.target.casefold() in folded
    names = (*fitted.features, fitted.target) if scored else fitted.features
    for index, row in enumerate(rows):
        if not isinstance(row, (list, dict)):
            raise InvalidInput("must be a list of numbers, or an object of named numbers", f"rows.{index}")
        if isinstance(row, dict) != isinstance(first, dict):
            raise InvalidInput("the rows must be all lists, or all objects", f"rows.{index}")
    table = np.array([_row(row, names, f"rows.{index}") for index, row in enumerate(rows)])
    return (table[:, :-1], table[:, -1]) if scored else (table, None)


def _row(row: Any, names: Sequence[str], field: str) -> list[float]:
    if isinstance(row, list):
        if len(row) != len(names):
            expected = f"{len(names)} numbers are expected: {', '.join(names)}"
            raise InvalidInput(f"there are {len(row)}, and {expected}"[:500], field)
        return [_number(value, f"{field}.{index}") for index, value in enumerate(row)]
    named = {name.casefold(): name for name in row}
    if len(named) < len(row):
        raise InvalidInput("names a column twice", field)
    if extra := sorted(set(named) - {name.casefold() for name in names}):
        raise InvalidInput("is no feature of the model, or not in the first row", f"{field}.{named[extra[0]]}")
    for name in names:
        if name.casefold() not in named:
            raise InvalidInput("is missing", f"{field}.{name}")
    return [_number(row[named[name.casefold()]], f"{field}.{name}") for name in names]


def _number(value: Any, field: str) -> float:
    if type(value) not in (int, float) or not abs(value) <= LARGEST_VALUE:  # NaN is not less
        raise InvalidInput(f"must be a number, from {-LARGEST_VALUE:g} to {LARGEST_VALUE:g}", field)
    return float(value)
