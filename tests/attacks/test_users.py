"""Users of a service against each other and against the service: tokens, models, settings."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Self

import pytest
import requests

from commons.database import Database, now
from commons.users.storage import Users
from commons.users.tokens import MARK, Tokens
from scripts.local import diabetes, flow
from scripts.local.flow import Json, Service
from tests.integration.conftest import Town
from tests.integration.refusals import refused, unchanged

PASSWORD = "a sentence that is long enough"
SERVICES = ("buyer", "owner-1", "aggregator")


@pytest.fixture(scope="module")
def trained(town: Town) -> str:
    """A finished model of the buyer's first user."""
    training = town.train()
    town.buyer.wait_finished(training)
    return training


class Visitor:
    """Another user of a service, with a token."""

    def __init__(self, host: Service, role: str) -> None:
        self._host = host
        email = f"{role}.{uuid.uuid4()}@example.org"
        fields = {"name": role, "email": email, "password": PASSWORD, "role": role}
        self.id = str(host.call("POST", "/users", json=fields)["id"])
        own = Service(host.url)
        own.log_in(email, PASSWORD)
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers.update(own.authorization)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.session.close()
        self._host.call("DELETE", f"/users/{self.id}")


@pytest.fixture(scope="module", params=["viewer", "operator"])
def visitor(town: Town, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """Let somebody else in at the buyer. Not even operators see what other users ordered."""
    with Visitor(town.buyer, request.param) as visitor:
        yield visitor


def test_another_users_model_is_not_read(town: Town, trained: str, visitor: Visitor) -> None:
    url = f"{town.buyer.url}/models/{trained}"
    for path in ("", "/download", "/download?format=sklearn"):
        answer = visitor.session.get(url + path)
        assert f"there is no model {trained}" in refused(answer, 404)
    assert trained not in visitor.session.get(f"{town.buyer.url}/models").text
    prediction = {"model_id": trained, "rows": [[0.0] * len(diabetes.FEATURES)]}
    assert visitor.session.post(f"{town.buyer.url}/predictions", json=prediction).status_code == 404
    made = town.buyer.call("POST", "/predictions", json=prediction)
    assert visitor.session.get(f"{town.buyer.url}/predictions/{made['id']}").status_code == 404
    assert made["id"] not in visitor.session.get(f"{town.buyer.url}/predictions").text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "", None),
        ("PUT", "", {"name": "mine"}),
        ("PATCH", "", {"name": "mine", "weights": [0.0]}),
        ("POST", "", {"name": "mine"}),
        ("POST", "/cancel", {}),
    ],
)
def test_another_users_model_is_neither_changed_nor_deleted(
    town: Town, trained: str, visitor: Visitor, method: str, path: str, body: Json | None
) -> None:
    before = town.buyer.model(trained)
    answer = visitor.session.request(method, f"{town.buyer.url}/models/{trained}{path}", json=body)
    assert answer.status_code in (401, 403, 404, 405, 422), answer.text  # PUT and PATCH are the aggregator's
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert town.buyer.model(trained) == before


def test_another_users_file_is_neither_read_nor_deleted(town: Town, trained: str, visitor: Visitor) -> None:
    rows = diabetes.to_csv(diabetes.split(5, 50)[0])
    mine = town.buyer.call("POST", "/helpers/file", files={"file": ("rows.csv", rows)})["id"]
    refused(visitor.session.delete(f"{town.buyer.url}/helpers/file/{mine}"), 404)
    prediction = {"model_id": trained, "file_id": mine}
    refused(visitor.session.post(f"{town.buyer.url}/predictions", json=prediction), 404)
    assert town.buyer.call("POST", "/predictions", json=prediction)["rows"] > 0
    town.buyer.call("DELETE", f"/helpers/file/{mine}")


def test_nobody_orders_in_another_users_name(town: Town, visitor: Visitor) -> None:
    with unchanged(town, "buyer") as url:
        answer = visitor.session.post(f"{url}/models", json=flow.order_for(town.buyer_id, diabetes.FEATURES))
        assert answer.status_code in (403, 422), answer.text  # a viewer orders nothing at all


def places(town: Town, service: str) -> list[tuple[str, str]]:
    base = town.platform.urls[service]
    paths = {"buyer": ("/models", "/predictions"), "aggregator": ("/model", "/dataowner")}
    return [("GET", base + path) for path in ("/users", "/contract", *paths.get(service, ("/datasets", "/models")))]


@pytest.mark.parametrize("service", SERVICES)
def test_a_token_that_was_guessed_counts_nowhere(town: Town, service: str) -> None:
    known = town.services[service].authorization["Authorization"].removeprefix("Bearer ")
    guesses = [
        MARK + "A" * 43, known[:-1], known + "A", known[:-1] + ("A" if known[-1] != "A" else "B"), known.swapcase(),
        known.removeprefix(MARK), "' OR '1'='1", "null", "", "*", known[: len(MARK) + 6],
    ]  # fmt: skip
    with unchanged(town, service), requests.Session() as http:
        http.trust_env = False
        for method, url in places(town, service):
            for guess in guesses:
                answer = http.request(method, url, headers={"Authorization": f"Bearer {guess}"})
                refused(answer, 401)
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            refused(http.request(method, url), 401)
            in_query = http.request(method, url, params={"token": known, "access_token": known})
            assert in_query.status_code in (401, 422), in_query.text  # 422: no such parameter, where it is looked first
            assert known not in in_query.text
            refused(http.request(method, url, cookies={"token": known, "Authorization": f"Bearer {known}"}), 401)


@pytest.mark.parametrize("service", SERVICES)
def test_a_token_of_another_service_counts_nowhere_else(town: Town, service: str) -> None:
    with unchanged(town, service), requests.Session() as http:
        http.trust_env = False
        for other, client in town.services.items():
            if other != service:
                for method, url in places(town, service):
                    refused(http.request(method, url, headers=client.authorization), 401)


@pytest.mark.parametrize("service", SERVICES)
def test_a_token_that_has_expired_counts_no_more(town: Town, service: str) -> None:
    """Made in the service's own database, as ``deltaml user token`` makes them, a day ago and for a day."""
    with closing(Database(f"sqlite:///{town.platform.directory / service / 'service.db'}")) as database:
        user = Users(database).all()[0]
        fresh, _ = Tokens(database).issue(user, timedelta(days=1))
        old, _ = Tokens(database, lambda: now() - timedelta(days=1, seconds=1)).issue(user, timedelta(days=1))
    with requests.Session() as http:
        http.trust_env = False
        for method, url in places(town, service):
            refused(http.request(method, url, headers={"Authorization": f"Bearer {old}"}), 401)
            accepted = http.request(method, url, headers={"Authorization": f"Bearer {fresh}"})
            assert accepted.status_code == 200, accepted.text


@pytest.mark.parametrize("service", SERVICES)
def test_nobody_patches_the_contract_or_the_aggregators_account(town: Town, service: str) -> None:
    """Neither without a token, nor with a viewer's, nor with that of another service's operator."""
    client = town.services[service]
    before = client.contract()["address"], client.contract()["account"]
    other = "0x" + "12" * 20
    with Visitor(client, "viewer") as viewer, requests.Session() as nobody:
        nobody.trust_env = False
        for path in ("/contract", "/federated-aggregator"):
            for method in ("PATCH", "PUT", "POST", "DELETE"):
                for body in ({"address": other}, {"contract": other}, {"account": other}):
                    for sender, headers in (
                        (nobody, {}),
                        (nobody, town.services["owner-2"].authorization),
                        (viewer.session, {}),
                    ):
                        answer = sender.request(method, client.url + path, json=body, headers=headers)
                        expected = (401,) if sender is nobody else (403,)
                        assert answer.status_code in (*expected, 404, 405), answer.text  # there may be no such route
                        refused(answer, answer.status_code)
    assert (client.contract()["address"], client.contract()["account"]) == before
