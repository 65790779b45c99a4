"""Errors as RFC 9457 problem documents: one table from error to status."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Literal

import structlog
from flask import Flask, Response
from pydantic import BaseModel, ConfigDict, ValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.exceptions import NotFound as NoSuchRoute

from commons.chain.marketplace import ChainUnavailable, InsufficientFunds, NoContract, Reverted
from commons.crypto.paillier import InvalidCiphertext, InvalidKey, InvalidOpening
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
    NotLoggedIn,
    PeerRefused,
    PeerUnavailable,
    TooManyRequests,
    Unsupported,
    VerificationFailed,
)
from commons.learning.local_steps import DivergingStep
from commons.protocol.evaluation import Diverged
from commons.protocol.messages import problems_of
from commons.protocol.transcript import InvalidTranscript

STATUS: dict[type[DeltaMLError], HTTPStatus] = {
    InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidCiphertext: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidKey: HTTPStatus.UNPROCESSABLE_ENTITY,
    Unsupported: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotAuthenticated: HTTPStatus.UNAUTHORIZED,
    NotAuthorised: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    Conflict: HTTPStatus.CONFLICT,
    DivergingStep: HTTPStatus.CONFLICT,
    Diverged: HTTPStatus.CONFLICT,
    Reverted: HTTPStatus.CONFLICT,
    VerificationFailed: HTTPStatus.CONFLICT,
    InvalidOpening: HTTPStatus.CONFLICT,
    InvalidProof: HTTPStatus.CONFLICT,
    InvalidSignature: HTTPStatus.CONFLICT,
    InvalidTranscript: HTTPStatus.UNPROCESSABLE_ENTITY,
    InsufficientFunds: HTTPStatus.PAYMENT_REQUIRED,
    PeerRefused: HTTPStatus.BAD_GATEWAY,
    PeerUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    ChainUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    NoContract: HTTPStatus.SERVICE_UNAVAILABLE,
    ConfigurationError: HTTPStatus.INTERNAL_SERVER_ERROR,
    DeltaMLError: HTTPStatus.INTERNAL_SERVER_ERROR,
}

PROBLEM_TYPE = "application/problem+json"

log = structlog.get_logger()


class Refusal(BaseModel):
    """What is wrong with one field of a request."""

    field: str
    reason: str


class Problem(BaseModel):
    """Why a request was refused, and what to do about it (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[Refusal] = []


def status_of(error: DeltaMLError) -> HTTPStatus:
    """Return the status of an error: its own, or that of its nearest base class in the table."""
    return next(STATUS[base] for base in type(error).__mro__ if base in STATUS)


def problem(status: HTTPStatus, detail: str, errors: Sequence[Refusal] = ()) -> Response:
    """Make a problem document.

    Parameters
    ----------
    status : HTTPStatus
        The status of the answer; its phrase is the title.
    detail : str
        What went wrong here, and what to do about it.
    errors : sequence of Refusal
        The fields that are wrong, if it is those.
    """
    body = Problem(title=status.phrase, status=int(status), detail=detail, errors=list(errors))
    content = body.model_dump_json(exclude=None if errors else {"errors"})
    return Response(content, status=int(status), content_type=PROBLEM_TYPE)


def register(app: Flask) -> None:
    """Answer every error of an application with a problem document."""

    @app.errorhandler(DeltaMLError)
    def domain(error: DeltaMLError) -> Response:
        status = status_of(error)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.warning("request failed", status=int(status), error=str(error))
        field = getattr(error, "field", None)
        errors = [Refusal(field=field, reason=getattr(error, "reason", str(error)))] if field else []
        answer = problem(status, str(error), errors)
        if isinstance(error, NotLoggedIn):
            answer.headers["WWW-Authenticate"] = 'Bearer realm="DeltaML"'  # RFC 6750, section 3
        elif isinstance(error, NotAuthenticated):
            answer.headers["WWW-Authenticate"] = 'Signature realm="DeltaML"'  # RFC 9421 names no scheme of its own
        elif isinstance(error, TooManyRequests):
            answer.headers["Retry-After"] = str(error.retry_after_s)
        return answer

    @app.errorhandler(ValidationError)
    def invalid(error: ValidationError) -> Response:
        errors = [Refusal(**each) for each in problems_of(error)]
        detail = "; ".join(f"{each.field}: {each.reason}" for each in errors)
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors)

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        return problem(HTTPStatus(error.code or 500), error.description or "")

    @app.errorhandler(NoSuchRoute)
    def no_such_route(error: NoSuchRoute) -> Response:
        return problem(
            HTTPStatus.NOT_FOUND, "there is no such route, or an id in it is no UUID: /doc/ shows the routes"
        )

    @app.errorhandler(MethodNotAllowed)
    def no_such_method(error: MethodNotAllowed) -> Response:
        allowed = ", ".join(sorted(error.valid_methods or ()))
        answer = problem(HTTPStatus.METHOD_NOT_ALLOWED, f"the methods of this route are {allowed}")
        answer.headers["Allow"] = allowed
        return answer

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        log.exception("unexpected error")
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an unexpected error; the service's log has the details")
