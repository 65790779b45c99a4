"""Routes that the aggregator calls, and in a dispute the arbiter.

Requests are taken from nobody else: each route looks at who signed the request before it reads it. All but the
evidence are messages that are signed themselves too.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TypeVar

from flask import Response

from commons.http.request_signing import RequestVerifier
from commons.http.routes import Routes
from commons.http.signatures import Question, Signatures, answer
from commons.protocol.messages import (
    Delivery,
    MaskedModels,
    MaskedRound,
    MomentsTotals,
    Notice,
    Totals,
    TrainingMessage,
)
from model_buyer.answering import Answering
from model_buyer.reviewing import Reviewing
from model_buyer.settlement import Settlement
from model_buyer.storage import Storage

AboutTraining = TypeVar("AboutTraining", bound=TrainingMessage)


def blueprint(
    storage: Storage,
    signatures: Signatures,
    answering: Answering,
    settlement: Settlement,
    reviewing: Reviewing,
    nudge: Callable[[uuid.UUID], None],
    requests: RequestVerifier,
) -> Routes:
    """Make the routes."""
    routes = Routes("trainings", __name__, "Trainings", url_prefix="/models")
    between = routes.between_services

    def asked(kind: type[AboutTraining], training: uuid.UUID) -> Question[AboutTraining]:
        aggregator = requests.require(lambda: [storage.model(training).terms["aggregator"]])
        return signatures.read_from(aggregator, kind, training)

    @routes.patch("/<uuid:model_id>", **between("Refresh a round's masked sum", MaskedRound))
    def refresh(model_id: uuid.UUID) -> Response:
        question = asked(MaskedRound, model_id)
        return answer(answering.refresh(question.content, question.signed))

    @routes.post("/<uuid:model_id>/mse", **between("Multiply masked models with themselves", MaskedModels))
    def multiply(model_id: uuid.UUID) -> Response:
        question = asked(MaskedModels, model_id)
        return answer(answering.multiply(question.content, question.signed))

    @routes.patch("/<uuid:model_id>/mse", **between("Open the validators' sums", Totals))
    def open_totals(model_id: uuid.UUID) -> Response:
        question = asked(Totals, model_id)
        return answer(answering.open(question.content, question.signed))

    @routes.patch("/<uuid:model_id>/moments", **between("Open the sums to standardise by", MomentsTotals))
    def open_moments(model_id: uuid.UUID) -> Response:
        question = asked(MomentsTotals, model_id)
        return answer(answering.open_moments(question.content, question.signed))

    @routes.put("/<uuid:model_id>", **between("Deliver the model", Delivery))
    def deliver(model_id: uuid.UUID) -> Response:
        caller = requests.require(lambda: settlement.deliverers(storage.model(model_id).id))
        question = signatures.read_from(caller, Delivery, model_id)
        settlement.receive(question.content, caller)
        nudge(model_id)
        return signatures.acknowledge(question)

    @routes.post("/<uuid:model_id>/notice", **between("Say that something changed on chain", Notice))
    def notice(model_id: uuid.UUID) -> Response:
        question = asked(Notice, model_id)
        nudge(model_id)
        return signatures.acknowledge(question)

    @routes.get("/<uuid:model_id>/evidence", **between("Show the evidence of a dispute", None))
    def evidence(model_id: uuid.UUID) -> Response:
        caller = requests.caller()
        return Response(reviewing.evidence(storage.model(model_id).id, caller), content_type="application/octet-stream")

    return routes
