"""An owner's lists, a part at a time: by status too, although whether a dataset fits is in no column."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from flask.testing import FlaskClient

from commons.chain.connection import Connection
from commons.database import Database
from commons.http import application
from commons.http.peer import Peers
from data_owner.api import datasets, models
from data_owner.participation import Participation
from data_owner.reviewing import Reviewing
from data_owner.storage import Status, Storage
from tests.unit.data_owner.test_datasets import MIGRATIONS, offer, upload


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    database = Database(f"sqlite:///{tmp_path / 'service.db'}")
    database.migrate(MIGRATIONS)
    yield Storage(database)
    database.close()


@pytest.fixture
def client(storage: Storage, tmp_path: Path) -> FlaskClient:
    app = application.create(__name__)
    participation = Participation(storage, cast(Connection, None), cast(Peers, None), cast(Reviewing, None))
    app.register_blueprint(models.blueprint(models.Requests(storage, participation)))
    app.register_blueprint(datasets.blueprint(datasets.Datasets(storage, tmp_path, 2**20)))
    return app.test_client()


def part(client: FlaskClient, **query: Any) -> tuple[list[str], int]:
    listed = client.get("/models", query_string=query).get_json()
    assert (listed["limit"], listed["offset"]) == (query.get("limit", 20), query.get("offset", 0))
    if "status" in query:
        assert {model["status"] for model in listed["models"]} <= {query["status"]}
    return [model["id"] for model in listed["models"]], listed["total"]


def test_trainings_are_listed_in_parts_by_the_status_that_users_see(client: FlaskClient, storage: Storage) -> None:
    waiting, ready = [], []
    for _ in range(3):
        ready.append(offer(storage, ["age"], 3))
        waiting.append(offer(storage, ["bmi"], 3))
    accepting = offer(storage, ["bmi"], 3, Status.ACCEPTING)
    finished = offer(storage, ["age"], 3, Status.FINISHED)
    everything = [
        finished,
        accepting,
        *(each for pair in zip(waiting[::-1], ready[::-1], strict=True) for each in pair),
    ]
    waiting, ready = waiting[::-1], ready[::-1]

    assert part(client, status="WAITING", limit=4) == (everything[2:6], 6), "there is no dataset yet"
    assert part(client, status="READY") == ([accepting], 1)
    dataset = upload(client, b"age,target\n1,2\n3,4.5\n").get_json()["id"]
    assert part(client) == (everything, 8)
    assert part(client, status="WAITING") == (waiting, 3)
    assert part(client, status="WAITING", limit=2, offset=1) == (waiting[1:], 3)
    assert part(client, status="READY", limit=2) == ([accepting, ready[0]], 4)
    assert part(client, status="READY", limit=2, offset=2) == (ready[1:], 4)
    assert part(client, status="FINISHED") == ([finished], 1)
    assert part(client, status="FAILED") == ([], 0)
    client.delete(f"/datasets/{dataset}")
    assert part(client, status="READY") == ([accepting], 1)


def test_training_of_a_list_is_the_one_that_is_shown(client: FlaskClient, storage: Storage) -> None:
    upload(client, b"age,target\n1,2\n3,4.5\n")
    for features in (["age"], ["bmi"]):
        storage.add_metric(uuid.UUID(offer(storage, features, 3)), 0, 7)
    for model in client.get("/models").get_json()["models"]:
        assert client.get(f"/models/{model['id']}").get_json() == model
        assert len(model["mse_history"]) == 1


def test_datasets_are_listed_in_parts(client: FlaskClient) -> None:
    names = [f"rows-{number}.csv" for number in range(3)]
    for name in names:
        upload(client, b"age,target\n1,2\n3,4.5\n", name)
    listed = [client.get("/datasets", query_string={"limit": 2, "offset": offset}).get_json() for offset in (0, 2)]
    assert [dataset["name"] for each in listed for dataset in each["datasets"]] == names[::-1]
    assert {each["total"] for each in listed} == {3}


def test_who_has_the_training_as_it_is_is_sent_nothing(client: FlaskClient, storage: Storage) -> None:
    training_id = offer(storage, ["age"], 3)
    path = f"/models/{training_id}"
    waiting = client.get(path)
    assert client.get(path, headers={"If-None-Match": waiting.headers["ETag"]}).status_code == 304
    upload(client, b"age,target\n1,2\n3,4.5\n")
    ready = client.get(path, headers={"If-None-Match": waiting.headers["ETag"]})
    assert (ready.status_code, ready.get_json()["status"]) == (200, "READY")
    storage.add_metric(uuid.UUID(training_id), 0, 7)
    assert client.get(path, headers={"If-None-Match": ready.headers["ETag"]}).status_code == 200
