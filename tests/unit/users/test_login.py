"""Logging in by password and by wallet, and what is limited."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from commons.users.login import PER_ACCOUNT, PER_CLIENT
from commons.users.wallet import LOGIN
from tests.unit.users.service import LIFETIME, PASSWORD, Service, signed, wallet


def log_in(service: Service, email: str, password: str, client: str = "192.0.2.1") -> TestResponse:
    body = {"email": email, "password": password}
    return service.client.post("/users/login", json=body, environ_overrides={"REMOTE_ADDR": client})


def by_wallet(service: Service, text: str, signature: str) -> TestResponse:
    return service.client.post("/users/login", json={"message": text, "signature": signature})


# By password


@pytest.mark.parametrize("email", ["ada@example.org", "ADA@Example.ORG", "ａda@example.org"])
def test_password_gives_a_token(service: Service, email: str) -> None:
    user = service.sign_up("Ada")
    answer = log_in(service, email, PASSWORD)
    assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-store"
    found = answer.get_json()
    assert found.keys() == {"token", "expires", "user_id"}
    assert found["user_id"] == user["id"]
    assert datetime.fromisoformat(found["expires"]) == service.clock.now() + LIFETIME
    mine = service.client.get("/models", headers={"Authorization": f"Bearer {found['token']}"})
    assert mine.get_json() == {"by": "ada@example.org"}


def test_answer_does_not_say_what_was_wrong(service: Service) -> None:
    ada = service.ada()
    bob = service.bob(ada)
    service.users.add("Old", "old@example.org")  # without a password
    fields = {"name": "Bob", "email": "bob@example.org", "disabled": True}
    assert ada.put(f"/users/{bob.user_id}", json=fields).status_code == 200
    answers = [
        log_in(service, "nobody@example.org", PASSWORD),
        log_in(service, "ada@example.org", "another password"),
        log_in(service, "bob@example.org", PASSWORD),  # disabled
        log_in(service, "old@example.org", PASSWORD),
        log_in(service, "", ""),
        log_in(service, "' OR 1=1 --", "' OR 1=1 --"),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].get_json()["detail"] == "the e-mail address or the password is wrong"
    assert answers[0].headers["WWW-Authenticate"] == 'Bearer realm="DeltaML"'


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "ada@example.org"},
        {"password": PASSWORD},
        {"email": "ada@example.org", "password": PASSWORD, "message": "x"},
        {"email": "ada@example.org", "message": "x"},
        {"email": "ada@example.org", "password": ["x"]},
        {"email": "ada@example.org", "password": "x" * 257},
        {"email": "ada@example.org", "password": PASSWORD, "role": "operator"},
        {"message": "x", "signature": "0x12"},
        [],
        "x",
        7,
    ],
)
def test_login_of_another_shape_is_refused(service: Service, body: Any) -> None:
    service.sign_up("Ada")
    answer = service.client.post("/users/login", json=body)
    assert (answer.status_code, answer.content_type) == (422, "application/problem+json")
    assert PASSWORD not in answer.text


def test_wrong_passwords_of_one_account_are_limited_from_everywhere(service: Service) -> None:
    service.sign_up("Ada")
    token = log_in(service, "ada@example.org", PASSWORD).get_json()["token"]
    burst, every_s = PER_ACCOUNT
    for number in range(burst):
        spelling = "Ada@Example.org" if number % 2 else "ada@example.org"
        assert log_in(service, spelling, "wrong password", f"192.0.2.{number}").status_code == 401
    answer = log_in(service, "ada@example.org", PASSWORD, "198.51.100.1")
    assert answer.status_code == 429 and answer.content_type == "application/problem+json"
    assert 0 < int(answer.headers["Retry-After"]) <= every_s
    assert "too many wrong passwords" in answer.get_json()["detail"]
    assert service.client.get("/models", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    service.clock.forward(seconds=int(answer.headers["Retry-After"]))
    assert log_in(service, "ada@example.org", PASSWORD).status_code == 200


def test_unknown_account_is_limited_as_a_known_one(service: Service) -> None:
    service.sign_up("Ada")
    statuses = {}
    for name in ("ada", "nobody"):
        answers = [
            log_in(service, f"{name}@example.org", "wrong password", f"192.0.2.{i}") for i in range(PER_ACCOUNT[0] + 1)
        ]
        statuses[name] = [answer.status_code for answer in answers]
    assert statuses["ada"] == statuses["nobody"] == [401] * PER_ACCOUNT[0] + [429]


def test_tries_of_one_client_are_limited_over_all_accounts_and_ways(service: Service) -> None:
    service.sign_up("Ada")
    burst, _ = PER_CLIENT
    for number in range(burst - 1):
        assert log_in(service, f"{number}@example.org", "wrong password", "2001:db8::1").status_code == 401
    text, client = service.offer(wallet()), {"REMOTE_ADDR": "2001:db8::2"}
    body = {"message": text, "signature": signed(text, wallet())}
    assert service.client.post("/users/login", json=body, environ_overrides=client).status_code == 401
    assert service.client.post("/users/login", json=body, environ_overrides=client).status_code == 429
    assert log_in(service, "ada@example.org", PASSWORD, "2001:db8::3").status_code == 429
    assert log_in(service, "ada@example.org", PASSWORD, "2001:db8:0:1::1").status_code == 200


def test_header_does_not_say_who_the_client_is(service: Service) -> None:
    for number in range(PER_CLIENT[0] + 1):
        answer = service.client.post(
            "/users/login",
            json={"email": f"{number}@example.org", "password": "wrong password"},
            headers={"X-Forwarded-For": f"192.0.2.{number}", "Forwarded": f"for=192.0.2.{number}"},
        )
    assert answer.status_code == 429


def test_right_passwords_are_not_limited(service: Service) -> None:
    service.sign_up("Ada")
    for _ in range(PER_CLIENT[0] + PER_ACCOUNT[0]):
        assert log_in(service, "ada@example.org", PASSWORD).status_code == 200


# By wallet


def test_wallet_that_is_linked_gives_a_token(service: Service) -> None:
    ada = service.ada()
    service.link(ada, wallet())
    text = service.offer(wallet())
    answer = by_wallet(service, text, signed(text, wallet()))
    assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-store"
    assert answer.get_json()["user_id"] == ada.user_id
    again = by_wallet(service, text, signed(text, wallet()))
    assert again.status_code == 401 and "was used before" in again.get_json()["detail"]


def test_message_can_be_made_from_what_nonce_answers(service: Service) -> None:
    ada = service.ada()
    service.link(ada, wallet())
    answer = service.client.get("/users/nonce")
    assert answer.headers["Cache-Control"] == "no-store"
    offer = answer.get_json()
    assert offer["message"] is None and offer["statement"] == LOGIN
    text = (
        f"{offer['domain']} wants you to sign in with your Ethereum account:\n{wallet().address}\n\n"
        f"{offer['statement']}\n\nURI: {offer['uri']}\nVersion: {offer['version']}\nChain ID: {offer['chain_id']}\n"
        f"Nonce: {offer['nonce']}\nIssued At: {offer['issued_at']}"
    )
    assert by_wallet(service, text, signed(text, wallet())).status_code == 200


@pytest.mark.parametrize("query", ["address=0x12", "user_id=7", "address=" + "0x" + "g" * 40, "what=1"])
def test_nonce_for_nobody_is_refused(service: Service, query: str) -> None:
    assert service.client.get(f"/users/nonce?{query}").status_code == 422


def test_wallet_that_is_not_linked_gives_none(service: Service) -> None:
    ada = service.ada()
    service.link(ada, wallet(1))
    text = service.offer(wallet(2))
    answer = by_wallet(service, text, signed(text, wallet(2)))
    assert answer.status_code == 401
    assert f"no user logs in with {wallet(2).address}" in answer.get_json()["detail"]
    text = service.offer(wallet(1))
    assert by_wallet(service, text, signed(text, wallet(2))).status_code == 401


def test_signature_for_linking_logs_nobody_in_and_one_for_logging_in_links_nothing(service: Service) -> None:
    ada = service.ada()
    bob = service.bob(ada)
    service.link(ada, wallet())
    text = service.offer(wallet(), ada.user_id)
    assert by_wallet(service, text, signed(text, wallet())).status_code == 401
    for text in (service.offer(wallet()), service.offer(wallet(), ada.user_id)):
        body = {"message": text, "signature": signed(text, wallet()), "password": PASSWORD}
        assert bob.post(f"/users/{bob.user_id}/wallet", json=body).status_code == 409
    assert bob.get(f"/users/{bob.user_id}").get_json()["wallet"] is None


def test_signature_for_another_service_logs_nobody_in(service: Service, tmp_path: Path) -> None:
    ada = service.ada()
    service.link(ada, wallet())
    text = service.offer(wallet())
    for old, new in (("buyer.example", "owner.example"), ("Chain ID: 31337", "Chain ID: 1")):
        other = text.replace(old, new)
        assert other != text
        assert by_wallet(service, other, signed(other, wallet())).status_code == 401
    assert by_wallet(service, text, signed(text, wallet())).status_code == 200


def test_text_that_is_no_message_is_refused(service: Service) -> None:
    answer = by_wallet(service, "log me in", "0x" + "00" * 65)
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["field"] == "message"


def test_wallet_of_a_disabled_user_gives_none(service: Service) -> None:
    ada = service.ada()
    bob = service.bob(ada)
    service.link(bob, wallet())
    fields = {"name": "Bob", "email": "bob@example.org", "disabled": True}
    assert ada.put(f"/users/{bob.user_id}", json=fields).status_code == 200
    text = service.offer(wallet())
    assert by_wallet(service, text, signed(text, wallet())).status_code == 401


def test_wallet_is_that_of_one_user(service: Service) -> None:
    ada = service.ada()
    bob = service.bob(ada)
    service.link(ada, wallet())
    text = service.offer(wallet(), bob.user_id)
    body = {"message": text, "signature": signed(text, wallet()), "password": PASSWORD}
    answer = bob.post(f"/users/{bob.user_id}/wallet", json=body)
    assert answer.status_code == 409
    assert answer.get_json()["detail"] == f"there is a user with the wallet {wallet().address} already"


def test_wallet_is_linked_with_the_password_only(service: Service) -> None:
    ada = service.ada()
    text = service.offer(wallet(), ada.user_id)
    body = {"message": text, "signature": signed(text, wallet())}
    assert ada.post(f"/users/{ada.user_id}/wallet", json=body).status_code == 422
    assert ada.post(f"/users/{ada.user_id}/wallet", json=body | {"password": "wrong password"}).status_code == 403
    assert ada.get(f"/users/{ada.user_id}").get_json()["wallet"] is None


def test_unlinked_wallet_gives_none_and_what_it_gave_is_revoked(service: Service) -> None:
    ada = service.ada()
    service.link(ada, wallet())
    assert ada.get(f"/users/{ada.user_id}").get_json()["wallet"] == wallet().address
    assert ada.delete(f"/users/{ada.user_id}/wallet").status_code == 204
    assert ada.get("/models").status_code == 401
    text = service.offer(wallet())
    assert by_wallet(service, text, signed(text, wallet())).status_code == 401
