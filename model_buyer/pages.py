"""The model buyer's pages. What they do, the routes of the API do with the same functions."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from commons.chain.settlement import settle
from commons.chain.training import WHOLE, Result
from commons.errors import Conflict
from commons.http.documents import Page
from commons.pages.forms import Field, Form
from commons.pages.languages import Language
from commons.pages.record import tell
from commons.pages.site import Site
from commons.pages.streams import Frame, Streams
from commons.protocol.messages import Body
from commons.users.access import Access
from model_buyer.api.models import ModelDocument, OrderFields, Orders
from model_buyer.api.predictions import Download, OwnPredictions, PredictionFields, PredictionPage
from model_buyer.storage import Model, Status
from model_buyer.verification import Verification

ORDER = (
    "name",
    "payments_requirements.pay_for_model.value",
    "payments_requirements.pay_for_model.unit",
    "data_requirements.features.list",
    "data_requirements.features.range.0",
    "data_requirements.features.range.1",
    "data_requirements.features.pre_processing.0.method",
    "data_requirements.target.name",
    "data_requirements.target.range.0",
    "data_requirements.target.range.1",
)
HYPER_PARAMETERS = tuple(
    f"hyper_parameters.{name}"
    for name in (
        "iterations",
        "learning_rate",
        "local_steps",
        "ridge",
        "evaluation_interval",
        "tolerance",
        "weighting",
        "key_bits",
    )
)
TERMS = (
    "participants.wanted",
    "participants.minimum",
    "participants.validator_share",
    "terms.join_seconds",
    "terms.training_seconds",
    "terms.review_seconds",
    "terms.fixed_share",
)
Bar = tuple[str, float, str]
"""Of a chart: whose it is, how long, and the number in words."""

SHOWN_VALUES = 1000
"""Predicted values on a page at most; the API has all of them."""
WEI_SHOWN = 10**14
"""To which part an estimate of a cost is told."""
_ONE_OF_EACH = Result(
    iterations=0,
    initial_mse=WHOLE,
    final_mse=0,
    partial_mses=(0,),
    contributions=(1,),
    trainers_answered=(True,),
    validators_answered=(True,),
    transcript_root=bytes(32),
    model_hash=bytes(32),
)
OVER = frozenset({"FINISHED", "FAILED", "CANCELLED"})

CANCELLED = (Status.PAYING, Status.INITIATED)
REMOVED = (Status.FINISHED, Status.FAILED)
"""Statuses from which users may have an order cancelled (if nobody has accepted it), or removed."""

FOR_USERS = frozenset({"pages.predict", "pages.predict_file"})
"""Endpoints for every user whatever the method: predictions are one's own, as in the API."""


class Seen(Body):
    """Which version of an order somebody saw."""

    updated: datetime


def blueprint(
    site: Site,
    access: Access,
    orders: Orders,
    own: OwnPredictions,
    verification: Verification,
    aggregator_url: str,
    streams: Streams,
) -> Blueprint:
    """Make the routes."""
    routes = Blueprint("pages", __name__, template_folder="templates")

    @routes.get("/")
    def trainings() -> str:
        page = Page(limit=20, offset=_offset())
        documents, total = orders.documents(page)
        return render_template(
            "trainings_part.html" if "HX-Request" in request.headers else "trainings.html",
            documents=documents,
            wanted={document.model.id: orders.own(document.model.id).parsed_order for document in documents},
            total=total,
            page=page,
            under_way=any(document.model.status not in OVER for document in documents),
        )

    @routes.route("/order", methods=["GET", "POST"])
    def order() -> ResponseReturnValue:
        form = Form(OrderFields, (*ORDER, *HYPER_PARAMETERS, *TERMS))
        groups = {"order": ORDER, "hyper_parameters": HYPER_PARAMETERS, "terms": TERMS}

        def act() -> Response:
            body = form.read(model_type="LINEAR_REGRESSION", user_id=str(access.user().id))
            made = orders.order(body)
            return site.go(url_for("pages.training", model_id=made.model.id), "ordered")

        def page() -> str:
            return render_template("order.html", form=form, groups=groups)

        if request.method == "GET":
            return page()
        form.fill(request.form)
        return site.submit(form, act, page)

    @routes.get("/training/<uuid:model_id>")
    def training(model_id: uuid.UUID) -> str:
        return _training(model_id)

    @routes.get("/training/<uuid:model_id>/events")
    def events(model_id: uuid.UUID) -> Response:
        orders.own(model_id)

        def render() -> Frame:
            document, model = orders.show(model_id), orders.own(model_id)
            html = render_template(
                "live.html", document=document, order=model.parsed_order, cost_now=_cost_now(model, document)
            )
            return Frame(html, _points(document), document.model.status in OVER)

        return streams.follow(model_id, site.language().code, render)

    @routes.get("/training/<uuid:model_id>/record")
    def record(model_id: uuid.UUID) -> ResponseReturnValue:
        model = orders.own(model_id)
        found = verification.of(model)
        told = None
        if recorded := found.recorded:
            scale = model.parsed_order.target_scale**2
            told = tell(recorded, found.events, found.made, verification.own, scale, site.language())
        as_part = "HX-Request" in request.headers
        html = render_template(
            "record_part.html" if as_part else "record_page.html",
            model=model,
            over=model.status in OVER,
            own=verification.own,
            aggregator_url=aggregator_url,
            checks=found.checks,
            recorded=recorded,
            deadline=recorded and datetime.fromtimestamp(recorded.training.deadline, UTC),
            told=told,
        )
        return html, HTTPStatus.OK if recorded or as_part else HTTPStatus.SERVICE_UNAVAILABLE

    @routes.route("/training/<uuid:model_id>/end", methods=["GET", "POST"])
    def end(model_id: uuid.UUID) -> ResponseReturnValue:
        model = orders.own(model_id)
        form = Form(Seen, ("updated",))
        back = url_for("pages.training", model_id=model_id)

        def act() -> Response:
            if form.read().updated != model.updated:
                raise Conflict("it has changed since you saw it: look at it again")
            if orders.delete(model) is None:
                return site.go(url_for("pages.trainings"), "removed")
            return site.go(back, "cancelled")

        def page() -> str:
            return render_template("end.html", model=model, form=form, removes=model.status in REMOVED)

        if request.method == "GET":
            return page() if model.status in (*CANCELLED, *REMOVED) else redirect(back)
        form.fill(request.form)
        return site.submit(form, act, page)

    @routes.get("/training/<uuid:model_id>/download")
    def download(model_id: uuid.UUID) -> Response:
        return own.download(model_id, Download.model_validate(request.args.to_dict()))

    @routes.post("/training/<uuid:model_id>/predict")
    def predict(model_id: uuid.UUID) -> ResponseReturnValue:
        form = _row_form(model_id)
        form.fill(request.form)

        def act() -> Response:
            made = own.predict(form.read(model_id=str(model_id)))
            return site.go(url_for("pages.prediction", prediction_id=made.id))

        return site.submit(form, act, lambda: _training(model_id, row_form=form))

    @routes.post("/training/<uuid:model_id>/predict-file")
    def predict_file(model_id: uuid.UUID) -> ResponseReturnValue:
        form = _file_form()

        def act() -> Response:
            file = own.upload()
            try:
                made = own.predict(form.read(model_id=str(model_id), file_id=str(file.id)))
            finally:
                own.forget(file.id)
            return site.go(url_for("pages.prediction", prediction_id=made.id))

        return site.submit(form, act, lambda: _training(model_id, file_form=form))

    @routes.get("/prediction")
    def predictions() -> str:
        model_id = request.args.get("model_id", type=uuid.UUID)
        listed = own.list_all(PredictionPage(limit=20, offset=_offset(), model_id=model_id))
        names = {found: orders.own(found).name for found in {each.model_id for each in listed.predictions}}
        name = None if model_id is None else orders.own(model_id).name
        return render_template("predictions.html", listed=listed, names=names, model_id=model_id, name=name)

    @routes.get("/prediction/<uuid:prediction_id>")
    def prediction(prediction_id: uuid.UUID) -> str:
        document = own.show(prediction_id)
        name = orders.own(document.model_id).name
        return render_template("prediction.html", document=document, name=name, most=SHOWN_VALUES)

    def _row_form(model_id: uuid.UUID) -> Form[PredictionFields]:
        features = orders.own(model_id).parsed_order.data_requirements.features.list
        fields = [Field(f"rows.0.{place}", "number", label=name) for place, name in enumerate(features)]
        return Form(PredictionFields, fields)

    def _file_form() -> Form[PredictionFields]:
        return Form(PredictionFields, [Field("file", "file")])

    def _training(
        model_id: uuid.UUID,
        row_form: Form[PredictionFields] | None = None,
        file_form: Form[PredictionFields] | None = None,
    ) -> str:
        document, model = orders.show(model_id), orders.own(model_id)
        return render_template(
            "training.html",
            document=document,
            order=model.parsed_order,
            terms=model.terms,
            ends=model.status in (*CANCELLED, *REMOVED),
            removes=model.status in REMOVED,
            cost_now=_cost_now(model, document),
            points=_points(document),
            over=document.model.status in OVER,
            aggregator=model.terms.get("aggregator"),
            contributed=_contributed(document, site.language()),
            paid=_paid(document, site.language()),
            row_form=row_form or _row_form(model_id),
            file_form=file_form or _file_form(),
        )

    return routes


def _offset() -> int:
    return request.args.get("offset", 0, type=int)


def _points(document: ModelDocument) -> tuple[tuple[int, float], ...]:
    return tuple((measured.iteration, measured.mse) for measured in document.metrics.mse_history)


def _cost_now(model: Model, document: ModelDocument) -> int | None:
    """Return about what the contract would charge for this improvement in wei, if everybody answered."""
    if document.metrics.mse is None:
        return None
    left = round((1 - document.metrics.improvement) * WHOLE)
    result = replace(_ONE_OF_EACH, final_mse=left)
    cost = model.payment - settle(model.payment, model.terms["fixed_share"], result).buyer
    return cost // WEI_SHOWN * WEI_SHOWN


def _contributed(document: ModelDocument, language: Language) -> list[Bar]:
    return [
        (trainer.data_owner, trainer.contributions, language.percent(trainer.contributions))
        for trainer in document.metrics.partial_MSEs
    ]


def _paid(document: ModelDocument, language: Language) -> list[Bar]:
    return [(account, int(wei), language.ether(wei)) for account, wei in document.metrics.payments.items()]
