"""Signed requests, against real servers: who is believed, and every way in which one is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import requests
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from flask import Flask, Response, jsonify, request
from werkzeug.serving import WSGIRequestHandler, make_server

from commons.database import Database
from commons.errors import NotAuthenticated, NotFound
from commons.http import problems
from commons.http.nonces import MAX_AGE_S, MAX_AHEAD_S, Nonces
from commons.http.request_signing import (
    RequestSigner,
    RequestVerifier,
    content_digest,
    sign_request,
    signature_base,
    target_uri,
)

NOON = 1_700_000_000.25
OWNER = Account.from_key(b"\1" * 32)
OTHER = Account.from_key(b"\2" * 32)
PATH = "/trainings/7/metrics"
BODY = b"\x81\xa1x\x01 twenty-one bytes.."
TYPE = "application/msgpack"
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

Meddling = Callable[[requests.PreparedRequest], None]


@dataclass
class Clock:
    now: float = NOON

    def __call__(self) -> float:
        return self.now


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: object) -> None:
        """Say nothing."""


@dataclass
class Service:
    """A service at `url`, known to the others as `public_url`, and the bodies that it acted on."""

    url: str
    public_url: str
    acted: list[bytes] = field(default_factory=list)


@contextmanager
def serving(clock: Clock, database: Database, public_url: str | None = None, prefix: str = "") -> Iterator[Service]:
    app = Flask(__name__)
    problems.register(app)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    service = Service(url, (public_url or url) + prefix)
    verifier = RequestVerifier(service.public_url, Nonces(database), clock)

    @app.route("/<path:_>", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def act(_: str) -> Response:
        caller = verifier.caller()
        assert verifier.caller() == caller  # asked twice while one request is answered
        service.acted.append(request.get_data())
        return jsonify(caller)

    @app.post("/for/owner")
    def act_for_owner() -> Response:
        return jsonify(verifier.require(lambda: ["0x" + "00" * 20, OWNER.address.lower()]))

    @app.post("/for/unknown")
    def act_for_unknown() -> Response:
        def unknown() -> list[str]:
            raise NotFound("there is nothing")

        return jsonify(verifier.require(unknown))

    @app.post("/for/nobody")
    def act_for_nobody() -> Response:
        return jsonify(verifier.require(list))

    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(clock: Clock, database: Database) -> Iterator[Service]:
    with serving(clock, database) as served:
        yield served


def signed(
    url: str,
    account: LocalAccount = OWNER,
    method: str = "POST",
    body: bytes | None = BODY,
    clock: Callable[[], float] = lambda: NOON,
    **headers: str,
) -> requests.PreparedRequest:
    if body is not None:
        headers = {"Content-Type": TYPE, **headers}
    return requests.Request(method, url, data=body, headers=headers, auth=RequestSigner(account, clock)).prepare()


def send(prepared: requests.PreparedRequest) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.send(prepared, timeout=5)


def refusal(prepared: requests.PreparedRequest, status: int = 401) -> str:
    answer = send(prepared)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer.text
    return str(answer.json()["detail"])


def replace_body(prepared: requests.PreparedRequest, body: bytes) -> None:
    prepared.headers["Content-Length"] = str(len(body))
    prepared.body = body


# Who is believed


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", [PATH, "/x?a=1&b=%20+c&b=", "/caf%C3%A9/a%20b;c=1,2", "/~a/b:c@d"])
def test_signer_of_a_request_is_its_caller(service: Service, method: str, path: str) -> None:
    for account in (OWNER, OTHER):
        assert send(signed(service.url + path, account, method)).json() == account.address
    assert service.acted == [BODY, BODY]


def test_request_without_a_body_is_signed_too(service: Service) -> None:
    assert send(signed(f"{service.url}/x?y", method="GET", body=None)).json() == OWNER.address


def test_empty_body_with_a_type_is_signed_too(service: Service) -> None:
    assert send(signed(f"{service.url}/x", method="GET", body=b"")).json() == OWNER.address


def test_session_signs_every_request_anew(service: Service) -> None:
    with requests.Session() as session:
        session.auth = RequestSigner(OWNER, lambda: NOON)
        assert [session.post(service.url + PATH, data=BODY, timeout=5).status_code for _ in range(3)] == [200] * 3


def test_service_behind_a_proxy_is_signed_for_by_its_public_url(clock: Clock, database: Database) -> None:
    with serving(clock, database, "https://Owner.example:443", "/deltaml/") as service:
        prepared = signed(f"https://owner.example/deltaml{PATH}?a=b")
        prepared.url = f"{service.url}{PATH}?a=b"  # TLS ended, path taken away, Host another
        assert send(prepared).json() == OWNER.address


def test_only_who_is_named_may_ask(service: Service) -> None:
    assert send(signed(f"{service.url}/for/owner")).json() == OWNER.address
    detail = refusal(signed(f"{service.url}/for/owner", OTHER), 403)
    assert detail == f"signed by {OTHER.address}: this is for 0x{'00' * 20} or {OWNER.address.lower()} to ask"
    assert refusal(signed(f"{service.url}/for/nobody"), 403).endswith("this is for nobody to ask")


# Who is not


@pytest.mark.parametrize("name", ["Signature", "Signature-Input", "Content-Digest"])
def test_unsigned_request_is_told_what_it_lacks(service: Service, name: str) -> None:
    prepared = signed(service.url + PATH)
    del prepared.headers[name]
    assert refusal(prepared).endswith(
        f"sign the request with your Ethereum account (RFC 9421): it has no header {name}"
    )
    assert service.acted == []


def at(path: str) -> Meddling:
    def meddle(prepared: requests.PreparedRequest) -> None:
        prepared.url = str(prepared.url).replace(f"{PATH}?a=1", path)

    return meddle


def by(method: str) -> Meddling:
    def meddle(prepared: requests.PreparedRequest) -> None:
        prepared.method = method

    return meddle


def with_header(name: str, old: str, new: str) -> Meddling:
    def meddle(prepared: requests.PreparedRequest) -> None:
        assert old in prepared.headers[name]
        prepared.headers[name] = prepared.headers[name].replace(old, new)

    return meddle


@pytest.mark.parametrize(
    "meddle",
    [
        pytest.param(at("/trainings/8/metrics?a=1"), id="other path"),
        pytest.param(at(f"{PATH}/x?a=1"), id="longer path"),
        pytest.param(at(f"{PATH}?a=2"), id="other query"),
        pytest.param(at(f"{PATH}?a=1&b=1"), id="longer query"),
        pytest.param(at(PATH), id="no query"),
        pytest.param(at(f"{PATH}%3Fa=1"), id="query made path"),
        pytest.param(by("PUT"), id="other method"),
        pytest.param(by("GET"), id="method that reads"),
        pytest.param(with_header("Content-Type", TYPE, "application/json"), id="other type"),
        pytest.param(with_header("Signature-Input", "created=17", "created=18"), id="later"),
        pytest.param(with_header("Signature-Input", 'nonce="', 'nonce="A'), id="other nonce"),
        pytest.param(with_header("Signature-Input", OWNER.address, OTHER.address), id="other signer"),
        pytest.param(with_header("Signature-Input", OWNER.address, OWNER.address.lower()), id="signer in lower case"),
        pytest.param(with_header("Content-Digest", "sha-256=:", "sha-256=:A"), id="other digest"),
        pytest.param(with_header("Content-Digest", "sha-256", "sha-512"), id="other kind of digest"),
        pytest.param(with_header("DeltaML-Signature", "0xab", "0xac"), id="other signature of the message"),
    ],
)
def test_request_that_was_changed_is_nobodys(service: Service, meddle: Meddling) -> None:
    prepared = signed(f"{service.url}{PATH}?a=1", **{"DeltaML-Signature": "0xab"})
    meddle(prepared)
    detail = refusal(prepared)
    assert "this is not the signature of 0x" in detail
    assert f"over {prepared.method} {service.url}" in detail
    assert service.acted == []


def test_request_for_one_service_is_refused_by_another(clock: Clock, database: Database, service: Service) -> None:
    with serving(clock, database) as other:
        prepared = signed(service.url + PATH)
        prepared.headers["Host"] = prepared.headers["X-Forwarded-Host"] = service.url.removeprefix("http://")
        prepared.url = other.url + PATH
        assert f"over POST {other.url}{PATH}: the request was changed, or signed for another" in refusal(prepared)
        assert other.acted == []
        prepared.url = service.url + PATH
        assert send(prepared).status_code == 200  # nothing was wrong with it


def test_service_is_called_by_its_public_url_only(clock: Clock, database: Database) -> None:
    with serving(clock, database, "http://owner:5000") as service:
        assert "POST http://owner:5000/trainings/7/metrics: the" in refusal(signed(service.url + PATH))


@pytest.mark.parametrize("body", [BODY[:-1], BODY + b"\0", b"", b"x" * len(BODY)])
def test_body_that_was_changed_is_refused(service: Service, body: bytes) -> None:
    prepared = signed(service.url + PATH)
    replace_body(prepared, body)
    assert refusal(prepared) == f"Content-Digest is {content_digest(BODY)}, that of the body {content_digest(body)}"
    assert service.acted == []


def test_path_that_is_dispatched_on_is_the_one_that_is_verified(database: Database) -> None:
    """A server may take SCRIPT_NAME from a header of that name, and cut it off the path that was asked for."""
    verifier = RequestVerifier("http://owner", Nonces(database), lambda: NOON)
    headers = dict(signed(f"http://owner{PATH}").headers)
    environ = {"SCRIPT_NAME": "/trainings", "PATH_INFO": "/7/metrics", "RAW_URI": PATH, "REQUEST_URI": PATH}
    with (
        Flask(__name__).test_request_context(
            PATH, method="POST", data=BODY, headers=headers, environ_overrides=environ
        ),
        pytest.raises(NotAuthenticated, match="over POST http://owner/7/metrics: the request was changed"),
    ):
        verifier.caller()


def test_body_is_not_taken_where_none_was_signed(service: Service) -> None:
    prepared = signed(service.url + PATH, method="DELETE", body=None)
    replace_body(prepared, b"x")
    assert "Content-Digest is" in refusal(prepared)
    prepared.headers["Content-Type"] = TYPE
    assert "must cover content-type and deltaml-signature if" in refusal(prepared)


def test_type_is_not_lost(service: Service) -> None:
    prepared = signed(service.url + PATH)
    del prepared.headers["Content-Type"]
    assert "must cover content-type and deltaml-signature if the request has them, and only then" in refusal(prepared)


def test_signature_of_the_message_is_neither_lost_nor_added(service: Service) -> None:
    prepared = signed(service.url + PATH, **{"DeltaML-Signature": "0xab"})
    del prepared.headers["DeltaML-Signature"]
    assert "must cover content-type and deltaml-signature if" in refusal(prepared)
    prepared = signed(service.url + PATH)
    prepared.headers["DeltaML-Signature"] = "0xab"
    assert "must cover content-type and deltaml-signature if" in refusal(prepared)
    assert send(signed(service.url + PATH, **{"DeltaML-Signature": "0xab"})).status_code == 200


def test_nobody_learns_anything_unsigned_and_no_body_is_read_but_of_who_may_send_it(service: Service) -> None:
    unsigned = requests.Request("POST", f"{service.url}/for/unknown").prepare()
    assert "sign the request" in refusal(unsigned)
    assert refusal(signed(f"{service.url}/for/unknown"), 404) == "there is nothing"
    prepared = signed(f"{service.url}/for/owner", OTHER)
    connection = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=5)
    connection.putrequest("POST", "/for/owner")
    for name, value in prepared.headers.items():
        connection.putheader(name, str(10**9) if name == "Content-Length" else value)
    connection.endheaders()
    with connection.getresponse() as response:
        assert response.status == 403
    connection.close()


def test_whoever_has_to_sign_is_told_so(service: Service) -> None:
    answer = send(requests.Request("POST", service.url + PATH).prepare())
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Signature realm="DeltaML"')


def test_body_cut_on_the_way_is_refused(service: Service) -> None:
    prepared = signed(service.url + PATH)
    connection = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=5)
    connection.putrequest("POST", PATH)
    for name, value in prepared.headers.items():
        connection.putheader(name, value)
    connection.endheaders(BODY[:5])
    assert connection.sock is not None
    connection.sock.shutdown(1)
    with connection.getresponse() as response:
        assert response.status == 400
    connection.close()
    assert service.acted == []


def test_request_passes_once(clock: Clock, service: Service) -> None:
    prepared = signed(service.url + PATH)
    assert send(prepared).status_code == 200
    for clock.now in (NOON, NOON + 60, int(NOON) + MAX_AGE_S):
        assert "is used: each request is signed anew, with a new nonce" in refusal(prepared)
    clock.now += 0.5
    assert "too old" in refusal(prepared)
    assert service.acted == [BODY]


def test_request_passes_once_even_if_it_comes_many_times_at_once(service: Service) -> None:
    prepared = signed(service.url + PATH)
    with ThreadPoolExecutor(8) as executor:
        statuses = sorted(answer.status_code for answer in executor.map(send, [prepared] * 16))
    assert statuses == [200] + [401] * 15


def test_body_that_was_changed_does_not_use_up_the_nonce(service: Service) -> None:
    prepared = signed(service.url + PATH)
    replace_body(prepared, b"x")
    refusal(prepared)
    replace_body(prepared, BODY)
    assert send(prepared).status_code == 200


def test_nonce_of_one_account_is_free_for_another(service: Service) -> None:
    for account in (OWNER, OTHER):
        prepared = requests.Request("DELETE", service.url + PATH).prepare()
        nonce = "same-nonce-for-everyone"
        prepared.headers.update(sign_request(account, "DELETE", service.url + PATH, b"", {}, int(NOON), nonce))
        assert send(prepared).json() == account.address


@pytest.mark.parametrize("ahead", [-MAX_AGE_S + 0.9, -30, -1, 0.5, 1, MAX_AHEAD_S])
def test_clocks_may_differ_a_little(clock: Clock, service: Service, ahead: float) -> None:
    clock.now += 1000
    assert send(signed(service.url + PATH, clock=Clock(clock.now + ahead))).status_code == 200


def test_request_that_is_too_old_is_refused(clock: Clock, service: Service) -> None:
    clock.now += 1000
    assert refusal(signed(service.url + PATH, clock=Clock(clock.now - MAX_AGE_S - 1))) == (
        "the request is too old: it was signed at 2023-11-14T22:27:59+00:00 by its sender's clock, and it is"
        " 2023-11-14T22:30:00+00:00 by ours; it counts for 120 s"
    )


def test_request_from_the_future_is_refused(service: Service) -> None:
    assert refusal(signed(service.url + PATH, clock=Clock(NOON + MAX_AHEAD_S + 1))) == (
        "the request is from the future: it was signed at 2023-11-14T22:13:26+00:00 by its sender's clock, and it is"
        " 2023-11-14T22:13:20+00:00 by ours; 5 s are allowed"
    )


@pytest.mark.parametrize("down_s", [1, 2, 60])
def test_restart_lets_nothing_pass_twice_and_asks_to_try_again(clock: Clock, database: Database, down_s: float) -> None:
    with serving(clock, database, "http://owner") as service:
        prepared = signed(f"http://owner{PATH}")
        prepared.url = service.url + PATH
        assert send(prepared).status_code == 200
    clock.now += down_s
    with serving(clock, database, "http://owner") as service:
        prepared.url = service.url + PATH
        assert refusal(prepared, 503).startswith("sign the request again: it was signed at 2023-11-14T22:13:20")
        anew = signed(f"http://owner{PATH}", clock=clock)
        anew.url = service.url + PATH
        assert send(anew).status_code == 200


def test_clock_that_is_put_back_lets_nothing_pass_twice(clock: Clock, service: Service) -> None:
    prepared = signed(service.url + PATH)
    assert send(prepared).status_code == 200
    clock.now += 500
    assert send(signed(service.url + PATH, clock=clock)).status_code == 200
    clock.now -= 500
    assert "what came before is forgotten" in refusal(prepared, 503)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        pytest.param("Signature-Input", "deltaml=", "sig1=", id="other label"),
        pytest.param("Signature-Input", 'tag="deltaml"', 'tag="other"', id="other tag"),
        pytest.param("Signature-Input", ";tag=", ";expires=1800000000;tag=", id="unknown parameter"),
        pytest.param("Signature-Input", ";alg=", ';nonce="aaaaaaaaaaaaaaaaaaaaaaaa";alg=', id="parameter twice"),
        pytest.param("Signature-Input", "eip191-secp256k1", "hmac-sha256", id="other algorithm"),
        pytest.param("Signature-Input", '"@target-uri" ', "", id="target not covered"),
        pytest.param("Signature-Input", '"@method" ', "", id="method not covered"),
        pytest.param("Signature-Input", ' "content-digest"', "", id="digest not covered"),
        pytest.param("Signature-Input", '"@method" ', '"@method"  ', id="another space"),
        pytest.param("Signature-Input", "created=", "created=-", id="before 1970"),
        pytest.param("Signature-Input", "created=", "created=99999", id="after all time"),
        pytest.param("Signature-Input", "created=1", "created=\u0661", id="other digits"),
        pytest.param("Signature-Input", 'nonce="', 'nonce="\\"', id="escape in the nonce"),
        pytest.param("Signature-Input", 'keyid="0x', 'keyid="', id="no address"),
        pytest.param("Signature-Input", 'tag="deltaml"', 'tag="deltaml", deltaml=()', id="second signature"),
        pytest.param("Signature-Input", "deltaml", "\xff", id="no text"),
        pytest.param("Signature", "deltaml=:", "deltaml=", id="no byte sequence"),
        pytest.param("Signature", "deltaml=:", "deltaml=:AAAA", id="too long"),
        pytest.param("Signature", "=:", "=:\xe9", id="no base64"),
    ],
)
def test_malformed_signature_is_told_the_form(service: Service, name: str, old: str, new: str) -> None:
    prepared = signed(service.url + PATH)
    assert old in prepared.headers[name]
    prepared.headers[name] = prepared.headers[name].replace(old, new, 1).encode()  # type: ignore[assignment]
    assert f"{name} must be deltaml=" in refusal(prepared)
    assert service.acted == []


@pytest.mark.parametrize("header", ["Signature-Input", "Signature", "Content-Digest"])
def test_header_given_twice_is_refused(service: Service, header: str) -> None:
    prepared = signed(service.url + PATH)
    connection = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=5)
    connection.putrequest("POST", PATH)
    for name, value in [*prepared.headers.items(), (header, prepared.headers[header])]:
        connection.putheader(name, value)
    connection.endheaders(BODY)
    with connection.getresponse() as response:
        assert response.status == 401
        response.read()
    connection.close()
    assert service.acted == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(lambda s: bytes(65), "", id="zeros"),
        pytest.param(lambda s: b"\xff" * 64 + b"\x1b", "upper half", id="numbers too large"),
        pytest.param(lambda s: s[:64] + b"\0", "27 or 28", id="other recovery"),
        pytest.param(lambda s: s[:64] + bytes([55 - s[64]]), "this is not the signature", id="recovery flipped"),
        pytest.param(
            lambda s: (
                s[:32] + (CURVE_ORDER - int.from_bytes(s[32:64], "big")).to_bytes(32, "big") + bytes([55 - s[64]])
            ),
            "upper half",
            id="twin",
        ),
    ],
)
def test_signature_of_nobody_is_refused(service: Service, change: Callable[[bytes], bytes], reason: str) -> None:
    prepared = signed(service.url + PATH)
    value = change(base64.b64decode(prepared.headers["Signature"].removeprefix("deltaml=:").removesuffix(":")))
    prepared.headers["Signature"] = f"deltaml=:{base64.b64encode(value).decode()}:"
    assert reason in refusal(prepared)
    assert service.acted == []


# What is signed


def test_body_that_is_read_while_it_is_sent_cannot_be_signed() -> None:
    with pytest.raises(TypeError, match="a body of bytes can be signed, not one of generator"):
        requests.Request("POST", "http://owner/", data=(x for x in [b"x"]), auth=RequestSigner(OWNER)).prepare()


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://Owner.Example:80", "http://owner.example/"),
        ("HTTPS://owner.example:443/x", "https://owner.example/x"),
        ("http://owner:8080/X?", "http://owner:8080/X"),
        ("http://owner:443/a%20b?c=%C3%A9#there", "http://owner:443/a%20b?c=%C3%A9"),
        ("http://me:secret@owner/x", "http://owner/x"),
        ("http://[::80]/", "http://[::80]/"),
    ],
)
def test_target_has_one_form(url: str, target: str) -> None:
    assert target_uri(url) == target


def test_base_is_that_of_the_rfc() -> None:
    """RFC 9421, appendix B.2.5: only the right base has this HMAC."""
    shared_secret = base64.b64decode(
        "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="
    )
    base = signature_base(
        {
            '"date"': "Tue, 20 Apr 2021 02:07:55 GMT",
            '"@authority"': "example.com",
            '"content-type"': "application/json",
        },
        '("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"',
    )
    found = hmac.new(shared_secret, base, hashlib.sha256).digest()
    assert base64.b64encode(found) == b"pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="


def test_digest_is_that_of_the_rfc() -> None:
    """RFC 9421, section B.2, and RFC 9530, appendix D."""
    assert content_digest(b'{"hello": "world"}') == "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"


def test_headers_are_these() -> None:
    headers = sign_request(
        OWNER, "POST", "http://owner:5000/x?y=1", b"{}", {"content-type": TYPE}, 1_700_000_000, "n" * 22
    )
    parameters = (
        '("@method" "@target-uri" "content-digest" "content-type");created=1700000000;nonce="nnnnnnnnnnnnnnnnnnnnnn"'
        ';keyid="0x1a642f0E3c3aF545E7AcBD38b07251B3990914F1";alg="eip191-secp256k1";tag="deltaml"'
    )
    base = (
        '"@method": POST\n'
        '"@target-uri": http://owner:5000/x?y=1\n'
        '"content-digest": sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:\n'
        '"content-type": application/msgpack\n'
        f'"@signature-params": {parameters}'
    )
    signature = bytes(OWNER.sign_message(encode_defunct(text=base)).signature)  # by other code than ours
    assert headers == {
        "Content-Digest": "sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:",
        "Signature-Input": f"deltaml={parameters}",
        "Signature": f"deltaml=:{base64.b64encode(signature).decode()}:",
    }
    assert (
        headers["Signature"]
        == "deltaml=:ipYh9M77b9z4Dol8cVvgCCQ1ApviGe1CTVa+MGiHa4R3xADVaLN8/zOc5/kb+FbpEJ9WqBt7454iNAB+mpsHjBw=:"
    )
