"""The data owner's tables and queries."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any, Self

from sqlalchemy import ColumnElement, ForeignKey, MetaData, Select, select
from sqlalchemy.orm import Mapped, mapped_column

from commons import database
from commons.changes import Changes
from commons.database import Database, Decimal, now, page
from commons.errors import Conflict, NotFound
from commons.learning.statistics import TableStatistics
from commons.lifecycle import find, move
from commons.protocol.messages import Order
from data_owner.histograms import Histogram
from data_owner.seen import Seen


class Status(StrEnum):
    """Where a training request stands. WAITING and READY are OFFERED without and with a dataset that fits."""

    OFFERED = "OFFERED"
    ACCEPTING = "ACCEPTING"
    INITIATED = "INITIATED"
    IN_PROGRESS = "IN_PROGRESS"
    FINISHED = "FINISHED"
    FAILED = "FAILED"


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.OFFERED: frozenset({Status.ACCEPTING, Status.INITIATED, Status.FAILED}),
    Status.ACCEPTING: frozenset({Status.OFFERED, Status.INITIATED, Status.FAILED}),
    Status.INITIATED: frozenset({Status.IN_PROGRESS, Status.FINISHED, Status.FAILED}),
    Status.IN_PROGRESS: frozenset({Status.FINISHED, Status.FAILED}),
    Status.FINISHED: frozenset(),
    Status.FAILED: frozenset(),
}


class Base(database.Base):
    """What this service's own tables share. Other services have tables of the same names."""

    __abstract__ = True
    metadata = MetaData()


class Dataset(Base):
    """A table that was read once: its columns' sums of products, not its rows.

    ``histograms`` are documents, one for each column. Tables that were read before they were kept have none.
    """

    __tablename__ = "datasets"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    rows: Mapped[int]
    statistics: Mapped[bytes]
    histograms: Mapped[list[Any] | None] = mapped_column(default=None)
    created: Mapped[datetime] = mapped_column(default=now)

    @property
    def table(self) -> TableStatistics:
        """The statistics, decoded."""
        return TableStatistics.from_bytes(self.statistics)

    @property
    def parsed_histograms(self) -> list[Histogram]:
        """The histograms, decoded."""
        return [Histogram.model_validate(each) for each in self.histograms or ()]


@dataclass(frozen=True)
class Outline:
    """A dataset without its sums.

    Parameters
    ----------
    id : UUID
    name : str
        What the owner calls it.
    rows : int
        How many it has.
    created : datetime
        When it was uploaded.
    columns : tuple of (str, float, float)
        Each column's name, and its least and its largest value.
    """

    id: uuid.UUID
    name: str
    rows: int
    created: datetime
    columns: tuple[tuple[str, float, float], ...]

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """Leave out the sums."""
        table = dataset.table
        columns = zip(table.columns, table.minima.tolist(), table.maxima.tolist(), strict=True)
        return cls(dataset.id, dataset.name, dataset.rows, dataset.created, tuple(columns))

    @cached_property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Each column's least and largest value, by its name without regard to case."""
        return {name.casefold(): (least, largest) for name, least, largest in self.columns}


class Training(Base):
    """A request to take part in a training, and what became of it.

    ``reviewed`` says that the reported result was compared with what this owner knows; ``claim`` is what it says if
    that differs, signed and packed. ``dispute`` and ``seen``, what the chain said last, are documents for users.
    """

    __tablename__ = "trainings"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    status: Mapped[str]
    order: Mapped[bytes]
    buyer: Mapped[str]
    aggregator: Mapped[str]
    aggregator_url: Mapped[str]
    dataset_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("datasets.id"), default=None)
    role: Mapped[str | None] = mapped_column(default=None)
    reason: Mapped[str | None] = mapped_column(default=None)
    reviewed: Mapped[bool] = mapped_column(default=False)
    claim: Mapped[bytes | None] = mapped_column(default=None)
    dispute: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    seen: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    earned: Mapped[int] = mapped_column(Decimal, default=0)
    created: Mapped[datetime] = mapped_column(default=now)

    @cached_property
    def parsed_order(self) -> Order:
        """The order, decoded."""
        return Order.model_validate_json(self.order)

    @property
    def parsed_seen(self) -> Seen | None:
        """What the chain said last, decoded; None before it was noted."""
        return None if self.seen is None else Seen.model_validate(self.seen)


class Metric(Base):
    """An MSE that was opened, in 1e-18 units of the squared scaled target.

    ``verified`` says whether the validators' signatures and the buyer's openings were seen to prove it.
    """

    __tablename__ = "metrics"

    training_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trainings.id"), primary_key=True)
    iteration: Mapped[int] = mapped_column(primary_key=True)
    mse: Mapped[int] = mapped_column(Decimal)
    verified: Mapped[bool] = mapped_column(default=False)
    created: Mapped[datetime] = mapped_column(default=now)


class Registration(Base):
    """An aggregator that took note of this owner last at this URL of its own."""

    __tablename__ = "registrations"

    aggregator_url: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str]
    created: Mapped[datetime] = mapped_column(default=now)


OUTLINES = 1024
"""How many are kept: of 1,000 columns, each takes some 200 kB."""


class Storage:
    """Queries and changes of the owner's tables; ``changes`` says when there is something new about a training."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.changes = Changes()
        # A dataset never changes, and its sums may take 8 MB that no list needs.
        self._outline = lru_cache(OUTLINES)(self._read_outline)

    def note_registration(self, aggregator_url: str, url: str) -> None:
        """Record that an aggregator knows this owner."""
        with self._database.write() as session:
            session.merge(Registration(aggregator_url=aggregator_url, url=url, created=now()))

    def registration(self, aggregator_url: str) -> Registration | None:
        """Return when an aggregator took note of this owner, if it did."""
        with self._database.read() as session:
            return session.get(Registration, aggregator_url)

    def add_dataset(self, dataset: Dataset) -> None:
        """Add a dataset."""
        with self._database.write() as session:
            session.add(dataset)
        self._tell_offered()

    def outlines(self) -> list[Outline]:
        """Return every dataset without its sums, the newest first."""
        with self._database.read() as session:
            ids = list(session.scalars(_newest_datasets()))
        return self._outlines(ids)

    def outline_page(self, limit: int, offset: int) -> tuple[list[Outline], int]:
        """Return `limit` datasets after the first `offset`, the newest first, and how many there are in all."""
        with self._database.read() as session:
            ids, total = page(session, _newest_datasets(), limit, offset)
        return self._outlines(ids), total

    def _outlines(self, ids: Sequence[uuid.UUID]) -> list[Outline]:
        found = []
        for dataset_id in ids:
            with suppress(NotFound):  # it was deleted in between
                found.append(self._outline(dataset_id))
        return found

    def _read_outline(self, dataset_id: uuid.UUID) -> Outline:
        return Outline.of(self.dataset(dataset_id))

    def dataset(self, dataset_id: uuid.UUID) -> Dataset:
        """Return a dataset; NotFound if there is none of that id."""
        with self._database.read() as session:
            return find(session, Dataset, dataset_id)

    def delete_dataset(self, dataset_id: uuid.UUID) -> None:
        """Delete a dataset; NotFound, or Conflict once a training was accepted with it."""
        with self._database.write() as session:
            dataset = find(session, Dataset, dataset_id)
            if session.scalars(select(Training.id).where(Training.dataset_id == dataset_id).limit(1)).first():
                raise Conflict(f"dataset {dataset_id} is the one that a training was accepted with")
            session.delete(dataset)
        self._tell_offered()

    def _tell_offered(self) -> None:
        # What is on offer may fit, or fit no more.
        with self._database.read() as session:
            offered = list(session.scalars(select(Training.id).where(Training.status == Status.OFFERED)))
        for training_id in offered:
            self.changes.tell(training_id)

    def offer(self, training: Training) -> None:
        """Add a training request, unless it is known already."""
        with self._database.write() as session:
            if session.get(Training, training.id) is None:
                session.add(training)

    def training(self, training_id: uuid.UUID) -> Training:
        """Return a training request; NotFound if there is none of that id."""
        with self._database.read() as session:
            return find(session, Training, training_id)

    def trainings(self, statuses: Sequence[Status] = tuple(Status)) -> list[Training]:
        """Return the training requests in any of these statuses, the newest first."""
        with self._database.read() as session:
            query = select(Training).where(Training.status.in_(statuses))
            return list(session.scalars(query.order_by(Training.created.desc(), Training.id)))

    def training_page(self, wanted: ColumnElement[bool], limit: int, offset: int) -> tuple[list[Training], int]:
        """Return `limit` of the wanted training requests after the first `offset`, the newest first, and how many."""
        newest = select(Training).where(wanted).order_by(Training.created.desc(), Training.id)
        with self._database.read() as session:
            return page(session, newest, limit, offset)

    def move(self, training_id: uuid.UUID, to: Status, **values: Any) -> Training:
        """Move a training along its lifecycle and set columns with it.

        Raises
        ------
        Conflict
            The lifecycle has no such step from where it is. To where it is already is no step, and allowed.
        """
        with self._database.write() as session:
            training = find(session, Training, training_id)
            move(training, TRANSITIONS, to)
            for name, value in values.items():
                setattr(training, name, value)
            changed = session.is_modified(training)
        if changed:
            self.changes.tell(training_id)
        return training

    def see(self, training_id: uuid.UUID, seen: Seen) -> None:
        """Note what the chain says of a training now."""
        document = seen.model_dump(mode="json")
        with self._database.write() as session:
            find(session, Training, training_id).seen = document
        self.changes.tell(training_id)

    def claim(self, training_id: uuid.UUID, dataset_id: uuid.UUID) -> None:
        """Begin to accept a training with a dataset; Conflict unless it is on offer."""
        with self._database.write() as session:
            training = find(session, Training, training_id)
            if training.status != Status.OFFERED:
                raise Conflict(f"training {training_id} is {training.status}: it cannot be accepted (again)")
            training.status = Status.ACCEPTING
            training.dataset_id = dataset_id
        self.changes.tell(training_id)

    def add_metric(self, training_id: uuid.UUID, iteration: int, mse: int, verified: bool = False) -> None:
        """Record an MSE. A later one of the same iteration replaces it, unless it was verified and the later is not."""
        with self._database.write() as session:
            known = session.get(Metric, (training_id, iteration))
            if known is None or verified or not known.verified:
                session.merge(Metric(training_id=training_id, iteration=iteration, mse=mse, verified=verified))
        self.changes.tell(training_id)

    def metrics(self, training_id: uuid.UUID) -> list[Metric]:
        """Return the MSEs of a training by iteration."""
        with self._database.read() as session:
            query = select(Metric).where(Metric.training_id == training_id).order_by(Metric.iteration)
            return list(session.scalars(query))

    def metrics_of(self, training_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[Metric]]:
        """Return the MSEs of several trainings by iteration."""
        found: dict[uuid.UUID, list[Metric]] = {training_id: [] for training_id in training_ids}
        with self._database.read() as session:
            query = select(Metric).where(Metric.training_id.in_(training_ids)).order_by(Metric.iteration)
            for metric in session.scalars(query):
                found[metric.training_id].append(metric)
        return found


def _newest_datasets() -> Select[uuid.UUID]:
    return select(Dataset.id).order_by(Dataset.created.desc(), Dataset.id)
