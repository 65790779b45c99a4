"""Routes of predictions, of the files that they are made from, and of the finished model itself."""

from __future__ import annotations

import uuid
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal, Self

from flask import Response, request
from pydantic import Field, RootModel, WithJsonSchema, model_validator

from commons.http import bodies, uploads
from commons.http.documents import Listing, Page
from commons.http.routes import Routes, problems
from commons.protocol.messages import Body, DataRequirements, HyperParameters, ModelType
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


class Download(Body):
    """In what form."""

    format: Literal["json", "sklearn"] = "json"


class FileDocument(Body):
    """A table that predictions may be made from."""

    id: uuid.UUID
    name: str
    rows: int
    columns: list[str]
    created: datetime


class PredictionSummary(Body):
    """What was predicted with which model from which file; MSE and R² if the file has the target."""

    id: uuid.UUID
    model_id: uuid.UUID
    file_id: uuid.UUID | None
    rows: int
    mse: float | None
    r2: float | None
    created: datetime


class PredictionPage(Page):
    """Which predictions: all, or those with one model."""

    model_id: uuid.UUID | None = None


class PredictionList(Listing):
    """Some of one's predictions, the newest first, without the values."""

    predictions: list[PredictionSummary]


class PredictionDocument(PredictionSummary):
    """A prediction with its values, one per row."""

    predictions: list[float]


class TrainingFacts(Body):
    """Where a model comes from."""

    id: uuid.UUID
    ordered: datetime
    delivered_model: Literal["trained", "averaged"] | None
    iterations: int | None
    initial_mse: float | None
    mse: float | None
    trainers: int
    data_requirements: DataRequirements
    hyper_parameters: HyperParameters


class ModelFile(Body):
    """A finished model: y = intercept + Σ coefficient × feature, in the units of the order's columns."""

    model_type: ModelType
    name: str
    features: list[str]
    target: str
    intercept: float
    coefficients: list[float]
    training: TrainingFacts


class SklearnFile(Body):
    """The attributes of a fitted ``sklearn.linear_model.LinearRegression`` (docs/predictions.md loads them)."""

    coef_: list[float]
    intercept_: float
    n_features_in_: int
    feature_names_in_: list[str]


class DownloadedModel(RootModel[ModelFile | SklearnFile]):
    """A finished model in the form that was asked for."""


class OwnPredictions:
    """What users do with their finished models, by the API as by pages.

    Parameters
    ----------
    storage : Storage
    predictions : Predictions
    access : Access
        Says who sends the current request.
    limit_bytes : int
        How large an upload may be.
    """

    def __init__(self, storage: Storage, predictions: Predictions, access: Access, limit_bytes: int) -> None:
        self._storage = storage
        self._predictions = predictions
        self._access = access
        self._limit_bytes = limit_bytes

    def upload(self) -> FileDocument:
        """Keep the table that the current request brings; raises as :func:`commons.http.uploads.receive`."""
        user_id = self._access.user().id
        return _file(self._predictions.keep(user_id, lambda path: uploads.receive(path, self._limit_bytes)))

    def forget(self, file_id: uuid.UUID) -> None:
        """Delete an uploaded table. What was predicted from it stays."""
        self._predictions.forget(self._access.user().id, file_id)

    def predict(self, body: PredictionFields) -> PredictionDocument:
        """Predict with a finished model of one's own.

        Raises
        ------
        NotFound, Conflict
            There is no such model or file, or the model is not finished.
        InvalidInput
            The rows are not as the model's features.
        """
        model = self._own(body.model_id)
        if body.file_id is not None:
            return _document(*self._predictions.predict_file(model, body.file_id))
        return _document(*self._predictions.predict_rows(model, body.rows or []))

    def list_all(self, page: PredictionPage) -> PredictionList:
        """List one's predictions."""
        found, total = self._predictions.page(self._access.user().id, page.limit, page.offset, page.model_id)
        listed = [PredictionSummary(**_summary(prediction)) for prediction in found]
        return PredictionList(predictions=listed, total=total, limit=page.limit, offset=page.offset)

    def show(self, prediction_id: uuid.UUID) -> PredictionDocument:
        """Show a prediction with its values."""
        return _document(*self._predictions.get(self._access.user().id, prediction_id))

    def download(self, model_id: uuid.UUID, wanted: Download) -> Response:
        """Answer with a finished model of one's own, as a file."""
        model = self._own(model_id)
        fitted = FittedModel.of(model)
        if wanted.format == "json":
            content, name = DownloadedModel(_for_people(model, fitted)), f"{model_id}.json"
        else:
            content, name = DownloadedModel(_for_sklearn(fitted)), f"{model_id}.sklearn.json"
        answer = bodies.document(content)
        answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return answer

    def _own(self, model_id: uuid.UUID) -> Model:
        model = self._storage.shown(model_id)
        self._access.require_own(model.user_id, f"model {model_id}")
        return model


def blueprint(own: OwnPredictions) -> Routes:
    """Make the routes."""
    routes = Routes("predictions", __name__, "Predictions, the files that they are made from, and models to take away")

    @routes.before_request
    def bound() -> None:
        if request.endpoint == "predictions.predict":
            request.max_content_length = ROWS_BYTES

    @routes.post(
        "/helpers/file",
        responses={HTTPStatus.CREATED: FileDocument, **uploads.REFUSALS},
        openapi_extensions=uploads.FORM,
    )
    def upload() -> FileDocument:
        """Upload a table to predict from: CSV or Parquet."""
        return own.upload()

    @routes.delete("/helpers/file/<uuid:file_id>", responses={HTTPStatus.NO_CONTENT: None})
    def forget(file_id: uuid.UUID) -> None:
        """Delete an uploaded table. What was predicted from it stays."""
        own.forget(file_id)

    @routes.post(
        "/predictions",
        responses={HTTPStatus.CREATED: PredictionDocument, **problems(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)},
    )
    def predict(body: PredictionFields) -> PredictionDocument:
        """Predict with a finished model of one's own."""
        return own.predict(body)

    @routes.get("/predictions", responses={HTTPStatus.OK: PredictionList})
    def list_all(query: PredictionPage) -> PredictionList:
        """List one's predictions."""
        return own.list_all(query)

    @routes.get("/predictions/<uuid:prediction_id>", responses={HTTPStatus.OK: PredictionDocument})
    def show(prediction_id: uuid.UUID) -> PredictionDocument:
        """Show a prediction with its values."""
        return own.show(prediction_id)

    @routes.get(
        "/models/<uuid:model_id>/download",
        responses={HTTPStatus.OK: DownloadedModel, **problems(HTTPStatus.CONFLICT)},
    )
    def download(model_id: uuid.UUID, query: Download) -> Response:
        """Download a finished model of one's own."""
        return own.download(model_id, query)

    return routes


def _file(file: File) -> FileDocument:
    return FileDocument.model_validate(file, from_attributes=True)


def _summary(prediction: Prediction) -> dict[str, Any]:
    return {name: getattr(prediction, name) for name in PredictionSummary.model_fields}


def _document(prediction: Prediction, values: FloatArray) -> PredictionDocument:
    return PredictionDocument(**_summary(prediction), predictions=values.tolist())


def _for_people(model: Model, fitted: FittedModel) -> ModelFile:
    order, outcome = model.parsed_order, model.outcome or {}
    return ModelFile(
        model_type=order.model_type,
        name=model.name,
        features=list(fitted.features),
        target=fitted.target,
        intercept=fitted.intercept,
        coefficients=fitted.coefficients.tolist(),
        training=TrainingFacts(
            id=model.id,
            ordered=model.created,
            delivered_model=outcome.get("model"),
            iterations=outcome.get("iterations"),
            initial_mse=outcome.get("initial_mse"),
            mse=outcome.get("mse"),
            trainers=len(outcome.get("trainers", [])),
            data_requirements=order.data_requirements,
            hyper_parameters=order.hyper_parameters,
        ),
    )


def _for_sklearn(fitted: FittedModel) -> SklearnFile:
    return SklearnFile(
        coef_=fitted.coefficients.tolist(),
        intercept_=fitted.intercept,
        n_features_in_=len(fitted.features),
        feature_names_in_=list(fitted.features),
    )
