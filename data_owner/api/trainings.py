"""Routes that the aggregator calls, and in a dispute the arbiter.

Requests are taken from nobody else: each route looks at who signed the request before it reads it. All but the
evidence are messages that are signed themselves too.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

from flask import Response

from commons.errors import NotAuthorised
from commons.http.request_signing import RequestVerifier
from commons.http.routes import Routes
from commons.http.signatures import Question, Signatures, answer
from commons.protocol.messages import (
    Body,
    CosignQuestion,
    LocalModelQuestion,
    Metric,
    Moments,
    MomentsCosignQuestion,
    MomentsQuestion,
    Notice,
    RoundQuestion,
    ScoreQuestion,
    TrainingMessage,
    TrainingRequest,
)
from data_owner.answering import Answering
from data_owner.participation import Participation
from data_owner.reviewing import Reviewing
from data_owner.storage import Status, Storage


class TrainingState(Body):
    """Where an owner stands in a training, as far as its aggregator may know: not what datasets it has."""

    id: uuid.UUID
    status: Status
    role: str | None


SHOWN: dict[str, Any] = {"responses": {HTTPStatus.OK: TrainingState}}

AboutTraining = TypeVar("AboutTraining", bound=TrainingMessage)


def blueprint(
    storage: Storage,
    participation: Participation,
    answering: Answering,
    reviewing: Reviewing,
    signatures: Signatures,
    nudge: Callable[[uuid.UUID], None],
    requests: RequestVerifier,
) -> Routes:
    """Make the routes."""
    routes = Routes("trainings", __name__, "Trainings", url_prefix="/trainings")
    between = routes.between_services

    def asked(model: type[AboutTraining], training_id: uuid.UUID) -> Question[AboutTraining]:
        aggregator = requests.require(lambda: [storage.training(training_id).aggregator])
        return signatures.read_from(aggregator, model, training_id)

    @routes.post("", **between("Offer a training", TrainingRequest))
    def offer() -> Response:
        caller = requests.caller()
        question = signatures.read(TrainingRequest)
        request, sender = question.content, question.sender
        if sender.lower() != request.buyer.lower():
            raise NotAuthorised(f"signed by {sender}: a request of {request.buyer} is for that account to sign")
        participation.offer(request, caller)
        return signatures.acknowledge(question)

    @routes.get("/<uuid:training_id>", **between("Look where a training stands", None) | SHOWN)
    def show(training_id: uuid.UUID) -> TrainingState:
        requests.require(lambda: [storage.training(training_id).aggregator])
        training = storage.training(training_id)
        on_offer = training.status == Status.ACCEPTING
        return TrainingState(
            id=training.id, status=Status.OFFERED if on_offer else Status(training.status), role=training.role
        )

    @routes.patch("/<uuid:training_id>", **between("Say that something changed on chain", Notice))
    def notice(training_id: uuid.UUID) -> Response:
        question = asked(Notice, training_id)
        nudge(training_id)
        return signatures.acknowledge(question)

    @routes.post("/<uuid:training_id>/moments", **between("Ask for moments of the rows", MomentsQuestion))
    def moments(training_id: uuid.UUID) -> Response:
        return answer(answering.moments(asked(MomentsQuestion, training_id)))

    @routes.patch("/<uuid:training_id>/moments", **between("Ask to co-sign sums of moments", MomentsCosignQuestion))
    def cosign_moments(training_id: uuid.UUID) -> Response:
        return answer(answering.cosign_moments(asked(MomentsCosignQuestion, training_id)))

    @routes.put("/<uuid:training_id>/moments", **between("Say what to standardise by", Moments))
    def standardise(training_id: uuid.UUID) -> Response:
        return answer(answering.standardise(asked(Moments, training_id)))

    @routes.put("/<uuid:training_id>", **between("Ask for the update of a round", RoundQuestion))
    def update(training_id: uuid.UUID) -> Response:
        return answer(answering.update(asked(RoundQuestion, training_id)))

    @routes.post("/<uuid:training_id>", **between("Ask for the local model", LocalModelQuestion))
    def local_model(training_id: uuid.UUID) -> Response:
        return answer(answering.local_model(asked(LocalModelQuestion, training_id)))

    @routes.post("/<uuid:training_id>/metrics", **between("Ask for scores of masked models", ScoreQuestion))
    def score(training_id: uuid.UUID) -> Response:
        return answer(answering.score(asked(ScoreQuestion, training_id)))

    @routes.post("/<uuid:training_id>/cosign", **between("Ask to co-sign sums of scores", CosignQuestion))
    def cosign(training_id: uuid.UUID) -> Response:
        return answer(answering.cosign(asked(CosignQuestion, training_id)))

    @routes.put("/<uuid:training_id>/metrics", **between("Say what a model's error is", Metric))
    def metric(training_id: uuid.UUID) -> Response:
        return answer(reviewing.take_note(asked(Metric, training_id)))

    @routes.get("/<uuid:training_id>/evidence", **between("Show the evidence of a dispute", None))
    def evidence(training_id: uuid.UUID) -> Response:
        caller = requests.caller()
        return Response(reviewing.evidence(training_id, caller), content_type="application/octet-stream")

    return routes
