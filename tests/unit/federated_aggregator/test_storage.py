"""The aggregator's tables: what a training may become, and how far it has come."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from commons.database import Database
from commons.errors import Conflict, NotFound
from commons.protocol.messages import (
    DataRequirements,
    Features,
    HyperParameters,
    Order,
    Participants,
    Target,
    TrainingRequest,
)
from federated_aggregator.app import MIGRATIONS
from federated_aggregator.storage import Status, Storage, Training
from tests.unit.accounts import DOMAIN, account, signer

ALLOWED = {
    ("INITIATED", "IN_PROGRESS"),
    ("INITIATED", "FINISHED"),
    ("INITIATED", "FAILED"),
    ("INITIATED", "CANCELLED"),
    ("IN_PROGRESS", "FINISHED"),
    ("IN_PROGRESS", "FAILED"),
}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    on = Database(f"sqlite:///{tmp_path_factory.mktemp('aggregator') / 'service.db'}")
    on.migrate(MIGRATIONS)
    yield Storage(on)
    on.close()


def ordered(storage: Storage, status: Status = Status.INITIATED, **values: Any) -> uuid.UUID:
    training_id = uuid.uuid4()
    storage.add(Training(id=training_id, status=status, **{"request": b"request", **values}))
    return training_id


@pytest.mark.parametrize(("before", "after"), list(itertools.product(Status, Status)))
def test_training_moves_along_its_lifecycle_only(storage: Storage, before: Status, after: Status) -> None:
    training_id = ordered(storage, before)
    if (before, after) in ALLOWED or before == after:
        assert storage.move(training_id, after, reason="x").status == after
        assert storage.training(training_id).reason == "x"
    else:
        with pytest.raises(Conflict, match=f"training {training_id} is {before}: it cannot become {after}"):
            storage.move(training_id, after, reason="x")
        assert (storage.training(training_id).status, storage.training(training_id).reason) == (before, None)


def test_order_that_is_repeated_changes_nothing(storage: Storage) -> None:
    training_id = ordered(storage, request=b"first")
    storage.move(training_id, Status.IN_PROGRESS)
    storage.add(Training(id=training_id, status=Status.INITIATED, request=b"other"))
    kept = storage.training(training_id)
    assert (kept.request, kept.status) == (b"first", "IN_PROGRESS")


def test_unknown_training_is_not_found(storage: Storage) -> None:
    for call in (storage.training, storage.move):
        with pytest.raises(NotFound, match="there is no training"):
            call(uuid.uuid4())


def test_request_reads_back_as_the_buyer_signed_it(storage: Storage) -> None:
    request = TrainingRequest(
        training=uuid.uuid4(),
        chain_id=31337,
        contract=DOMAIN.contract,
        buyer=account(1).address,
        buyer_url="http://buyer",
        aggregator_url="http://aggregator",
        order=Order(
            model_type="LINEAR_REGRESSION",
            data_requirements=DataRequirements(
                features=Features(list=("age",), range=(0, 1)), target=Target(range=(0, 1))
            ),
            hyper_parameters=HyperParameters(),
            participants=Participants(),
            modulus="c0ffee" * 86,
        ),
        key_proof=b"proof",
    )
    signed = signer(1).sign(request)
    training = storage.training(ordered(storage, request=signed.pack()))
    assert (training.signed_request, training.parsed_request) == (signed, request)
    assert training.signed_request.verified(TrainingRequest, DOMAIN, request.buyer) == request


def test_seconds_and_bytes_of_phases_add_up_whoever_adds_them(storage: Storage) -> None:
    training_id = ordered(storage)
    spent = {"rounds": (0.5, 2**33), "evaluation": (0.25, 1)}
    with ThreadPoolExecutor(4) as executor:
        for future in [executor.submit(storage.add_phases, training_id, spent) for _ in range(20)]:
            future.result()
    phases = {phase.name: (phase.seconds, phase.bytes) for phase in storage.phases(training_id)}
    assert phases == {"rounds": (10, 20 * 2**33), "evaluation": (5, 20)}


def test_owner_that_registers_again_is_reached_where_it_says(storage: Storage) -> None:
    storage.register("0xOwner", "http://old.example")
    storage.register("0xOwner", "http://new.example")
    assert [(owner.address, owner.url) for owner in storage.data_owners()] == [("0xOwner", "http://new.example")]


def test_offers_are_remembered_by_training(storage: Storage) -> None:
    one, other = ordered(storage), ordered(storage)
    for address in ("0xa", "0xb", "0xa"):
        storage.add_offer(one, address)
    assert storage.offered(one) == {"0xa", "0xb"}
    assert storage.offered(other) == set()


def test_lists_of_places_read_back(storage: Storage) -> None:
    training_id = ordered(storage)
    assert storage.training(training_id).validators is None
    storage.move(training_id, validators=[0, 2])
    assert storage.training(training_id).validators == [0, 2]


def test_later_metric_of_an_iteration_replaces_the_earlier(storage: Storage) -> None:
    training_id = ordered(storage)
    for iteration, mse in ((5, 7), (0, 10**22), (5, 6)):
        storage.add_metric(training_id, iteration, mse)
    assert [(m.iteration, m.mse) for m in storage.metrics(training_id)] == [(0, 10**22), (5, 6)]


def test_trainings_are_listed_by_status_with_the_newest_first(storage: Storage) -> None:
    first, second = ordered(storage, Status.CANCELLED), ordered(storage, Status.CANCELLED)
    listed = [found.id for found in storage.trainings((Status.CANCELLED,))]
    assert listed.index(second) < listed.index(first)
    assert {found.status for found in storage.trainings((Status.CANCELLED,))} == {"CANCELLED"}
