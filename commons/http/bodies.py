"""Request and response bodies: JSON for people, MessagePack between services, one model behind both."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from typing import TypeVar

from flask import Response, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import BadRequest, PreconditionFailed, UnsupportedMediaType

from commons.errors import InvalidInput
from commons.protocol.messages import Body, Message

MESSAGEPACK = "application/msgpack"

AnyBody = TypeVar("AnyBody", bound=Body)


def read(model: type[AnyBody]) -> AnyBody:
    """Decode the body of the current request.

    Raises
    ------
    BadRequest
        It is not JSON, or not MessagePack, although it says so.
    UnsupportedMediaType
        It is neither.
    pydantic.ValidationError
        It is, but breaks the model's rules.
    """
    if request.mimetype == MESSAGEPACK and issubclass(model, Message):
        try:
            return model.unpack(request.get_data())
        except InvalidInput as error:
            raise BadRequest(str(error)) from None
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("send the body as application/json")
    try:
        return model.model_validate_json(request.get_data())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] != "json_invalid":
            raise
        raise BadRequest(f"the body is not JSON: {first['ctx']['error']}") from None


def query(model: type[AnyBody]) -> AnyBody:
    """Read the query of the current request.

    Raises
    ------
    InvalidInput
        Something in it is given twice.
    pydantic.ValidationError
        It breaks the model's rules.
    """
    for name, values in request.args.lists():
        if len(values) > 1:
            raise InvalidInput("is given more than once", name)
    return model.model_validate(request.args.to_dict())


def message(content: Message | bytes) -> Response:
    """Answer a service with a message, encoded here or before."""
    data = content if isinstance(content, bytes) else content.pack()
    return Response(data, content_type=MESSAGEPACK)


def negotiated(content: Message) -> Response:
    """Answer with a message to whoever accepts MessagePack, with JSON to people."""
    return message(content) if request.accept_mimetypes.best == MESSAGEPACK else document(content)


def tagged(content: bytes, tag: str | None = None) -> Response:
    """Answer a user with a JSON document that names its version (ETag), or with 304 to who has it (If-None-Match).

    Parameters
    ----------
    content : bytes
        The document.
    tag : str, optional
        What names the version, if not the content's own hash.
    """
    answer = Response(content, content_type="application/json")
    answer.set_etag(tag or hashlib.sha256(content).hexdigest()[:32])
    answer.cache_control.private = True
    answer.cache_control.no_cache = True  # what is kept is asked for again
    answer.make_conditional(request)
    return answer


def require_match(tag: str) -> None:
    """Raise PreconditionFailed unless the client means this version (If-Match), or does not say which one."""
    if request.if_match and not request.if_match.contains(tag):
        raise PreconditionFailed("it has changed since you saw it: look again, and send its ETag")


def document(model: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Answer a user with a JSON document."""
    return Response(model.model_dump_json(), status=int(status), content_type="application/json")
