"""Refusals of services, over real connections: whose they are, and what somebody on the way can make of them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import requests
from flask import Flask, Response
from werkzeug.serving import WSGIRequestHandler, make_server

from commons.crypto.signatures import InvalidSignature
from commons.database import Database
from commons.errors import Conflict, NotAuthenticated, PeerRefused, PeerUnavailable
from commons.http import application, refusal_signing
from commons.http.nonces import Nonces
from commons.http.peer import Patience, Peers
from commons.http.request_signing import RequestSigner, RequestVerifier
from commons.http.signatures import Signatures
from commons.protocol.messages import Acknowledgement, Notice
from tests.unit.accounts import Offline, account

CALLER, SERVICE, OTHER = account(1), account(2), account(3)
PEERS = Peers(Offline(CALLER))
NOTICE = Notice(training=uuid.UUID(int=7))
ONCE = Patience(answer_s=5, total_s=0)

Meddling = Callable[[requests.PreparedRequest], None]


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def running(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def url(database: Database) -> Iterator[str]:
    app = application.create(__name__)
    refusal_signing.register(app, SERVICE)
    signatures = Signatures(Offline(SERVICE))
    with running(app) as url:
        verifier = RequestVerifier(url, Nonces(database))

        @app.post("/notice")
        def notice() -> Response:
            verifier.require(lambda: [CALLER.address])
            signatures.read(Notice)
            raise Conflict("not now")

        @app.post("/others")
        def others() -> Response:
            verifier.require(lambda: [OTHER.address])
            raise AssertionError

        @app.get("/plain")
        def plain() -> Response:
            raise Conflict("said to anybody")

        yield url


def ask(url: str, sender: str = SERVICE.address) -> None:
    PEERS.ask("POST", url, PEERS.sign(NOTICE), Acknowledgement, sender, ONCE)


def test_refusal_of_the_peer_counts(url: str) -> None:
    with pytest.raises(PeerRefused, match="409: not now"):
        ask(f"{url}/notice")
    with pytest.raises(PeerRefused, match="403: signed by"):
        ask(f"{url}/others")


def test_refusal_of_another_account_does_not(url: str) -> None:
    words = f"409 .not now., and {OTHER.address} did not: a refusal of {OTHER.address} was expected"
    with pytest.raises(PeerUnavailable, match=words):
        ask(f"{url}/notice", OTHER.address)


def signed(url: str) -> requests.PreparedRequest:
    question = PEERS.sign(NOTICE)
    headers = {"Content-Type": "application/msgpack", "DeltaML-Signature": f"0x{question.signature.hex()}"}
    return requests.Request("POST", url, data=question.content, headers=headers, auth=RequestSigner(CALLER)).prepare()


def send(prepared: requests.PreparedRequest) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.send(prepared, timeout=5)


def with_header(name: str, value: str) -> Meddling:
    def meddle(prepared: requests.PreparedRequest) -> None:
        prepared.headers[name] = value

    return meddle


def at(path: str) -> Meddling:
    def meddle(prepared: requests.PreparedRequest) -> None:
        prepared.url = str(prepared.url).replace("/notice", path)

    return meddle


@pytest.mark.parametrize(
    ("meddle", "status"),
    [
        pytest.param(at("/nothing"), 404, id="path that there is not"),
        pytest.param(at("/others"), 401, id="path for others"),
        pytest.param(with_header("Content-Length", str(10**12)), 413, id="body without end"),
        pytest.param(with_header("Content-Type", "text/plain"), 401, id="other type"),
        pytest.param(with_header("DeltaML-Signature", "0x"), 401, id="other signature of the message"),
        pytest.param(lambda prepared: setattr(prepared, "method", "DELETE"), 405, id="other method"),
        pytest.param(lambda prepared: setattr(prepared, "body", bytes(len(prepared.body))), 401, id="other body"),
    ],
)
def test_refusal_of_what_was_changed_on_the_way_is_not_signed(url: str, meddle: Meddling, status: int) -> None:
    prepared = signed(f"{url}/notice")
    meddle(prepared)
    answer = send(prepared)
    assert answer.status_code == status
    assert "Signature" not in answer.headers


def test_request_that_was_sent_twice_is_not_refused_with_a_signature(url: str) -> None:
    prepared = signed(f"{url}/notice")
    assert [(answer.status_code, "Signature" in answer.headers) for answer in (send(prepared), send(prepared))] == [
        (409, True),
        (401, False),
    ]


def test_unsigned_request_is_refused_without_a_signature(url: str) -> None:
    answer = requests.get(f"{url}/plain", timeout=5)
    assert (answer.status_code, "Signature" in answer.headers) == (409, False)


def refusal_of(prepared: requests.PreparedRequest) -> requests.Response:
    answer = send(prepared)
    refusal_signing.verify(answer, SERVICE.address)
    return answer


def test_refusal_fits_no_other_request(url: str) -> None:
    first, second = refusal_of(signed(f"{url}/notice")), refusal_of(signed(f"{url}/notice"))
    first.request = second.request
    with pytest.raises(InvalidSignature, match="its signature gives"):
        refusal_signing.verify(first, SERVICE.address)


def test_refusal_is_of_this_status_and_these_words(url: str) -> None:
    answer = refusal_of(signed(f"{url}/notice"))
    answer.status_code = 403
    with pytest.raises(InvalidSignature, match="its signature gives"):
        refusal_signing.verify(answer, SERVICE.address)
    answer.status_code = 409
    answer._content = b"other words"
    with pytest.raises(NotAuthenticated, match="not that of the refusal's body"):
        refusal_signing.verify(answer, SERVICE.address)
    answer.headers["Content-Digest"] = refusal_signing.content_digest(b"other words")
    with pytest.raises(InvalidSignature, match="its signature gives"):
        refusal_signing.verify(answer, SERVICE.address)


@pytest.mark.parametrize("name", ["Signature", "Signature-Input", "Content-Digest"])
def test_refusal_lacks_no_header(url: str, name: str) -> None:
    answer = refusal_of(signed(f"{url}/notice"))
    del answer.headers[name]
    with pytest.raises(NotAuthenticated):
        refusal_signing.verify(answer, SERVICE.address)


def test_signature_of_a_request_is_none_of_a_refusal(url: str) -> None:
    prepared = signed(f"{url}/notice")
    answer = refusal_of(prepared)
    for name in ("Signature", "Signature-Input"):
        answer.headers[name] = prepared.headers[name]
    with pytest.raises(NotAuthenticated, match="the refusal is not signed"):
        refusal_signing.verify(answer, CALLER.address)
