"""The nonces of signed requests: which request has passed before.

Nonces are kept in memory until their requests are too old to pass. The database has one number, the latest second
that a request which passed was signed in: it is saved before that request passes, so once a second at most, and a
service that starts refuses whatever was signed up to then (503: sign it again, as callers do at every try). Nothing
that passed before a restart so passes after it, whatever the clocks say; to save every nonce would let through a
few requests more, for a transaction each.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from sqlalchemy import BigInteger, Column, Table, delete, insert, select
from werkzeug.exceptions import ServiceUnavailable

from commons.database import Base, Database
from commons.errors import NotAuthenticated

MAX_AGE_S = 120
"""Seconds for which a request counts, and for which its nonce is remembered."""
MAX_AHEAD_S = 5
"""Seconds by which a sender's clock may be ahead."""

LATEST_REQUEST = Table(
    "latest_request", Base.metadata, Column("created", BigInteger, primary_key=True, autoincrement=False)
)
"""One row, none at first: seconds since 1970."""


class Nonces:
    """The nonces of the requests that still count.

    Parameters
    ----------
    database : Database
        The service's, with :data:`LATEST_REQUEST`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.engine.begin() as connection:
            latest: int | None = connection.execute(select(LATEST_REQUEST.c.created)).scalar_one_or_none()
        self._latest = -1 if latest is None else latest
        self._oldest = self._latest + 1
        self._used: dict[int, set[tuple[str, str]]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many are remembered."""
        with self._lock:
            return sum(map(len, self._used.values()))

    def use(self, address: str, nonce: str, created: int, now: float) -> None:
        """Let a request pass, once and in its time.

        Parameters
        ----------
        address, nonce : str
            Who signed it, and its nonce.
        created : int
            When it was signed, by its sender's clock.
        now : float
            What time it is by ours.

        Raises
        ------
        NotAuthenticated
            It is too old, from the future, or has passed before.
        ServiceUnavailable
            It is so old that its nonce may be forgotten.
        """
        clocks = f"it was signed at {_moment(created)} by its sender's clock, and it is {_moment(now)} by ours"
        if created < now - MAX_AGE_S:
            raise NotAuthenticated(f"the request is too old: {clocks}; it counts for {MAX_AGE_S} s")
        if created > now + MAX_AHEAD_S:
            raise NotAuthenticated(f"the request is from the future: {clocks}; {MAX_AHEAD_S} s are allowed")
        with self._lock:
            self._forget(int(now) - MAX_AGE_S)
            if created < self._oldest:
                raise ServiceUnavailable(f"sign the request again: {clocks}, and what came before is forgotten")
            used = self._used.setdefault(created, set())
            if (address, nonce) in used:
                raise NotAuthenticated(f"the nonce {nonce} is used: each request is signed anew, with a new nonce")
            self._save(created)
            used.add((address, nonce))

    def _forget(self, oldest: int) -> None:
        if oldest > self._oldest:  # never back, even if the clock goes: what is forgotten stays refused
            self._oldest = oldest
            for second in [second for second in self._used if second < oldest]:
                del self._used[second]

    def _save(self, created: int) -> None:
        if created > self._latest:
            with self._database.writer.begin() as connection:
                connection.execute(delete(LATEST_REQUEST))
                connection.execute(insert(LATEST_REQUEST), {"created": created})
            self._latest = created


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
