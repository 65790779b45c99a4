"""The aggregator's application as its operator's browser meets it: real tables and checks, no chain and no peers."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import update

from commons.database import Database, now
from commons.journal import JOURNAL, Journal
from commons.protocol.messages import (
    DataRequirements,
    Features,
    HyperParameters,
    Order,
    Participants,
    Record,
    RoundQuestion,
    Target,
    TrainingRequest,
)
from commons.protocol.transcript import Header, LocalModels, Round
from federated_aggregator.app import create_app
from federated_aggregator.config import Config
from federated_aggregator.storage import Status, Storage, Training
from tests.unit.accounts import DOMAIN, account, signer
from tests.unit.pages.visitor import Visitor

ORIGIN = "http://localhost:8080"
TRAINERS = tuple(account(number).address for number in (11, 12))
VALIDATORS = (account(13).address,)


class Aggregator(Visitor):
    """An aggregator's service, and the browser of somebody in front of it."""

    def __init__(self, folder: Path) -> None:
        config = Config.model_validate(
            {
                "data_dir": folder,
                "public_url": "http://127.0.0.1:8080",
                "chain_url": "http://127.0.0.1:9",
                "contract_address": DOMAIN.contract,
                "account_private_key": account(1).key.to_0x_hex(),
            }
        )
        super().__init__(create_app(config), ORIGIN)
        self.database = Database(config.database)
        self.storage = Storage(self.database)
        self.journal = Journal(self.database)

    def order(self, iterations: int = 20) -> uuid.UUID:
        """Have a training ordered."""
        training_id = uuid.uuid4()
        request = TrainingRequest(
            training=training_id,
            chain_id=DOMAIN.chain_id,
            contract=DOMAIN.contract,
            buyer=account(2).address,
            buyer_url="http://127.0.0.1:9090",
            aggregator_url="http://127.0.0.1:8080",
            order=Order(
                model_type="LINEAR_REGRESSION",
                data_requirements=DataRequirements(
                    features=Features(list=("age",), range=(-1, 1)), target=Target(range=(-4, 4))
                ),
                hyper_parameters=HyperParameters(iterations=iterations),
                participants=Participants(wanted=3),
                modulus="1" * 512,
            ),
            key_proof=b"",
        )
        self.storage.add(Training(id=training_id, status=Status.INITIATED, request=signer(2).sign(request).pack()))
        return training_id

    def begin(self, training_id: uuid.UUID, at: datetime | None = None) -> None:
        """Have a training begin: its owners are drawn, and have sent their local models."""
        self.storage.move(training_id, Status.IN_PROGRESS)
        header = Header(
            request=self.storage.training(training_id).signed_request,
            aggregator=account(1).address,
            trainers=TRAINERS,
            validators=VALIDATORS,
            rows=(1, 1, 1),
        )
        self._keep(training_id, "header", 0, header, at)
        question = signer(1).sign(RoundQuestion(training=training_id, round=0, included=(), model=b""))
        self._keep(training_id, "local", 0, LocalModels(question=question, answers=()), at)

    def round(self, training_id: uuid.UUID, round_: int, at: datetime | None = None) -> None:
        """Have a round collected."""
        question = signer(1).sign(RoundQuestion(training=training_id, round=round_, included=(), model=b""))
        self._keep(training_id, "round", round_, Round(refreshed=None, question=question, answers=()), at)

    def running(self, rounds: int, seconds: float = 2.0, iterations: int = 20) -> uuid.UUID:
        """Have a training that has collected rounds at an even pace, the last one just now."""
        training_id = self.order(iterations)
        end = now()
        self.begin(training_id, end - timedelta(seconds=seconds * rounds))
        for round_ in range(rounds):
            self.round(training_id, round_, end - timedelta(seconds=seconds * (rounds - 1 - round_)))
        return training_id

    def _keep(self, training_id: uuid.UUID, kind: str, round_: int, record: Record, at: datetime | None) -> None:
        self.journal.keep(training_id, kind, round_, record.pack(), b"")
        if at is not None:
            found: Any = (JOURNAL.c.training_id == training_id, JOURNAL.c.kind == kind, JOURNAL.c.round == round_)
            with self.database.writer.begin() as connection:
                connection.execute(update(JOURNAL).where(*found).values(created=at))

    def close(self) -> None:
        self.database.close()
