"""What becomes of the users of the version before."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import alembic.command
import alembic.config
import pytest
from sqlalchemy import MetaData, select

from commons.database import Database
from commons.users.storage import Users
from tests.unit.schemas import SCHEMAS

BEFORE = {"data_owner": "0002", "model_buyer": "0003"}
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EMAILS = ("Ada@Example.org", "bob@example.org", "ada@example.org", "ADA@example.org")


@pytest.fixture(params=sorted(BEFORE))
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database(service: str, tmp_path: Path) -> Iterator[Database]:
    on = Database(f"sqlite:///{tmp_path / 'service.db'}")
    move(on, service, BEFORE[service])
    tables = MetaData()
    tables.reflect(on.engine)
    with on.writer.begin() as connection:
        for number, email in enumerate(EMAILS):
            values = {"id": uuid.UUID(int=9 - number).hex, "name": f"{number}", "email": email}
            connection.execute(
                tables.tables["users"].insert(), values | {"created": MOMENT + timedelta(seconds=number)}
            )
    yield on
    on.close()


def move(on: Database, service: str, revision: str, down: bool = False) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(SCHEMAS[service].migrations))
    command = alembic.command.downgrade if down else alembic.command.upgrade
    with on.engine.connect() as connection:
        config.attributes["connection"] = connection
        command(config, revision)


def test_users_stay_as_viewers_without_a_password(service: str, database: Database) -> None:
    database.migrate(SCHEMAS[service].migrations)
    users = Users(database).all()
    assert [user.name for user in users] == ["0", "1", "2", "3"]
    assert {(user.role, user.disabled, user.password_hash, user.wallet) for user in users} == {
        ("viewer", False, None, None)
    }


def test_of_addresses_that_differ_in_case_the_oldest_user_keeps_its(service: str, database: Database) -> None:
    database.migrate(SCHEMAS[service].migrations)
    assert [user.email for user in Users(database).all()] == [
        "ada@example.org",
        "bob@example.org",
        f"{uuid.UUID(int=7)}+ada@example.org",
        f"{uuid.UUID(int=6)}+ada@example.org",
    ]


def test_version_before_works_again_after_a_downgrade(service: str, database: Database) -> None:
    database.migrate(SCHEMAS[service].migrations)
    Users(database).add("Eve", "eve@example.org", "hash")
    move(database, service, BEFORE[service], down=True)
    tables = MetaData()
    tables.reflect(database.engine)
    users = tables.tables["users"]
    assert set(users.columns.keys()) == {"id", "name", "email", "address", "created"}
    with database.engine.begin() as connection:
        assert len(connection.execute(select(users)).all()) == 5
