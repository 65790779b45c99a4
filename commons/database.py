"""One SQL database per service: SQLite by default, PostgreSQL by URL.

A transaction is short and holds no call to a peer or to the chain. Writers take the database's write lock at
BEGIN. On SQLite, WAL and a busy timeout alone lose read-modify-writes when two connections upgrade their read locks;
on PostgreSQL, two transactions that read the same row and then write it lose one of the writes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import alembic.command
import alembic.config
from sqlalchemy import DateTime, Dialect, Engine, LargeBinary, Select, String, Uuid, create_engine, event, func, select
from sqlalchemy.engine import Connection
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.types import JSON, TypeDecorator

SQLITE_LOCK_WAIT_MS = 10_000
WRITE_LOCK = 0x44656C7461
"""PostgreSQL's advisory lock of whoever writes, in the service's own database."""


class Decimal(TypeDecorator[int]):
    """An integer of any size (wei, metrics in 1e-18 units), kept as its decimal digits."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        """Write the digits."""
        return None if value is None else str(int(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:
        """Read the digits."""
        return None if value is None else int(value)


class Moment(TypeDecorator[datetime]):
    """A time in UTC: SQLite forgets the zone, so it is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the time its zone."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class Base(DeclarativeBase):
    """What the tables of every service share: how Python types become columns."""

    type_annotation_map = {
        uuid.UUID: Uuid(),
        datetime: Moment(),
        bytes: LargeBinary(),
        dict[str, Any]: JSON(),
        list[Any]: JSON(),
    }


def now() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(UTC)


class Database:
    """A service's database.

    Parameters
    ----------
    url : str
        ``sqlite:///PATH`` or ``postgresql://USER:PASSWORD@HOST/NAME``.

    Attributes
    ----------
    engine, writer : Engine
        For transactions without the ORM: those that only read, and those that write.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self.writer = self.engine.execution_options(immediate=True)
        self._readers = sessionmaker(self.engine, expire_on_commit=False)
        self._writers = sessionmaker(self.writer, expire_on_commit=False)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a transaction that only reads."""
        with self._readers.begin() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a transaction that commits at the end of the block, or rolls back if the block raises."""
        with self._writers.begin() as session:
            yield session

    def migrate(self, migrations: Path) -> None:
        """Bring the tables to the newest version of the service's Alembic migrations."""
        config = alembic.config.Config()
        config.set_main_option("script_location", str(migrations).replace("%", "%%"))
        with self.engine.connect() as connection:
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")

    def close(self) -> None:
        """Give every connection back."""
        self.engine.dispose()


def _postgresql(url: str) -> Engine:
    engine = create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1), pool_pre_ping=True, hide_parameters=True
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("immediate", False):
            # As SQLite's BEGIN IMMEDIATE: one writer at a time, so that what it has read still holds.
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")

    return engine


Row = TypeVar("Row")


def page(session: Session, query: Select[Row], limit: int, offset: int) -> tuple[list[Row], int]:
    """Return `limit` of the things that a query selects after the first `offset`, and how many there are in all."""
    total = session.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0
    return list(session.scalars(query.limit(limit).offset(offset))), total


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return _postgresql(url)
    engine = create_engine(url, hide_parameters=True)  # errors are logged, and parameters are secrets, too

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        for pragma in (
            "journal_mode=WAL",
            f"busy_timeout={SQLITE_LOCK_WAIT_MS}",
            "synchronous=FULL",  # an answer that was given is remembered, even after a power cut
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine
