"""Routes of datasets."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from pathlib import Path

from commons.http import uploads
from commons.http.documents import Listing, Page
from commons.http.routes import Routes, problems
from commons.protocol.messages import Body, DataRequirements
from data_owner import datasets
from data_owner.storage import Dataset, Status, Storage


class Column(Body):
    """A column and the bounds of its values."""

    name: str
    minimum: float
    maximum: float


class DatasetDocument(Body):
    """A dataset: never its rows. ``fits`` are those of the training requests on offer that it has the columns for."""

    id: uuid.UUID
    name: str
    rows: int
    columns: list[Column]
    fits: list[uuid.UUID]
    created: datetime


class DatasetList(Listing):
    """Some of the owner's datasets, the newest first."""

    datasets: list[DatasetDocument]


def document(dataset: Dataset, on_offer: Mapping[uuid.UUID, DataRequirements]) -> DatasetDocument:
    """Return a dataset as users see it, with those of the training requests on offer that it fits."""
    table = dataset.table
    return DatasetDocument(
        id=dataset.id,
        name=dataset.name,
        rows=dataset.rows,
        columns=[
            Column(name=name, minimum=float(low), maximum=float(high))
            for name, low, high in zip(table.columns, table.minima, table.maxima, strict=True)
        ],
        fits=[
            training_id
            for training_id, requirements in on_offer.items()
            if not datasets.mismatches(table, requirements)
        ],
        created=dataset.created,
    )


def blueprint(storage: Storage, scratch: Path, limit_bytes: int) -> Routes:
    """Make the routes.

    Parameters
    ----------
    storage : Storage
        The owner's tables.
    scratch : Path
        Where an upload lies while it is read; it is deleted afterwards.
    limit_bytes : int
        How large an upload may be.
    """
    routes = Routes("datasets", __name__, "The owner's data, of which only sums are kept", url_prefix="/datasets")

    def on_offer() -> dict[uuid.UUID, DataRequirements]:
        offered = storage.trainings((Status.OFFERED,))
        return {training.id: training.parsed_order.data_requirements for training in offered}

    @routes.post(
        "", responses={HTTPStatus.CREATED: DatasetDocument, **uploads.REFUSALS}, openapi_extensions=uploads.FORM
    )
    def upload() -> DatasetDocument:
        """Upload a dataset: CSV or Parquet."""
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            path = Path(folder) / "upload"
            name = uploads.receive(path, limit_bytes)
            dataset = datasets.read(name, path, uploads.most_values(limit_bytes))
        storage.add_dataset(dataset)
        return document(dataset, on_offer())

    @routes.get("", responses={HTTPStatus.OK: DatasetList})
    def list_all(query: Page) -> DatasetList:
        """List the datasets."""
        offers = on_offer()
        found, total = storage.dataset_page(query.limit, query.offset)
        listed = [document(dataset, offers) for dataset in found]
        return DatasetList(datasets=listed, total=total, limit=query.limit, offset=query.offset)

    @routes.get("/<uuid:dataset_id>", responses={HTTPStatus.OK: DatasetDocument})
    def show(dataset_id: uuid.UUID) -> DatasetDocument:
        """Show a dataset."""
        return document(storage.dataset(dataset_id), on_offer())

    @routes.delete("/<uuid:dataset_id>", responses={HTTPStatus.NO_CONTENT: None, **problems(HTTPStatus.CONFLICT)})
    def delete(dataset_id: uuid.UUID) -> None:
        """Delete a dataset that no training was accepted with."""
        storage.delete_dataset(dataset_id)

    return routes
