"""A route reads what its signature says, and answers what it declares."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Annotated

import pytest
from flask import Response
from flask.testing import FlaskClient
from pydantic import Field

from commons.http import application, bodies
from commons.http.routes import PUBLIC, Routes
from commons.protocol.messages import Body

THING = uuid.UUID(int=7)


class Wanted(Body):
    name: str
    amount: Annotated[int, Field(ge=1)] = 1


class Page(Body):
    limit: Annotated[int, Field(ge=1, le=100)] = 20


class Thing(Body):
    id: uuid.UUID
    name: str


@pytest.fixture
def client() -> FlaskClient:
    routes = Routes("things", __name__, "Things", url_prefix="/things")

    @routes.post("", responses={HTTPStatus.CREATED: Thing})
    def make(body: Wanted) -> Thing:
        """Make a thing."""
        return Thing(id=THING, name=body.name * body.amount)

    @routes.get("", responses={HTTPStatus.OK: Thing})
    def find(query: Page) -> Response:
        """Find a thing."""
        answer = bodies.document(Thing(id=THING, name=str(query.limit)))
        answer.headers["ETag"] = '"7"'
        return answer

    @routes.put("/<uuid:thing_id>", responses={HTTPStatus.OK: Thing})
    def change(thing_id: uuid.UUID, body: Wanted) -> Thing:
        """Change a thing."""
        return Thing(id=thing_id, name=body.name)

    @routes.delete("/<uuid:thing_id>", responses={HTTPStatus.NO_CONTENT: None})
    def delete(thing_id: uuid.UUID) -> None:
        """Delete a thing."""

    @routes.get("/wrong", responses={HTTPStatus.OK: Thing}, security=PUBLIC)
    def wrong() -> Wanted:
        """Answer something else."""
        return Wanted(name="x")

    app = application.create(__name__)
    app.register_blueprint(routes)
    return app.test_client()


def test_view_gets_its_body_and_answers_with_the_declared_status(client: FlaskClient) -> None:
    answer = client.post("/things", json={"name": "ab", "amount": 2})
    assert (answer.status_code, answer.content_type) == (201, "application/json")
    assert answer.get_json() == {"id": str(THING), "name": "abab"}


def test_view_gets_the_path_beside_the_body(client: FlaskClient) -> None:
    answer = client.put(f"/things/{THING}", json={"name": "a"})
    assert (answer.status_code, answer.get_json()["id"]) == (200, str(THING))
    assert client.put("/things/7", json={"name": "a"}).status_code == 404


def test_ready_answer_passes(client: FlaskClient) -> None:
    answer = client.get("/things?limit=7")
    assert (answer.get_json()["name"], answer.headers["ETag"]) == ("7", '"7"')


def test_route_that_answers_nothing_has_no_body(client: FlaskClient) -> None:
    answer = client.delete(f"/things/{THING}")
    assert (answer.status_code, answer.data) == (204, b"")


def test_answer_that_was_not_declared_is_not_sent(client: FlaskClient) -> None:
    assert client.get("/things/wrong").status_code == 500


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        pytest.param(b"{", "application/json", 400, id="no JSON"),
        pytest.param(b"\xff", "application/json", 400, id="no UTF-8"),
        pytest.param(b"", "application/json", 400, id="empty"),
        pytest.param(b'{"name": "a"}', "text/plain", 415, id="other type"),
        pytest.param(b'{"name": "a"}', "", 415, id="no type"),
        pytest.param(b'"{\\"name\\": \\"a\\"}"', "application/json", 422, id="JSON in a JSON string"),
        pytest.param(b'{"name": "a", "amount": NaN}', "application/json", 422, id="NaN"),
        pytest.param(b'{"name": 7}', "application/json", 422, id="wrong type"),
    ],
)
def test_bad_body_is_refused_in_a_problem_document(
    client: FlaskClient, body: bytes, content_type: str, status: int
) -> None:
    answer = client.post("/things", data=body, content_type=content_type)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")


@pytest.mark.parametrize(
    ("query", "field"), [("limit=0", "limit"), ("limit=x", "limit"), ("limit=1&limit=2", "limit"), ("page=1", "page")]
)
def test_bad_query_is_refused_by_the_name_of_what_is_wrong(client: FlaskClient, query: str, field: str) -> None:
    answer = client.get(f"/things?{query}")
    assert answer.status_code == 422
    assert [error["field"] for error in answer.get_json()["errors"]] == [field]


def test_methods_of_a_route_are_told_and_head_is_get_without_its_body(client: FlaskClient) -> None:
    for answer in (client.options("/things"), client.patch("/things")):
        assert {method.strip() for method in answer.headers["Allow"].split(",")} == {"GET", "HEAD", "OPTIONS", "POST"}
    got, head = client.get("/things"), client.head("/things")
    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["Content-Length"] == got.headers["Content-Length"]
    assert head.headers["ETag"] == got.headers["ETag"]
