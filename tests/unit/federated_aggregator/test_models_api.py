"""Trainings and owners as the aggregator's users see them: in parts, and without asking the chain again and again."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from flask.testing import FlaskClient

from commons.chain.connection import Connection
from commons.database import Database
from commons.http import application
from commons.http.request_signing import RequestVerifier
from commons.http.signatures import Signatures
from commons.journal import Journal
from commons.protocol.messages import (
    DataRequirements,
    Features,
    HyperParameters,
    Order,
    Participants,
    RoundQuestion,
    Target,
    TrainingRequest,
)
from commons.protocol.transcript import Header, Round
from commons.users.access import Access
from federated_aggregator.api import aggregator, models
from federated_aggregator.app import MIGRATIONS
from federated_aggregator.orchestration import Orchestration
from federated_aggregator.storage import Status, Storage, Training
from federated_aggregator.transcripts import Transcripts
from tests.unit.accounts import DOMAIN, Offline, account, signer

TRAINERS, VALIDATORS = [account(3).address, account(4).address], [account(5).address]


class Service:
    """The aggregator's routes for users, where there is no chain to ask."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(f"sqlite:///{folder / 'service.db'}")
        self.database.migrate(MIGRATIONS)
        self.storage = Storage(self.database)
        chain = cast(Connection, Offline(account(1)))
        self.transcripts = Transcripts(Journal(self.database), chain)
        app = application.create(__name__)
        access = cast(Access, SimpleNamespace(user=lambda: None))  # everybody is logged in
        parts: Any = (cast(Orchestration, None), chain, cast(Signatures, None), None, print)
        app.register_blueprint(models.blueprint(self.storage, self.transcripts, *parts))
        app.register_blueprint(
            aggregator.blueprint(self.storage, chain, cast(Signatures, None), cast(RequestVerifier, None), access)
        )
        self.client: FlaskClient = app.test_client()

    def begin(self, rounds: int = 0) -> str:
        """Have a training begin, and say some of its rounds."""
        training_id = uuid.uuid4()
        request = signer(2).sign(
            TrainingRequest(
                training=training_id,
                chain_id=DOMAIN.chain_id,
                contract=DOMAIN.contract,
                buyer=account(2).address,
                buyer_url="http://127.0.0.1:9090",
                aggregator_url="http://127.0.0.1:8080",
                order=Order(
                    model_type="LINEAR_REGRESSION",
                    data_requirements=DataRequirements(
                        features=Features(list=("x",), range=(-1, 1)), target=Target(range=(-1, 1))
                    ),
                    hyper_parameters=HyperParameters(),
                    participants=Participants(),
                    modulus="1" * 512,
                ),
                key_proof=b"",
            )
        )
        self.storage.add(Training(id=training_id, status=Status.IN_PROGRESS, request=request.pack()))
        header = Header(
            request=request,
            aggregator=account(1).address,
            trainers=tuple(TRAINERS),
            validators=tuple(VALIDATORS),
            rows=(1, 1, 1),
        )
        self.transcripts.keep(training_id, "header", 0, header)
        for round_ in range(rounds):
            self.say(training_id, round_)
        return str(training_id)

    def say(self, training_id: uuid.UUID, round_: int) -> None:
        question = signer(1).sign(RoundQuestion(training=training_id, round=round_, included=(), model=b""))
        self.transcripts.keep(training_id, "round", round_, Round(refreshed=None, question=question, answers=()))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.database.close()


def test_running_training_is_shown_without_the_chain(service: Service) -> None:
    path = f"/model/{service.begin()}"
    first = service.client.get(path)
    assert first.status_code == 200, first.text
    assert first.get_json()["roles"] == {"trainers": TRAINERS, "validators": VALIDATORS}
    assert service.client.get(path, headers={"If-None-Match": first.headers["ETag"]}).status_code == 304
    service.say(uuid.UUID(path.removeprefix("/model/")), 0)
    second = service.client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (second.status_code, second.get_json()["iteration"]) == (200, 1)


def test_trainings_are_listed_in_parts_each_with_its_round(service: Service) -> None:
    begun = [service.begin(rounds) for rounds in range(3)]
    listed = [service.client.get("/model", query_string={"limit": 2, "offset": at}).get_json() for at in (0, 2)]
    assert [(m["id"], m["iteration"]) for each in listed for m in each["models"]] == [
        (begun[rounds], rounds) for rounds in (2, 1, 0)
    ]
    assert {each["total"] for each in listed} == {3}


def test_owners_are_listed_in_parts(service: Service) -> None:
    addresses = [account(number).address for number in range(1, 4)]
    for address in addresses:
        service.storage.register(address, "http://127.0.0.1:5000")
    listed = [service.client.get("/dataowner", query_string={"limit": 2, "offset": at}).get_json() for at in (0, 2)]
    assert [owner["address"] for each in listed for owner in each["data_owners"]] == addresses
    assert {each["total"] for each in listed} == {3}
    for address in (addresses[1], addresses[1].lower()):
        one = service.client.get("/dataowner", query_string={"address": address}).get_json()
        assert ([owner["address"] for owner in one["data_owners"]], one["total"]) == ([addresses[1]], 1)
