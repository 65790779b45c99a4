"""Routes of trainings."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal, get_args

from flask import Response, request

from commons.chain.arbitration import require_arbiter
from commons.chain.connection import Connection
from commons.http import bodies
from commons.http.documents import Listing, Page
from commons.http.request_signing import RequestVerifier
from commons.http.routes import NOT_MODIFIED, Routes, problems
from commons.http.signatures import Signatures, require_sender
from commons.learning.contributions import UNIT, shares
from commons.protocol.messages import Acceptance, Body, ModelType, TrainingRequest
from commons.protocol.transcript import Header
from federated_aggregator.orchestration import Orchestration
from federated_aggregator.storage import Status, Storage, Training
from federated_aggregator.transcripts import Transcripts

Phase = Literal["joining", "rounds", "evaluation", "contributions", "settlement"]


class TrainingSummary(Body):
    """A training, and after how many rounds it is."""

    id: uuid.UUID
    status: Status
    type: ModelType
    iteration: int
    iterations: int
    creation_date: datetime
    updated_date: datetime


class TrainingList(Listing):
    """Some of the trainings, the newest first."""

    models: list[TrainingSummary]


class Roles(Body):
    """The accounts that train and that validate, in the order of the contract."""

    trainers: list[str]
    validators: list[str]


class PhaseDocument(Body):
    """How long a phase has taken so far, and the bytes that were exchanged in it."""

    name: Phase
    seconds: float
    bytes: int


class TrainingDocument(TrainingSummary):
    """A training in full."""

    roles: Roles
    phases: list[PhaseDocument]
    reason: str | None


class Contribution(Body):
    """What a trainer contributed: its Shapley value and the MSE without it, in squared units of the target."""

    data_owner: str
    contribution: float
    share: float
    partial_MSE: float


class ContributionList(Body):
    """What every trainer contributed; empty before the result."""

    id: uuid.UUID
    contributions: list[Contribution]


def blueprint(
    storage: Storage,
    transcripts: Transcripts,
    orchestration: Orchestration,
    chain: Connection,
    signatures: Signatures,
    requests: RequestVerifier,
    nudge: Callable[[uuid.UUID], None],
) -> Routes:
    """Make the routes."""
    routes = Routes("models", __name__, "Trainings")

    def roles(training_id: uuid.UUID) -> Roles:
        # Asked again and again: of the chain until the training has begun, where its transcript says it.
        known = transcripts.find(training_id, "header", 0, Header) or chain.marketplace().training(training_id)
        return Roles(trainers=list(known.trainers), validators=list(known.validators))

    def owners(training_id: uuid.UUID) -> list[str]:
        return [owner.address for owner in chain.marketplace().training(storage.training(training_id).id).owners]

    @routes.post("/model", **routes.between_services("Take an order", TrainingRequest))
    def take_order() -> Response:
        caller = requests.caller()
        question = signatures.read(TrainingRequest)
        requests.require(lambda: [question.content.buyer])
        require_sender(question, caller)
        orchestration.take_order(question.signed, question.content)
        storage.add_phases(question.content.training, {"joining": (0.0, len(request.get_data()))})
        nudge(question.content.training)
        return signatures.acknowledge(question)

    @routes.post("/model/<uuid:training_id>/accept", **routes.between_services("Note an acceptance", Acceptance))
    def accepted(training_id: uuid.UUID) -> Response:
        caller = requests.require(lambda: owners(training_id))
        question = signatures.read_from(caller, Acceptance, training_id)
        require_sender(question, question.content.address)
        storage.add_phases(training_id, {"joining": (0.0, len(request.get_data()))})
        nudge(training_id)
        return signatures.acknowledge(question)

    @routes.get("/model", responses={HTTPStatus.OK: TrainingList})
    def list_all(query: Page) -> TrainingList:
        """List the trainings."""
        found, total = storage.training_page(query.limit, query.offset)
        last = transcripts.lasts([training.id for training in found], "round")
        listed = [TrainingSummary(**_summary(training, last.get(training.id, -1) + 1)) for training in found]
        return TrainingList(models=listed, total=total, limit=query.limit, offset=query.offset)

    @routes.get(
        "/model/<uuid:training_id>",
        responses={HTTPStatus.OK: TrainingDocument, **NOT_MODIFIED, **problems(HTTPStatus.SERVICE_UNAVAILABLE)},
    )
    def show(training_id: uuid.UUID) -> Response:
        """Show a training, who takes part and how long its phases have taken."""
        training = storage.training(training_id)
        last = transcripts.last(training_id, "round")
        phases = {phase.name: phase for phase in storage.phases(training_id)}
        document = TrainingDocument(
            **_summary(training, 0 if last is None else last + 1),
            roles=roles(training_id),
            phases=[
                PhaseDocument(name=name, seconds=phases[name].seconds, bytes=phases[name].bytes)
                for name in get_args(Phase)
                if name in phases
            ],
            reason=training.reason,
        )
        return bodies.tagged(document.model_dump_json().encode())

    @routes.get("/model/<uuid:training_id>/transcript", **routes.between_services("Show the transcript", None))
    def transcript(training_id: uuid.UUID) -> Response:
        caller = requests.caller()
        require_arbiter(chain.marketplace(), storage.training(training_id).id, caller)
        return Response(transcripts.stream(training_id), content_type="application/octet-stream")

    @routes.get(
        "/contributions/<uuid:training_id>",
        responses={HTTPStatus.OK: ContributionList, **problems(HTTPStatus.SERVICE_UNAVAILABLE)},
    )
    def contributions(training_id: uuid.UUID) -> ContributionList:
        """Show what every trainer contributed."""
        training = storage.training(training_id)
        trainers = chain.marketplace().training(training_id).trainers
        outcome = training.outcome or {"contributions": [], "partial_mses": []}
        values = [int(value) for value in outcome["contributions"]]
        scale = training.parsed_request.order.target_scale**2 / UNIT
        scores = zip(trainers, values, shares(values), outcome["partial_mses"], strict=False)
        return ContributionList(
            id=training_id,
            contributions=[
                Contribution(
                    data_owner=address,
                    contribution=value * scale,
                    share=share / UNIT,
                    partial_MSE=int(partial) * scale,
                )
                for address, value, share, partial in scores
            ],
        )

    return routes


def _summary(training: Training, rounds: int) -> dict[str, Any]:
    order = training.parsed_request.order
    return {
        "id": training.id,
        "status": Status(training.status),
        "type": order.model_type,
        "iteration": rounds,
        "iterations": order.hyper_parameters.iterations,
        "creation_date": training.created,
        "updated_date": training.updated,
    }
