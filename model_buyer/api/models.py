"""Routes of orders and models, for users."""

from __future__ import annotations

import uuid
from decimal import Decimal
from fractions import Fraction
from http import HTTPStatus
from typing import Annotated, Any, Literal

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue
from pydantic import Field, StrictInt, field_validator

from commons.chain.settlement import trainer_count
from commons.errors import InvalidInput
from commons.http import bodies
from commons.http.application import JSON_BODY_LIMIT
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
from commons.protocol.outcome import settlement_bytes
from commons.users.accounts import Accounts
from model_buyer.ordering import NewOrder, Ordering, Periods
from model_buyer.storage import Model, Status, Storage

WEI_PER_UNIT = {"wei": 1, "gwei": 10**9, "ether": 10**18}
DAY_S = 24 * 60 * 60


class Payment(Body):
    """An amount of money."""

    unit: Literal["ether", "gwei", "wei"] = "ether"
    value: Annotated[Decimal, Field(gt=0, le=10**27, allow_inf_nan=False)]

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


def blueprint(storage: Storage, accounts: Accounts, ordering: Ordering) -> Blueprint:
    """Make the routes."""
    routes = Blueprint("models", __name__, url_prefix="/models")

    def own(model_id: uuid.UUID) -> Model:
        model = storage.model(model_id)
        accounts.access.require_own(model.user_id, f"model {model_id}")
        return model

    @routes.post("")
    def order() -> ResponseReturnValue:
        fields = bodies.read(OrderFields)
        _require_sendable(fields)
        if fields.user_id != accounts.access.user().id:
            raise InvalidInput("must be your own id: models are seen by who ordered them", "user_id")
        model = ordering.order(
            NewOrder(
                user_id=fields.user_id,
                name=fields.name,
                model_type=fields.model_type,
                payment=fields.payments_requirements.pay_for_model.wei,
                data_requirements=fields.data_requirements,
                hyper_parameters=fields.hyper_parameters,
                participants=fields.participants,
                periods=Periods(
                    join_seconds=fields.terms.join_seconds,
                    training_seconds=fields.terms.training_seconds,
                    review_seconds=fields.terms.review_seconds,
                    fixed_share=round(Decimal(repr(fields.terms.fixed_share)) * UNIT),
                ),
            )
        )
        return jsonify(_document(storage, model)), HTTPStatus.CREATED

    @routes.get("")
    def list_all() -> ResponseReturnValue:
        user_id = accounts.access.user().id
        return jsonify({"models": [_summary(model) for model in storage.models() if model.user_id == user_id]})

    @routes.get("/<uuid:model_id>")
    def show(model_id: uuid.UUID) -> ResponseReturnValue:
        return jsonify(_document(storage, own(model_id)))

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


def _summary(model: Model) -> dict[str, Any]:
    return {
        "id": str(model.id),
        "status": "INITIATED" if model.status == "PAYING" else model.status,
        "type": model.parsed_order.model_type,
        "name": model.name,
        "creation_date": model.created.isoformat(),
        "updated_date": model.updated.isoformat(),
        "user_id": str(model.user_id),
        "reason": model.reason or _missing(model),
    }


def _missing(model: Model) -> str | None:
    undelivered = model.status == Status.FINISHED and model.weights is None
    return "the training is settled on chain, and its model was not delivered" if undelivered else None


def _document(storage: Storage, model: Model) -> dict[str, Any]:
    scale = model.parsed_order.target_scale**2 / UNIT
    metrics = storage.metrics(model.id)
    outcome = model.outcome or {}
    paid = model.payments or {}
    first = outcome.get("initial_mse", metrics[0].mse * scale if metrics else None)
    last = outcome.get("mse", metrics[-1].mse * scale if metrics else None)
    return {
        "model": {**_summary(model), "weights": model.weights},
        "dispute": model.dispute if model.dispute and model.dispute["disputer"] else None,
        "metrics": {
            "initial_mse": first,
            "mse": last,
            "trained_mse": outcome.get("trained_mse"),
            "averaged_mse": outcome.get("averaged_mse"),
            "delivered_model": outcome.get("model"),
            "partial_MSEs": [
                {**trainer, "payment": paid.get(trainer["data_owner"], "0")} for trainer in outcome.get("trainers", [])
            ],
            "iterations": outcome.get("iterations", metrics[-1].iteration if metrics else 0),
            "improvement": max(0.0, (first - last) / first) if first else 0.0,
            "mse_history": [
                {"time": metric.created.isoformat(), "iteration": metric.iteration, "mse": metric.mse * scale}
                for metric in metrics
            ],
            "payments": paid,
            "initial_payment": str(model.payment),
            "spent": str(model.spent),
        },
    }
