"""Who may send what: signed requests and signed answers, over a real application."""

from __future__ import annotations

import json
import uuid

import ormsgpack
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from commons.crypto.signatures import SIGNATURE_BYTES
from commons.http import application
from commons.http.bodies import MESSAGEPACK
from commons.http.signatures import SIGNATURE_HEADER, Signatures, answer, encode_signature
from commons.protocol.messages import (
    PROTOCOL_VERSION,
    Acknowledgement,
    LocalModelQuestion,
    Message,
    OwnerRegistration,
    RoundQuestion,
    Vector,
)
from commons.protocol.signed import Domain, Signed
from tests.unit.accounts import DOMAIN, Offline, account, signer

TRAINING = uuid.UUID(int=7)
QUESTION = RoundQuestion(training=TRAINING, round=3, included=(0, 2), model=b"\x00\xff\xfe" * 5)
SERVICE, SENDER = account(1), account(2)
SIGNED = signer(2).sign(QUESTION)
PATH = f"/trainings/{TRAINING}"
REGISTRATION = OwnerRegistration(address=SENDER.address, url="http://owner")


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    app: Flask = application.create(__name__)
    signatures = Signatures(Offline(SERVICE))

    @app.post("/trainings/<uuid:training_id>")
    def question(training_id: uuid.UUID) -> object:
        asked = signatures.read_from(SENDER.address.lower(), RoundQuestion, training_id)
        return answer(signatures.sign(Vector(ciphertexts=asked.content.model), asked.signed))

    @app.patch("/trainings/<uuid:training_id>")
    def note(training_id: uuid.UUID) -> object:
        return signatures.acknowledge(signatures.read_from(SENDER.address, RoundQuestion, training_id))

    @app.post("/registrations")
    def register() -> object:
        return {"sender": signatures.read(OwnerRegistration).sender}

    return app.test_client()


def send(client: FlaskClient, signed: Signed, path: str = PATH) -> TestResponse:
    headers = {SIGNATURE_HEADER: encode_signature(signed.signature)}
    return client.post(path, data=signed.content, content_type=MESSAGEPACK, headers=headers)


def problem(response: TestResponse) -> tuple[int, str]:
    assert response.content_type == "application/problem+json"
    return response.status_code, json.loads(response.data)["detail"]


def answered(response: TestResponse, model: type[Message], question: Signed = SIGNED) -> Message:
    """Return the answer, which the service signed as one to the question."""
    assert (response.status_code, response.content_type) == (200, MESSAGEPACK)
    signed = Signed(content=response.data, signature=bytes.fromhex(response.headers[SIGNATURE_HEADER][2:]))
    return signed.verified(model, DOMAIN, SERVICE.address, question)


def test_signed_question_gets_a_signed_answer(client: FlaskClient) -> None:
    assert answered(send(client, SIGNED), Vector) == Vector(ciphertexts=QUESTION.model)


def test_same_question_gets_the_same_bytes(client: FlaskClient) -> None:
    one, other = send(client, SIGNED), send(client, SIGNED)
    assert (one.data, one.headers[SIGNATURE_HEADER]) == (other.data, other.headers[SIGNATURE_HEADER])


def test_question_is_acknowledged_with_a_signature(client: FlaskClient) -> None:
    headers = {SIGNATURE_HEADER: encode_signature(SIGNED.signature)}
    response = client.patch(PATH, data=SIGNED.content, content_type=MESSAGEPACK, headers=headers)
    assert answered(response, Acknowledgement) == Acknowledgement()


def test_signature_says_who_sent_it(client: FlaskClient) -> None:
    for number in (2, 3):
        response = send(client, signer(number).sign(REGISTRATION), "/registrations")
        assert response.get_json() == {"sender": account(number).address}


def test_unsigned_question_is_told_how_to_sign(client: FlaskClient) -> None:
    status, detail = problem(client.post(PATH, data=SIGNED.content, content_type=MESSAGEPACK))
    assert status == 401
    assert detail == "sign the message with your Ethereum account, in the header DeltaML-Signature"


GOOD = encode_signature(SIGNED.signature)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("", id="empty"),
        pytest.param("0x", id="no digits"),
        pytest.param(GOOD[2:], id="without 0x"),
        pytest.param(GOOD[:-2], id="too short"),
        pytest.param(GOOD + "00", id="too long"),
        pytest.param(GOOD[:-1] + "g", id="no hexadecimal digit"),
        pytest.param("0x" + GOOD[2:].upper(), id="capitals"),
        pytest.param("0X" + GOOD[2:], id="capital X"),
        pytest.param(f"Bearer {GOOD}", id="more words"),
    ],
)
def test_header_of_another_form_is_refused(client: FlaskClient, header: str) -> None:
    response = client.post(PATH, data=SIGNED.content, content_type=MESSAGEPACK, headers={SIGNATURE_HEADER: header})
    assert problem(response) == (401, "DeltaML-Signature must be 0x and 130 hexadecimal digits")


@pytest.mark.parametrize("last", [0, 1, 26, 29, 255])
def test_bytes_that_are_no_signature_are_refused(client: FlaskClient, last: int) -> None:
    wrong = Signed(content=SIGNED.content, signature=SIGNED.signature[:-1] + bytes([last]))
    assert problem(send(client, wrong)) == (401, "a signature has 65 bytes, of which the last is 27 or 28")


def test_twin_of_a_signature_is_refused(client: FlaskClient) -> None:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    r, s, v = SIGNED.signature[:32], int.from_bytes(SIGNED.signature[32:64], "big"), SIGNED.signature[-1]
    twin = r + (order - s).to_bytes(32, "big") + bytes([27 + 28 - v])
    status, detail = problem(send(client, Signed(content=SIGNED.content, signature=twin)))
    assert (status, "EIP-2" in detail) == (401, True)


def test_signature_of_nobody_is_refused(client: FlaskClient) -> None:
    nobody = Signed(content=SIGNED.content, signature=bytes(SIGNATURE_BYTES - 1) + bytes([27]))
    assert problem(send(client, nobody))[0] == 401


OTHER = QUESTION.model_copy(update={"round": 4})


@pytest.mark.parametrize(
    "signed",
    [
        pytest.param(signer(3).sign(QUESTION), id="somebody else"),
        pytest.param(signer(1).sign(QUESTION), id="the service itself"),
        pytest.param(signer(2, Domain(1, DOMAIN.contract)).sign(QUESTION), id="for another chain"),
        pytest.param(signer(2, Domain(31337, SENDER.address)).sign(QUESTION), id="for another contract"),
        pytest.param(signer(2).sign(QUESTION, signer(1).sign(OTHER)), id="as an answer"),
        pytest.param(Signed(content=OTHER.pack(), signature=SIGNED.signature), id="another question"),
        pytest.param(
            Signed(
                content=QUESTION.pack(),
                signature=signer(2).sign(LocalModelQuestion(training=TRAINING)).signature,
            ),
            id="another kind of question",
        ),
    ],
)
def test_question_that_its_sender_did_not_sign_is_refused(client: FlaskClient, signed: Signed) -> None:
    status, detail = problem(send(client, signed))
    assert status == 403
    assert detail.startswith("signed by 0x")
    assert detail.endswith(f": this RoundQuestion is for {SENDER.address.lower()} to send")


def test_question_about_another_training_than_the_path_is_refused(client: FlaskClient) -> None:
    other = uuid.UUID(int=8)
    status, detail = problem(send(client, SIGNED, f"/trainings/{other}"))
    assert (status, detail) == (422, f"training: the path names {other}, the body {TRAINING}")


def test_body_is_checked_before_the_signature(client: FlaskClient) -> None:
    wrong = ormsgpack.packb({"version": PROTOCOL_VERSION, "training": str(TRAINING)})
    assert client.post(PATH, data=wrong, content_type=MESSAGEPACK).status_code == 422
    assert client.post(PATH, data=b"\xc1", content_type=MESSAGEPACK).status_code == 400
    assert client.post(PATH, data=b"x", content_type="text/plain").status_code == 415


def test_json_is_signed_over_the_canonical_encoding(client: FlaskClient) -> None:
    headers = {SIGNATURE_HEADER: GOOD}
    body = QUESTION.model_dump(mode="json")
    shuffled = dict(sorted(body.items(), reverse=True))
    assert list(shuffled) != list(body)
    for document in (body, shuffled):
        assert answered(client.post(PATH, json=document, headers=headers), Vector).ciphertexts == QUESTION.model
    status, detail = problem(client.post(PATH, json={**body, "round": 4}, headers=headers))
    assert (status, "this RoundQuestion is for" in detail) == (403, True)


def test_other_order_of_messagepack_has_the_same_signature(client: FlaskClient) -> None:
    fields = ormsgpack.unpackb(SIGNED.content)
    other = ormsgpack.packb(dict(sorted(fields.items(), reverse=True)))
    assert other != SIGNED.content
    response = send(client, Signed(content=other, signature=SIGNED.signature))
    assert answered(response, Vector).ciphertexts == QUESTION.model
