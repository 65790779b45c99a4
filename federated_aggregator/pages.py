"""The aggregator's status pages: what its operator looks at. Nothing is changed by them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, render_template, request

from commons.http.documentation import VERSION
from commons.http.documents import Page
from federated_aggregator.answer_times import LAST
from federated_aggregator.status import PATIENCE_S, Watch

PAGE = 20
"""Trainings, or owners, on a page."""
MOST_BARS = 100
"""Bars of the chart of rounds: of more rounds, each is the mean of several."""


@dataclass(frozen=True)
class Bar:
    """Some rounds in the chart: the first and last one, their mean duration, and its share of the longest."""

    first: int
    last: int
    seconds: float
    share: float


def blueprint(watch: Watch) -> Blueprint:
    """Make the routes."""
    routes = Blueprint("pages", __name__, template_folder="templates")

    @routes.get("/")
    def overview() -> str:
        return render_template("overview.html", **_overview(PATIENCE_S))

    @routes.get("/now")
    def overview_now() -> str:
        return render_template("overview_now.html", **_overview(0.0))

    @routes.get("/training/<uuid:training_id>")
    def training(training_id: uuid.UUID) -> str:
        return render_template("training.html", **_training(training_id, PATIENCE_S))

    @routes.get("/training/<uuid:training_id>/now")
    def training_now(training_id: uuid.UUID) -> str:
        return render_template("training_now.html", **_training(training_id, 0.0))

    def _overview(patience_s: float) -> Mapping[str, Any]:
        trainings = Page(limit=PAGE, offset=request.args.get("offset", 0, type=int))
        owners = Page(limit=PAGE, offset=request.args.get("owners", 0, type=int))
        status = watch.overview(trainings, owners, patience_s)
        return {"status": status, "trainings": trainings, "owners": owners, "version": VERSION, "last": LAST}

    def _training(training_id: uuid.UUID, patience_s: float) -> Mapping[str, Any]:
        status = watch.training(training_id, patience_s)
        return {
            "status": status,
            "bars": bars(status.durations),
            "points": points(status.metrics),
            "last": LAST,
        }

    return routes


def bars(durations: Sequence[float], most: int = MOST_BARS) -> list[Bar]:
    """Return at most so many bars of the durations, in seconds, of the rounds from 1 on."""
    width = -(-len(durations) // most)
    parts = [durations[at : at + width] for at in range(0, len(durations), width or 1)]
    means = [sum(part) / len(part) for part in parts]
    longest = max(means, default=0.0) or 1.0
    return [
        Bar(1 + place * width, place * width + len(part), mean, mean / longest)
        for place, (part, mean) in enumerate(zip(parts, means, strict=True))
    ]


def points(metrics: Sequence[tuple[int, float]]) -> str:
    """Return a curve as the points of an SVG polyline of 100 by 100, zero at its foot."""
    widest = max((iteration for iteration, _ in metrics), default=0) or 1
    highest = max((mse for _, mse in metrics), default=0.0) or 1.0
    return " ".join(f"{100 * at / widest:.2f},{100 - 100 * mse / highest:.2f}" for at, mse in metrics)
