"""Routes of training requests, as the owner's users see them."""

from __future__ import annotations

import uuid
from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal, cast, get_args

from pydantic import field_validator

from commons.http.documents import DisputeDocument, Wei
from commons.http.routes import Routes, problems
from commons.learning.contributions import UNIT
from commons.protocol.messages import Body, Order
from data_owner.participation import Participation
from data_owner.storage import Status, Storage, Training

Visible = Literal["WAITING", "READY", "INITIATED", "IN_PROGRESS", "FINISHED", "FAILED"]
"""Where a training stands, as users see it."""


class Filter(Body):
    """Which trainings."""

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


class TrainingList(Body):
    """The training requests."""

    models: list[TrainingDocument]


def blueprint(storage: Storage, participation: Participation) -> Routes:
    """Make the routes."""
    routes = Routes("models", __name__, "Training requests, and taking part")

    def document(training: Training) -> TrainingDocument:
        order = training.parsed_order
        status, missing = training.status, None
        if status == Status.OFFERED:
            fitting = participation.fitting_dataset(order)
            status = "WAITING" if fitting is None else "READY"
            missing = participation.what_is_missing(order) if fitting is None else None
        elif status == Status.ACCEPTING:
            status = "READY"
        scale = order.target_scale**2 / UNIT
        metrics = storage.metrics(training.id)
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
        documents = [document(training) for training in storage.trainings()]
        return TrainingList(models=[each for each in documents if query.status in (None, each.status)])

    @routes.get("/models/<uuid:training_id>", responses={HTTPStatus.OK: TrainingDocument})
    def show(training_id: uuid.UUID) -> TrainingDocument:
        """Show a training request."""
        return document(storage.training(training_id))

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
        return document(participation.accept(training_id))

    return routes
