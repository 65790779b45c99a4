"""What a database of the version before keeps when the service is replaced, and when it is put back."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import pytest
from sqlalchemy import MetaData, func, inspect, select
from sqlalchemy.exc import IntegrityError

from commons.database import Database
from federated_aggregator.app import MIGRATIONS
from federated_aggregator.storage import Status, Storage, Training
from tests.unit.schemas import SCHEMAS

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OLD = uuid.UUID(int=7)
ROWS: dict[str, dict[str, Any]] = {
    "data_owners": {"address": "0xOwner", "url": "http://owner", "registered": MOMENT},
    "trainings": {
        "id": OLD.hex,
        "status": "IN_PROGRESS",
        "request": b"request",
        "iteration": 3,
        "model": b"model",
        "validators": [0, 1],
        "delivered": False,
        "created": MOMENT,
        "updated": MOMENT,
    },
    "journal": {
        "training_id": OLD.hex,
        "kind": "mask",
        "round": 0,
        "question_digest": bytes(32),
        "question": b"question",
        "answer": b"masks",
        "created": MOMENT,
    },
    "offers": {"training_id": OLD.hex, "address": "0xOwner"},
    "metrics": {"training_id": OLD.hex, "iteration": 0, "mse": "7", "created": MOMENT},
    "phases": {"training_id": OLD.hex, "name": "rounds", "seconds": 1.5, "bytes": 9},
}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    on = Database(f"sqlite:///{tmp_path / 'service.db'}")
    yield on
    on.close()


def move(on: Database, command: Callable[[alembic.config.Config, str], None], revision: str) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with on.engine.connect() as connection:
        config.attributes["connection"] = connection
        command(config, revision)


def fill(on: Database) -> None:
    """Write one row into every table of the first version."""
    tables = MetaData()
    tables.reflect(on.engine)
    with on.writer.begin() as connection:
        for name, values in ROWS.items():
            connection.execute(tables.tables[name].insert(), values)


def counts(on: Database) -> dict[str, int]:
    tables = MetaData()
    tables.reflect(on.engine)
    with on.engine.begin() as connection:
        return {
            name: connection.execute(select(func.count()).select_from(tables.tables[name])).scalar_one()
            for name in ROWS
        }


ONLY_OWNERS = {"data_owners": 1, "trainings": 0, "journal": 0, "offers": 0, "metrics": 0, "phases": 0}


@pytest.fixture
def upgraded(database: Database) -> Database:
    move(database, alembic.command.upgrade, "0001")
    fill(database)
    assert set(counts(database).values()) == {1}
    database.migrate(MIGRATIONS)
    return database


def test_trainings_of_the_protocol_before_are_dropped_and_owners_stay_registered(upgraded: Database) -> None:
    assert counts(upgraded) == ONLY_OWNERS
    assert [(owner.address, owner.url) for owner in Storage(upgraded).data_owners()] == [("0xOwner", "http://owner")]
    assert SCHEMAS["federated_aggregator"].differences(upgraded) == []


def test_upgraded_database_takes_trainings_and_what_belongs_to_them(upgraded: Database) -> None:
    storage, training_id = Storage(upgraded), uuid.uuid4()
    storage.add(Training(id=training_id, status=Status.INITIATED, request=b"request"))
    storage.add_metric(training_id, 0, 7)
    storage.add_offer(training_id, "0xOwner")
    storage.add_phases(training_id, {"rounds": (1.0, 2)})
    assert [metric.mse for metric in storage.metrics(training_id)] == [7]
    with pytest.raises(IntegrityError):
        storage.add_metric(OLD, 0, 7)


def test_version_before_works_again_after_a_downgrade(upgraded: Database) -> None:
    Storage(upgraded).add(Training(id=uuid.uuid4(), status=Status.INITIATED, request=b"request"))
    move(upgraded, alembic.command.downgrade, "0001")
    assert counts(upgraded) == ONLY_OWNERS
    columns = {column["name"]: column["nullable"] for column in inspect(upgraded.engine).get_columns("trainings")}
    assert (columns["iteration"], columns["model"]) == (False, False)
    tables = MetaData()
    tables.reflect(upgraded.engine)
    with upgraded.writer.begin() as connection:
        connection.execute(tables.tables["data_owners"].delete())
    fill(upgraded)
    assert set(counts(upgraded).values()) == {1}
