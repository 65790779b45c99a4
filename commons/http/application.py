"""What the three Flask applications have in common."""

from __future__ import annotations

import logging
import sys

import structlog
from flask import Blueprint, Flask, jsonify
from flask.typing import ResponseReturnValue

from commons.chain.connection import Connection
from commons.http import problems

JSON_BODY_LIMIT = 64 * 2**20
"""Bytes of a body at most, uploads apart: a message about 200 features is 11 MB."""


def create(import_name: str) -> Flask:
    """Make a Flask application that answers every error with a problem document."""
    app = Flask(import_name, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = JSON_BODY_LIMIT
    app.json.sort_keys = False  # type: ignore[attr-defined]
    problems.register(app)
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


def health(service: str, path: str) -> Blueprint:
    """Make the route that says that a service is up."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get(path)
    def ping() -> ResponseReturnValue:
        return jsonify({"status": "ok", "service": service})

    return blueprint


def contract(chain: Connection) -> Blueprint:
    """Make the route that shows the chain as the service sees it, and its own account on it."""
    blueprint = Blueprint("contract", __name__)

    @blueprint.get("/contract")
    def show() -> ResponseReturnValue:
        market = chain.marketplace()
        account = chain.address
        return jsonify(
            {
                "address": market.address,
                "chain_id": market.chain_id,
                "account": account,
                "role": market.role(account).name,
                "balance_wei": str(market.balance(account)),
                "credit_wei": str(market.credit(account)),
            }
        )

    return blueprint
