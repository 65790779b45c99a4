"""The services without signatures of requests, nonces and closed routes: what signing is measured against.

Never run anything but a benchmark like this: whoever calls is believed to be who it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flask import request
from requests import PreparedRequest

from commons.http.request_signing import RequestSigner, RequestVerifier
from commons.users.access import Access

CALLER = "DeltaML-Caller"


def leave_out() -> None:
    """Have requests say who sends them, and believe it."""

    def sign(self: RequestSigner, prepared: PreparedRequest) -> PreparedRequest:
        prepared.headers[CALLER] = self._account.address
        return prepared

    def caller(_: RequestVerifier) -> str:
        return request.headers[CALLER]

    def require(self: RequestVerifier, _: Callable[[], Iterable[str]]) -> str:
        return self.caller()

    def protect(*_: object, **__: object) -> None:
        pass

    for kind, name, method in (
        (RequestSigner, "__call__", sign),
        (RequestVerifier, "caller", caller),
        (RequestVerifier, "require", require),
        (Access, "protect", protect),
    ):
        setattr(kind, name, method)
