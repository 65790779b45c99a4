"""The aggregator's tables and queries."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, MetaData, func, select, true
from sqlalchemy.orm import Mapped, mapped_column

from commons import database
from commons.database import Database, Decimal, now, page
from commons.lifecycle import find, move
from commons.protocol.messages import TrainingRequest
from commons.protocol.signed import Signed


class Status(StrEnum):
    """Where a training stands."""

    INITIATED = "INITIATED"
    IN_PROGRESS = "IN_PROGRESS"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.INITIATED: frozenset({Status.IN_PROGRESS, Status.FINISHED, Status.FAILED, Status.CANCELLED}),
    Status.IN_PROGRESS: frozenset({Status.FINISHED, Status.FAILED}),
    Status.FINISHED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}


class Base(database.Base):
    """What this service's own tables share. Other services have tables of the same names."""

    __abstract__ = True
    metadata = MetaData()


class DataOwner(Base):
    """An owner that asked to be told of trainings."""

    __tablename__ = "data_owners"

    address: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str]
    registered: Mapped[datetime] = mapped_column(default=now)


class Offer(Base):
    """An owner that was told of a training."""

    __tablename__ = "offers"

    training_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trainings.id"), primary_key=True)
    address: Mapped[str] = mapped_column(primary_key=True)


class Training(Base):
    """A training and how far it has come.

    ``request`` is the buyer's, as it signed it. ``validators`` are the places of the validators that have answered so
    far, None before the first evaluation. The rounds are in the transcript.
    """

    __tablename__ = "trainings"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    status: Mapped[str]
    request: Mapped[bytes]
    validators: Mapped[list[Any] | None] = mapped_column(default=None)
    outcome: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    delivered: Mapped[bool] = mapped_column(default=False)
    reason: Mapped[str | None] = mapped_column(default=None)
    created: Mapped[datetime] = mapped_column(default=now)
    updated: Mapped[datetime] = mapped_column(default=now, onupdate=now)

    @property
    def signed_request(self) -> Signed:
        """The buyer's request, as it signed it."""
        return Signed.unpack(self.request)

    @property
    def parsed_request(self) -> TrainingRequest:
        """The buyer's request, decoded."""
        return TrainingRequest.unpack(self.signed_request.content)


class Metric(Base):
    """An MSE that was opened, in 1e-18 units of the squared scaled target."""

    __tablename__ = "metrics"

    training_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trainings.id"), primary_key=True)
    iteration: Mapped[int] = mapped_column(primary_key=True)
    mse: Mapped[int] = mapped_column(Decimal)
    created: Mapped[datetime] = mapped_column(default=now)


class Phase(Base):
    """Seconds and bytes of HTTP bodies that a phase of a training took."""

    __tablename__ = "phases"

    training_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("trainings.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    seconds: Mapped[float] = mapped_column(default=0.0)
    bytes: Mapped[int] = mapped_column(BigInteger, default=0)


class Storage:
    """Queries and changes of the aggregator's tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, address: str, url: str) -> None:
        """Add a data owner, or change where it is reached."""
        with self._database.write() as session:
            session.merge(DataOwner(address=address, url=url))

    def data_owners(self) -> list[DataOwner]:
        """Return the registered data owners, the first first."""
        with self._database.read() as session:
            return list(session.scalars(select(DataOwner).order_by(DataOwner.registered, DataOwner.address)))

    def data_owner_page(self, limit: int, offset: int, address: str | None = None) -> tuple[list[DataOwner], int]:
        """Return `limit` registered data owners after the first `offset`, the first first, and how many in all.

        With an address, however its letters are written, that is the one of that address.
        """
        wanted = true() if address is None else func.lower(DataOwner.address) == address.lower()
        oldest = select(DataOwner).where(wanted).order_by(DataOwner.registered, DataOwner.address)
        with self._database.read() as session:
            return page(session, oldest, limit, offset)

    def add(self, training: Training) -> None:
        """Add a training, unless it is known already."""
        with self._database.write() as session:
            if session.get(Training, training.id) is None:
                session.add(training)

    def training(self, training_id: uuid.UUID) -> Training:
        """Return a training; NotFound if there is none of that id."""
        with self._database.read() as session:
            return find(session, Training, training_id)

    def trainings(self, statuses: Sequence[Status] = tuple(Status), limit: int | None = None) -> list[Training]:
        """Return the trainings in any of these statuses, the newest first: all, or at most `limit`."""
        with self._database.read() as session:
            query = select(Training).where(Training.status.in_(statuses))
            return list(session.scalars(query.order_by(Training.created.desc(), Training.id).limit(limit)))

    def training_page(self, limit: int, offset: int) -> tuple[list[Training], int]:
        """Return `limit` trainings after the first `offset`, the newest first, and how many there are in all."""
        newest = select(Training).order_by(Training.created.desc(), Training.id)
        with self._database.read() as session:
            return page(session, newest, limit, offset)

    def offered(self, training_id: uuid.UUID) -> set[str]:
        """Return the addresses of the owners that were told of a training."""
        with self._database.read() as session:
            return set(session.scalars(select(Offer.address).where(Offer.training_id == training_id)))

    def add_offer(self, training_id: uuid.UUID, address: str) -> None:
        """Note that an owner was told of a training."""
        with self._database.write() as session:
            session.merge(Offer(training_id=training_id, address=address))

    def move(self, training_id: uuid.UUID, to: Status | None = None, **values: Any) -> Training:
        """Move a training along its lifecycle, if it is not there yet, and set columns with it.

        Raises
        ------
        Conflict
            The lifecycle has no such step from where it is.
        """
        with self._database.write() as session:
            training = find(session, Training, training_id)
            if to is not None:
                move(training, TRANSITIONS, to)
            for name, value in values.items():
                setattr(training, name, value)
        return training

    def add_phases(self, training_id: uuid.UUID, spent: Mapping[str, tuple[float, int]]) -> None:
        """Add the seconds and bytes that phases have taken."""
        with self._database.write() as session:
            for name, (seconds, size) in spent.items():
                phase = session.get(Phase, (training_id, name))
                if phase is None:
                    session.add(Phase(training_id=training_id, name=name, seconds=seconds, bytes=size))
                else:
                    phase.seconds += seconds
                    phase.bytes += size

    def phases(self, training_id: uuid.UUID) -> list[Phase]:
        """Return what the phases of a training took."""
        with self._database.read() as session:
            return list(session.scalars(select(Phase).where(Phase.training_id == training_id)))

    def add_metric(self, training_id: uuid.UUID, iteration: int, mse: int) -> None:
        """Record an MSE; a later one of the same iteration replaces it."""
        with self._database.write() as session:
            session.merge(Metric(training_id=training_id, iteration=iteration, mse=mse))

    def metrics(self, training_id: uuid.UUID) -> list[Metric]:
        """Return the MSEs of a training by iteration."""
        with self._database.read() as session:
            query = select(Metric).where(Metric.training_id == training_id).order_by(Metric.iteration)
            return list(session.scalars(query))
