"""Routes of training requests, as the owner's users see them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal, cast, get_args

from flask import Response
from pydantic import field_validator
from sqlalchemy import ColumnElement, and_, or_, true

from commons.http import bodies
from commons.http.documents import DisputeDocument, Listing, Page, Wei
from commons.http.routes import NOT_MODIFIED, Routes, problems
from commons.learning.contributions import UNIT
from commons.protocol.messages import Body, Order
from data_owner.participation import Participation
from data_owner.storage import Metric, Status, Storage, Training

Visible = Literal["WAITING", "READY", "INITIATED", "IN_PROGRESS", "FINISHED", "FAILED"]
"""Where a training stands, as users see it."""


class Filter(Page):
    """Which trainings, and which part of their list."""

    status: Visible | None = None

    @field_validator("status", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if value not in (None, *get_args(Visible)):
            raise ValueError(f"must be one of {', '.join(get_args(Visible))}")
        return value


class Measurement(Body):
    """The MSE after an iteration, in squared units of the target, and whether it was proven to this owner."""

    time: datetime
    iteration: int
    mse: float
    verified: bool


class TrainingDocument(Body):
    """A training request, and what became of it. ``earned`` is in wei."""

    id: uuid.UUID
    status: Visible
    role: str | None
    reason: str | None
    dispute: DisputeDocument | None
    buyer: str
    aggregator: str
    dataset_id: uuid.UUID | None
    mse_history: list[Measurement]
    improvement: float
    earned: Wei
    creation_date: datetime
    order: Order


class TrainingList(Listing):
    """Some of the training requests, the newest first."""

    models: list[TrainingDocument]


def blueprint(storage: Storage, participation: Participation) -> Routes:
    """Make the routes."""
    routes = Routes("models", __name__, "Training requests, and taking part")

    def shown(training: Training) -> TrainingDocument:
        missing = participation.what_is_missing(training.parsed_order) if training.status == Status.OFFERED else None
        return document(training, missing, storage.metrics(training.id))

    def document(training: Training, missing: str | None, metrics: Sequence[Metric]) -> TrainingDocument:
        order = training.parsed_order
        status = training.status
        if status == Status.OFFERED:
            status = "READY" if missing is None else "WAITING"
        elif status == Status.ACCEPTING:
            status = "READY"
        scale = order.target_scale**2 / UNIT
        first, last = (metrics[0].mse, metrics[-1].mse) if metrics else (0, 0)
        return TrainingDocument(
            id=training.id,
            status=cast(Visible, status),
            role=training.role,
            reason=training.reason or missing,
            dispute=None if training.dispute is None else DisputeDocument(**training.dispute),
            buyer=training.buyer,
            aggregator=training.aggregator,
            dataset_id=training.dataset_id,
            mse_history=[
                Measurement(
                    time=metric.created, iteration=metric.iteration, mse=metric.mse * scale, verified=metric.verified
                )
                for metric in metrics
            ],
            improvement=max(0.0, (first - last) / first) if first else 0.0,
            earned=str(training.earned),
            creation_date=training.created,
            order=order,
        )

    @routes.get("/models", responses={HTTPStatus.OK: TrainingList})
    def list_all(query: Filter) -> TrainingList:
        """List the training requests, or those with a status."""
        missing = participation.on_offer()
        found, total = storage.training_page(_wanted(query.status, missing), query.limit, query.offset)
        metrics = storage.metrics_of([training.id for training in found])
        listed = [document(each, missing.get(each.id), metrics[each.id]) for each in found]
        return TrainingList(models=listed, total=total, limit=query.limit, offset=query.offset)

    @routes.get("/models/<uuid:training_id>", responses={HTTPStatus.OK: TrainingDocument, **NOT_MODIFIED})
    def show(training_id: uuid.UUID) -> Response:
        """Show a training request."""
        return bodies.tagged(shown(storage.training(training_id)).model_dump_json().encode())

    @routes.put(
        "/trainings/<uuid:training_id>/accept",
        responses={
            HTTPStatus.OK: TrainingDocument,
            **problems(
                HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.CONFLICT, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE
            ),
        },
    )
    def accept(training_id: uuid.UUID) -> TrainingDocument:
        """Take part in a training, with a dataset that fits."""
        return shown(participation.accept(training_id))

    return routes


def _wanted(status: Visible | None, missing: Mapping[uuid.UUID, str | None]) -> ColumnElement[bool]:
    fitting = [training_id for training_id, reason in missing.items() if reason is None]
    match status:
        case None:
            return true()
        case "WAITING":
            return and_(Training.status == Status.OFFERED, Training.id.not_in(fitting))
        case "READY":
            offered = and_(Training.status == Status.OFFERED, Training.id.in_(fitting))
            return or_(Training.status == Status.ACCEPTING, offered)
        case _:
            return Training.status == status
