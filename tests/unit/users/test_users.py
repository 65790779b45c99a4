"""The people who use a service: accounts, and the one Ethereum account that all of them act through."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from commons.database import Database
from commons.errors import Conflict, NotFound
from commons.http import application
from commons.users import api
from commons.users.storage import Token, User, Users

ACCOUNT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


@pytest.fixture
def users(tmp_path: Path) -> Iterator[Users]:
    on = Database(f"sqlite:///{tmp_path / 'service.db'}")
    for kind in (User, Token):
        kind.metadata.tables[kind.__tablename__].create(on.engine)
    yield Users(on)
    on.close()


@pytest.fixture
def client(users: Users) -> FlaskClient:
    app = application.create(__name__)
    app.register_blueprint(api.blueprint(users, ACCOUNT))
    return app.test_client()


def ada(client: FlaskClient) -> dict[str, Any]:
    made: dict[str, Any] = client.post("/users", json={"name": "Ada", "email": "ada@example.org"}).get_json()
    return made


def test_user_is_made_shown_changed_and_deleted(client: FlaskClient) -> None:
    operator = client.post("/users", json={"name": "Bob", "email": "bob@example.org"}).get_json()
    user = ada(client)
    assert (user["name"], user["email"], user["address"]) == ("Ada", "ada@example.org", None)
    path = f"/users/{user['id']}"
    assert client.get(path).get_json() == user
    assert client.get("/users").get_json() == {"users": [operator, user]}
    changed = client.put(path, json={"name": "Ada L.", "email": "ada@example.net"}).get_json()
    assert changed == user | {"name": "Ada L.", "email": "ada@example.net"}
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404
    assert client.get("/users").get_json() == {"users": [operator]}


def test_email_addresses_are_unique(client: FlaskClient) -> None:
    ada(client)
    bob = client.post("/users", json={"name": "Bob", "email": "bob@example.org"}).get_json()
    same = {"name": "Eve", "email": "ada@example.org"}
    assert client.post("/users", json=same).status_code == 409
    assert client.put(f"/users/{bob['id']}", json=same).status_code == 409
    assert client.get(f"/users/{bob['id']}").get_json() == bob


@pytest.mark.parametrize("spelling", [ACCOUNT, ACCOUNT.lower()])
def test_address_is_the_account_of_the_service(client: FlaskClient, spelling: str) -> None:
    path = f"/users/{ada(client)['id']}"
    assert client.post(f"{path}/address", json={"address": spelling}).get_json()["address"] == ACCOUNT
    assert client.post(f"{path}/address", json={"address": "0x" + "12" * 20}).status_code == 422
    assert client.get(path).get_json()["address"] == ACCOUNT


def test_unknown_user_is_not_found(users: Users) -> None:
    unknown = uuid.uuid4()
    for call in (users.get, users.delete, users.change):
        with pytest.raises(NotFound, match=f"there is no user {unknown}"):
            call(unknown)


def test_users_are_listed_the_oldest_first(users: Users) -> None:
    made = [users.add(name, f"{name}@example.org") for name in "cab"]
    assert [user.id for user in users.all()] == [user.id for user in made]


def test_conflict_leaves_the_table_as_it_was(users: Users) -> None:
    users.add("Ada", "ada@example.org")
    with pytest.raises(Conflict, match="there is a user with the e-mail address ada@example.org already"):
        users.add("Eve", "ada@example.org")
    assert [user.name for user in users.all()] == ["Ada"]
