"""Routes of datasets."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from commons.http import uploads
from data_owner import datasets
from data_owner.storage import Dataset, Status, Storage, Training


def document(dataset: Dataset, on_offer: Sequence[Training]) -> dict[str, Any]:
    """Return a dataset as users see it, with those of the training requests on offer that it fits."""
    table = dataset.table
    return {
        "id": str(dataset.id),
        "name": dataset.name,
        "rows": dataset.rows,
        "columns": [
            {"name": name, "minimum": float(low), "maximum": float(high)}
            for name, low, high in zip(table.columns, table.minima, table.maxima, strict=True)
        ],
        "fits": [
            str(training.id)
            for training in on_offer
            if not datasets.mismatches(table, training.parsed_order.data_requirements)
        ],
        "created": dataset.created.isoformat(),
    }


def blueprint(storage: Storage, scratch: Path, limit_bytes: int) -> Blueprint:
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
    routes = Blueprint("datasets", __name__, url_prefix="/datasets")

    def on_offer() -> list[Training]:
        return storage.trainings((Status.OFFERED,))

    @routes.post("")
    def upload() -> ResponseReturnValue:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            path = Path(folder) / "upload"
            name = uploads.receive(path, limit_bytes)
            dataset = datasets.read(name, path, uploads.most_values(limit_bytes))
        storage.add_dataset(dataset)
        return jsonify(document(dataset, on_offer())), HTTPStatus.CREATED

    @routes.get("")
    def list_all() -> ResponseReturnValue:
        offers = on_offer()
        return jsonify({"datasets": [document(dataset, offers) for dataset in storage.datasets()]})

    @routes.get("/<uuid:dataset_id>")
    def show(dataset_id: uuid.UUID) -> ResponseReturnValue:
        return jsonify(document(storage.dataset(dataset_id), on_offer()))

    @routes.delete("/<uuid:dataset_id>")
    def delete(dataset_id: uuid.UUID) -> ResponseReturnValue:
        storage.delete_dataset(dataset_id)
        return "", HTTPStatus.NO_CONTENT

    return routes
