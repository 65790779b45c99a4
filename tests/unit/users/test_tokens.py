"""Tokens: random, hashed at rest, expiring, revocable."""

from __future__ import annotations

import hashlib
import re
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import select

from commons.errors import NotFound, NotLoggedIn
from commons.users.storage import Role, Token, User
from commons.users.tokens import USED_EVERY, Tokens
from tests.unit.users.service import Service

DAY = timedelta(days=1)


@pytest.fixture
def user(service: Service) -> User:
    return service.users.add("Ada", "ada@example.org", "hash")


def rows(service: Service) -> list[Token]:
    with service.database.read() as session:
        return list(session.scalars(select(Token)))


def test_token_says_whose_it_is(service: Service, user: User) -> None:
    other = service.users.add("Bob", "bob@example.org")
    first, second = service.tokens.issue(user, DAY)[0], service.tokens.issue(other, DAY)[0]
    assert service.tokens.find(first)[0].id == user.id
    assert service.tokens.find(second)[0].id == other.id


def test_token_has_256_random_bits_and_only_its_digest_is_kept(service: Service, user: User) -> None:
    secrets = {service.tokens.issue(user, DAY)[0] for _ in range(20)}
    assert len(secrets) == 20
    assert all(re.fullmatch("deltaml_[A-Za-z0-9_-]{43}", secret) for secret in secrets)
    assert {row.digest for row in rows(service)} == {hashlib.sha256(secret.encode()).digest() for secret in secrets}
    service.database.close()
    stored = b"".join(path.read_bytes() for path in service.path.parent.iterdir())
    assert b"deltaml_" in stored  # the prefixes
    assert not any(secret.encode() in stored or secret.encode()[8:] in stored for secret in secrets)


@pytest.mark.parametrize("change", [lambda s: s[:-1], lambda s: s + "x", str.upper, lambda s: s[8:], lambda s: ""])
def test_token_that_was_guessed_does_not_count(service: Service, user: User, change: object) -> None:
    secret, token = service.tokens.issue(user, DAY)
    assert callable(change)
    for guess in (change(secret), token.prefix, token.digest.hex()):
        with pytest.raises(NotLoggedIn) as refused:
            service.tokens.find(guess)
        assert secret not in str(refused.value)


def test_token_of_another_service_does_not_count(
    service: Service, user: User, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Service(tmp_path_factory.mktemp("other"))
    secret = other.tokens.issue(other.users.add("Ada", "ada@example.org", "hash"), DAY)[0]
    with pytest.raises(NotLoggedIn):
        service.tokens.find(secret)
    other.close()


def test_token_expires_and_is_then_forgotten(service: Service, user: User) -> None:
    secret, token = service.tokens.issue(user, DAY)
    assert token.expires == service.clock.now() + DAY
    service.clock.forward(hours=24, microseconds=-1)
    service.tokens.find(secret)
    service.clock.forward(microseconds=1)
    with pytest.raises(NotLoggedIn):
        service.tokens.find(secret)
    assert service.tokens.of(user.id) == []
    service.tokens.issue(user, DAY)
    assert len(rows(service)) == 1


def test_revoked_token_does_not_count_and_others_do(service: Service, user: User) -> None:
    (first, token), (second, _) = service.tokens.issue(user, DAY), service.tokens.issue(user, DAY)
    stranger = service.users.add("Bob", "bob@example.org")
    with pytest.raises(NotFound):
        service.tokens.revoke(stranger.id, token.id)
    service.tokens.revoke(user.id, token.id)
    with pytest.raises(NotLoggedIn):
        service.tokens.find(first)
    assert service.tokens.find(second)[0].id == user.id
    with pytest.raises(NotFound, match=f"there is no token {token.id}"):
        service.tokens.revoke(user.id, token.id)


@pytest.mark.parametrize("values", [{"password_hash": "another"}, {"disabled": True}])
def test_all_tokens_are_revoked_with_another_password_and_when_disabled(
    service: Service, user: User, values: dict[str, object]
) -> None:
    service.users.add("Bob", "bob@example.org", role=Role.OPERATOR)
    secrets = [service.tokens.issue(user, DAY)[0] for _ in range(2)]
    service.users.change(user.id, **values)
    for secret in secrets:
        with pytest.raises(NotLoggedIn):
            service.tokens.find(secret)
    assert rows(service) == []


def test_tokens_go_with_their_wallet(service: Service, user: User) -> None:
    secret, _ = service.tokens.issue(user, DAY)
    user = service.users.change(user.id, wallet="0xfirst")
    assert service.tokens.find(secret)  # nothing was taken away
    for other in ("0xsecond", None):
        secret, _ = service.tokens.issue(user, DAY)
        user = service.users.change(user.id, wallet=other)
        with pytest.raises(NotLoggedIn):
            service.tokens.find(secret)


def test_tokens_go_with_their_user(service: Service, user: User) -> None:
    service.users.add("Bob", "bob@example.org", role=Role.OPERATOR)
    secret, _ = service.tokens.issue(user, DAY)
    service.users.delete(user.id)
    with pytest.raises(NotLoggedIn):
        service.tokens.find(secret)
    assert rows(service) == []


def test_other_changes_leave_the_tokens(service: Service, user: User) -> None:
    secret, _ = service.tokens.issue(user, DAY)
    service.users.change(user.id, name="Ada L.", email="ada@example.net", address="0x1")
    assert service.tokens.find(secret)[0].name == "Ada L."


@pytest.mark.parametrize("values", [{"password_hash": "another"}, {"wallet": "0x1"}, {"disabled": True}, None])
def test_no_token_for_a_user_that_changed_since_it_proved_who_it_is(
    service: Service, user: User, values: dict[str, object] | None
) -> None:
    service.users.add("Bob", "bob@example.org", role=Role.OPERATOR)
    if values is None:
        service.users.delete(user.id)
    else:
        service.users.change(user.id, **values)
    with pytest.raises(NotLoggedIn, match="log in again"):
        service.tokens.issue(user, DAY)
    assert rows(service) == []


def test_last_use_is_known_to_five_minutes(service: Service, user: User) -> None:
    secret, _ = service.tokens.issue(user, DAY)
    assert service.tokens.of(user.id)[0].used is None
    first = service.clock.now()
    service.tokens.find(secret)
    service.clock.forward(seconds=USED_EVERY.total_seconds() - 1)
    service.tokens.find(secret)
    assert service.tokens.of(user.id)[0].used == first
    service.clock.forward(seconds=1)
    service.tokens.find(secret)
    assert service.tokens.of(user.id)[0].used == first + USED_EVERY


def test_tokens_are_listed_the_newest_first(service: Service, user: User) -> None:
    made = []
    for _ in range(3):
        made.append(service.tokens.issue(user, DAY)[1].id)
        service.clock.forward(seconds=1)
    assert [token.id for token in service.tokens.of(user.id)] == made[::-1]
    assert service.tokens.of(uuid.uuid4()) == []


def test_clock_is_the_real_one_unless_told_otherwise(service: Service, user: User) -> None:
    tokens = Tokens(service.database)
    assert tokens.find(tokens.issue(user, timedelta(minutes=1))[0])[0].id == user.id


def test_token_of_a_disabled_user_would_not_count_even_if_it_were_kept(service: Service, user: User) -> None:
    secret, _ = service.tokens.issue(user, DAY)
    with service.database.write() as session:
        session.get_one(User, user.id).disabled = True  # past what revokes
    with pytest.raises(NotLoggedIn):
        service.tokens.find(secret)
