"""Routes that the aggregator calls."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from flask import Blueprint
from flask.typing import ResponseReturnValue

from commons.http import bodies
from commons.protocol.messages import Acknowledgement, Delivery, MaskedModels, MaskedRound, Notice, Totals
from model_buyer.answering import Answering
from model_buyer.settlement import Settlement
from model_buyer.storage import Storage


def blueprint(
    storage: Storage, answering: Answering, settlement: Settlement, nudge: Callable[[uuid.UUID], None]
) -> Blueprint:
    """Make the routes."""
    routes = Blueprint("trainings", __name__, url_prefix="/models")

    @routes.patch("/<uuid:training>")
    def refresh(training: uuid.UUID) -> ResponseReturnValue:
        return bodies.message(answering.refresh(bodies.read_about(MaskedRound, training)))

    @routes.post("/<uuid:training>/mse")
    def multiply(training: uuid.UUID) -> ResponseReturnValue:
        return bodies.message(answering.multiply(bodies.read_about(MaskedModels, training)))

    @routes.patch("/<uuid:training>/mse")
    def open_totals(training: uuid.UUID) -> ResponseReturnValue:
        return bodies.message(answering.open(bodies.read_about(Totals, training)))

    @routes.put("/<uuid:training>")
    def deliver(training: uuid.UUID) -> ResponseReturnValue:
        settlement.receive(bodies.read_about(Delivery, training))
        nudge(training)
        return bodies.message(Acknowledgement())

    @routes.post("/<uuid:training>/notice")
    def notice(training: uuid.UUID) -> ResponseReturnValue:
        bodies.read_about(Notice, training)
        nudge(storage.model(training).id)
        return bodies.message(Acknowledgement())

    return routes
