"""Routes that the aggregator calls, and in a dispute the arbiter. All but the evidence are signed messages."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from flask import Blueprint, Response
from flask.typing import ResponseReturnValue

from commons.http.signatures import Signatures, answer, require_about
from commons.protocol.messages import Delivery, MaskedModels, MaskedRound, MomentsTotals, Notice, Totals
from model_buyer.answering import Answering
from model_buyer.reviewing import Reviewing
from model_buyer.settlement import Settlement
from model_buyer.storage import Storage


def blueprint(
    storage: Storage,
    signatures: Signatures,
    answering: Answering,
    settlement: Settlement,
    reviewing: Reviewing,
    nudge: Callable[[uuid.UUID], None],
    caller: Callable[[], str],
) -> Blueprint:
    """Make the routes. ``caller`` returns the address of who signed the current request as a whole."""
    routes = Blueprint("trainings", __name__, url_prefix="/models")

    def aggregator(training: uuid.UUID) -> str:
        return str(storage.model(training).terms["aggregator"])

    @routes.patch("/<uuid:training>")
    def refresh(training: uuid.UUID) -> ResponseReturnValue:
        question = signatures.read_from(aggregator(training), MaskedRound, training)
        return answer(answering.refresh(question.content, question.signed))

    @routes.post("/<uuid:training>/mse")
    def multiply(training: uuid.UUID) -> ResponseReturnValue:
        question = signatures.read_from(aggregator(training), MaskedModels, training)
        return answer(answering.multiply(question.content, question.signed))

    @routes.patch("/<uuid:training>/mse")
    def open_totals(training: uuid.UUID) -> ResponseReturnValue:
        question = signatures.read_from(aggregator(training), Totals, training)
        return answer(answering.open(question.content, question.signed))

    @routes.patch("/<uuid:training>/moments")
    def open_moments(training: uuid.UUID) -> ResponseReturnValue:
        question = signatures.read_from(aggregator(training), MomentsTotals, training)
        return answer(answering.open_moments(question.content, question.signed))

    @routes.put("/<uuid:training>")
    def deliver(training: uuid.UUID) -> ResponseReturnValue:
        model = storage.model(training)
        question = signatures.read(Delivery)
        require_about(question.content, model.id)
        settlement.receive(question.content, question.sender)
        nudge(training)
        return signatures.acknowledge(question)

    @routes.post("/<uuid:training>/notice")
    def notice(training: uuid.UUID) -> ResponseReturnValue:
        question = signatures.read_from(aggregator(training), Notice, training)
        nudge(training)
        return signatures.acknowledge(question)

    @routes.get("/<uuid:training>/evidence")
    def evidence(training: uuid.UUID) -> ResponseReturnValue:
        model = storage.model(training)
        return Response(reviewing.evidence(model.id, caller()), content_type="application/octet-stream")

    return routes
