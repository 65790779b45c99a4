"""Routes of datasets."""

from __future__ import annotations

import tempfile
import uuid
from http import HTTPStatus
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import UnsupportedMediaType

from commons.errors import InvalidInput
from data_owner import datasets
from data_owner.storage import Dataset, Storage


def document(dataset: Dataset) -> dict[str, Any]:
    """Return a dataset as users see it."""
    table = dataset.table
    return {
        "id": str(dataset.id),
        "name": dataset.name,
        "rows": dataset.rows,
        "columns": [
            {"name": name, "minimum": float(low), "maximum": float(high)}
            for name, low, high in zip(table.columns, table.minima, table.maxima, strict=True)
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

    @routes.post("")
    def upload() -> ResponseReturnValue:
        if request.mimetype != "multipart/form-data":
            raise UnsupportedMediaType("send a CSV file as multipart/form-data, in the field 'file'")
        request.max_content_length = limit_bytes
        file = request.files.get("file")
        if file is None:
            raise InvalidInput("is missing: send a CSV file under this name", "file")
        name = file.filename or "dataset.csv"
        if name in (".", "..") or name != PurePosixPath(name).name or name != PureWindowsPath(name).name:
            raise InvalidInput("the file's name must be a name, without a path", "file")
        if not name.isprintable():
            raise InvalidInput("the file's name must not have control characters", "file")
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            path = Path(folder) / "upload"
            file.save(path)
            dataset = datasets.read(name[:200], path)
        storage.add_dataset(dataset)
        return jsonify(document(dataset)), HTTPStatus.CREATED

    @routes.get("")
    def list_all() -> ResponseReturnValue:
        return jsonify({"datasets": [document(dataset) for dataset in storage.datasets()]})

    @routes.get("/<uuid:dataset_id>")
    def show(dataset_id: uuid.UUID) -> ResponseReturnValue:
        return jsonify(document(storage.dataset(dataset_id)))

    @routes.delete("/<uuid:dataset_id>")
    def delete(dataset_id: uuid.UUID) -> ResponseReturnValue:
        storage.delete_dataset(dataset_id)
        return "", HTTPStatus.NO_CONTENT

    return routes
