"""Routes of orders and models, for users."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from http import HTTPStatus
from typing import Annotated, Any, Literal

from flask import Response
from pydantic import Field, StrictInt, field_validator

from commons.chain.settlement import trainer_count
from commons.errors import InvalidInput
from commons.http import bodies
from commons.http.application import JSON_BODY_LIMIT
from commons.http.documents import DisputeDocument, Listing, Page, Wei
from commons.http.routes import NOT_MODIFIED, Routes, problems
from commons.learning.contributions import UNIT
from commons.protocol.messages import (
    Body,
    DataRequirements,
    HyperParameters,
    ModelType,
    Name,
    Participants,
    Real,
)
from commons.protocol.moments import MINIMUM_TRAINERS
from commons.protocol.outcome import settlement_bytes
from commons.users.access import Access
from model_buyer.ordering import NewOrder, Ordering, Periods
from model_buyer.predictions import Predictions
from model_buyer.storage import Metric, Model, Status, Storage

WEI_PER_UNIT = {"wei": 1, "gwei": 10**9, "ether": 10**18}
DAY_S = 24 * 60 * 60


class Payment(Body):
    """An amount of money."""

    unit: Literal["ether", "gwei", "wei"] = "ether"
    # Calculating with 1e-9999999 would take seconds, and with some digits more for ever.
    value: Annotated[Decimal, Field(gt=0, le=10**27, max_digits=100, allow_inf_nan=False)]

    @property
    def wei(self) -> int:
        """The amount in wei; InvalidInput if it is no whole number of them."""
        wei = Fraction(self.value) * WEI_PER_UNIT[self.unit]
        if wei.denominator != 1:
            raise InvalidInput("is no whole number of wei", "payments_requirements.pay_for_model.value")
        return wei.numerator


class PaymentsRequirements(Body):
    """What the buyer pays."""

    pay_for_model: Payment


class Terms(Body):
    """How long the phases may take, and the part of the trainers' money that is paid whatever the improvement."""

    join_seconds: Annotated[StrictInt, Field(ge=1, le=30 * DAY_S)] = DAY_S
    training_seconds: Annotated[StrictInt, Field(ge=1, le=30 * DAY_S)] = DAY_S
    review_seconds: Annotated[StrictInt, Field(ge=1, le=30 * DAY_S)] = 60 * 60
    fixed_share: Annotated[Real, Field(ge=0, le=1)] = 0.1


class OrderFields(Body):
    """An order, as a user sends it."""

    model_type: ModelType
    name: Name
    user_id: uuid.UUID
    payments_requirements: PaymentsRequirements
    data_requirements: DataRequirements
    hyper_parameters: HyperParameters = HyperParameters()
    participants: Participants = Participants()
    terms: Terms = Terms()

    @field_validator("model_type", mode="before")
    @classmethod
    def _known_type(cls, value: Any) -> Any:
        if value != "LINEAR_REGRESSION":
            raise ValueError("is unknown: LINEAR_REGRESSION is the one there is")
        return value


class ModelSummary(Body):
    """An order and how far it has come; ``reason`` says why it is there, or what is wrong."""

    id: uuid.UUID
    status: Literal["INITIATED", "IN_PROGRESS", "FINISHED", "FAILED", "CANCELLED"]
    type: ModelType
    name: str
    creation_date: datetime
    updated_date: datetime
    user_id: uuid.UUID
    reason: str | None


class ModelList(Listing):
    """Some of one's orders, the newest first."""

    models: list[ModelSummary]


class OrderedModel(ModelSummary):
    """An order, and once there is one its model: the intercept, then a weight per feature, in the columns' units."""

    weights: list[float] | None


class TrainerScore(Body):
    """What one trainer gave: the MSE of what the others make without it, its share of the contributions, and its pay.

    ``payment`` is in wei.
    """

    data_owner: str
    partial_MSE: float
    contributions: float
    payment: Wei


class Measurement(Body):
    """The MSE that validators found after an iteration, in squared units of the target."""

    time: datetime
    iteration: int
    mse: float


class Metrics(Body):
    """How good the model is, in squared units of the target, and what it cost, in wei."""

    initial_mse: float | None
    mse: float | None
    trained_mse: float | None
    averaged_mse: float | None
    delivered_model: Literal["trained", "averaged"] | None
    partial_MSEs: list[TrainerScore]
    iterations: int
    improvement: float
    mse_history: list[Measurement]
    payments: dict[str, Wei]
    initial_payment: Wei
    spent: Wei


class ModelDocument(Body):
    """An order in full."""

    model: OrderedModel
    dispute: DisputeDocument | None
    metrics: Metrics


DOCUMENTS = 32
"""How many documents are kept: as many models as are waited for at once, or so."""


class Orders:
    """What users do with their orders, by the API as by pages.

    Parameters
    ----------
    storage : Storage
    predictions : Predictions
        What was made with the models.
    access : Access
        Says who sends the current request.
    ordering : Ordering
    """

    def __init__(self, storage: Storage, predictions: Predictions, access: Access, ordering: Ordering) -> None:
        self._storage = storage
        self._predictions = predictions
        self._access = access
        self._ordering = ordering
        # Whoever waits for a model asks every second, most often for what was made for somebody else a moment before.
        self._made = lru_cache(DOCUMENTS)(self._make)

    def order(self, body: OrderFields) -> ModelDocument:
        """Order a training, and pay for it.

        Raises
        ------
        InvalidInput
            It is somebody else's, or cannot be carried out.
        InsufficientFunds, Conflict, PeerRefused, PeerUnavailable
            As :meth:`model_buyer.ordering.Ordering.order`.
        """
        _require_sendable(body)
        _require_standardisable(body)
        if body.user_id != self._access.user().id:
            raise InvalidInput("must be your own id: models are seen by who ordered them", "user_id")
        model = self._ordering.order(
            NewOrder(
                user_id=body.user_id,
                name=body.name,
                model_type=body.model_type,
                payment=body.payments_requirements.pay_for_model.wei,
                data_requirements=body.data_requirements,
                hyper_parameters=body.hyper_parameters,
                participants=body.participants,
                periods=Periods(
                    join_seconds=body.terms.join_seconds,
                    training_seconds=body.terms.training_seconds,
                    review_seconds=body.terms.review_seconds,
                    fixed_share=round(Decimal(repr(body.terms.fixed_share)) * UNIT),
                ),
            )
        )
        return _document(model, [])

    def page(self, page: Page) -> tuple[list[Model], int]:
        """Return some of one's orders, the newest first, and how many there are."""
        return self._storage.page(self._access.user().id, page.limit, page.offset)

    def documents(self, page: Page) -> tuple[list[ModelDocument], int]:
        """Return some of one's orders in full, the newest first, and how many there are."""
        found, total = self.page(page)
        return [_document(model, self._storage.metrics(model.id)) for model in found], total

    def own(self, model_id: uuid.UUID) -> Model:
        """Return an order of one's own; NotFound if it is none."""
        self.version(model_id)
        return self._storage.shown(model_id)

    def version(self, model_id: uuid.UUID) -> datetime:
        """Return when an order of one's own was changed last; NotFound if it is none."""
        found = self._storage.version(model_id)
        self._access.require_own(found.user_id, f"model {model_id}")
        return found.updated

    def content(self, model_id: uuid.UUID) -> tuple[bytes, str]:
        """Return the document of an order of one's own, as JSON, and its tag; NotFound if it is none."""
        return self._made(model_id, self.version(model_id))

    def show(self, model_id: uuid.UUID) -> ModelDocument:
        """Return an order of one's own in full; NotFound if it is none."""
        self.version(model_id)
        return _document(*self._storage.with_metrics(model_id))

    def delete(self, model: Model) -> ModelDocument | None:
        """Cancel an order of one's own that nobody has accepted yet, and return it; or remove it, if it is over.

        Parameters
        ----------
        model : Model
            As :meth:`own` returned it.

        Raises
        ------
        Conflict, ChainUnavailable
            It is neither; or as :meth:`model_buyer.ordering.Ordering.cancel`.
        """
        if Status(model.status) not in (Status.FINISHED, Status.FAILED):
            return _document(self._ordering.cancel(model.id), [])
        self._ordering.remove(model.id)
        self._predictions.forget_removed()
        return None

    def _make(self, model_id: uuid.UUID, updated: datetime) -> tuple[bytes, str]:
        model, metrics = self._storage.with_metrics(model_id)
        return _document(model, metrics).model_dump_json().encode(), _tag(model.updated)


def blueprint(orders: Orders) -> Routes:
    """Make the routes."""
    routes = Routes("models", __name__, "Orders of trainings, and the models that come of them", url_prefix="/models")

    @routes.post(
        "",
        responses={
            HTTPStatus.CREATED: ModelDocument,
            **problems(
                HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.CONFLICT, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE
            ),
        },
    )
    def order(body: OrderFields) -> ModelDocument:
        """Order a training, and pay for it."""
        return orders.order(body)

    @routes.get("", responses={HTTPStatus.OK: ModelList})
    def list_all(query: Page) -> ModelList:
        """List one's orders."""
        found, total = orders.page(query)
        summaries = [ModelSummary(**_summary(model)) for model in found]
        return ModelList(models=summaries, total=total, limit=query.limit, offset=query.offset)

    @routes.get("/<uuid:model_id>", responses={HTTPStatus.OK: ModelDocument, **NOT_MODIFIED})
    def show(model_id: uuid.UUID) -> Response:
        """Show an order of one's own, with its model and metrics."""
        return bodies.tagged(*orders.content(model_id))

    @routes.delete(
        "/<uuid:model_id>",
        responses={
            HTTPStatus.OK: ModelDocument,
            HTTPStatus.NO_CONTENT: {"description": "It was over, and is removed"},
            **problems(HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED, HTTPStatus.SERVICE_UNAVAILABLE),
        },
    )
    def delete(model_id: uuid.UUID) -> Response:
        """Cancel an order that nobody has accepted yet, and have it refunded; or remove a model that is over.

        A finished or failed model is shown no more, and what was predicted with it is deleted. A cancelled order stays
        in the list, so that to cancel twice is to cancel once. What has been accepted ends by itself. Send the ETag in
        If-Match to be sure that it is still what you saw.
        """
        model = orders.own(model_id)  # read once: what finishes meanwhile is not removed as if it had been seen
        bodies.require_match(_tag(model.updated))
        cancelled = orders.delete(model)
        return Response(status=HTTPStatus.NO_CONTENT) if cancelled is None else bodies.document(cancelled)

    return routes


def _require_sendable(fields: OrderFields) -> None:
    features, participants = fields.data_requirements.features.list, fields.participants
    trainers = trainer_count(participants.wanted, round(participants.validator_share * UNIT))
    size = settlement_bytes(len(features) + 1, trainers, fields.hyper_parameters.key_bits)
    if size > JSON_BODY_LIMIT:
        raise InvalidInput(
            f"{len(features)} features are too many for {trainers} trainers: scoring their coalitions would take"
            f" a message of {size >> 20} MB, and {JSON_BODY_LIMIT >> 20} MB are the most",
            "data_requirements.features.list",
        )


def _require_standardisable(fields: OrderFields) -> None:
    participants = fields.participants
    trainers = trainer_count(participants.minimum, round(participants.validator_share * UNIT))
    if fields.data_requirements.features.pre_processing and trainers < MINIMUM_TRAINERS:
        raise InvalidInput(
            f"with {participants.minimum} data owners {trainers} would train, and means over fewer than"
            f" {MINIMUM_TRAINERS} trainers are not shown: ask for more owners, or a smaller validator_share",
            "participants.minimum",
        )


def _summary(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "status": "INITIATED" if model.status == "PAYING" else model.status,
        "type": model.parsed_order.model_type,
        "name": model.name,
        "creation_date": model.created,
        "updated_date": model.updated,
        "user_id": model.user_id,
        "reason": model.reason or _missing(model),
    }


def _missing(model: Model) -> str | None:
    undelivered = model.status == Status.FINISHED and model.weights is None
    return "the training is settled on chain, and its model was not delivered" if undelivered else None


def _tag(updated: datetime) -> str:
    return f"{updated.timestamp():.6f}"


def _document(model: Model, metrics: Sequence[Metric]) -> ModelDocument:
    scale = model.parsed_order.target_scale**2 / UNIT
    outcome = model.outcome or {}
    paid = model.payments or {}
    first = outcome.get("initial_mse", metrics[0].mse * scale if metrics else None)
    last = outcome.get("mse", metrics[-1].mse * scale if metrics else None)
    disputed = model.dispute if model.dispute and model.dispute["disputer"] else None
    return ModelDocument(
        model=OrderedModel(**_summary(model), weights=model.weights),
        dispute=None if disputed is None else DisputeDocument(**disputed),
        metrics=Metrics(
            initial_mse=first,
            mse=last,
            trained_mse=outcome.get("trained_mse"),
            averaged_mse=outcome.get("averaged_mse"),
            delivered_model=outcome.get("model"),
            partial_MSEs=[
                TrainerScore(**trainer, payment=paid.get(trainer["data_owner"], "0"))
                for trainer in outcome.get("trainers", [])
            ],
            iterations=outcome.get("iterations", metrics[-1].iteration if metrics else 0),
            improvement=max(0.0, (first - last) / first) if first else 0.0,
            mse_history=[
                Measurement(time=metric.created, iteration=metric.iteration, mse=metric.mse * scale)
                for metric in metrics
            ],
            payments=paid,
            initial_payment=str(model.payment),
            spent=str(model.spent),
        ),
    )
