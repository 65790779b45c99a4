"""One database per service: transactions, types and migrations, on SQLite (tests/integration has PostgreSQL)."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import alembic.command
import alembic.config
import pytest
from sqlalchemy import MetaData, inspect
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Mapped, mapped_column

from commons import database
from commons.database import Database, Decimal
from tests.unit.counting import PROCESSES, THREADS, TIMES, Base, Counter, count_in_parallel
from tests.unit.schemas import SCHEMAS


class OwnBase(database.Base):
    __abstract__ = True
    metadata = MetaData()


class Sample(OwnBase):
    __tablename__ = "samples"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    number: Mapped[int | None] = mapped_column(Decimal)
    moment: Mapped[datetime | None]
    content: Mapped[bytes]


@pytest.fixture
def counters(tmp_path: Path) -> Iterator[Database]:
    on = Database(f"sqlite:///{tmp_path / 'service.db'}")
    Base.metadata.create_all(on.engine)
    with on.write() as session:
        session.add(Counter(id=1, value=0))
    yield on
    on.close()


def value(on: Database) -> int:
    with on.read() as session:
        return session.get_one(Counter, 1).value


def test_read_modify_writes_of_threads_and_processes_lose_nothing(tmp_path: Path) -> None:
    assert count_in_parallel(f"sqlite:///{tmp_path / 'service.db'}") == PROCESSES * THREADS * TIMES


def test_block_that_raises_leaves_no_trace(counters: Database) -> None:
    with pytest.raises(ValueError, match="half way"), counters.write() as session:
        session.get_one(Counter, 1).value = 7
        session.flush()
        raise ValueError("half way")
    assert value(counters) == 0


def test_writer_without_the_orm_rolls_back_too(counters: Database) -> None:
    with pytest.raises(ValueError, match="half way"), counters.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE counters SET value = 7")
        raise ValueError("half way")
    assert value(counters) == 0


def test_writer_waits_for_the_writer_before_it(counters: Database) -> None:
    order = []

    def second() -> None:
        with counters.write() as session:
            session.get_one(Counter, 1)
            order.append("second")

    with counters.write() as session:
        session.get_one(Counter, 1)
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_reader_sees_the_state_before_an_unfinished_write(counters: Database) -> None:
    with counters.write() as session:
        session.get_one(Counter, 1).value = 7
        session.flush()
        assert value(counters) == 0
    assert value(counters) == 7


def test_what_was_committed_survives_a_power_cut(counters: Database) -> None:
    with counters.engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.mark.parametrize("number", [0, -1, 2**64, 10**60, None])
@pytest.mark.parametrize("moment", [datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), None])
def test_values_read_back_as_they_were_written(tmp_path: Path, number: int | None, moment: datetime | None) -> None:
    on = Database(f"sqlite:///{tmp_path / 'service.db'}")
    OwnBase.metadata.create_all(on.engine)
    sample = Sample(number=number, moment=moment, content=bytes(range(256)))
    with on.write() as session:
        session.add(sample)
    with on.read() as session:
        found = session.get_one(Sample, sample.id)
    assert (found.number, found.moment, found.content) == (number, moment, bytes(range(256)))
    on.close()


def test_now_has_a_zone() -> None:
    assert database.now().utcoffset() == timedelta(0)
    assert abs(database.now() - datetime.now(timezone(timedelta(hours=5)))) < timedelta(minutes=1)


@pytest.mark.parametrize("service", SCHEMAS)
def test_migrations_make_the_tables_of_the_code(service: str, tmp_path: Path) -> None:
    on = Database(f"sqlite:///{tmp_path / 'service.db'}")
    on.migrate(SCHEMAS[service].migrations)
    assert SCHEMAS[service].differences(on) == []
    on.close()


@pytest.mark.parametrize("service", SCHEMAS)
def test_migrations_can_be_repeated_and_taken_back(service: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a % in the path.db'}"
    for _ in range(2):
        on = Database(url)
        on.migrate(SCHEMAS[service].migrations)
        on.close()
    on = Database(url)
    config = alembic.config.Config()
    config.set_main_option("script_location", str(SCHEMAS[service].migrations))
    with on.engine.connect() as connection:
        config.attributes["connection"] = connection
        alembic.command.downgrade(config, "base")
    assert inspect(on.engine).get_table_names() == ["alembic_version"]
    on.close()


def test_database_that_cannot_be_opened_says_so_when_it_is_used(tmp_path: Path) -> None:
    on = Database(f"sqlite:///{tmp_path / 'missing' / 'service.db'}")
    with pytest.raises(OperationalError, match="unable to open database file"), on.read() as session:
        session.connection()
    on.close()


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
def test_postgresql_is_reached_through_psycopg(scheme: str) -> None:
    on = Database(f"{scheme}://somebody:secret@host.example/name")
    assert on.engine.url.drivername == "postgresql+psycopg"
    assert "secret" not in repr(on.engine)
    on.close()
