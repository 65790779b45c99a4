"""The buyer's tables: what an order may become, and what is kept of it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commons.database import Database
from commons.errors import Conflict, NotFound
from commons.users.storage import Users
from model_buyer.app import MIGRATIONS
from model_buyer.storage import Model, Status, Storage

ALLOWED = {
    ("PAYING", "INITIATED"),
    ("PAYING", "FAILED"),
    ("INITIATED", "IN_PROGRESS"),
    ("INITIATED", "FINISHED"),
    ("INITIATED", "FAILED"),
    ("INITIATED", "CANCELLED"),
    ("IN_PROGRESS", "FINISHED"),
    ("IN_PROGRESS", "FAILED"),
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    on = Database(f"sqlite:///{tmp_path_factory.mktemp('buyer') / 'service.db'}")
    on.migrate(MIGRATIONS)
    yield on
    on.close()


@pytest.fixture(scope="module")
def storage(database: Database) -> Storage:
    return Storage(database)


@pytest.fixture(scope="module")
def user_id(database: Database) -> uuid.UUID:
    return Users(database).add("Ada", "ada@example.org").id


@pytest.fixture
def add(storage: Storage, user_id: uuid.UUID) -> Any:
    def make(status: Status = Status.PAYING, **values: Any) -> uuid.UUID:
        columns = {"order": b"{}", "sealed_key": b"sealed", "payment": 5 * 10**18, "terms": {}, **values}
        model = Model(id=uuid.uuid4(), user_id=user_id, name="diabetes", status=status, **columns)
        storage.add(model)
        return model.id

    return make


@pytest.mark.parametrize(("before", "after"), list(itertools.product(Status, Status)))
def test_order_moves_along_its_lifecycle_only(storage: Storage, add: Any, before: Status, after: Status) -> None:
    model_id = add(before)
    if (before, after) in ALLOWED or before == after:
        assert storage.move(model_id, after, reason="x").status == after
        assert storage.model(model_id).reason == "x"
    else:
        with pytest.raises(Conflict, match=f"model {model_id} is {before}: it cannot become {after}"):
            storage.move(model_id, after, reason="x")
        assert (storage.model(model_id).status, storage.model(model_id).reason) == (before, None)


def test_columns_change_without_a_step(storage: Storage, add: Any) -> None:
    model_id = add(Status.FINISHED)
    created = storage.model(model_id).updated
    assert storage.move(model_id, announced=True).status == Status.FINISHED
    assert storage.model(model_id).announced
    assert storage.model(model_id).updated > created


def test_unknown_order_is_not_found(storage: Storage) -> None:
    for call in (storage.model, storage.move):
        with pytest.raises(NotFound, match="there is no model"):
            call(uuid.uuid4())


def test_money_of_any_size_reads_back(storage: Storage, add: Any) -> None:
    model_id = add(payment=10**45 + 1)
    storage.move(model_id, spent=10**40)
    assert (storage.model(model_id).payment, storage.model(model_id).spent) == (10**45 + 1, 10**40)


def test_orders_are_listed_by_status_with_the_newest_first(storage: Storage, add: Any) -> None:
    first, second = add(Status.CANCELLED), add(Status.CANCELLED)
    listed = [model.id for model in storage.models((Status.CANCELLED,))]
    assert listed.index(second) < listed.index(first)
    assert {model.status for model in storage.models((Status.CANCELLED, Status.PAYING))} <= {"CANCELLED", "PAYING"}


def test_later_metric_of_an_iteration_replaces_the_earlier(storage: Storage, add: Any) -> None:
    model_id = add()
    for iteration, mse in ((5, 7), (0, 10**22), (5, 6)):
        storage.add_metric(model_id, iteration, mse)
    assert [(m.iteration, m.mse) for m in storage.metrics(model_id)] == [(0, 10**22), (5, 6)]


def test_user_with_orders_cannot_be_deleted(database: Database, add: Any, user_id: uuid.UUID) -> None:
    add()
    with pytest.raises(Conflict, match="has ordered models"):
        Users(database).delete(user_id)
    assert Users(database).get(user_id).name == "Ada"


def test_tables_are_where_the_url_says(tmp_path: Path) -> None:
    on = Database(f"sqlite:///{tmp_path / 'elsewhere.db'}")
    on.migrate(MIGRATIONS)
    assert Storage(on).models() == []
    on.close()
