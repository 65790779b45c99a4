"""The table of users, and its queries."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from commons.database import Base, Database, now
from commons.errors import Conflict
from commons.lifecycle import find


class User(Base):
    """Somebody with an account at a service."""

    __tablename__ = "users"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str]
    email: Mapped[str] = mapped_column(unique=True)
    address: Mapped[str | None] = mapped_column(default=None)
    created: Mapped[datetime] = mapped_column(default=now)


class Users:
    """Queries and changes of the users of one service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, email: str) -> User:
        """Add a user; Conflict if the e-mail address is taken."""
        user = User(name=name, email=email)
        try:
            with self._database.write() as session:
                session.add(user)
        except IntegrityError:
            raise Conflict(f"there is a user with the e-mail address {email} already") from None
        return user

    def all(self) -> list[User]:
        """Return every user, the oldest first."""
        with self._database.read() as session:
            return list(session.scalars(select(User).order_by(User.created, User.id)))

    def get(self, user_id: uuid.UUID) -> User:
        """Return a user; NotFound if there is none of that id."""
        with self._database.read() as session:
            return find(session, User, user_id)

    def change(self, user_id: uuid.UUID, **values: str) -> User:
        """Change a user's fields; NotFound, or Conflict if the e-mail address is taken."""
        try:
            with self._database.write() as session:
                user = find(session, User, user_id)
                for name, value in values.items():
                    setattr(user, name, value)
        except IntegrityError:
            raise Conflict(f"there is a user with the e-mail address {values['email']} already") from None
        return user

    def delete(self, user_id: uuid.UUID) -> None:
        """Delete a user; NotFound, or Conflict while trainings belong to it."""
        try:
            with self._database.write() as session:
                user = find(session, User, user_id)
                session.delete(user)
        except IntegrityError:
            raise Conflict(f"user {user_id} has ordered models: they would lose their owner") from None
