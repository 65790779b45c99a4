"""Routes of predictions, of the files that they are made from, and of the finished model itself."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Annotated, Any, Literal, Self

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue
from pydantic import Field, WithJsonSchema, model_validator

from commons.http import bodies, uploads
from commons.protocol.messages import Body
from commons.users.access import Access
from model_buyer.predictions import MAX_ROWS, File, FittedModel, FloatArray, Prediction, Predictions
from model_buyer.storage import Model, Storage

ROWS_BYTES = 16 * 2**20
"""Of a body with rows at most, since they take many times as much memory; more rows go into a file."""


Row = Annotated[
    Any,
    WithJsonSchema(
        {
            "oneOf": [
                {"type": "array", "items": {"type": "number"}},
                {"type": "object", "additionalProperties": {"type": "number"}},
            ]
        }
    ),
]


class PredictionFields(Body):
    """What a user wants predicted: for ``rows``, or for those of an uploaded file."""

    model_id: uuid.UUID
    rows: Annotated[list[Row], Field(min_length=1, max_length=MAX_ROWS)] | None = None
    file_id: uuid.UUID | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.rows is None) == (self.file_id is None):
            raise ValueError("send either rows or the file_id of an uploaded file")
        return self


class Page(Body):
    """Which part of a list."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    offset: Annotated[int, Field(ge=0, lt=2**31)] = 0


class Download(Body):
    """In what form."""

    format: Literal["json", "sklearn"] = "json"


def blueprint(storage: Storage, predictions: Predictions, access: Access, limit_bytes: int) -> Blueprint:
    """Make the routes; `limit_bytes` is how large an upload may be."""
    routes = Blueprint("predictions", __name__)

    def own(model_id: uuid.UUID) -> Model:
        model = storage.model(model_id)
        access.require_own(model.user_id, f"model {model_id}")
        return model

    @routes.post("/helpers/file")
    def upload() -> ResponseReturnValue:
        file = predictions.keep(access.user().id, lambda path: uploads.receive(path, limit_bytes))
        return jsonify(_file(file)), HTTPStatus.CREATED

    @routes.delete("/helpers/file/<uuid:file_id>")
    def forget(file_id: uuid.UUID) -> ResponseReturnValue:
        predictions.forget(access.user().id, file_id)
        return "", HTTPStatus.NO_CONTENT

    @routes.post("/predictions")
    def predict() -> ResponseReturnValue:
        request.max_content_length = ROWS_BYTES
        fields = bodies.read(PredictionFields)
        if fields.file_id is not None:
            made = predictions.predict_file(own(fields.model_id), fields.file_id)
        else:
            made = predictions.predict_rows(own(fields.model_id), fields.rows or [])
        return jsonify(_document(*made)), HTTPStatus.CREATED

    @routes.get("/predictions")
    def list_all() -> ResponseReturnValue:
        page = Page.model_validate(request.args.to_dict())
        found, total = predictions.page(access.user().id, page.limit, page.offset)
        listed = [_summary(prediction) for prediction in found]
        return jsonify({"predictions": listed, "total": total, "limit": page.limit, "offset": page.offset})

    @routes.get("/predictions/<uuid:prediction_id>")
    def show(prediction_id: uuid.UUID) -> ResponseReturnValue:
        return jsonify(_document(*predictions.get(access.user().id, prediction_id)))

    @routes.get("/models/<uuid:model_id>/download")
    def download(model_id: uuid.UUID) -> ResponseReturnValue:
        form = Download.model_validate(request.args.to_dict()).format
        model = own(model_id)
        fitted = FittedModel.of(model)
        if form == "json":
            document, name = _for_people(model, fitted), f"{model_id}.json"
        else:
            document, name = _for_sklearn(fitted), f"{model_id}.sklearn.json"
        answer = jsonify(document)
        answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return answer

    return routes


def _file(file: File) -> dict[str, Any]:
    return {
        "id": str(file.id),
        "name": file.name,
        "rows": file.rows,
        "columns": file.columns,
        "created": file.created.isoformat(),
    }


def _summary(prediction: Prediction) -> dict[str, Any]:
    return {
        "id": str(prediction.id),
        "model_id": str(prediction.model_id),
        "file_id": None if prediction.file_id is None else str(prediction.file_id),
        "rows": prediction.rows,
        "mse": prediction.mse,
        "r2": prediction.r2,
        "created": prediction.created.isoformat(),
    }


def _document(prediction: Prediction, values: FloatArray) -> dict[str, Any]:
    return {**_summary(prediction), "predictions": values.tolist()}


def _for_people(model: Model, fitted: FittedModel) -> dict[str, Any]:
    order, outcome = model.parsed_order, model.outcome or {}
    return {
        "model_type": order.model_type,
        "name": model.name,
        "features": fitted.features,
        "target": fitted.target,
        "intercept": fitted.intercept,
        "coefficients": fitted.coefficients.tolist(),
        "training": {
            "id": str(model.id),
            "ordered": model.created.isoformat(),
            "delivered_model": outcome.get("model"),
            "iterations": outcome.get("iterations"),
            "initial_mse": outcome.get("initial_mse"),
            "mse": outcome.get("mse"),
            "trainers": len(outcome.get("trainers", [])),
            "data_requirements": order.data_requirements.model_dump(mode="json"),
            "hyper_parameters": order.hyper_parameters.model_dump(mode="json"),
        },
    }


def _for_sklearn(fitted: FittedModel) -> dict[str, Any]:
    """Return the attributes of a fitted ``sklearn.linear_model.LinearRegression`` (docs/predictions.md loads them)."""
    return {
        "coef_": fitted.coefficients.tolist(),
        "intercept_": fitted.intercept,
        "n_features_in_": len(fitted.features),
        "feature_names_in_": fitted.features,
    }
