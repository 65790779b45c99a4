"""Logging in: a password or a wallet's signature for a token."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from commons.errors import NotAuthorised, NotLoggedIn, VerificationFailed
from commons.users.limits import Limit
from commons.users.passwords import Passwords
from commons.users.storage import Token, User, Users, folded
from commons.users.tokens import Tokens
from commons.users.wallet import LOGIN, SignIn

PER_ACCOUNT = 10, 30.0
"""Wrong passwords for one account at once, and seconds after which one more: some 2,900 a day, from anywhere."""
PER_CLIENT = 30, 2.0
"""Failed tries of one client address at once, and seconds after which one more."""


class Login:
    """Gives tokens to whoever proves to be a user.

    A try counts, for its account and for its client's address, until it turns out to be a good one. Whoever tries
    passwords of one account can so keep its user from logging in by password; tokens, and the wallet, still work.

    Parameters
    ----------
    users, tokens
        Of the service.
    passwords : Passwords
    wallets : SignIn
        Verifies what wallets sign.
    lifetime : timedelta
        How long tokens count.
    clock : callable
        Returns seconds that only grow, for the limits.
    """

    def __init__(
        self,
        users: Users,
        tokens: Tokens,
        passwords: Passwords,
        wallets: SignIn,
        lifetime: timedelta,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._users = users
        self._tokens = tokens
        self._passwords = passwords
        self._wallets = wallets
        self._lifetime = lifetime
        self._per_account = Limit("too many wrong passwords for this e-mail address", *PER_ACCOUNT, clock)
        self._per_client = Limit("too many tries from this address", *PER_CLIENT, clock)

    def count(self, client: str) -> None:
        """Count something of a client that costs work and is no login; TooManyRequests if it is one too many."""
        self._per_client.take(client)

    def by_password(self, email: str, password: str, client: str) -> tuple[str, Token]:
        """Return a new token, and what is known of it.

        Raises
        ------
        NotLoggedIn
            There is no such user, the user is disabled, or this is not its password: neither the answer nor the work
            says which.
        TooManyRequests
            There were too many wrong tries.
        """
        user = self._users.by_email(email)
        if not self._right(user, password, folded(email), client) or user is None:
            raise NotLoggedIn("the e-mail address or the password is wrong")
        return self._tokens.issue(user, self._lifetime)

    def confirm(self, user: User, password: str, client: str) -> None:
        """Check the password of somebody who has logged in.

        Raises
        ------
        NotAuthorised
            It is wrong.
        TooManyRequests
            There were too many wrong tries.
        """
        if not self._right(user, password, user.email, client):
            raise NotAuthorised("the password is wrong")

    def by_wallet(self, message: str, signature: bytes, client: str) -> tuple[str, Token]:
        """Return a new token, and what is known of it.

        Raises
        ------
        InvalidInput
            The message is none.
        NotLoggedIn
            It does not count, or no user has linked the wallet, or the user is disabled.
        TooManyRequests
            There were too many failed tries.
        """
        self._per_client.take(client)
        try:
            wallet = self._wallets.verify(message, signature, LOGIN)
        except VerificationFailed as error:
            raise NotLoggedIn(str(error)) from None
        user = self._users.by_wallet(wallet)
        if user is None or user.disabled:
            raise NotLoggedIn(f"no user logs in with {wallet}: link it to one first, at /users/ID/wallet")
        self._per_client.give_back(client)
        return self._tokens.issue(user, self._lifetime)

    def _right(self, user: User | None, password: str, account: str, client: str) -> bool:
        self._per_client.take(client)
        self._per_account.take(account)
        right = self._passwords.verify(None if user is None else user.password_hash, password)
        if user is None or not right or user.disabled:
            return False
        self._per_account.give_back(account)
        self._per_client.give_back(client)
        return True
