"""What the three Flask applications have in common."""

from __future__ import annotations

import logging
import sys
from http import HTTPStatus
from typing import Literal

import structlog
from flask import Flask

from commons.http import documentation
from commons.http import problems as problem_documents
from commons.http.routes import PUBLIC, Routes
from commons.protocol.messages import Body

JSON_BODY_LIMIT = 64 * 2**20
"""Bytes of a body at most, uploads apart: a message about 200 features is 11 MB."""


FOR_ANYONE = frozenset({"health", "documentation"})
"""Blueprints of every service for whoever has not logged in."""

ABOUT = "The service itself, and its account on the chain"


class Health(Body):
    """A service that is up."""

    status: Literal["ok"] = "ok"
    service: str


def create(import_name: str, title: str = "DeltaML") -> Flask:
    """Make a Flask application that answers every error with a problem document, and describes its typed routes.

    Parameters
    ----------
    import_name : str
        The module that makes it.
    title : str
        What the service's documentation calls it.
    """
    app = Flask(import_name, static_folder=None)
    app.config["TITLE"] = title
    app.config["MAX_CONTENT_LENGTH"] = JSON_BODY_LIMIT
    app.json.sort_keys = False  # type: ignore[attr-defined]
    problem_documents.register(app)
    app.register_blueprint(documentation.blueprint())
    return app


def configure_logging(level: str) -> None:
    """Log one JSON object per line to standard error."""
    logging.basicConfig(level=level, stream=sys.stderr, format="%(message)s")
    for noisy in ("urllib3", "web3", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,  # without local variables: they may be secrets
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def health(service: str, path: str) -> Routes:
    """Make the route that says that a service is up."""
    routes = Routes("health", __name__, ABOUT, tag="service")

    @routes.get(path, responses={HTTPStatus.OK: Health}, security=PUBLIC)
    def ping() -> Health:
        """Say whether the service is up."""
        return Health(service=service)

    return routes
