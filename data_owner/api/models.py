"""Routes of training requests, as the owner's users see them."""

from __future__ import annotations

import uuid
from typing import Any

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from commons.errors import InvalidInput
from commons.learning.contributions import UNIT
from data_owner.participation import Participation
from data_owner.storage import Status, Storage, Training

VISIBLE = ("WAITING", "READY", "INITIATED", "IN_PROGRESS", "FINISHED", "FAILED")


def blueprint(storage: Storage, participation: Participation) -> Blueprint:
    """Make the routes."""
    routes = Blueprint("models", __name__)

    def document(training: Training) -> dict[str, Any]:
        order = training.parsed_order
        status, missing = training.status, None
        if status == Status.OFFERED:
            fitting = participation.fitting_dataset(order)
            status = "WAITING" if fitting is None else "READY"
            missing = participation.what_is_missing(order) if fitting is None else None
        elif status == Status.ACCEPTING:
            status = "READY"
        scale = order.target_scale**2 / UNIT
        metrics = storage.metrics(training.id)
        first, last = (metrics[0].mse, metrics[-1].mse) if metrics else (0, 0)
        return {
            "id": str(training.id),
            "status": status,
            "role": training.role,
            "reason": training.reason or missing,
            "dispute": training.dispute,
            "buyer": training.buyer,
            "aggregator": training.aggregator,
            "dataset_id": None if training.dataset_id is None else str(training.dataset_id),
            "mse_history": [
                {
                    "time": metric.created.isoformat(),
                    "iteration": metric.iteration,
                    "mse": metric.mse * scale,
                    "verified": metric.verified,
                }
                for metric in metrics
            ],
            "improvement": max(0.0, (first - last) / first) if first else 0.0,
            "earned": str(training.earned),
            "creation_date": training.created.isoformat(),
            "order": order.model_dump(mode="json"),
        }

    @routes.get("/models")
    def list_all() -> ResponseReturnValue:
        wanted = request.args.get("status")
        if wanted is not None and wanted not in VISIBLE:
            raise InvalidInput(f"must be one of {', '.join(VISIBLE)}", "status")
        documents = [document(training) for training in storage.trainings()]
        return jsonify({"models": [d for d in documents if wanted in (None, d["status"])]})

    @routes.get("/models/<uuid:training_id>")
    def show(training_id: uuid.UUID) -> ResponseReturnValue:
        return jsonify(document(storage.training(training_id)))

    @routes.put("/trainings/<uuid:training_id>/accept")
    def accept(training_id: uuid.UUID) -> ResponseReturnValue:
        return jsonify(document(participation.accept(training_id)))

    return routes
