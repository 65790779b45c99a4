"""The owner's tables: what a training request may become, and what is kept of it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from commons.database import Database
from commons.errors import Conflict, NotFound
from commons.learning.statistics import TableStatistics
from data_owner.app import MIGRATIONS
from data_owner.storage import Dataset, Status, Storage, Training

ALLOWED = {
    ("OFFERED", "ACCEPTING"),
    ("OFFERED", "INITIATED"),
    ("OFFERED", "FAILED"),
    ("ACCEPTING", "OFFERED"),
    ("ACCEPTING", "INITIATED"),
    ("ACCEPTING", "FAILED"),
    ("INITIATED", "IN_PROGRESS"),
    ("INITIATED", "FINISHED"),
    ("INITIATED", "FAILED"),
    ("IN_PROGRESS", "FINISHED"),
    ("IN_PROGRESS", "FAILED"),
}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    on = Database(f"sqlite:///{tmp_path_factory.mktemp('owner') / 'service.db'}")
    on.migrate(MIGRATIONS)
    yield Storage(on)
    on.close()


def offered(storage: Storage, status: Status = Status.OFFERED, **values: Any) -> uuid.UUID:
    training_id = uuid.uuid4()
    columns = {"order": b"{}", "buyer": "0xb", "aggregator": "0xa", "aggregator_url": "http://a", **values}
    storage.offer(Training(id=training_id, status=status, **columns))
    return training_id


def dataset(storage: Storage) -> Dataset:
    table = TableStatistics.accumulate([np.array([[1.0, 2.0], [3.0, 4.0]])], ("age", "target"))
    made = Dataset(id=uuid.uuid4(), name="rows.csv", rows=table.rows, statistics=table.to_bytes())
    storage.add_dataset(made)
    return made


@pytest.mark.parametrize(("before", "after"), list(itertools.product(Status, Status)))
def test_training_moves_along_its_lifecycle_only(storage: Storage, before: Status, after: Status) -> None:
    training_id = offered(storage, before)
    if (before, after) in ALLOWED or before == after:
        assert storage.move(training_id, after, reason="x").status == after
        assert storage.training(training_id).reason == "x"
    else:
        with pytest.raises(Conflict, match=f"training {training_id} is {before}: it cannot become {after}"):
            storage.move(training_id, after, reason="x")
        assert (storage.training(training_id).status, storage.training(training_id).reason) == (before, None)


@pytest.mark.parametrize("status", Status)
def test_training_is_claimed_while_it_is_on_offer_only(storage: Storage, status: Status) -> None:
    training_id, rows = offered(storage, status), dataset(storage)
    if status == Status.OFFERED:
        storage.claim(training_id, rows.id)
        assert storage.training(training_id).status == Status.ACCEPTING
        assert storage.training(training_id).dataset_id == rows.id
    else:
        with pytest.raises(Conflict, match="cannot be accepted"):
            storage.claim(training_id, rows.id)
        assert storage.training(training_id).dataset_id is None


def test_offer_that_is_repeated_changes_nothing(storage: Storage) -> None:
    training_id = offered(storage, buyer="0xfirst")
    storage.move(training_id, Status.ACCEPTING)
    columns = {"order": b"other", "buyer": "0xother", "aggregator": "0xa", "aggregator_url": "http://a"}
    storage.offer(Training(id=training_id, status=Status.OFFERED, **columns))
    assert (storage.training(training_id).buyer, storage.training(training_id).status) == ("0xfirst", "ACCEPTING")


def test_unknown_training_and_dataset_are_not_found(storage: Storage) -> None:
    unknown = uuid.uuid4()
    for call in (
        lambda: storage.training(unknown),
        lambda: storage.move(unknown, Status.FAILED),
        lambda: storage.claim(unknown, unknown),
        lambda: storage.dataset(unknown),
        lambda: storage.delete_dataset(unknown),
    ):
        with pytest.raises(NotFound, match=f"there is no (training|dataset) {unknown}"):
            call()


def test_dataset_is_its_statistics(storage: Storage) -> None:
    kept = storage.dataset(dataset(storage).id).table
    assert (kept.columns, kept.rows) == (("age", "target"), 2)
    assert (kept.minima.tolist(), kept.maxima.tolist()) == ([1, 2], [3, 4])
    assert kept.gram.tolist() == [[2, 4, 6], [4, 10, 14], [6, 14, 20]]


def test_newest_dataset_comes_first(storage: Storage) -> None:
    first, second = dataset(storage), dataset(storage)
    listed = [found.id for found in storage.outlines()]
    assert listed.index(second.id) < listed.index(first.id)


def test_dataset_of_a_training_cannot_be_deleted(storage: Storage) -> None:
    free, used = dataset(storage), dataset(storage)
    storage.claim(offered(storage), used.id)
    storage.delete_dataset(free.id)
    with pytest.raises(Conflict, match="is the one that a training was accepted with"):
        storage.delete_dataset(used.id)
    listed = {found.id for found in storage.outlines()}
    assert used.id in listed and free.id not in listed


def test_later_metric_of_an_iteration_replaces_the_earlier(storage: Storage) -> None:
    training_id = offered(storage)
    for iteration, mse in ((5, 7), (0, 10**22), (5, 6)):
        storage.add_metric(training_id, iteration, mse)
    assert [(m.iteration, m.mse) for m in storage.metrics(training_id)] == [(0, 10**22), (5, 6)]


def test_trainings_are_listed_by_status_with_the_newest_first(storage: Storage) -> None:
    first, second = offered(storage, Status.INITIATED), offered(storage, Status.INITIATED)
    listed = [found.id for found in storage.trainings((Status.INITIATED,))]
    assert listed.index(second) < listed.index(first)
    assert {found.status for found in storage.trainings((Status.INITIATED,))} == {"INITIATED"}


def test_who_waits_is_woken_by_what_is_new_alone(storage: Storage) -> None:
    training_id, finished = offered(storage), offered(storage, Status.FINISHED)

    def news(training_id: uuid.UUID, act: Callable[[], object]) -> int:
        before = storage.changes.count(training_id)
        act()
        return storage.changes.count(training_id) - before

    assert news(training_id, lambda: storage.move(training_id, Status.OFFERED, reason="x")) == 1
    assert news(training_id, lambda: storage.move(training_id, Status.OFFERED, reason="x")) == 0
    assert news(training_id, lambda: storage.add_metric(training_id, 0, 7)) == 1
    rows = dataset(storage)
    assert news(training_id, lambda: dataset(storage)) == 1, "it may fit now"
    assert news(finished, lambda: storage.delete_dataset(rows.id)) == 0
    assert news(training_id, lambda: storage.claim(training_id, dataset(storage).id)) == 2


def test_registration_is_remembered_with_the_url_that_the_aggregator_knows(storage: Storage) -> None:
    assert storage.registration("http://a") is None
    for url in ("http://old", "http://new"):
        storage.note_registration("http://a", url)
    found = storage.registration("http://a")
    assert found is not None and found.url == "http://new"
