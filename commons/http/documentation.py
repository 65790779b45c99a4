"""The OpenAPI document of a service, and the page that shows it. Both are for anyone."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import flask_openapi3_swagger
from flask import Blueprint, Flask, current_app, json, render_template_string
from flask.typing import ResponseReturnValue
from flask_openapi3.models import OPENAPI3_REF_TEMPLATE
from flask_openapi3_swagger.templates import swagger_html_string
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from commons.http.problems import Problem
from commons.http.routes import TOKEN, Mode, Routes

VERSION = "0.1.0"
"""Of the REST API."""

SECURITY_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "What POST /users/login answers: an opaque token of one user of this service.",
    },
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "DeltaML-Signature",
        "description": "For services: the signature of the message, by the Ethereum account of who says it.",
    },
    "request_signature": {
        "type": "apiKey",
        "in": "header",
        "name": "Signature",
        "description": "For services: the signature of the request (RFC 9421), by the caller's Ethereum account, which "
        "has to be one that the contract names for this training.",
    },
}

DESCRIPTION = """\
Routes for users want a token: `POST /users`, then `POST /users/login`, then `Authorization: Bearer TOKEN`.
Every error is a problem document (RFC 9457) whose `detail` says what to do, and whose `errors` name the fields.
Lists are paged by `limit` and `offset`, and answer `total`. Amounts in wei are decimal digits in strings.
Identifiers are UUIDs. What one may not see is answered as what does not exist.
"""

CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' '{script}'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""The page loads nothing from elsewhere, and runs no script but its own, which is named by its hash: what could run
others here would have the sessions of the service's pages, which are of the same origin."""
_SCRIPT = re.compile("<script>(.*?)</script>", re.DOTALL)


def describe(app: Flask) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of an application: of all its :class:`commons.http.routes.Routes`.

    Raises
    ------
    TypeError
        Two models of one name are not the same.
    """
    described = [each for each in app.blueprints.values() if isinstance(each, Routes)]
    models: set[tuple[type[BaseModel], Mode]] = {(Problem, "serialization")}
    models.update(*(routes.models for routes in described))
    references, definitions = models_json_schema(
        sorted(models, key=lambda pair: (pair[0].__name__, pair[1])), ref_template=OPENAPI3_REF_TEMPLATE
    )
    for (model, _), reference in references.items():
        if reference["$ref"] != OPENAPI3_REF_TEMPLATE.format(model=model.__name__):
            raise TypeError(f"two models are called {model.__name__}, or one reads and writes different shapes")
    paths: dict[str, Any] = {}
    for routes in described:
        for path, item in routes.paths.items():
            operations = item.model_dump(mode="json", by_alias=True, exclude_unset=True)
            paths[path] = paths.get(path, {}) | operations
    return {
        "openapi": "3.1.0",
        "info": {"title": app.config["TITLE"], "version": VERSION, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": TOKEN,
        "tags": list({tag.name: tag.model_dump() for routes in described for tag in routes.tags}.values()),
        "paths": paths,
        "components": {"schemas": definitions["$defs"], "securitySchemes": SECURITY_SCHEMES},
    }


def blueprint() -> Blueprint:
    """Make the routes."""
    folder = Path(flask_openapi3_swagger.__file__).parent / "templates" / "swagger"
    routes = Blueprint("documentation", __name__, static_folder=folder, static_url_path="/doc/swagger")

    @cache  # it takes half a second, and anyone may ask
    def described() -> str:
        return json.dumps(describe(current_app))

    @routes.get("/openapi.json")
    def document() -> ResponseReturnValue:
        return described(), {"Content-Type": "application/json"}

    @routes.get("/doc/")
    def page() -> ResponseReturnValue:
        # Without a validator: by default the page sends the document's address to one of its makers.
        settings = {"validatorUrl": None}
        html = render_template_string(
            swagger_html_string, doc_url="../openapi.json", swagger_config=settings, oauth_config=None
        )
        [script] = _SCRIPT.findall(html)
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        return html, {"Content-Security-Policy": CONTENT_POLICY.format(script=f"sha256-{digest}")}

    return routes
