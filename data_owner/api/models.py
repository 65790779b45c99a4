"""Routes of training requests, as the owner's users see them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
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
from data_owner.datasets import Comparison
from data_owner.participation import Participation, fitting, missing
from data_owner.storage import Metric, Outline, Status, Storage, Training

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


@dataclass(frozen=True)
class Overview:
    """A training request with what is known of it here.

    Parameters
    ----------
    training : Training
    comparisons : sequence of Comparison
        How the datasets fit it, while it is on offer.
    metrics : sequence of Metric
        Its MSEs by iteration.
    """

    training: Training
    comparisons: Sequence[Comparison]
    metrics: Sequence[Metric]

    @cached_property
    def document(self) -> TrainingDocument:
        """It, as users see it."""
        lack = missing(self.comparisons) if self.training.status == Status.OFFERED else None
        return _document(self.training, lack, self.metrics)

    @property
    def fitting(self) -> Outline | None:
        """The dataset that it would be accepted with, if one fits."""
        return fitting(self.comparisons)

    @property
    def closest(self) -> Comparison | None:
        """The dataset that lacks least, if there is one."""
        return min(self.comparisons, key=lambda each: len(each.mismatches), default=None)


class Requests:
    """What users do with training requests, by the API as by pages.

    Parameters
    ----------
    storage : Storage
    participation : Participation
    """

    def __init__(self, storage: Storage, participation: Participation) -> None:
        self._storage = storage
        self._participation = participation

    def page(self, query: Filter) -> tuple[list[Overview], int]:
        """Return some of the training requests, the newest first, and how many of these there are."""
        offered = self._participation.on_offer()
        found, total = self._storage.training_page(_wanted(query.status, offered), query.limit, query.offset)
        metrics = self._storage.metrics_of([training.id for training in found])
        return [Overview(each, offered.get(each.id, []), metrics[each.id]) for each in found], total

    def show(self, training_id: uuid.UUID) -> Overview:
        """Return a training request; NotFound if there is none of that id."""
        return self._overview(self._storage.training(training_id))

    def accept(self, training_id: uuid.UUID) -> Overview:
        """Take part in a training; raises as :meth:`data_owner.participation.Participation.accept`."""
        return self._overview(self._participation.accept(training_id))

    def _overview(self, training: Training) -> Overview:
        offered = training.status == Status.OFFERED
        comparisons = self._participation.compare(training.parsed_order) if offered else []
        return Overview(training, comparisons, self._storage.metrics(training.id))


def blueprint(requests: Requests) -> Routes:
    """Make the routes."""
    routes = Routes("models", __name__, "Training requests, and taking part")

    @routes.get("/models", responses={HTTPStatus.OK: TrainingList})
    def list_all(query: Filter) -> TrainingList:
        """List the training requests, or those with a status."""
        listed, total = requests.page(query)
        return TrainingList(
            models=[each.document for each in listed], total=total, limit=query.limit, offset=query.offset
        )

    @routes.get("/models/<uuid:training_id>", responses={HTTPStatus.OK: TrainingDocument, **NOT_MODIFIED})
    def show(training_id: uuid.UUID) -> Response:
        """Show a training request."""
        return bodies.tagged(requests.show(training_id).document.model_dump_json().encode())

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
        return requests.accept(training_id).document

    return routes


def _wanted(status: Visible | None, offered: Mapping[uuid.UUID, Sequence[Comparison]]) -> ColumnElement[bool]:
    ready = [training_id for training_id, comparisons in offered.items() if fitting(comparisons) is not None]
    match status:
        case None:
            return true()
        case "WAITING":
            return and_(Training.status == Status.OFFERED, Training.id.not_in(ready))
        case "READY":
            fits = and_(Training.status == Status.OFFERED, Training.id.in_(ready))
            return or_(Training.status == Status.ACCEPTING, fits)
        case _:
            return Training.status == status


def _document(training: Training, missing: str | None, metrics: Sequence[Metric]) -> TrainingDocument:
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
