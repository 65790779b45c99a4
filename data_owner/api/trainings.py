"""Routes that the aggregator calls, and in a dispute the arbiter.

Requests are taken from nobody else: each route looks at who signed the request before it reads it. All but the
evidence are messages that are signed themselves too.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TypeVar

from flask import Blueprint, Response
from flask.typing import ResponseReturnValue

from commons.errors import NotAuthorised
from commons.http.request_signing import RequestVerifier
from commons.http.signatures import Question, Signatures, answer
from commons.protocol.messages import (
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
from data_owner.storage import Storage

AboutTraining = TypeVar("AboutTraining", bound=TrainingMessage)


def blueprint(
    storage: Storage,
    participation: Participation,
    answering: Answering,
    reviewing: Reviewing,
    signatures: Signatures,
    nudge: Callable[[uuid.UUID], None],
    requests: RequestVerifier,
) -> Blueprint:
    """Make the routes."""
    routes = Blueprint("trainings", __name__, url_prefix="/trainings")

    def asked(model: type[AboutTraining], training_id: uuid.UUID) -> Question[AboutTraining]:
        aggregator = requests.require(lambda: [storage.training(training_id).aggregator])
        return signatures.read_from(aggregator, model, training_id)

    @routes.post("")
    def offer() -> ResponseReturnValue:
        caller = requests.caller()
        question = signatures.read(TrainingRequest)
        request, sender = question.content, question.sender
        if sender.lower() != request.buyer.lower():
            raise NotAuthorised(f"signed by {sender}: a request of {request.buyer} is for that account to sign")
        participation.offer(request, caller)
        return signatures.acknowledge(question)

    @routes.patch("/<uuid:training_id>")
    def notice(training_id: uuid.UUID) -> ResponseReturnValue:
        question = asked(Notice, training_id)
        nudge(training_id)
        return signatures.acknowledge(question)

    @routes.post("/<uuid:training_id>/moments")
    def moments(training_id: uuid.UUID) -> ResponseReturnValue:
        return answer(answering.moments(asked(MomentsQuestion, training_id)))

    @routes.patch("/<uuid:training_id>/moments")
    def cosign_moments(training_id: uuid.UUID) -> ResponseReturnValue:
        return answer(answering.cosign_moments(asked(MomentsCosignQuestion, training_id)))

    @routes.put("/<uuid:training_id>/moments")
    def standardise(training_id: uuid.UUID) -> ResponseReturnValue:
        return answer(answering.standardise(asked(Moments, training_id)))

    @routes.put("/<uuid:training_id>")
    def update(training_id: uuid.UUID) -> ResponseReturnValue:
        return answer(answering.update(asked(RoundQuestion, training_id)))

    @routes.post("/<uuid:training_id>")
    def local_model(training_id: uuid.UUID) -> ResponseReturnValue:
        return answer(answering.local_model(asked(LocalModelQuestion, training_id)))

    @routes.post("/<uuid:training_id>/metrics")
    def score(training_id: uuid.UUID) -> ResponseReturnValue:
        return answer(answering.score(asked(ScoreQuestion, training_id)))

    @routes.post("/<uuid:training_id>/cosign")
    def cosign(training_id: uuid.UUID) -> ResponseReturnValue:
        return answer(answering.cosign(asked(CosignQuestion, training_id)))

    @routes.put("/<uuid:training_id>/metrics")
    def metric(training_id: uuid.UUID) -> ResponseReturnValue:
        return answer(reviewing.take_note(asked(Metric, training_id)))

    @routes.get("/<uuid:training_id>/evidence")
    def evidence(training_id: uuid.UUID) -> ResponseReturnValue:
        caller = requests.caller()
        return Response(reviewing.evidence(training_id, caller), content_type="application/octet-stream")

    return routes
