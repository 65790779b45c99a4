"""Files that users upload."""

from __future__ import annotations

import os
from http import HTTPStatus
from pathlib import Path, PurePosixPath, PureWindowsPath

from flask import request
from werkzeug.exceptions import UnsupportedMediaType

from commons.errors import InvalidInput
from commons.http.routes import problems

MAX_NAME = 200
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "required": ["file"],
                }
            }
        },
    }
}
"""How a route that receives a file declares it."""
REFUSALS = problems(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, HTTPStatus.UNPROCESSABLE_ENTITY
)
"""What else such a route answers."""
VALUE_BYTES = 2
"""Bytes of the shortest number in a CSV file, with its separator."""


def most_values(limit_bytes: int) -> int:
    """Return how many numbers a table may have: as many as a CSV file of `limit_bytes` can, however it is packed."""
    return limit_bytes // VALUE_BYTES


def receive(path: Path, limit_bytes: int) -> str:
    """Save the file that the current request brings in its field ``file``.

    Parameters
    ----------
    path : Path
        Where to: a new file, for this service's own user alone.
    limit_bytes : int
        How large the request may be.

    Returns
    -------
    str
        What the user calls the file. To show, never to find anything by.

    Raises
    ------
    UnsupportedMediaType, RequestEntityTooLarge
        The request is no form, or too large.
    InvalidInput
        There is no file in it, or its name is a path.
    """
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("send a CSV or Parquet file as multipart/form-data, in the field 'file'")
    request.max_content_length = limit_bytes
    file = request.files.get("file")
    if file is None:
        raise InvalidInput("is missing: send a CSV or Parquet file under this name", "file")
    name = file.filename or "table"
    if name in (".", "..") or name != PurePosixPath(name).name or name != PureWindowsPath(name).name:
        raise InvalidInput("the file's name must be a name, without a path", "file")
    if not name.isprintable():
        raise InvalidInput("the file's name must not have control characters", "file")
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as saved:
        file.save(saved)
    return name[:MAX_NAME]
