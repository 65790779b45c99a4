"""Calls to other services, against a real server: what is tried again, what is not, and for how long."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import ormsgpack
import pytest

from commons.errors import PeerRefused, PeerUnavailable, VerificationFailed
from commons.http.bodies import MESSAGEPACK
from commons.http.peer import Patience, Peers
from commons.protocol.messages import PROTOCOL_VERSION, Acknowledgement, Notice, Vector

NOTICE = Notice(training=uuid.UUID(int=7), reason="x")
GOOD = Acknowledgement().pack()
ONCE = Patience(answer_s=5, total_s=0)
A_WHILE = Patience(answer_s=5, total_s=10)

Answer = Callable[[BaseHTTPRequestHandler], None]


def answer(status: int, body: bytes, content_type: str = MESSAGEPACK, **headers: str) -> Answer:
    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return write


def problem(status: int, detail: str) -> Answer:
    return answer(status, b'{"detail": "%s"}' % detail.encode(), "application/problem+json")


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Promise more than is sent, as a service does that is killed while it answers."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(GOOD) + 100))
    handler.end_headers()
    handler.wfile.write(GOOD)
    handler.close_connection = True


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def sleep(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(0.5)
    answer(200, GOOD)(handler)


@dataclass
class Peer:
    """A server that gives the scripted answers, the last one again and again."""

    script: list[Answer]
    asked: list[tuple[str, str, str | None, bytes]] = field(default_factory=list)
    url: str = ""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that had no patience."""


def server_for(peer: Peer, bind_and_activate: bool = True) -> Server:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            peer.asked.append((self.command, self.path, self.headers.get("Content-Type"), content))
            peer.script[min(len(peer.asked), len(peer.script)) - 1](self)

        do_GET = do_POST = do_PUT = handle_any

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = Server(("127.0.0.1", 0), Handler, bind_and_activate)
    if not bind_and_activate:
        server.server_bind()
    peer.url = f"http://127.0.0.1:{server.server_address[1]}"
    return server


@contextmanager
def serving(*script: Answer) -> Iterator[Peer]:
    peer = Peer(list(script))
    server = server_for(peer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield peer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def tell(peer: Peer, patience: Patience = A_WHILE, **optional: object) -> Acknowledgement:
    return Peers().call("POST", f"{peer.url}/notice", NOTICE, Acknowledgement, patience, **optional)


def test_message_goes_out_and_the_answer_comes_back() -> None:
    with serving(answer(200, Vector(ciphertexts=b"123").pack())) as peer:
        assert Peers().call("PUT", f"{peer.url}/x", NOTICE, Vector, ONCE) == Vector(ciphertexts=b"123")
        assert peer.asked == [("PUT", "/x", MESSAGEPACK, NOTICE.pack())]


def test_message_that_was_encoded_before_is_sent_as_it_is() -> None:
    with serving(answer(200, GOOD)) as peer:
        Peers().call("POST", f"{peer.url}/x", b"\x80", Acknowledgement, ONCE)
        Peers().call("GET", f"{peer.url}/x", None, Acknowledgement, ONCE)
        assert [content for *_, content in peer.asked] == [b"\x80", b""]


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(problem(500, "a bug"), id="500"),
        pytest.param(problem(502, "no"), id="502"),
        pytest.param(problem(503, "restarting"), id="503"),
        pytest.param(problem(504, "slow"), id="504"),
        pytest.param(problem(429, "busy"), id="429"),
        pytest.param(cut, id="body cut half way"),
        pytest.param(hang_up, id="no answer"),
    ],
)
def test_call_is_repeated_until_it_is_answered(trouble: Answer) -> None:
    with serving(trouble, trouble, answer(200, GOOD)) as peer:
        tell(peer)
        assert [content for *_, content in peer.asked] == [NOTICE.pack()] * 3


def test_call_is_repeated_until_the_peer_listens() -> None:
    peer = Peer([answer(200, GOOD)])
    server = server_for(peer, bind_and_activate=False)  # its port refuses connections

    def start() -> None:
        server.server_activate()
        server.serve_forever(poll_interval=0.01)

    timer = threading.Timer(0.3, start)
    timer.start()
    tell(peer)
    server.shutdown()
    timer.join()
    server.server_close()
    assert len(peer.asked) == 1


@pytest.mark.parametrize("status", [400, 404, 409, 413, 415, 422, 302, 201])
def test_refusal_is_not_repeated(status: int) -> None:
    with serving(problem(status, "not so"), answer(200, GOOD)) as peer:
        with pytest.raises(PeerRefused, match=f"{peer.url}/notice answered {status}: not so") as refusal:
            tell(peer)
        assert (refusal.value.status, refusal.value.detail) == (status, "not so")
        assert len(peer.asked) == 1


def test_refusal_without_a_problem_document_is_quoted_briefly() -> None:
    with (
        serving(answer(404, b"<html>" + b"x" * 1000, "text/html")) as peer,
        pytest.raises(PeerRefused) as refusal,
    ):
        tell(peer)
    assert refusal.value.detail == "<html>" + "x" * 194


def test_redirect_is_not_followed() -> None:
    with serving(answer(307, b"", Location="http://127.0.0.1:1/")) as peer:
        with pytest.raises(PeerRefused, match="307"):
            tell(peer)
        assert len(peer.asked) == 1


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"<html>",
        ormsgpack.packb([1, 2]),
        ormsgpack.packb({"colour": "red"}),
        ormsgpack.packb({"version": PROTOCOL_VERSION + 1}),
        Vector(ciphertexts=b"123").pack(),
    ],
)
def test_answer_that_is_no_such_message_is_refused_and_not_repeated(nonsense: bytes) -> None:
    with serving(answer(200, nonsense)) as peer:
        with pytest.raises(VerificationFailed, match=f"{peer.url}/notice answered what is no Acknowledgement"):
            tell(peer)
        assert len(peer.asked) == 1


def test_single_try_is_a_single_try() -> None:
    with serving(problem(503, "restarting"), answer(200, GOOD)) as peer:
        with pytest.raises(PeerUnavailable, match=f"{peer.url}/notice does not answer: 503: restarting"):
            tell(peer, ONCE)
        assert len(peer.asked) == 1


def test_patience_ends() -> None:
    with serving(problem(503, "restarting")) as peer:
        started = time.monotonic()
        with pytest.raises(PeerUnavailable, match="503: restarting"):
            tell(peer, Patience(answer_s=5, total_s=0.5))
        assert 0.5 <= time.monotonic() - started < 3
        assert len(peer.asked) > 2


def test_peer_that_does_not_answer_in_time_is_unavailable() -> None:
    with serving(sleep) as peer:
        started = time.monotonic()
        with pytest.raises(PeerUnavailable, match="does not answer: ReadTimeout"):
            tell(peer, Patience(answer_s=0.1, total_s=0))
        assert time.monotonic() - started < 0.45


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[", "http://a..b.invalid", "http://x:99999", "http://"])
def test_peer_that_cannot_be_reached_is_unavailable(url: str) -> None:
    with pytest.raises(PeerUnavailable, match="does not answer"):
        Peers().call("GET", url, None, Acknowledgement, ONCE)


def test_bytes_of_every_exchange_are_counted() -> None:
    busy = b'{"detail": "busy"}'
    counted: list[int] = []
    with serving(answer(503, busy, "application/problem+json"), answer(200, GOOD)) as peer:
        tell(peer, count=counted.append)
    assert counted == [len(NOTICE.pack()) + len(busy), len(NOTICE.pack()) + len(GOOD)]


def test_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with serving(answer(200, GOOD)) as peer:
        tell(peer, ONCE)


def test_connection_is_kept_for_the_next_call_of_a_thread() -> None:
    connections: set[object] = set()

    def remember(handler: BaseHTTPRequestHandler) -> None:
        connections.add(handler.client_address)
        answer(200, GOOD)(handler)

    with serving(remember) as peer:
        peers = Peers()
        for _ in range(3):
            peers.call("POST", peer.url, NOTICE, Acknowledgement, ONCE)
        assert len(connections) == 1
        other = threading.Thread(target=peers.call, args=("POST", peer.url, NOTICE, Acknowledgement, ONCE))
        other.start()
        other.join()
        assert len(connections) == 2
