"""Every error of the domain has a status, and every answer that is an error is a problem document."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from http import HTTPStatus

import pytest
from flask import Flask, abort
from flask.testing import FlaskClient
from pydantic import BaseModel, ConfigDict
from werkzeug.exceptions import MethodNotAllowed

import commons
import data_owner
import federated_aggregator
import model_buyer
from commons.chain.marketplace import ChainUnavailable, InsufficientFunds, NoContract, Reverted
from commons.crypto.paillier import InvalidCiphertext, InvalidOpening
from commons.crypto.proofs import InvalidProof
from commons.crypto.signatures import InvalidSignature
from commons.errors import (
    ConfigurationError,
    Conflict,
    DeltaMLError,
    InvalidInput,
    NotAuthenticated,
    NotAuthorised,
    NotFound,
    PeerRefused,
    PeerUnavailable,
    Unsupported,
    VerificationFailed,
)
from commons.http import problems
from commons.http.problems import STATUS, status_of
from commons.learning.local_steps import DivergingStep
from commons.protocol.transcript import InvalidTranscript


def every_error() -> list[type[DeltaMLError]]:
    """Return all errors that the packages define."""
    for package in (commons, data_owner, federated_aggregator, model_buyer):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__") and ".migrations" not in module.name:
                importlib.import_module(module.name)

    def descendants(error: type[DeltaMLError]) -> Iterator[type[DeltaMLError]]:
        yield error
        for child in error.__subclasses__():
            yield from descendants(child)

    packages = ("commons.", "data_owner.", "federated_aggregator.", "model_buyer.")
    return [error for error in descendants(DeltaMLError) if error.__module__.startswith(packages)]


@pytest.mark.parametrize("error", every_error())
def test_every_error_has_a_status_of_its_own_or_its_kind(error: type[DeltaMLError]) -> None:
    nearest = next(base for base in error.__mro__ if base in STATUS)
    assert error is DeltaMLError or nearest is not DeltaMLError, f"{error.__name__} is in no table and of no kind"
    assert nearest.__module__.startswith("commons.")


def test_table_has_errors_of_this_code_only() -> None:
    assert set(STATUS) <= set(every_error())


@pytest.fixture
def app() -> Flask:
    made = Flask(__name__)
    problems.register(made)
    return made


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInput("is odd", "order.name"), 422),
        (InvalidInput("is odd"), 422),
        (InvalidCiphertext("is odd"), 422),
        (Unsupported("not yet"), 422),
        (InvalidTranscript("is cut off"), 422),
        (NotAuthenticated("sign it"), 401),
        (NotAuthorised("it is for 0xa to send"), 403),
        (NotFound("there is no user 7"), 404),
        (Conflict("not now"), 409),
        (DivergingStep(2.5, 1.25), 409),
        (VerificationFailed("claims 1, is 2"), 409),
        (InvalidOpening("claims 1, is 2"), 409),
        (InvalidProof("claims 1, is 2"), 409),
        (InvalidSignature("claims 1, is 2"), 409),
        (Reverted("WrongStatus", {"status": "OPEN"}), 409),
        (InsufficientFunds("0xb", 5), 402),
        (PeerRefused("http://peer/x", 409, "no"), 502),
        (PeerUnavailable("http://peer/x does not answer"), 503),
        (ChainUnavailable("the chain does not answer"), 503),
        (NoContract("0xc"), 503),
        (ConfigurationError("set DELTAML_X"), 500),
        (DeltaMLError("odd"), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_error_is_told_in_its_own_words(app: Flask, client: FlaskClient, error: DeltaMLError, status: int) -> None:
    @app.get("/")
    def fail() -> str:
        raise error

    answer = client.get("/")
    assert answer.status_code == status == status_of(error)
    assert answer.content_type == "application/problem+json"
    document = json.loads(answer.data)
    assert document.pop("errors", None) == (
        [{"field": "order.name", "reason": "is odd"}] if getattr(error, "field", None) else None
    )
    assert document == {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": str(error),
    }


def test_everything_that_a_model_refuses_is_listed(app: Flask, client: FlaskClient) -> None:
    class Inner(BaseModel):
        number: int

    class Outer(BaseModel):
        model_config = ConfigDict(extra="forbid")
        inner: Inner
        name: str

    @app.get("/")
    def fail() -> str:
        Outer.model_validate({"inner": {"number": "secret text"}, "extra": 1})
        return ""

    answer = client.get("/")
    document = json.loads(answer.data)
    assert answer.status_code == 422
    assert [error["field"] for error in document["errors"]] == ["inner.number", "name", "extra"]
    assert [error["reason"] for error in document["errors"]][1:] == ["is missing", "is not known here: check its name"]
    assert document["detail"].startswith("inner.number: ") and "; name: is missing; extra: " in document["detail"]
    assert "secret text" not in answer.text  # what was sent is not repeated


@pytest.mark.parametrize("status", [400, 401, 403, 404, 406, 408, 413, 415, 429, 500, 503])
def test_errors_of_the_framework_are_problem_documents_too(app: Flask, client: FlaskClient, status: int) -> None:
    @app.get("/here")
    def fail() -> str:
        abort(status)

    answer = client.get("/here")
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert json.loads(answer.data)["status"] == status


def test_wrong_method_is_told_the_right_ones(app: Flask, client: FlaskClient) -> None:
    @app.get("/")
    def fail() -> str:
        raise MethodNotAllowed(["PUT", "GET"])

    answer = client.get("/")
    assert answer.headers["Allow"] == "GET, PUT"
    assert json.loads(answer.data)["detail"] == "the methods of this route are GET, PUT"


def test_wrong_route_is_told_where_the_right_ones_are(client: FlaskClient) -> None:
    answer = client.get("/model")
    assert answer.status_code == 404
    assert "/doc/ shows the routes" in json.loads(answer.data)["detail"]


def test_unexpected_error_says_nothing_of_itself(app: Flask, client: FlaskClient) -> None:
    @app.get("/")
    def fail() -> str:
        raise KeyError("private key 0x1b")

    answer = client.get("/")
    assert answer.status_code == 500
    assert json.loads(answer.data)["detail"] == "an unexpected error; the service's log has the details"
    assert "0x1b" not in answer.text and "KeyError" not in answer.text
