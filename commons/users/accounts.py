"""All that a service has about its users, made together."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from commons.database import Database, now
from commons.users.access import Access
from commons.users.login import Login
from commons.users.passwords import Passwords
from commons.users.sessions import Sessions
from commons.users.storage import Users
from commons.users.tokens import Tokens
from commons.users.wallet import SignIn


class Accounts:
    """The users of a service, and how they come in.

    Parameters
    ----------
    database : Database
        Of the service.
    public_url : str
        By which users call it.
    chain_id : callable
        Returns the number of its chain.
    lifetime : timedelta
        How long the tokens of those who log in count.
    passwords : Passwords, optional
    clock, seconds : callable
        Return the current time in UTC, and seconds that only grow.
    """

    def __init__(
        self,
        database: Database,
        public_url: str,
        chain_id: Callable[[], int],
        lifetime: timedelta,
        passwords: Passwords | None = None,
        clock: Callable[[], datetime] = now,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.users = Users(database)
        self.tokens = Tokens(database, clock)
        self.passwords = passwords or Passwords()
        self.wallets = SignIn(public_url, chain_id, clock)
        self.login = Login(self.users, self.tokens, self.passwords, self.wallets, lifetime, seconds)
        self.sessions = Sessions(public_url)
        self.access = Access(self.tokens, self.sessions)
