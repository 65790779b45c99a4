"""Routes that the aggregator calls."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from flask import Blueprint
from flask.typing import ResponseReturnValue

from commons.http import bodies
from commons.protocol.messages import (
    Acknowledgement,
    LocalModelQuestion,
    Metric,
    Notice,
    RoundQuestion,
    ScoreQuestion,
    TrainingRequest,
)
from data_owner.answering import Answering
from data_owner.participation import Participation
from data_owner.storage import Storage


def blueprint(
    storage: Storage, participation: Participation, answering: Answering, nudge: Callable[[uuid.UUID], None]
) -> Blueprint:
    """Make the routes."""
    routes = Blueprint("trainings", __name__, url_prefix="/trainings")

    @routes.post("")
    def offer() -> ResponseReturnValue:
        participation.offer(bodies.read(TrainingRequest))
        return bodies.message(Acknowledgement())

    @routes.patch("/<uuid:training_id>")
    def notice(training_id: uuid.UUID) -> ResponseReturnValue:
        bodies.read_about(Notice, training_id)
        nudge(storage.training(training_id).id)
        return bodies.message(Acknowledgement())

    @routes.put("/<uuid:training_id>")
    def update(training_id: uuid.UUID) -> ResponseReturnValue:
        return bodies.message(answering.update(bodies.read_about(RoundQuestion, training_id)))

    @routes.post("/<uuid:training_id>")
    def local_model(training_id: uuid.UUID) -> ResponseReturnValue:
        return bodies.message(answering.local_model(bodies.read_about(LocalModelQuestion, training_id)))

    @routes.post("/<uuid:training_id>/metrics")
    def score(training_id: uuid.UUID) -> ResponseReturnValue:
        return bodies.message(answering.score(bodies.read_about(ScoreQuestion, training_id)))

    @routes.put("/<uuid:training_id>/metrics")
    def metric(training_id: uuid.UUID) -> ResponseReturnValue:
        content = bodies.read_about(Metric, training_id)
        storage.training(training_id)
        storage.add_metric(training_id, content.iteration, int(content.mse))
        return bodies.message(Acknowledgement())

    return routes
