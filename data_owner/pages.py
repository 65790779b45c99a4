"""The data owner's pages. What they do, the routes of the API do with the same functions."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, render_template, request, url_for
from flask.typing import ResponseReturnValue

from commons.chain.settlement import trainer_count
from commons.errors import Conflict
from commons.http.contract import Contract
from commons.http.documents import Page
from commons.lookout import Lookout
from commons.pages.forms import Field, Form
from commons.pages.site import Site
from commons.pages.streams import Frame, Streams
from commons.protocol.messages import Body
from commons.users.access import Access
from data_owner.api.datasets import Datasets
from data_owner.api.models import Filter, Overview, Requests
from data_owner.api.registration import Registering
from data_owner.histograms import Histogram
from data_owner.storage import Outline, Status

OVER = frozenset({Status.FINISHED, Status.FAILED})
PATIENCE_S = 0.08
"""How long a page waits for the chain."""
SHOWN_COLUMNS = 50
"""Of a dataset on a page."""
FEW_FEATURES = 4
"""Up to so many, the error curve was seen to give sums of products away (docs/threat-model.md)."""
HEIGHT = 40
"""Of the highest bar of a histogram."""


class Chosen(Body):
    """With which dataset somebody was shown to accept: another one may fit by now."""

    dataset_id: uuid.UUID


def blueprint(
    site: Site,
    access: Access,
    requests: Requests,
    datasets: Datasets,
    registering: Registering,
    balance: Lookout[None, Contract],
    streams: Streams,
) -> Blueprint:
    """Make the routes."""
    routes = Blueprint("pages", __name__, template_folder="templates")

    @routes.context_processor
    def helpers() -> dict[str, Any]:
        return {"utc": _utc, "bars": _bars}

    @routes.get("/")
    def trainings() -> str:
        return _trainings()

    @routes.post("/register")
    def register() -> ResponseReturnValue:
        form = Form(Body, ())

        def act() -> Response:
            registering.register_service(access.user().id)
            return site.go(url_for("pages.trainings"), "owner_registered")

        return site.submit(form, act, lambda: _trainings(form))

    @routes.get("/training/<uuid:training_id>")
    def training(training_id: uuid.UUID) -> str:
        overview = requests.show(training_id)
        return render_template("training.html", overview=overview, points=_points(overview), over=_over(overview))

    @routes.get("/training/<uuid:training_id>/events")
    def events(training_id: uuid.UUID) -> Response:
        requests.show(training_id)

        def render() -> Frame:
            overview = requests.show(training_id)
            return Frame(render_template("live.html", overview=overview), _points(overview), _over(overview))

        return streams.follow(training_id, f"{site.language().code} {access.user().role}", render)

    @routes.route("/training/<uuid:training_id>/accept", methods=["GET", "POST"])
    def accept(training_id: uuid.UUID) -> ResponseReturnValue:
        form = Form(Chosen, ("dataset_id",))

        def act() -> Response:
            fitting = requests.show(training_id).fitting
            if fitting is not None and form.read().dataset_id != fitting.id:
                raise Conflict("it has changed since you saw it: look at it again")
            requests.accept(training_id)
            return site.go(url_for("pages.training", training_id=training_id), "owner_accepted")

        def page() -> str:
            overview = requests.show(training_id)
            order, seen = overview.training.parsed_order, overview.training.parsed_seen
            return render_template(
                "accept.html",
                overview=overview,
                form=form,
                own=overview.fitting and overview.fitting.ranges,
                alone=seen is None or seen.minimum - trainer_count(seen.minimum, seen.validator_share) == 1,
                few=len(order.data_requirements.features.list) <= FEW_FEATURES,
            )

        if request.method == "GET":
            return page()
        form.fill(request.form)
        return site.submit(form, act, page)

    @routes.route("/data", methods=["GET", "POST"])
    def data() -> ResponseReturnValue:
        form = Form(Body, [Field("file", "file")])

        def act() -> Response:
            made = datasets.upload()
            return site.go(url_for("pages.dataset", dataset_id=made.id), "owner_uploaded")

        def page() -> str:
            part = _part(20)
            documents, total = datasets.page(part)
            return render_template(
                "datasets.html",
                documents=documents,
                total=total,
                page=part,
                form=form,
                limit_mb=datasets.limit_bytes // 2**20,
            )

        return page() if request.method == "GET" else site.submit(form, act, page)

    @routes.get("/data/<uuid:dataset_id>")
    def dataset(dataset_id: uuid.UUID) -> str:
        return _dataset(dataset_id)

    @routes.post("/data/<uuid:dataset_id>/remove")
    def remove(dataset_id: uuid.UUID) -> ResponseReturnValue:
        form = Form(Body, ())

        def act() -> Response:
            datasets.delete(dataset_id)
            return site.go(url_for("pages.data"), "owner_removed")

        return site.submit(form, act, lambda: _dataset(dataset_id, form))

    def _trainings(form: Form[Body] | None = None) -> str:
        part = Filter(limit=20, offset=_part(20).offset)
        overviews, total = requests.page(part)
        sight = balance.see(None, PATIENCE_S)
        return render_template(
            "trainings.html",
            overviews=overviews,
            total=total,
            page=part,
            sight=sight,
            registration=registering.state(sight.view),
            has_data=datasets.some(),
            form=form or Form(Body, ()),
        )

    def _dataset(dataset_id: uuid.UUID, form: Form[Body] | None = None) -> str:
        found = datasets.own(dataset_id)
        part = _part(SHOWN_COLUMNS)
        shown = slice(part.offset, part.offset + part.limit)
        columns = Outline.of(found).columns
        histograms: Sequence[Histogram | None] = found.parsed_histograms or [None] * len(columns)
        return render_template(
            "dataset.html",
            dataset=found,
            columns=list(zip(columns[shown], histograms[shown], strict=True)),
            total=len(columns),
            page=part,
            comparisons=datasets.compare(found),
            form=form or Form(Body, ()),
        )

    def _part(limit: int) -> Page:
        return Page(limit=limit, offset=min(max(request.args.get("offset", 0, type=int), 0), 2**31 - 1))

    return routes


def _over(overview: Overview) -> bool:
    return overview.training.status in OVER


def _points(overview: Overview) -> tuple[tuple[int, float], ...]:
    return tuple((measured.iteration, measured.mse) for measured in overview.document.mse_history)


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _bars(histogram: Histogram) -> str:
    """Return the path of a histogram's bars: one unit wide each, and as high as their part of the highest."""
    highest = max(histogram.counts)
    parts = []
    for place, count in enumerate(histogram.counts):
        if count:  # what is rare can be seen, too
            height = max(1, round(HEIGHT * count / highest))
            parts.append(f"M{place} {HEIGHT}v-{height}h.9v{height}z")
    return "".join(parts)
