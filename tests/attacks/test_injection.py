"""Text that would be code somewhere else, in every string that a user can send: it is refused, or stays text."""

from __future__ import annotations

import json
import sqlite3
import uuid
from contextlib import closing
from typing import Any

import pytest
import requests

from scripts.local import diabetes, flow
from scripts.local.flow import Json
from tests.integration.conftest import Town
from tests.integration.refusals import refused, unchanged

SQL = ["' OR '1'='1", "'; DROP TABLE users; --", '" OR ""="', "1) UNION SELECT id, role FROM users --", "%", "\\"]
TEMPLATES = ["{{ 7191 * 7193 }}", "${7191*7193}", "#{7191*7193}", "<%= 7191*7193 %>", "{% for x in () %}{% endfor %}"]
OTHERS = ["<script>alert(1)</script>", "{0.__class__}", "%(password_hash)s", "$(touch injected)", "`id`", "\u202etxt"]
TEXTS = [*SQL, *TEMPLATES, *OTHERS]
EVALUATED = str(7191 * 7193)
PASSWORD = "a sentence that is long enough"
SERVICES = ("buyer", "owner-1", "aggregator")


def tables(town: Town, service: str) -> dict[str, list[Any]]:
    """Return the tables of a service's database, and its users in full."""
    file = town.platform.directory / service / "service.db"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        names = sorted(name for (name,) in database.execute("SELECT name FROM sqlite_master"))
        users = sorted(database.execute("SELECT id, name, email, role, password_hash FROM users"))
    return {"tables": names, "users": users}


def unharmed(answer: requests.Response) -> requests.Response:
    """Check that an answer is no accident, has nothing evaluated in it, and is no page to a browser."""
    assert answer.status_code < 500, answer.text
    assert EVALUATED not in answer.text
    assert answer.headers.get("Content-Type", "application/json").endswith("json"), answer.headers
    return answer


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("text", TEXTS)
def test_a_users_name_and_address_are_text(town: Town, http: requests.Session, service: str, text: str) -> None:
    before = tables(town, service)
    url = f"{town.platform.urls[service]}/users"
    email = f"{text.replace(' ', '')}.{uuid.uuid4()}@example.org"
    made = unharmed(http.post(url, json={"name": text, "email": email, "password": PASSWORD}))
    assert made.status_code == 201, made.text
    user = f"{url}/{made.json()['id']}"
    assert (made.json()["name"], made.json()["email"]) == (text, email.casefold())
    assert unharmed(http.get(user)).json() == made.json()
    again = unharmed(http.post(url, json={"name": text, "email": email, "password": PASSWORD}))
    assert text.replace(" ", "") in refused(again, 409)
    changed = unharmed(http.put(user, json={"name": text * 2, "email": email}))
    assert changed.json()["name"] == text * 2
    assert http.delete(user).status_code == 204
    assert tables(town, service) == before


@pytest.mark.parametrize("service", SERVICES)
def test_nobody_logs_in_with_sql(town: Town, service: str) -> None:
    url = f"{town.platform.urls[service]}/users/login"
    with requests.Session() as http:
        http.trust_env = False
        for text in SQL:
            answer = unharmed(http.post(url, json={"email": text, "password": text}))
            refused(answer, 401)


@pytest.mark.parametrize("text", TEXTS)
def test_parameters_and_paths_are_text(town: Town, http: requests.Session, text: str) -> None:
    """Refused in words, where they are numbers, ids or names of a list."""
    queries = {
        "buyer": [("/users", "limit"), ("/users", "offset"), ("/predictions", "limit"), ("/users/nonce", "address")],
        "owner-1": [("/models", "status"), ("/users", "limit")],
        "aggregator": [("/users", "offset")],
    }
    for service, places in queries.items():
        with unchanged(town, service) as url:
            for path, name in places:
                refused(unharmed(http.get(url + path, params={name: text})), 422, name)
            for path in {"/" + place.split("/")[1] for place, _ in places}:
                quoted = requests.utils.quote(text, safe="")
                refused(unharmed(http.get(f"{url}{path}/{quoted}")), 404)
            refused(unharmed(requests.get(f"{url}/users", headers={"Authorization": f"Bearer {ascii_of(text)}"})), 401)


def ascii_of(text: str) -> str:
    return text.encode("ascii", "ignore").decode()


@pytest.mark.parametrize("text", TEXTS)
def test_names_of_files_and_columns_are_text(town: Town, http: requests.Session, text: str) -> None:
    before = tables(town, "owner-1")
    quoted = '"' + text.replace('"', '""') + '"'
    rows = f"{quoted},target\n1,2\n3,4\n".encode()
    url = f"{town.platform.urls['owner-1']}/datasets"
    answer = unharmed(http.post(url, files={"file": (text, rows)}))
    if answer.status_code == 422:  # a name that is a path, or has control characters
        assert "file" in refused(answer, 422, "file")
    else:
        dataset = answer.json()
        assert (dataset["name"], dataset["columns"][0]["name"]) == (text, text)
        assert unharmed(http.get(f"{url}/{dataset['id']}")).json() == dataset
        assert http.delete(f"{url}/{dataset['id']}").status_code == 204
    assert tables(town, "owner-1") == before


def test_every_string_of_an_order_is_text(town: Town, http: requests.Session) -> None:
    """Stored by the buyer, hashed on chain, passed on by the aggregator, shown by every owner: word for word."""
    before = {service: tables(town, service) for service in SERVICES}
    body: Any = flow.order_for(town.buyer_id, TEXTS, name=TEXTS[1], terms={"join_seconds": 4})
    features, target = body["data_requirements"]["features"], body["data_requirements"]["target"]
    features["desc"] = {text: text for text in TEXTS}
    target["name"], target["desc"] = TEMPLATES[0] + "!", TEXTS
    answer = unharmed(http.post(f"{town.buyer.url}/models", json=body))
    assert answer.status_code in (200, 201), answer.text
    training = answer.json()["model"]["id"]
    assert unharmed(http.get(f"{town.buyer.url}/models/{training}")).json()["model"]["name"] == TEXTS[1]
    for name in ("owner-1", "owner-5"):
        shown = town.members[name].owner.wait_for_status(training, "WAITING")
        assert shown["order"]["data_requirements"]["features"]["list"] == TEXTS
        assert shown["order"]["data_requirements"]["features"]["desc"] == {text: text for text in TEXTS}
        assert shown["order"]["data_requirements"]["target"]["desc"] == TEXTS
        assert EVALUATED not in json.dumps(shown)
    with pytest.raises(flow.TrainingFailed, match="without enough data owners"):
        town.buyer.wait_finished(training, timeout=60)
    assert {service: tables(town, service) for service in SERVICES} == before


def test_strings_of_predictions_and_settings_are_text(town: Town, http: requests.Session) -> None:
    unknown = str(uuid.uuid4())
    with unchanged(town, "buyer") as url:
        for text in TEXTS:
            bodies: list[tuple[str, str, Json]] = [
                ("POST", "/predictions", {"model_id": text, "rows": [[1.0]]}),
                ("POST", "/predictions", {"model_id": unknown, "file_id": text}),
                ("POST", "/predictions", {"model_id": unknown, "rows": [{text: 1.0}]}),
                ("POST", "/predictions", {text: unknown}),
                ("POST", f"/users/{town.buyer_id}/address", {"address": text}),
                ("POST", "/models", {**flow.order_for(town.buyer_id, diabetes.FEATURES), "model_type": text}),
                ("POST", "/models", flow.order_for(text, diabetes.FEATURES)),
            ]
            for method, path, body in bodies:
                answer = unharmed(http.request(method, url + path, json=body))
                assert 400 <= answer.status_code < 500, answer.text
