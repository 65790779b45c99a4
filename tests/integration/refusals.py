"""What tests of refusals share: what a refusal looks like, and that it leaves everything as it was."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import ormsgpack
import requests
from flask.testing import FlaskClient
from requests.auth import AuthBase
from werkzeug.test import TestResponse

from commons.http.bodies import MESSAGEPACK
from tests.integration.conftest import Town

Json = dict[str, Any]

GONE = object()
"""Instead of a value: the field is not there."""

LISTS = {
    "buyer": ("/users", "/models"),
    "owner-1": ("/users", "/datasets", "/models"),
    "aggregator": ("/dataowner", "/model"),
}


class Tokens(AuthBase):
    """Sends every service the token of who is signed up there, unless a call says otherwise."""

    def __init__(self, town: Town) -> None:
        self._headers = {service.url: service.authorization for service in town.services.values()}

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        origin = "/".join(str(request.url).split("/")[:3])
        for name, value in self._headers.get(origin, {}).items():
            request.headers.setdefault(name, value)
        return request


def session(town: Town) -> requests.Session:
    """Return a session that reaches the services directly, logged in at all of them."""
    made = requests.Session()
    made.trust_env = False
    made.auth = Tokens(town)
    return made


def sign_up(client: FlaskClient) -> str:
    """Create the first user of a service in this process, and have the client send its token; return its id."""
    proof = {"email": "poor@example.org", "password": "a horse has no wallet"}
    user_id = client.post("/users", json={"name": "poor", **proof}).get_json()["id"]
    token = client.post("/users/login", json=proof).get_json()["token"]
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return str(user_id)


def refused(answer: requests.Response | TestResponse, status: int, *fields: str) -> str:
    """Check that an answer is a problem document of that status about these fields, and return its detail."""
    text = answer.text if isinstance(answer, requests.Response) else answer.get_data(as_text=True)
    assert answer.status_code == status, text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = json.loads(text)
    assert (problem["type"], problem["title"]) == ("about:blank", HTTPStatus(status).phrase)
    assert problem["status"] == status
    assert [error["field"] for error in problem.get("errors", [])] == list(fields)
    assert all(error["reason"] in problem["detail"] for error in problem.get("errors", []))
    assert problem["detail"]
    assert "Traceback" not in text and ".py" not in text
    return str(problem["detail"])


@contextmanager
def unchanged(town: Town, service: str) -> Iterator[str]:
    """Yield a service's URL, and check afterwards that it lists what it listed before."""

    def listed() -> list[Any]:
        client = town.services[service]
        lists = [client.call("GET", path) for path in LISTS[service]]
        # A training may move on meanwhile, and be on offer no more, but none appears or goes.
        return [
            {
                key: [item["id"] if key == "models" else {**item, "fits": None} for item in items]
                for key, items in found.items()
                if isinstance(items, list)
            }
            for found in lists
        ]

    before = listed()
    yield town.platform.urls[service]
    assert listed() == before


def with_value(body: Json, path: str, value: Any) -> Json:
    """Return a copy of a JSON document with one value, at a dotted path, replaced or gone."""
    copied = copy.deepcopy(body)
    place: Any = copied
    *parents, last = path.split(".")
    for name in parents:
        place = place.setdefault(name, {})
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return copied


def send(http: requests.Session, method: str, url: str, body: Mapping[str, Any] | None) -> requests.Response:
    """Send a body as a service would, or as a user would where a user calls."""
    if body is None or "training" not in body:
        return http.request(method, url, json=body)
    return http.request(method, url, data=ormsgpack.packb(body), headers={"Content-Type": MESSAGEPACK})
