"""The model buyer's tables and queries."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, MetaData, Select, bindparam, select, update
from sqlalchemy.orm import Mapped, defer, mapped_column

from commons import database
from commons.changes import Changes
from commons.database import Database, Decimal, now, page
from commons.errors import NotFound, VerificationFailed
from commons.lifecycle import find, move
from commons.protocol.messages import Order
from commons.users.storage import User


class Status(StrEnum):
    """Where an order stands."""

    PAYING = "PAYING"
    INITIATED = "INITIATED"
    IN_PROGRESS = "IN_PROGRESS"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.PAYING: frozenset({Status.INITIATED, Status.FAILED}),
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


class Model(Base):
    """An order and the model that came of it; ``removed`` is when its user did not want to see it any more.

    ``sealed_key`` is the training's private key, encrypted under the service's secret, and ``key_proof`` what shows
    that it is sound. ``validators`` are the places of those whose sums may still be opened: None before the first.
    ``weights`` has the intercept first, in the units of the order's columns. ``claim`` is what this service says
    in a dispute, signed. ``outcome``, ``payments`` and ``dispute`` are documents for users; a dispute without a
    disputer is one that this service is about to put on chain.
    """

    __tablename__ = "models"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(User.id))
    name: Mapped[str]
    status: Mapped[str]
    order: Mapped[bytes]
    sealed_key: Mapped[bytes]
    payment: Mapped[int] = mapped_column(Decimal)
    terms: Mapped[dict[str, Any]]
    announced: Mapped[bool] = mapped_column(default=False)
    reason: Mapped[str | None] = mapped_column(default=None)
    weights: Mapped[list[Any] | None] = mapped_column(default=None)
    key_proof: Mapped[bytes | None] = mapped_column(default=None)
    validators: Mapped[list[Any] | None] = mapped_column(default=None)
    claim: Mapped[bytes | None] = mapped_column(default=None)
    outcome: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    dispute: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    payments: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    spent: Mapped[int] = mapped_column(Decimal, default=0)
    removed: Mapped[datetime | None] = mapped_column(default=None)
    created: Mapped[datetime] = mapped_column(default=now)
    updated: Mapped[datetime] = mapped_column(default=now, onupdate=now)

    @property
    def parsed_order(self) -> Order:
        """The order, decoded."""
        return Order.model_validate_json(self.order)


class Metric(Base):
    """An MSE that this service opened, in 1e-18 units of the squared scaled target."""

    __tablename__ = "metrics"

    training_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("models.id"), primary_key=True)
    iteration: Mapped[int] = mapped_column(primary_key=True)
    mse: Mapped[int] = mapped_column(Decimal)
    created: Mapped[datetime] = mapped_column(default=now)


@dataclass(frozen=True)
class Version:
    """Whose an order is, and when it, or a metric of it, changed last."""

    user_id: uuid.UUID
    updated: datetime


class Storage:
    """Queries and changes of the buyer's tables; ``changes`` says when there is something new about an order."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.changes = Changes()

    def add(self, model: Model) -> None:
        """Add an order."""
        with self._database.write() as session:
            session.add(model)

    def model(self, model_id: uuid.UUID) -> Model:
        """Return an order; NotFound if there is none of that id."""
        with self._database.read() as session:
            return find(session, Model, model_id)

    def models(self, statuses: Sequence[Status] = tuple(Status)) -> list[Model]:
        """Return the orders in any of these statuses, the newest first."""
        with self._database.read() as session:
            query = select(Model).where(Model.status.in_(statuses))
            return list(session.scalars(query.order_by(Model.created.desc(), Model.id)))

    def escrow(self) -> int:
        """Return the wei that are paid for trainings which are not over."""
        with self._database.read() as session:
            paid = select(Model.payment).where(Model.status.in_((Status.INITIATED, Status.IN_PROGRESS)))
            return sum(session.scalars(paid))

    def shown(self, model_id: uuid.UUID) -> Model:
        """Return an order that its user has not removed; NotFound if there is none of that id."""
        model = self.model(model_id)
        if model.removed is not None:
            raise NotFound(f"there is no model {model_id}")
        return model

    def version(self, model_id: uuid.UUID) -> Version:
        """Return which version of an order there is, and who sees it; NotFound if nobody does."""
        with self._database.engine.begin() as connection:
            row = connection.execute(_VERSION, {"model_id": model_id}).one_or_none()
        if row is None:
            raise NotFound(f"there is no model {model_id}")
        return Version(*row)

    def with_metrics(self, model_id: uuid.UUID) -> tuple[Model, list[Metric]]:
        """Return an order and its MSEs by iteration, both as they were at one moment."""
        with self._database.read() as session:
            return find(session, Model, model_id), list(session.scalars(_metrics(model_id)))

    def page(self, user_id: uuid.UUID, limit: int, offset: int) -> tuple[list[Model], int]:
        """Return `limit` of the orders that a user sees after the first `offset`, the newest first, and how many."""
        own = (Model.user_id == user_id, Model.removed.is_(None))
        newest = select(Model).where(*own).order_by(Model.created.desc(), Model.id).options(*_SECRETS)
        with self._database.read() as session:
            return page(session, newest, limit, offset)

    def remove(self, model_id: uuid.UUID) -> None:
        """Show an order no more; nothing if it is removed already."""
        with self._database.write() as session:
            model = find(session, Model, model_id)
            model.removed = model.removed or now()

    def move(self, model_id: uuid.UUID, to: Status | None = None, **values: Any) -> Model:
        """Move an order along its lifecycle, if it is not there yet, and set columns with it.

        Raises
        ------
        Conflict
            The lifecycle has no such step from where it is.
        """
        with self._database.write() as session:
            model = find(session, Model, model_id)
            if to is not None:
                move(model, TRANSITIONS, to)
            for name, value in values.items():
                setattr(model, name, value)
        self.changes.tell(model_id)
        return model

    def narrow(self, model_id: uuid.UUID, validators: Sequence[int]) -> None:
        """Record that only these validators' sums are opened from now on.

        Raises
        ------
        VerificationFailed
            One of them was left out before, so that it stays out.
        """
        with self._database.write() as session:
            model = find(session, Model, model_id)
            if model.validators is not None and not set(validators) <= set(model.validators):
                raise VerificationFailed(
                    f"validators {list(validators)} are said to have answered,"
                    f" and those of the evaluation before were {model.validators}: whoever was lost stays out"
                )
            model.validators = list(validators)

    def add_metric(self, training_id: uuid.UUID, iteration: int, mse: int) -> None:
        """Record an MSE; a later one of the same iteration replaces it."""
        with self._database.write() as session:
            session.merge(Metric(training_id=training_id, iteration=iteration, mse=mse))
            session.execute(update(Model).where(Model.id == training_id).values(updated=now()))
        self.changes.tell(training_id)

    def metrics(self, training_id: uuid.UUID) -> list[Metric]:
        """Return the MSEs of a training by iteration."""
        with self._database.read() as session:
            return list(session.scalars(_metrics(training_id)))


_VERSION = select(Model.user_id, Model.updated).where(Model.id == bindparam("model_id"), Model.removed.is_(None))
"""Asked by everybody who waits for a model, again and again."""

_SECRETS = [defer(column, raiseload=True) for column in (Model.sealed_key, Model.key_proof, Model.claim)]
"""What no list shows, and is long."""


def _metrics(training_id: uuid.UUID) -> Select[Metric]:
    return select(Metric).where(Metric.training_id == training_id).order_by(Metric.iteration)
