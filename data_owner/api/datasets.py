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
from data_owner.datasets import Mismatch, mismatches, read
from data_owner.storage import Dataset, Outline, Status, Storage, Training


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


class Datasets:
    """What users do with the owner's datasets, by the API as by pages.

    Parameters
    ----------
    storage : Storage
        The owner's tables.
    scratch : Path
        Where an upload lies while it is read; it is deleted afterwards.
    limit_bytes : int
        How large an upload may be.
    """

    def __init__(self, storage: Storage, scratch: Path, limit_bytes: int) -> None:
        self._storage = storage
        self._scratch = scratch
        self.limit_bytes = limit_bytes

    def upload(self) -> Dataset:
        """Read the file that the current request brings, and keep its sums.

        Raises
        ------
        InvalidInput, UnsupportedMediaType, RequestEntityTooLarge
            As :func:`commons.http.uploads.receive` and :func:`data_owner.datasets.read`.
        """
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            path = Path(folder) / "upload"
            name = uploads.receive(path, self.limit_bytes)
            dataset = read(name, path, uploads.most_values(self.limit_bytes))
        self._storage.add_dataset(dataset)
        return dataset

    def page(self, page: Page) -> tuple[list[DatasetDocument], int]:
        """Return some of the datasets, the newest first, and how many there are."""
        offers = self._on_offer()
        found, total = self._storage.outline_page(page.limit, page.offset)
        return [_document(dataset, offers) for dataset in found], total

    def some(self) -> bool:
        """Return whether there is a dataset."""
        return self._storage.outline_page(1, 0)[1] > 0

    def document(self, dataset: Dataset) -> DatasetDocument:
        """Return a dataset as users see it."""
        return _document(Outline.of(dataset), self._on_offer())

    def own(self, dataset_id: uuid.UUID) -> Dataset:
        """Return a dataset; NotFound if there is none of that id."""
        return self._storage.dataset(dataset_id)

    def compare(self, dataset: Dataset) -> list[tuple[Training, list[Mismatch]]]:
        """Return every training request on offer, the newest first, with why a dataset does not fit it."""
        outline = Outline.of(dataset)
        return [
            (training, mismatches(outline, training.parsed_order.data_requirements))
            for training in self._storage.trainings((Status.OFFERED,))
        ]

    def delete(self, dataset_id: uuid.UUID) -> None:
        """Delete a dataset; NotFound, or Conflict once a training was accepted with it."""
        self._storage.delete_dataset(dataset_id)

    def _on_offer(self) -> dict[uuid.UUID, DataRequirements]:
        offered = self._storage.trainings((Status.OFFERED,))
        return {training.id: training.parsed_order.data_requirements for training in offered}


def blueprint(datasets: Datasets) -> Routes:
    """Make the routes."""
    routes = Routes("datasets", __name__, "The owner's data, of which only sums are kept", url_prefix="/datasets")

    @routes.post(
        "", responses={HTTPStatus.CREATED: DatasetDocument, **uploads.REFUSALS}, openapi_extensions=uploads.FORM
    )
    def upload() -> DatasetDocument:
        """Upload a dataset: CSV or Parquet."""
        return datasets.document(datasets.upload())

    @routes.get("", responses={HTTPStatus.OK: DatasetList})
    def list_all(query: Page) -> DatasetList:
        """List the datasets."""
        listed, total = datasets.page(query)
        return DatasetList(datasets=listed, total=total, limit=query.limit, offset=query.offset)

    @routes.get("/<uuid:dataset_id>", responses={HTTPStatus.OK: DatasetDocument})
    def show(dataset_id: uuid.UUID) -> DatasetDocument:
        """Show a dataset."""
        return datasets.document(datasets.own(dataset_id))

    @routes.delete("/<uuid:dataset_id>", responses={HTTPStatus.NO_CONTENT: None, **problems(HTTPStatus.CONFLICT)})
    def delete(dataset_id: uuid.UUID) -> None:
        """Delete a dataset that no training was accepted with."""
        datasets.delete(dataset_id)

    return routes


def _document(dataset: Outline, on_offer: Mapping[uuid.UUID, DataRequirements]) -> DatasetDocument:
    return DatasetDocument(
        id=dataset.id,
        name=dataset.name,
        rows=dataset.rows,
        columns=[Column(name=name, minimum=least, maximum=largest) for name, least, largest in dataset.columns],
        fits=[training_id for training_id, requirements in on_offer.items() if not mismatches(dataset, requirements)],
        created=dataset.created,
    )
