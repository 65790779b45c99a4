"""The tables of users and of their tokens, and the queries of users."""

from __future__ import annotations

import unicodedata
import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from commons.database import Base, Database, now, page
from commons.errors import Conflict, NotAuthorised
from commons.lifecycle import find
from commons.users.registration import Registration


class Role(StrEnum):
    """What a user may do: an operator acts for the service, a viewer looks, and has what is its own."""

    OPERATOR = "operator"
    VIEWER = "viewer"


class User(Base):
    """Somebody with an account at a service.

    ``email`` is folded (:func:`folded`); ``password_hash`` is None for whoever cannot log in by password; ``wallet``
    is the checksummed address of the Ethereum account that it logs in with; ``address`` is that of the service.
    """

    __tablename__ = "users"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str]
    email: Mapped[str] = mapped_column(unique=True)
    address: Mapped[str | None] = mapped_column(default=None)
    created: Mapped[datetime] = mapped_column(default=now)
    password_hash: Mapped[str | None] = mapped_column(default=None)
    role: Mapped[str] = mapped_column(default=Role.VIEWER.value)
    disabled: Mapped[bool] = mapped_column(default=False)
    wallet: Mapped[str | None] = mapped_column(default=None, unique=True, index=True)

    @property
    def operates(self) -> bool:
        """Whether this is an operator who can log in."""
        return self.role == Role.OPERATOR and not self.disabled


class Token(Base):
    """What a user shows instead of its password. ``digest`` is its SHA-256: the token itself is nowhere."""

    __tablename__ = "tokens"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"), index=True)
    digest: Mapped[bytes] = mapped_column(unique=True)
    prefix: Mapped[str]
    created: Mapped[datetime]
    expires: Mapped[datetime]
    used: Mapped[datetime | None] = mapped_column(default=None)


class Users:
    """Queries and changes of the users of one service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, email: str, password_hash: str | None = None, role: Role | None = None) -> User:
        """Add a user, by default as an operator if it is the first, as a viewer otherwise.

        Raises
        ------
        Conflict
            The e-mail address is taken.
        """
        return self._add(name, email, password_hash, role, Registration.OPEN)

    def register(self, name: str, email: str, password_hash: str, registration: Registration) -> User:
        """Add a user that nobody vouches for, as :meth:`add`; raises as it and :meth:`require_open`."""
        return self._add(name, email, password_hash, None, registration)

    def require_open(self, registration: Registration) -> None:
        """Check that somebody may register now.

        Raises
        ------
        NotAuthorised
            Registration is closed, or was for the first user.
        """
        with self._database.read() as session:
            _require_open(registration, _has_users(session))

    def all(self) -> list[User]:
        """Return every user, the oldest first."""
        with self._database.read() as session:
            return list(session.scalars(select(User).order_by(User.created, User.id)))

    def page(self, limit: int, offset: int) -> tuple[list[User], int]:
        """Return `limit` users after the first `offset`, the oldest first, and how many there are in all."""
        with self._database.read() as session:
            return page(session, select(User).order_by(User.created, User.id), limit, offset)

    def get(self, user_id: uuid.UUID) -> User:
        """Return a user; NotFound if there is none of that id."""
        with self._database.read() as session:
            return find(session, User, user_id)

    def by_email(self, email: str) -> User | None:
        """Return the user with an e-mail address, however it is written, or None."""
        with self._database.read() as session:
            return session.scalars(select(User).where(User.email == folded(email))).one_or_none()

    def by_wallet(self, wallet: str) -> User | None:
        """Return the user who logs in with an Ethereum account, or None."""
        with self._database.read() as session:
            return session.scalars(select(User).where(User.wallet == wallet)).one_or_none()

    def change(self, user_id: uuid.UUID, **values: Any) -> User:
        """Change a user's fields. To disable it, or another password or wallet, revokes the tokens it has.

        Raises
        ------
        NotFound
            There is no such user.
        Conflict
            The e-mail address or the wallet is another user's, or no operator would be left.
        """
        if "email" in values:
            values["email"] = folded(values["email"])
        try:
            with self._database.write() as session:
                user = find(session, User, user_id)
                operated, had_wallet = user.operates, user.wallet
                for name, value in values.items():
                    setattr(user, name, value)
                session.flush()
                if operated and not user.operates:
                    _require_operator(session)
                if user.disabled or "password_hash" in values or had_wallet not in (None, user.wallet):
                    session.execute(delete(Token).where(Token.user_id == user_id))
        except IntegrityError:
            raise Conflict(
                f"there is a user with the wallet {values['wallet']} already"
                if "wallet" in values
                else f"there is a user with the e-mail address {values['email']} already"
            ) from None
        return user

    def delete(self, user_id: uuid.UUID) -> None:
        """Delete a user and its tokens.

        Raises
        ------
        NotFound
            There is no such user.
        Conflict
            Models or files belong to it, or no operator would be left.
        """
        try:
            with self._database.write() as session:
                user = find(session, User, user_id)
                session.delete(user)
                session.flush()
                if user.operates:
                    _require_operator(session)
        except IntegrityError:
            raise Conflict(f"user {user_id} has ordered models, or has files: they would lose their owner") from None

    def _add(
        self, name: str, email: str, password_hash: str | None, role: Role | None, registration: Registration
    ) -> User:
        user = User(name=name, email=folded(email), password_hash=password_hash)
        try:
            with self._database.write() as session:
                has_users = _has_users(session)
                _require_open(registration, has_users)
                user.role = (role or (Role.VIEWER if has_users else Role.OPERATOR)).value
                session.add(user)
        except IntegrityError:
            raise Conflict(f"there is a user with the e-mail address {email} already") from None
        return user


def folded(email: str) -> str:
    """Return an e-mail address as it is compared: without regard to case, nor to how its letters are composed."""
    return unicodedata.normalize("NFKC", email).casefold()


def _has_users(session: Session) -> bool:
    return session.scalars(select(User.id).limit(1)).first() is not None


def _require_open(registration: Registration, has_users: bool) -> None:
    if registration == Registration.CLOSED or (registration == Registration.FIRST and has_users):
        raise NotAuthorised("registration is closed: an operator can make the user, or `deltaml user create`")


def _require_operator(session: Session) -> None:
    # Otherwise nobody could make one, and who came first to a service without users would become it.
    query = select(User.id).where(User.role == Role.OPERATOR.value, User.disabled.is_(False)).limit(1)
    if session.scalars(query).first() is None:
        raise Conflict("this is the last operator: make another one first")
