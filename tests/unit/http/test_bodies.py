"""One model behind two encodings, and what is neither is refused."""

from __future__ import annotations

import base64
import uuid

import ormsgpack
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commons.http import application, bodies
from commons.http.bodies import MESSAGEPACK
from commons.protocol.messages import Body, Notice, RoundQuestion

TRAINING = uuid.UUID(int=7)
QUESTION = RoundQuestion(training=TRAINING, round=3, included=(0, 2), model=b"\x00\xff" * 5)


class Person(Body):
    name: str


@pytest.fixture
def client() -> FlaskClient:
    app: Flask = application.create(__name__)

    @app.post("/people")
    def person() -> object:
        return bodies.document(bodies.read(Person))

    @app.post("/questions")
    def question() -> object:
        return bodies.message(bodies.read(RoundQuestion))

    @app.get("/notice")
    def notice() -> object:
        return bodies.negotiated(Notice(training=TRAINING))

    return app.test_client()


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_people_send_json(client: FlaskClient, content_type: str) -> None:
    answer = client.post("/people", data=b'{"name": "Ada"}', content_type=content_type)
    assert (answer.status_code, answer.get_json()) == (200, {"name": "Ada"})


def test_messagepack_is_for_services_only(client: FlaskClient) -> None:
    answer = client.post("/people", data=ormsgpack.packb({"name": "Ada"}), content_type=MESSAGEPACK)
    assert answer.status_code == 415


def test_both_encodings_are_the_same_message(client: FlaskClient) -> None:
    as_json = QUESTION.model_dump(mode="json")
    assert base64.b64decode(as_json["model"], altchars=b"-_") == QUESTION.model
    for answer in (
        client.post("/questions", data=QUESTION.pack(), content_type=MESSAGEPACK),
        client.post("/questions", json=as_json),
    ):
        assert (answer.status_code, answer.content_type) == (200, MESSAGEPACK)
        assert RoundQuestion.unpack(answer.data) == QUESTION


@pytest.mark.parametrize(
    ("content_type", "body"), [(MESSAGEPACK, b"\xc1"), (MESSAGEPACK, b""), ("application/json", b"{")]
)
def test_body_that_is_not_what_it_says_is_a_bad_request(client: FlaskClient, content_type: str, body: bytes) -> None:
    assert client.post("/questions", data=body, content_type=content_type).status_code == 400


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [(MESSAGEPACK, MESSAGEPACK), ("application/json", "application/json"), ("*/*", "application/json")],
)
def test_answer_comes_as_it_is_wanted(client: FlaskClient, accept: str, content_type: str) -> None:
    assert client.get("/notice", headers={"Accept": accept}).content_type == content_type


def test_too_large_body_is_refused(client: FlaskClient) -> None:
    body = b" " * (application.JSON_BODY_LIMIT + 1)
    assert client.post("/people", data=body, content_type="application/json").status_code == 413


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])  # the client keeps nothing
@given(st.data())
def test_no_body_is_an_error_of_the_service(client: FlaskClient, data: st.DataObject) -> None:
    """Bytes that nobody made, and a good body with a part of it replaced, in either encoding."""
    content_type, good = data.draw(
        st.sampled_from([(MESSAGEPACK, QUESTION.pack()), ("application/json", QUESTION.model_dump_json().encode())])
    )
    place = data.draw(st.integers(0, len(good)))
    noise = data.draw(st.binary(max_size=9) | st.sampled_from([b"NaN", b"-1e999", b"[" * 9999, b"\\ud800", b"9" * 99]))
    body = data.draw(st.binary(max_size=60) | st.just(good[:place] + noise + good[place + len(noise) :]))
    answer = client.post("/questions", data=body, content_type=content_type)
    assert answer.status_code in (200, 400, 422), answer.text
    if answer.status_code != 200:
        assert answer.content_type == "application/problem+json"
        assert answer.get_json()["detail"]
