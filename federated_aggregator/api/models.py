"""Routes of trainings."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue

from commons.chain.arbitration import require_arbiter
from commons.chain.connection import Connection
from commons.http.signatures import Signatures, require_about, require_sender
from commons.learning.contributions import UNIT, shares
from commons.protocol.messages import Acceptance, TrainingRequest
from federated_aggregator.orchestration import Orchestration
from federated_aggregator.storage import Storage, Training
from federated_aggregator.transcripts import Transcripts

PHASES = ("joining", "rounds", "evaluation", "contributions", "settlement")


def blueprint(
    storage: Storage,
    transcripts: Transcripts,
    orchestration: Orchestration,
    chain: Connection,
    signatures: Signatures,
    caller: Callable[[], str],
    nudge: Callable[[uuid.UUID], None],
) -> Blueprint:
    """Make the routes.

    ``caller`` returns the address that signed the current request.
    """
    routes = Blueprint("models", __name__)

    def summary(training: Training) -> dict[str, Any]:
        last = transcripts.last(training.id, "round")
        return _summary(training, 0 if last is None else last + 1)

    @routes.post("/model")
    def take_order() -> ResponseReturnValue:
        question = signatures.read(TrainingRequest)
        require_sender(question, question.content.buyer)
        orchestration.take_order(question.signed, question.content)
        storage.add_phases(question.content.training, {"joining": (0.0, len(request.get_data()))})
        nudge(question.content.training)
        return signatures.acknowledge(question)

    @routes.post("/model/<uuid:training_id>/accept")
    def accepted(training_id: uuid.UUID) -> ResponseReturnValue:
        question = signatures.read(Acceptance)
        require_sender(question, question.content.address)
        require_about(question.content, training_id)
        storage.training(training_id)
        storage.add_phases(training_id, {"joining": (0.0, len(request.get_data()))})
        nudge(training_id)
        return signatures.acknowledge(question)

    @routes.get("/model")
    def list_all() -> ResponseReturnValue:
        return jsonify({"models": [summary(training) for training in storage.trainings()]})

    @routes.get("/model/<uuid:training_id>")
    def show(training_id: uuid.UUID) -> ResponseReturnValue:
        training = storage.training(training_id)
        on_chain = chain.marketplace().training(training_id)
        phases = {phase.name: phase for phase in storage.phases(training_id)}
        return jsonify(
            {
                **summary(training),
                "roles": {"trainers": on_chain.trainers, "validators": on_chain.validators},
                "phases": [
                    {"name": name, "seconds": phases[name].seconds, "bytes": phases[name].bytes}
                    for name in PHASES
                    if name in phases
                ],
                "reason": training.reason,
            }
        )

    @routes.get("/model/<uuid:training_id>/transcript")
    def transcript(training_id: uuid.UUID) -> ResponseReturnValue:
        storage.training(training_id)
        require_arbiter(chain.marketplace(), training_id, caller())
        return Response(transcripts.stream(training_id), content_type="application/octet-stream")

    @routes.get("/contributions/<uuid:training_id>")
    def contributions(training_id: uuid.UUID) -> ResponseReturnValue:
        training = storage.training(training_id)
        trainers = chain.marketplace().training(training_id).trainers
        outcome = training.outcome or {"contributions": [], "partial_mses": []}
        values = [int(value) for value in outcome["contributions"]]
        scale = training.parsed_request.order.target_scale**2 / UNIT
        return jsonify(
            {
                "id": str(training_id),
                "contributions": [
                    {
                        "data_owner": address,
                        "contribution": value * scale,
                        "share": share / UNIT,
                        "partial_MSE": int(partial) * scale,
                    }
                    for address, value, share, partial in zip(
                        trainers, values, shares(values), outcome["partial_mses"], strict=False
                    )
                ],
            }
        )

    return routes


def _summary(training: Training, rounds: int) -> dict[str, Any]:
    order = training.parsed_request.order
    return {
        "id": str(training.id),
        "status": training.status,
        "type": order.model_type,
        "iteration": rounds,
        "iterations": order.hyper_parameters.iterations,
        "creation_date": training.created.isoformat(),
        "updated_date": training.updated.isoformat(),
    }
