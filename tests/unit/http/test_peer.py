"""Calls to other services, against a real server: what is tried again, what is not, and for how long."""

from __future__ import annotations

import gzip
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
from commons.http import answers
from commons.http.bodies import MESSAGEPACK
from commons.http.peer import Patience, Peers
from commons.http.signatures import SIGNATURE_HEADER, encode_signature
from commons.protocol.messages import PROTOCOL_VERSION, Acknowledgement, Notice, Vector
from commons.protocol.signed import Domain, Signed
from tests.unit.accounts import DOMAIN, Offline, account, signer

NOTICE = Notice(training=uuid.UUID(int=7), reason="x")
PEERS = Peers(Offline(account(1)))
QUESTION = signer(1).sign(NOTICE)
PEER = account(2).address
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


def dripped(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Send a byte now and then, each soon enough for a timeout of single reads."""
    for byte in content:
        try:
            handler.wfile.write(bytes([byte]))
        except OSError:  # nobody listens any more
            return
        time.sleep(0.05)


def drip_headers(handler: BaseHTTPRequestHandler) -> None:
    dripped(handler, b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 100)


def drip_body(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    dripped(handler, b"x" * 100)


@dataclass
class Peer:
    """A server that gives the scripted answers, the last one again and again."""

    script: list[Answer]
    asked: list[tuple[str, str, str | None, bytes]] = field(default_factory=list)
    signatures: list[str | None] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
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
            peer.signatures.append(self.headers.get(SIGNATURE_HEADER))
            peer.inputs.append(self.headers["Signature-Input"])
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
    return PEERS.call("POST", f"{peer.url}/notice", NOTICE, Acknowledgement, patience, **optional)


@pytest.mark.parametrize("message", [NOTICE, None])
def test_whatever_goes_out_is_signed_by_the_account(message: Notice | None) -> None:
    with serving(answer(200, GOOD)) as peer:
        PEERS.call("POST", f"{peer.url}/x", message, Acknowledgement, ONCE)
        assert f'keyid="{account(1).address}"' in peer.inputs[0]


def test_message_goes_out_and_the_answer_comes_back() -> None:
    with serving(answer(200, Vector(ciphertexts=b"123").pack())) as peer:
        assert PEERS.call("PUT", f"{peer.url}/x", NOTICE, Vector, ONCE) == Vector(ciphertexts=b"123")
        assert peer.asked == [("PUT", "/x", MESSAGEPACK, NOTICE.pack())]


def test_call_without_a_message_has_an_empty_body_and_no_signature() -> None:
    with serving(answer(200, GOOD)) as peer:
        PEERS.call("GET", f"{peer.url}/x", None, Acknowledgement, ONCE)
        assert [content for *_, content in peer.asked] == [b""]
        assert peer.signatures == [None]


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(problem(401, "too late"), id="401"),
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
        assert len(set(peer.inputs)) == 3  # each is signed anew


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


def test_answer_that_is_too_long_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(answer(200, b"x" * 100_000)) as peer:
        monkeypatch.setattr(answers, "LONGEST", 50_000)
        with pytest.raises(PeerUnavailable):
            PEERS.call("POST", peer.url, NOTICE, Acknowledgement, ONCE)


def test_packed_answer_is_none() -> None:
    bomb = answer(200, gzip.compress(GOOD), **{"Content-Encoding": "gzip"})
    with serving(bomb) as peer, pytest.raises(PeerUnavailable):
        PEERS.call("POST", peer.url, NOTICE, Acknowledgement, ONCE)


@pytest.mark.parametrize("drip", [drip_headers, drip_body])
def test_peer_that_answers_a_byte_at_a_time_is_unavailable_in_time(drip: Answer) -> None:
    with serving(drip) as peer:
        began = time.monotonic()
        with pytest.raises(PeerUnavailable):
            tell(peer, Patience(answer_s=0.5, total_s=0))
        assert time.monotonic() - began < 2, "a hundred bytes take five seconds"


def test_peer_that_does_not_answer_in_time_is_unavailable() -> None:
    with serving(sleep) as peer:
        started = time.monotonic()
        with pytest.raises(PeerUnavailable, match="does not answer: ReadTimeout"):
            tell(peer, Patience(answer_s=0.1, total_s=0))
        assert time.monotonic() - started < 0.45


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[", "http://a..b.invalid", "http://x:99999", "http://"])
def test_peer_that_cannot_be_reached_is_unavailable(url: str) -> None:
    with pytest.raises(PeerUnavailable, match="does not answer"):
        PEERS.call("GET", url, None, Acknowledgement, ONCE)


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
        peers = Peers(Offline(account(1)))
        for _ in range(3):
            peers.call("POST", peer.url, NOTICE, Acknowledgement, ONCE)
        assert len(connections) == 1
        other = threading.Thread(target=peers.call, args=("POST", peer.url, NOTICE, Acknowledgement, ONCE))
        other.start()
        other.join()
        assert len(connections) == 2


def signed_answer(signed: Signed) -> Answer:
    return answer(200, signed.content, **{SIGNATURE_HEADER: encode_signature(signed.signature)})


def ask(peer: Peer, **optional: object) -> Signed:
    return PEERS.ask("POST", f"{peer.url}/notice", QUESTION, Vector, PEER, ONCE, **optional).signed


ANSWER = Vector(ciphertexts=b"123")


def test_question_goes_out_with_its_signature_and_the_answer_is_verified() -> None:
    assert PEERS.sign(NOTICE) == QUESTION
    expected = signer(2).sign(ANSWER, QUESTION)
    with serving(signed_answer(expected)) as peer:
        answered = PEERS.ask("POST", f"{peer.url}/notice", QUESTION, Vector, PEER, ONCE)
        assert (answered.content, answered.signed) == (ANSWER, expected)
        assert peer.asked == [("POST", "/notice", MESSAGEPACK, NOTICE.pack())]
        assert peer.signatures == ["0x" + QUESTION.signature.hex()]


def test_question_of_somebody_else_is_passed_on_with_its_signature() -> None:
    theirs = signer(3).sign(NOTICE)
    with serving(signed_answer(signer(2).sign(ANSWER, theirs))) as peer:
        PEERS.ask("POST", peer.url, theirs, Vector, PEER, ONCE)
        assert peer.signatures == ["0x" + theirs.signature.hex()]


def test_address_of_the_sender_may_be_written_in_any_case() -> None:
    with serving(signed_answer(signer(2).sign(ANSWER, QUESTION))) as peer:
        assert PEERS.ask("POST", peer.url, QUESTION, Vector, PEER.lower(), ONCE).content == ANSWER


def test_question_that_is_asked_again_is_the_same() -> None:
    with serving(problem(503, "restarting"), signed_answer(signer(2).sign(ANSWER, QUESTION))) as peer:
        PEERS.ask("POST", f"{peer.url}/notice", QUESTION, Vector, PEER, A_WHILE)
        assert [content for *_, content in peer.asked] == [NOTICE.pack()] * 2
        assert peer.signatures == ["0x" + QUESTION.signature.hex()] * 2


SIGNATURE = encode_signature(signer(2).sign(ANSWER, QUESTION).signature)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {SIGNATURE_HEADER: ""},
        {SIGNATURE_HEADER: "0x"},
        {SIGNATURE_HEADER: SIGNATURE[2:]},
        {SIGNATURE_HEADER: SIGNATURE[:-2]},
        {SIGNATURE_HEADER: SIGNATURE + "00"},
        {SIGNATURE_HEADER: SIGNATURE.upper()},
    ],
)
def test_unsigned_answer_is_refused_and_not_asked_for_again(headers: dict[str, str]) -> None:
    with serving(answer(200, ANSWER.pack(), **headers)) as peer:
        with pytest.raises(PeerUnavailable, match=f"{peer.url}/notice answered what {PEER} did not sign"):
            ask(peer)
        assert len(peer.asked) == 1


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(signer(3).sign(ANSWER, QUESTION), id="somebody else's"),
        pytest.param(signer(2).sign(ANSWER), id="to no question"),
        pytest.param(signer(2).sign(ANSWER, signer(1).sign(Notice(training=NOTICE.training))), id="to another"),
        pytest.param(signer(2, Domain(1, DOMAIN.contract)).sign(ANSWER, QUESTION), id="of another chain"),
        pytest.param(signer(2, Domain(31337, PEER)).sign(ANSWER, QUESTION), id="of another contract"),
        pytest.param(signer(2).sign(Acknowledgement(), QUESTION), id="of another kind"),
        pytest.param(
            Signed(content=Vector(ciphertexts=b"124").pack(), signature=signer(2).sign(ANSWER, QUESTION).signature),
            id="changed on the way",
        ),
    ],
)
def test_answer_that_the_peer_did_not_sign_to_this_question_is_refused(other: Signed) -> None:
    with serving(signed_answer(other)) as peer:
        with pytest.raises(PeerUnavailable, match=f"a Vector of {PEER} was claimed, and its signature gives 0x"):
            ask(peer)
        assert len(peer.asked) == 1


def test_signature_of_an_answer_that_is_none_is_refused() -> None:
    nonsense = answer(200, ANSWER.pack(), **{SIGNATURE_HEADER: "0x" + "ff" * 65})
    reason = "a signature has 65 bytes, of which the last is 27 or 28"
    with serving(nonsense) as peer, pytest.raises(PeerUnavailable, match=reason):
        ask(peer)


def test_signed_answer_in_another_encoding_than_the_canonical_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    loose = ormsgpack.packb({"version": PROTOCOL_VERSION, "ciphertexts": b"123"})
    assert loose != ANSWER.pack() and Vector.unpack(loose) == ANSWER
    monkeypatch.setattr(Vector, "pack", lambda _: loose)
    signed = signer(2).sign(ANSWER, QUESTION)
    monkeypatch.undo()
    reason = "a Vector, but not in its canonical encoding"
    with serving(signed_answer(signed)) as peer, pytest.raises(VerificationFailed, match=reason):
        ask(peer)


def test_bytes_of_a_signed_exchange_are_counted() -> None:
    counted: list[int] = []
    with serving(signed_answer(signer(2).sign(ANSWER, QUESTION))) as peer:
        ask(peer, count=counted.append)
    assert counted == [len(NOTICE.pack()) + len(ANSWER.pack())]


def test_refusal_that_the_peer_has_not_signed_is_nobodys() -> None:
    with serving(problem(403, "not for you")) as peer:
        words = rf"403 \(not for you\), and {PEER} did not: the refusal is not signed"
        with pytest.raises(PeerUnavailable, match=words):
            ask(peer)
        assert len(peer.asked) == 1
