"""Bearer tokens: opaque, random, expiring, revocable; only their digests are kept."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import delete, select

from commons.database import Database, now
from commons.errors import NotFound, NotLoggedIn
from commons.users.storage import Token, User

MARK = "deltaml_"
"""With which every token begins, so that those who look for leaked secrets know one."""
SECRET_BYTES = 32
SHOWN = len(MARK) + 6
"""Characters of a token that its user sees in lists: 36 of its 256 bits."""
USED_EVERY = timedelta(minutes=5)
"""How exactly it is known when a token was last used: a write for every request would cost more than the check."""


class Tokens:
    """The tokens of the users of one service.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns the current time, in UTC.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime] = now) -> None:
        self._database = database
        self._clock = clock

    def issue(self, user: User, lifetime: timedelta) -> tuple[str, Token]:
        """Make a token.

        Parameters
        ----------
        user : User
            Whose it is, as it was when it proved who it is.
        lifetime : timedelta
            How long the token counts.

        Returns
        -------
        str, Token
            The first is the token, which nobody can be told again.

        Raises
        ------
        NotLoggedIn
            The user is disabled or gone, or has another password or wallet by now.
        """
        secret = MARK + secrets.token_urlsafe(SECRET_BYTES)
        made = self._clock()
        token = Token(
            user_id=user.id, digest=_digest(secret), prefix=secret[:SHOWN], created=made, expires=made + lifetime
        )
        with self._database.write() as session:
            current = session.get(User, user.id)
            if current is None or current.disabled or _proofs(current) != _proofs(user):
                raise NotLoggedIn("the user was changed meanwhile: log in again")
            session.execute(delete(Token).where(Token.expires <= made))
            session.add(token)
        return secret, token

    def find(self, secret: str) -> tuple[User, Token]:
        """Return whose token this is, and what is known of it.

        Raises
        ------
        NotLoggedIn
            It is none, or has expired, or was revoked. Which of them is not said: to the service it is all the same.
        """
        moment = self._clock()
        with self._database.read() as session:
            query = select(User, Token).join(Token, Token.user_id == User.id).where(Token.digest == _digest(secret))
            found = session.execute(query).one_or_none()
        if found is None or found.Token.expires <= moment or found.User.disabled:
            raise NotLoggedIn("this is no token of this service, or it has expired or been revoked: log in here")
        user, token = found.User, found.Token
        if token.used is None or moment - token.used >= USED_EVERY:
            with self._database.write() as session:
                if (kept := session.get(Token, token.id)) is not None:
                    kept.used = moment
        return user, token

    def of(self, user_id: uuid.UUID) -> list[Token]:
        """Return the tokens of a user that count, the newest first."""
        with self._database.read() as session:
            query = select(Token).where(Token.user_id == user_id, Token.expires > self._clock())
            return list(session.scalars(query.order_by(Token.created.desc(), Token.id)))

    def revoke(self, user_id: uuid.UUID, token_id: uuid.UUID) -> None:
        """Revoke a token; NotFound if the user has none of that id."""
        with self._database.write() as session:
            token = session.get(Token, token_id)
            if token is None or token.user_id != user_id:
                raise NotFound(f"there is no token {token_id}")
            session.delete(token)


def _proofs(user: User) -> tuple[str | None, str | None]:
    return user.password_hash, user.wallet


def _digest(secret: str) -> bytes:
    # Without salt or stretching: 256 random bits cannot be guessed from their digest.
    return hashlib.sha256(secret.encode()).digest()
