"""Passwords and tokens are in no log, no repr, no error and, in clear, in no database."""

from __future__ import annotations

import logging

import pytest

from commons.users.api import NewPassword, NewUser, NewWallet, Proof
from tests.unit.users.service import PASSWORD, Service, signed, wallet

NEXT = "eight iron horses"


def test_nothing_secret_is_logged_or_stored_in_the_life_of_a_user(
    service: Service, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    ada = service.ada()
    service.bob(ada)
    body = {"email": "ada@example.org", "password": "wrong " + PASSWORD}
    service.client.post("/users/login", json=body)
    service.client.get("/models", headers={"Authorization": f"Bearer {ada.token}x"})
    ada.put(f"/users/{ada.user_id}/password", json={"new": "short", "current": PASSWORD})
    service.link(ada, wallet())
    text = service.offer(wallet())
    signature = signed(text, wallet())
    by_wallet = service.client.post("/users/login", json={"message": text, "signature": signature}).get_json()
    ada.put(f"/users/{ada.user_id}/password", json={"new": NEXT, "current": PASSWORD})
    again = service.log_in("Ada", NEXT)
    service.database.close()
    stored = b"".join(path.read_bytes() for path in service.path.parent.iterdir())
    output = capfd.readouterr()
    said = caplog.text + output.out + output.err
    assert b"ada@example.org" in stored and b"$argon2id$" in stored
    for secret in (PASSWORD, NEXT, ada.token, by_wallet["token"], again.token, signature):
        assert secret not in said
        assert secret.encode() not in stored


@pytest.mark.parametrize(
    "body",
    [
        NewUser.model_validate_json(f'{{"name": "Ada", "email": "ada@example.org", "password": "{PASSWORD}"}}'),
        Proof.model_validate_json(f'{{"email": "ada@example.org", "password": "{PASSWORD}"}}'),
        NewPassword.model_validate_json(f'{{"new": "{PASSWORD}", "current": "{PASSWORD}"}}'),
        NewWallet.model_validate_json(f'{{"message": "x", "signature": "0x{"00" * 65}", "password": "{PASSWORD}"}}'),
    ],
    ids=lambda body: type(body).__name__,
)
def test_body_with_a_password_does_not_show_it(body: object) -> None:
    assert PASSWORD not in repr(body) and PASSWORD not in str(body)


def test_user_and_token_do_not_show_what_is_kept_of_their_secrets(service: Service) -> None:
    ada = service.ada()
    user, token = service.tokens.find(ada.token)
    for shown in (repr(user), str(user), repr(token), repr(service.accounts.login), repr(service.accounts.passwords)):
        assert "argon2" not in shown and ada.token[8:] not in shown
    for answer in (ada.get("/users"), ada.get(f"/users/{user.id}"), ada.get(f"/users/{user.id}/tokens")):
        assert answer.status_code == 200
        assert "argon2" not in answer.text and token.digest.hex() not in answer.text
