"""Passwords: what one must be, and Argon2id (RFC 9106) of it at rest."""

from __future__ import annotations

import secrets
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from commons.errors import InvalidInput, TooManyRequests

MIN_LENGTH, MAX_LENGTH = 12, 256
"""Characters of a password. The longest bounds the work that somebody who is nobody can cause."""
MIN_DIFFERENT = 5
"""Different characters in a password."""

AT_ONCE, WAITING = 2, 4
"""How many passwords are worked on at once, and how many more wait for it: Argon2 takes memory, and threads wait."""


class Passwords:
    """Hashes and verifies passwords.

    Parameters
    ----------
    hasher : PasswordHasher
        Argon2's parameters, the same as long as the service has users: with others, what an e-mail address without a
        user takes would tell. The default is OWASP's: 19 MiB, two passes, one lane.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._nobodys = self._hasher.hash(secrets.token_urlsafe())
        self._places = threading.BoundedSemaphore(AT_ONCE + WAITING)
        self._working = threading.BoundedSemaphore(AT_ONCE)

    def hash(self, password: str, *known: str, field: str = "password") -> str:
        """Return what to keep of a password.

        Parameters
        ----------
        password : str
        *known : str
            The user's name and e-mail address, which it must not be.
        field : str
            Where the user wrote it, for the error.

        Raises
        ------
        InvalidInput
            It is too short, too long, or too easy.
        TooManyRequests
            Too many passwords are worked on.
        """
        normal = _normal(password)
        if not MIN_LENGTH <= len(normal) <= MAX_LENGTH:
            raise InvalidInput(f"must have {MIN_LENGTH} to {MAX_LENGTH} characters: some words, perhaps", field)
        if len(set(normal)) < MIN_DIFFERENT or normal.casefold() in {_normal(value).casefold() for value in known}:
            raise InvalidInput(
                f"is too easy to guess: it must have {MIN_DIFFERENT} different characters, and not be the name or the"
                " e-mail address",
                field,
            )
        with self._place():
            return self._hasher.hash(normal)

    def verify(self, password_hash: str | None, password: str) -> bool:
        """Say whether this is the password, with the same work if there is none.

        Unlike elsewhere in this code, the answer is no error: the caller answers a wrong password as it answers a
        user that does not exist.
        """
        with self._place():
            try:
                self._hasher.verify(password_hash or self._nobodys, _normal(password))
            except VerifyMismatchError:
                return False
        return password_hash is not None

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise TooManyRequests("too many passwords are being checked", 1)
        try:
            with self._working:
                yield
        finally:
            self._places.release()


def _normal(text: str) -> str:
    # NIST SP 800-63B, section 3.1.1.2: the same password however a keyboard composes its letters.
    return unicodedata.normalize("NFKC", text)
