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

from commons.http.request_signing import RequestVerifier
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
) -> Blueprint:
    """Make the routes."""
    routes = Blueprint("trainings", __name__, url_prefix="/models")

    def asked(kind: type[AboutTraining], training: uuid.UUID) -> Question[AboutTraining]:
        aggregator = requests.require(lambda: [storage.model(training).terms["aggregator"]])
        return signatures.read_from(aggregator, kind, training)

    @routes.patch("/<uuid:training>")
    def refresh(training: uuid.UUID) -> ResponseReturnValue:
        question = asked(MaskedRound, training)
        return answer(answering.refresh(question.content, question.signed))

    @routes.post("/<uuid:training>/mse")
    def multiply(training: uuid.UUID) -> ResponseReturnValue:
        question = asked(MaskedModels, training)
        return answer(answering.multiply(question.content, question.signed))

    @routes.patch("/<uuid:training>/mse")
    def open_totals(training: uuid.UUID) -> ResponseReturnValue:
        question = asked(Totals, training)
        return answer(answering.open(question.content, question.signed))

    @routes.patch("/<uuid:training>/moments")
    def open_moments(training: uuid.UUID) -> ResponseReturnValue:
        question = asked(MomentsTotals, training)
        return answer(answering.open_moments(question.content, question.signed))

    @routes.put("/<uuid:training>")
    def deliver(training: uuid.UUID) -> ResponseReturnValue:
        caller = requests.require(lambda: settlement.deliverers(storage.model(training).id))
        question = signatures.read_from(caller, Delivery, training)
        settlement.receive(question.content, caller)
        nudge(training)
        return signatures.acknowledge(question)

    @routes.post("/<uuid:training>/notice")
    def notice(training: uuid.UUID) -> ResponseReturnValue:
        question = asked(Notice, training)
        nudge(training)
        return signatures.acknowledge(question)

    @routes.get("/<uuid:training>/evidence")
    def evidence(training: uuid.UUID) -> ResponseReturnValue:
        caller = requests.caller()
        return Response(reviewing.evidence(storage.model(training).id, caller), content_type="application/octet-stream")

    return routes
