"""Passwords: what one must be, what is kept of it, and that a user who does not exist costs the same work."""

from __future__ import annotations

import threading
import unicodedata

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import VerifyMismatchError

from commons.errors import InvalidInput, TooManyRequests
from commons.users.passwords import AT_ONCE, WAITING, Passwords

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture
def passwords() -> Passwords:
    return Passwords(CHEAP)


def test_password_is_right_or_wrong(passwords: Passwords) -> None:
    kept = passwords.hash("seven wooden horses")
    assert passwords.verify(kept, "seven wooden horses")
    for wrong in ("seven wooden horse", "Seven wooden horses", "seven wooden horses ", "", "x" * 256):
        assert not passwords.verify(kept, wrong)


def test_what_is_kept_is_salted_argon2id_of_owasps_strength() -> None:
    passwords = Passwords()
    first, second = passwords.hash("seven wooden horses"), passwords.hash("seven wooden horses")
    assert first != second and first.startswith("$argon2id$") and "horses" not in first
    parameters = extract_parameters(first)
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (19 * 1024, 2, 1)
    assert parameters.salt_len >= 16 and parameters.hash_len >= 32


@pytest.mark.parametrize(
    "password", ["", "elevenchars", "x" * 257, "aaaaaaaaaaaa", "abababababab", "Ada@Example.org", "Ada Lovelace"]
)
def test_password_that_is_short_long_or_easy_is_refused_and_not_repeated(passwords: Passwords, password: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        passwords.hash(password, "ada lovelace", "ada@example.org")
    assert refused.value.field == "password"
    assert not password or password not in str(refused.value)


@pytest.mark.parametrize("password", ["twelve chars", "correct horse battery staple", "пароль из слов", "x1y2z" * 51])
def test_passphrases_of_any_script_are_welcome(passwords: Passwords, password: str) -> None:
    assert passwords.verify(passwords.hash(password), password)


def test_letters_count_however_they_are_composed(passwords: Passwords) -> None:
    composed = unicodedata.normalize("NFC", "ein schöner Übermut")
    decomposed = unicodedata.normalize("NFD", composed)
    assert composed != decomposed and passwords.verify(passwords.hash(composed), decomposed)


class Counting(PasswordHasher):
    """Counts what is verified, and against what."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified: list[str] = []

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
        self.verified.append(str(hash))
        return super().verify(hash, password)


def test_nobodys_password_is_wrong_after_the_same_work() -> None:
    hasher = Counting()
    passwords = Passwords(hasher)
    somebodys = passwords.hash("seven wooden horses")
    assert not passwords.verify(None, "seven wooden horses")
    assert not passwords.verify(somebodys, "another password")
    first, second = map(extract_parameters, hasher.verified)
    assert first == second


class Waiting(PasswordHasher):
    """Does not answer before it is let."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.go = threading.Event()
        self.working = 0
        self.most = 0
        self._lock = threading.Lock()

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
        with self._lock:
            self.working += 1
            self.most = max(self.most, self.working)
        self.go.wait(20)
        with self._lock:
            self.working -= 1
        raise VerifyMismatchError


def test_flood_of_logins_takes_bounded_memory_and_threads() -> None:
    hasher = Waiting()
    passwords = Passwords(hasher)
    too_many = 5
    refused = threading.Semaphore(0)

    def attempt() -> None:
        try:
            passwords.verify(None, "x")
        except TooManyRequests:
            refused.release()

    threads = [threading.Thread(target=attempt) for _ in range(AT_ONCE + WAITING + too_many)]
    for thread in threads:
        thread.start()
    for _ in range(too_many):
        assert refused.acquire(timeout=20)
    assert not refused.acquire(timeout=0.1)
    hasher.go.set()
    for thread in threads:
        thread.join(20)
    assert hasher.most <= AT_ONCE
    assert not passwords.verify(None, "x")
