"""Typed routes: a view's signature says what it reads, `responses` what it answers, and the documents are made of both.

flask-openapi3 collects the declarations; reading stays with :mod:`commons.http.bodies`. The library's own reading
answers 422 to what is no JSON, takes a JSON string that holds JSON, and validates parsed values, where numbers have
become floats. So a blueprint of :class:`Routes` is the library's with one method replaced::

    routes = Routes("users", __name__, "Accounts and logging in", url_prefix="/users")

    @routes.post("", responses={HTTPStatus.CREATED: UserDocument, **problems(HTTPStatus.CONFLICT)})
    def create(body: NewUser) -> UserDocument:
        # and the view; its docstring is the route's description

A parameter ``body`` is the JSON body, ``query`` the query, the others are the path's variables. What the view returns
is of the model declared for the only status below 300, which is the status of the answer; a route that declares
``None`` for it returns nothing. A ready :class:`flask.Response` passes. The refusals that follow from the declaration
(no token, no such id, bad body, …) are documented without being named; `responses` names the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models import OPENAPI3_REF_PREFIX
from flask_openapi3.models.operation import Operation
from flask_openapi3.models.parameter import Parameter
from flask_openapi3.models.tag import Tag
from flask_openapi3.types import ParametersTuple
from flask_openapi3.utils import parse_rule
from pydantic import BaseModel

from commons.http import bodies
from commons.http.bodies import MESSAGEPACK
from commons.http.problems import PROBLEM_TYPE, Problem
from commons.protocol.messages import Message

Responses = dict[str | int | HTTPStatus, Any]
Security = list[dict[str, list[str]]]
Mode = Literal["validation", "serialization"]

TOKEN: Security = [{"token": []}]
"""The security of a route for users, unless it says another."""
TOKEN_IF_ANY: Security = [{}, *TOKEN]
"""The security of a route for anyone that answers users differently."""
PUBLIC: Security = [{}]
"""The security of a route for anyone."""

NOT_MODIFIED: Responses = {HTTPStatus.NOT_MODIFIED: {"description": "Still what the ETag in If-None-Match names"}}
"""What a route of one thing answers to who has it already."""

_VARIABLE = re.compile(r"<(?:(\w+):)?(\w+)>")
_NEEDED: dict[str, tuple[HTTPStatus, ...]] = {
    "body": (
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    ),
    "query": (HTTPStatus.UNPROCESSABLE_ENTITY,),
}


def problems(*statuses: HTTPStatus) -> Responses:
    """Declare that a route refuses with these statuses too."""
    schema = {"$ref": f"{OPENAPI3_REF_PREFIX}/{Problem.__name__}"}
    return {
        status: {"description": status.phrase, "content": {PROBLEM_TYPE: {"schema": schema}}} for status in statuses
    }


class Routes(APIBlueprint):
    """A blueprint of typed routes.

    Parameters
    ----------
    name, import_name : str
        Of the blueprint.
    about : str
        What its routes are about.
    tag : str, optional
        Under what its routes are documented, if not under the blueprint's name.
    url_prefix : str, optional
        What all its paths begin with.

    Attributes
    ----------
    models : set
        The models of what it reads (``validation``) and answers (``serialization``).
    """

    def __init__(
        self, name: str, import_name: str, about: str, *, tag: str | None = None, url_prefix: str | None = None
    ) -> None:
        super().__init__(name, import_name, url_prefix=url_prefix, operation_id_callback=_operation_id)
        self._tag = Tag(name=tag or name, description=about)
        self.models: set[tuple[type[BaseModel], Mode]] = set()

    def between_services(self, summary: str, question: type[Message] | None) -> dict[str, Any]:
        """Declare a route that other services call, in short: docs/protocol.md has the messages.

        Parameters
        ----------
        summary : str
            What it does.
        question : type, optional
            The message that it reads; without one, bytes are answered to whoever signs the request as a whole.
        """
        declared: dict[str, Any] = {
            "summary": summary,
            "tags": [Tag(name="between services", description="Signed messages: docs/protocol.md has their fields")],
            "security": [{"request_signature": [], "signature": []}] if question else [{"request_signature": []}],
        }
        binary = {"schema": {"type": "string", "format": "binary"}}
        answer = {"description": "Bytes", "content": {"application/octet-stream": binary}}
        if question:
            self.models.add((question, "validation"))
            schema = {"schema": {"$ref": f"{OPENAPI3_REF_PREFIX}/{question.__name__}"}}
            content = {"application/json": schema, MESSAGEPACK: binary}
            declared["openapi_extensions"] = {"requestBody": {"required": True, "content": content}}
            answer = {"description": "A signed message", "content": {MESSAGEPACK: binary}}
        refused = (*_NEEDED["body"], HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE)
        return {**declared, "responses": {HTTPStatus.OK: answer, **problems(*refused)}}

    def _collect_openapi_info(self, rule: str, func: Callable[..., Any], **declared: Any) -> ParametersTuple:
        security = declared.pop("security", None) or TOKEN
        answers = declared.pop("responses")
        variables = _VARIABLE.findall((self.url_prefix or "") + rule)
        refused = [HTTPStatus.NOT_FOUND] if variables else []
        refused += [] if security == PUBLIC else [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN]
        for name, statuses in _NEEDED.items():
            refused += statuses if name in func.__annotations__ else []
        declared["tags"] = declared["tags"] or [self._tag]
        responses = dict(sorted({**problems(*refused), **answers}.items()))
        types = super()._collect_openapi_info(rule, func, responses=responses, security=security, **declared)
        operation: Operation = getattr(self.paths[parse_rule(rule, self.url_prefix)], declared["method"].lower())
        operation.parameters = [_path_parameter(*each) for each in variables] + (operation.parameters or [])
        _, _, _, query, _, body, _ = types
        self.models |= {(model, "validation") for model in (query, body) if model is not None}
        self.models |= {(model, "serialization") for model in answers.values() if isinstance(model, type)}
        return types

    @staticmethod
    def create_view_func(
        func: Callable[..., Any],
        header: None,
        cookie: None,
        path: None,
        query: type[bodies.AnyBody] | None,
        form: None,
        body: type[bodies.AnyBody] | None,
        raw: None,
        view_class: None = None,
        view_kwargs: None = None,
        responses: Responses | None = None,
        validate_response: bool | None = None,
    ) -> Callable[..., Response]:
        """Make the view that reads what `func` wants, and answers with what it returns."""
        status, model = next(
            (HTTPStatus(int(key)), model) for key, model in (responses or {}).items() if int(key) < 300
        )

        @wraps(func)
        def view(**given: Any) -> Response:
            if query is not None:
                given["query"] = bodies.query(query)
            if body is not None:
                given["body"] = bodies.read(body)
            answer = func(**given)
            if isinstance(answer, Response):
                return answer
            if model is None:
                return Response(status=int(status))
            if not isinstance(answer, model):
                raise TypeError(f"{func.__qualname__} returned a {type(answer).__name__}, not a {model.__name__}")
            return bodies.document(answer, status)

        return view


def _operation_id(*, bp_name: str, name: str, path: str, method: str) -> str:
    return f"{bp_name}.{name}"  # the name by which routes are protected, too


def _path_parameter(converter: str, name: str) -> Parameter:
    schema = {"type": "string"} | ({"format": "uuid"} if converter == "uuid" else {})
    return Parameter.model_validate({"name": name, "in": "path", "required": True, "schema": schema})
