"""Users over HTTP: who may make, see, change and delete whom."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from commons.errors import Conflict, NotAuthorised
from commons.users.login import PER_CLIENT
from commons.users.registration import Registration
from commons.users.storage import Role
from tests.unit.users.service import ACCOUNT, PASSWORD, Service

EVE = {"name": "Eve", "email": "eve@example.org", "password": PASSWORD}


@pytest.fixture
def services(tmp_path: Path) -> Any:
    made: list[Service] = []

    def make(registration: Registration) -> Service:
        made.append(Service(tmp_path, registration))
        return made[-1]

    yield make
    for service in made:
        service.close()


# Registration


def test_first_user_is_an_operator_and_registration_closes_behind_it(service: Service) -> None:
    user = service.sign_up("Ada")
    assert user == {
        "id": user["id"],
        "name": "Ada",
        "email": "ada@example.org",
        "address": None,
        "created": user["created"],
        "role": "operator",
        "disabled": False,
        "wallet": None,
    }
    answer = service.client.post("/users", json=EVE)
    assert answer.status_code == 403
    assert "registration is closed" in answer.get_json()["detail"]
    assert len(service.users.all()) == 1


def test_open_registration_makes_viewers_after_the_first(services: Callable[[Registration], Service]) -> None:
    service = services(Registration.OPEN)
    assert [service.sign_up(name)["role"] for name in ("Ada", "Bob", "Eve")] == ["operator", "viewer", "viewer"]


def test_closed_registration_admits_nobody(services: Callable[[Registration], Service]) -> None:
    service = services(Registration.CLOSED)
    assert service.client.post("/users", json=EVE).status_code == 403
    assert service.users.all() == []


def test_two_cannot_both_come_first(service: Service) -> None:
    start, outcomes = threading.Barrier(8), []

    def register(number: int) -> None:
        start.wait()
        try:
            outcomes.append(service.users.register(f"{number}", f"{number}@example.org", "hash", Registration.FIRST))
        except NotAuthorised:
            outcomes.append(None)

    threads = [threading.Thread(target=register, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 8
    assert [user.role for user in outcomes if user is not None] == ["operator"]


@pytest.mark.parametrize("registration", [Registration.FIRST, Registration.OPEN])
def test_nobody_gives_itself_a_role(services: Callable[[Registration], Service], registration: Registration) -> None:
    service = services(registration)
    for role in ("operator", "viewer"):
        assert service.client.post("/users", json=EVE | {"role": role}).status_code == 403
    assert service.users.all() == []


def test_operator_makes_users_of_any_role_whatever_registration_is(service: Service) -> None:
    ada = service.ada()
    made = [
        ada.post("/users", json={**EVE, "email": f"{role}@example.org", "role": role}).get_json()
        for role in ("operator", "viewer", None)
    ]
    assert [user["role"] for user in made] == ["operator", "viewer", "viewer"]


def test_viewer_makes_no_users(service: Service) -> None:
    bob = service.bob(service.ada())
    assert bob.post("/users", json=EVE).status_code == 403
    assert bob.post("/users", json=EVE | {"role": "viewer"}).status_code == 403


def test_registration_with_a_wrong_token_is_not_one_without(services: Callable[[Registration], Service]) -> None:
    service = services(Registration.OPEN)
    answer = service.client.post("/users", json=EVE, headers={"Authorization": "Bearer deltaml_x"})
    assert answer.status_code == 401


def test_registrations_of_one_client_are_limited(services: Callable[[Registration], Service]) -> None:
    service = services(Registration.OPEN)
    burst, _ = PER_CLIENT
    for number in range(burst):
        assert service.client.post("/users", json=EVE | {"email": f"{number}@example.org"}).status_code == 201
    answer = service.client.post("/users", json=EVE)
    assert answer.status_code == 429 and int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"password": "short"}, "password"),
        ({"password": "x" * 257}, "password"),
        ({"password": "eve@example.org"}, "password"),
        ({"password": None}, "password"),
        ({"password": 123456789012}, "password"),
        ({"email": "eve"}, "email"),
        ({"name": ""}, "name"),
        ({"role": "root"}, "role"),
        ({"disabled": False}, "disabled"),
        ({"password_hash": "x"}, "password_hash"),
        ({"id": str(uuid.uuid4())}, "id"),
    ],
)
def test_user_that_breaks_a_rule_is_refused(service: Service, change: dict[str, Any], field: str) -> None:
    answer = service.client.post("/users", json=EVE | change)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.get_json()["errors"]] == [field]
    assert PASSWORD not in answer.text
    assert service.users.all() == []


@pytest.mark.parametrize("spelling", ["eve@example.org", "EVE@EXAMPLE.ORG", "eve@ｅxample.org"])
def test_email_addresses_are_unique_however_they_are_written(service: Service, spelling: str) -> None:
    ada = service.ada()
    ada.post("/users", json=EVE)
    assert ada.post("/users", json=EVE | {"email": spelling}).status_code == 409
    fields = {"name": "Ada", "email": spelling}
    assert ada.put(f"/users/{ada.user_id}", json=fields).status_code == 409
    assert ada.get(f"/users/{ada.user_id}").get_json()["email"] == "ada@example.org"


# Seeing and changing


def test_user_sees_changes_and_deletes_itself(service: Service) -> None:
    bob = service.bob(service.ada())
    path = f"/users/{bob.user_id}"
    fields = {"name": "Robert", "email": "Robert@Example.org"}
    assert bob.put(path, json=fields).status_code == 200
    assert (bob.get(path).get_json()["name"], bob.get(path).get_json()["email"]) == ("Robert", "robert@example.org")
    assert bob.delete(path).status_code == 204
    assert bob.get(path).status_code == 401


@pytest.mark.parametrize("change", [{"role": "operator"}, {"role": "viewer"}, {"disabled": False}])
def test_viewer_changes_neither_its_role_nor_what_disables_it(service: Service, change: dict[str, Any]) -> None:
    bob = service.bob(service.ada())
    fields = {"name": "Robert", "email": "bob@example.org"}
    assert bob.put(f"/users/{bob.user_id}", json=fields | change).status_code == 403
    user = bob.get(f"/users/{bob.user_id}").get_json()
    assert (user["name"], user["role"]) == ("Bob", "viewer")


def test_operator_changes_roles_and_disables_and_enables(service: Service) -> None:
    ada = service.ada()
    bob = service.bob(ada)
    path, fields = f"/users/{bob.user_id}", {"name": "Bob", "email": "bob@example.org"}
    assert ada.put(path, json=fields | {"role": "operator", "disabled": True}).get_json()["role"] == "operator"
    assert bob.get("/models").status_code == 401
    assert ada.put(path, json=fields | {"disabled": False}).get_json()["disabled"] is False
    assert bob.get("/models").status_code == 401  # the token does not come back
    assert service.log_in("Bob").get("/models").status_code == 200


def test_last_operator_stays(service: Service) -> None:
    ada = service.ada()
    bob = service.bob(ada)
    fields = {"name": "Ada", "email": "ada@example.org"}
    path = f"/users/{ada.user_id}"
    for answer in (
        ada.delete(path),
        ada.put(path, json=fields | {"role": "viewer"}),
        ada.put(path, json=fields | {"disabled": True}),
    ):
        assert answer.status_code == 409
        assert "this is the last operator" in answer.get_json()["detail"]
    assert ada.get("/models").status_code == 200
    service.users.change(uuid.UUID(bob.user_id), role=Role.OPERATOR.value, disabled=True)
    assert ada.delete(path).status_code == 409  # a disabled one is none
    service.users.change(uuid.UUID(bob.user_id), disabled=False)
    assert ada.delete(path).status_code == 204


def test_two_operators_cannot_both_be_the_one_who_leaves(service: Service) -> None:
    both = [service.users.add(name, f"{name}@example.org", role=Role.OPERATOR).id for name in "ab"]
    start, outcomes = threading.Barrier(2), []

    def leave(user_id: uuid.UUID) -> None:
        start.wait()
        try:
            service.users.delete(user_id)
            outcomes.append("left")
        except Conflict:
            outcomes.append("stays")

    threads = [threading.Thread(target=leave, args=(user_id,)) for user_id in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["left", "stays"]


def test_users_are_listed_in_pages_the_oldest_first(service: Service) -> None:
    ada = service.ada()
    for number in range(4):
        service.users.add(f"{number}", f"{number}@example.org")
    page = ada.get("/users?limit=2&offset=1").get_json()
    assert ([user["name"] for user in page["users"]], page["total"]) == (["0", "1"], 5)
    assert (page["limit"], page["offset"]) == (2, 1)
    for query in ("limit=0", "limit=101", "offset=-1", "limit=x", "page=2"):
        assert ada.get(f"/users?{query}").status_code == 422


@pytest.mark.parametrize("spelling", [ACCOUNT, ACCOUNT.lower()])
def test_address_is_the_account_of_the_service(service: Service, spelling: str) -> None:
    ada = service.ada()
    path = f"/users/{ada.user_id}"
    assert ada.post(f"{path}/address", json={"address": "0x" + "12" * 20}).status_code == 422
    assert ada.get(path).get_json()["address"] is None
    assert ada.post(f"{path}/address", json={"address": spelling}).get_json()["address"] == ACCOUNT


# Passwords and tokens


def test_another_password_takes_the_place_of_the_one_before_and_revokes_every_token(service: Service) -> None:
    ada, also = service.ada(), service.log_in("Ada")
    path = f"/users/{ada.user_id}/password"
    assert ada.put(path, json={"new": "eight iron horses", "current": PASSWORD}).status_code == 204
    for caller in (ada, also):
        assert caller.get("/models").status_code == 401
    body = {"email": "ada@example.org", "password": PASSWORD}
    assert service.client.post("/users/login", json=body).status_code == 401
    assert service.log_in("Ada", "eight iron horses").get("/models").status_code == 200


def changed(answer: TestResponse) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["detail"]


def test_own_password_is_changed_by_whoever_knows_it(service: Service) -> None:
    ada = service.ada()
    path = f"/users/{ada.user_id}/password"
    assert changed(ada.put(path, json={"new": "eight iron horses"}))[0] == 422
    wrong = ada.put(path, json={"new": "eight iron horses", "current": "wrong password"})
    assert changed(wrong) == (403, "the password is wrong")
    status, detail = changed(ada.put(path, json={"new": "short", "current": PASSWORD}))
    assert (status, detail.split(":")[0]) == (422, "new")
    assert ada.get("/models").status_code == 200


def test_stolen_token_guesses_no_password(service: Service) -> None:
    ada = service.ada()
    body = {"new": "eight iron horses", "current": "wrong password"}
    statuses = [ada.put(f"/users/{ada.user_id}/password", json=body).status_code for _ in range(11)]
    assert statuses == [403] * 10 + [429]


def test_operator_gives_others_a_password(service: Service) -> None:
    ada = service.ada()
    bob = service.bob(ada)
    assert ada.put(f"/users/{bob.user_id}/password", json={"new": "eight iron horses"}).status_code == 204
    assert bob.get("/models").status_code == 401
    assert service.log_in("Bob", "eight iron horses").get("/models").status_code == 200


def test_tokens_are_listed_without_their_secret_and_revoked_one_by_one(service: Service) -> None:
    ada = service.ada()
    service.clock.forward(seconds=1)
    also = service.log_in("Ada")
    path = f"/users/{ada.user_id}/tokens"
    answer = ada.get(path)
    newer, older = answer.get_json()["tokens"]
    assert newer.keys() == {"id", "prefix", "created", "expires", "last_used"}
    assert (newer["prefix"], older["prefix"]) == (also.token[:14], ada.token[:14])
    assert newer["last_used"] is None and older["last_used"] is not None
    assert ada.token not in answer.text and also.token not in answer.text
    assert ada.delete(f"{path}/{newer['id']}").status_code == 204
    assert also.get("/models").status_code == 401
    assert ada.get("/models").status_code == 200
    assert ada.delete(f"{path}/{newer['id']}").status_code == 404


def test_logging_out_revokes_this_token_and_no_other(service: Service) -> None:
    ada, also = service.ada(), service.log_in("Ada")
    assert ada.post("/users/logout").status_code == 204
    assert ada.get("/models").status_code == 401
    assert ada.post("/users/logout").status_code == 401
    assert also.get("/models").status_code == 200


def test_viewer_logs_out(service: Service) -> None:
    bob = service.bob(service.ada())
    assert bob.post("/users/logout").status_code == 204
    assert bob.get("/models").status_code == 401
