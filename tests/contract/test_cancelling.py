"""An order is taken back, and its payment refunded, once: on the real contract, through crashes and double clicks."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from flask.testing import FlaskClient

import commons.chain.marketplace as gateway
from commons.chain.connection import Connection
from commons.chain.marketplace import ChainUnavailable
from commons.chain.marketplace import Status as ChainStatus
from commons.configuration import Config
from commons.database import Database
from commons.errors import Conflict, PeerUnavailable
from commons.http import application
from commons.http.peer import Peers
from commons.protocol.messages import DataRequirements, Features, HyperParameters, Order, Participants, Target
from commons.users.accounts import Accounts
from commons.users.storage import Role, Users
from model_buyer.api import models
from model_buyer.app import MIGRATIONS
from model_buyer.ordering import Ordering, Periods
from model_buyer.predictions import Prediction, Predictions
from model_buyer.storage import Model, Status, Storage
from model_buyer.vault import Vault

from .world import ESCROW, ETHER, HOUR, World, address_of

PERIODS = Periods(HOUR, HOUR, HOUR, ETHER // 10)
ORDER = Order(
    model_type="LINEAR_REGRESSION",
    data_requirements=DataRequirements(features=Features(list=("x",), range=(-1, 1)), target=Target(range=(-1, 1))),
    hyper_parameters=HyperParameters(),
    participants=Participants(),
    modulus="1" * 512,
)


class Nobody:
    """Peers who are away."""

    def sign(self, message: object) -> None:
        return None

    def ask(self, *_: object) -> None:
        raise PeerUnavailable("nobody is there")


class Service:
    """The buyer's orders, and its money."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        assert world.buyer.account is not None
        config = Config.model_validate(
            {
                "data_dir": folder,
                "public_url": "http://127.0.0.1:9",
                "chain_url": world.rpc_url,
                "contract_address": world.address,
                "account_private_key": world.buyer.account.key.to_0x_hex(),
            }
        )
        self.database = Database(f"sqlite:///{folder / 'service.db'}")
        self.database.migrate(MIGRATIONS)
        self.storage = Storage(self.database)
        self.chain = Connection(config)
        self.vault = Vault(folder / "secret.key")
        self.user_id = Users(self.database).add("Ada", "ada@example.org").id
        self.restart()

    def restart(self) -> None:
        urls = ("http://127.0.0.1:9", "http://127.0.0.1:9", address_of(self.world.arbiter))
        self.ordering = Ordering(self.storage, self.vault, self.chain, cast(Peers, Nobody()), *urls)

    def client(self, name: str, role: Role = Role.OPERATOR) -> FlaskClient:
        """Return a client of the routes of models for a user."""
        accounts = Accounts(self.database, "http://127.0.0.1:9", lambda: 31337, timedelta(hours=1))
        predictions = Predictions(self.database, self.folder, 100)
        app = application.create(__name__)
        app.register_blueprint(
            models.blueprint(models.Orders(self.storage, predictions, accounts.access, self.ordering))
        )
        accounts.access.protect(app, anyone=set(), users=set())
        email = f"{name}@example.org"
        user = accounts.users.by_email(email) or accounts.users.add(name, email, None, role)
        secret, _ = accounts.tokens.issue(user, timedelta(hours=1))
        client = app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {secret}"
        return client

    def order(self, training_id: uuid.UUID, status: Status = Status.INITIATED) -> uuid.UUID:
        """Keep a record of an order."""
        self.storage.add(
            Model(
                id=training_id,
                user_id=self.user_id,
                name="a model",
                status=status,
                order=ORDER.canonical(),
                sealed_key=b"no key to announce an order with",
                payment=ESCROW,
                terms=asdict(PERIODS) | {"aggregator": address_of(self.world.aggregator)},
                announced=status != Status.PAYING,
            )
        )
        return training_id

    def expect_refunded(self, model_id: uuid.UUID) -> None:
        """Check that the payment came back, once."""
        model, world = self.storage.model(model_id), self.world
        assert (model.status, model.spent) == (Status.CANCELLED, 0)
        assert model.reason == "cancelled before any data owner accepted; the payment is refunded"
        assert world.status(model_id) == ChainStatus.CANCELLED
        assert world.events("ModelBuyerReturnPayment", model_id) == [
            {"receiver": address_of(world.buyer), "amount": ESCROW}
        ]
        assert world.buyer.ledger(address_of(world.buyer)) == (ESCROW, ESCROW)
        assert world.buyer.balance(world.address) == 0


@pytest.fixture
def service(world: World, tmp_path: Path) -> Iterator[Service]:
    made = Service(world, tmp_path)
    yield made
    made.database.close()


def test_order_that_nobody_accepted_is_refunded(world: World, service: Service) -> None:
    model_id = service.order(world.order())
    service.ordering.cancel(model_id)
    service.expect_refunded(model_id)
    assert service.ordering.unfinished() == []


def test_double_click_refunds_once(world: World, service: Service) -> None:
    model_id = service.order(world.order())
    with ThreadPoolExecutor(4) as pool:
        clicks = [pool.submit(service.ordering.cancel, model_id) for _ in range(4)]
        assert {click.result().status for click in clicks} == {Status.CANCELLED}
    service.expect_refunded(model_id)


@pytest.mark.parametrize("step", ["cancel", "withdraw"])
def test_crash_after_a_transaction_is_made_good(
    world: World, service: Service, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    model_id = service.order(world.order())
    market = service.chain.marketplace()
    real: Callable[..., Any] = getattr(market, step)

    def crash(*arguments: Any) -> None:
        real(*arguments)
        raise ChainUnavailable("the power is gone")

    with monkeypatch.context() as patch:
        patch.setattr(market, step, crash)
        with pytest.raises(ChainUnavailable):
            service.ordering.cancel(model_id)
    assert service.storage.model(model_id).status == Status.INITIATED
    service.restart()
    if step == "cancel":
        service.ordering.cancel(model_id)  # asked again,
    else:
        service.ordering.follow(model_id)  # or seen by the driver
    service.expect_refunded(model_id)


def test_order_that_somebody_accepted_goes_on(world: World, service: Service) -> None:
    model_id = service.order(world.order())
    for owner in world.owners[:2]:
        owner.accept_training(model_id, 10)
    with pytest.raises(Conflict, match=r"2 data owners have accepted .* if fewer than 3 have at 20"):
        service.ordering.cancel(model_id)
    assert (world.status(model_id), service.storage.model(model_id).status) == (ChainStatus.OPEN, Status.INITIATED)
    for owner in world.owners[:2]:
        owner.withdraw_acceptance(model_id)
    service.ordering.cancel(model_id)
    service.expect_refunded(model_id)


def test_acceptance_that_comes_first_wins(world: World, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    model_id = service.order(world.order())
    market = service.chain.marketplace()
    real = market.cancel

    def too_late(training_id: uuid.UUID) -> Any:
        world.owners[0].accept_training(training_id, 10)
        return real(training_id)

    monkeypatch.setattr(market, "cancel", too_late)
    with pytest.raises(Conflict, match="1 data owners have accepted"):
        service.ordering.cancel(model_id)
    assert world.buyer.balance(world.address) == ESCROW


def test_order_that_the_aggregator_cancels_first_is_cancelled(
    world: World, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_id = service.order(world.order())
    world.pass_time(HOUR + 1)
    market = service.chain.marketplace()
    real = market.cancel

    def too_late(training_id: uuid.UUID) -> Any:
        world.aggregator.cancel(training_id)
        return real(training_id)

    monkeypatch.setattr(market, "cancel", too_late)
    assert service.ordering.cancel(model_id).status == Status.CANCELLED
    assert world.buyer.balance(world.address) == 0


def test_order_without_enough_owners_is_cancelled_after_its_deadline_without_grace(
    world: World, service: Service
) -> None:
    model_id = service.order(world.order())
    world.owners[0].accept_training(model_id, 10)
    world.pass_time(HOUR + 1)
    model = service.ordering.cancel(model_id)
    assert model.status == Status.CANCELLED
    assert model.reason == "joining ended without enough data owners; the payment is refunded"
    assert world.buyer.balance(world.address) == 0


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("closed", "what has started cannot be cancelled"),
        ("started", "is IN_PROGRESS: what has started cannot be cancelled"),
        ("disputed", "is IN_PROGRESS: what has started cannot be cancelled"),
        ("finished", "is FINISHED: the owners who trained it are paid"),
    ],
)
def test_what_has_started_is_not_cancelled(world: World, service: Service, stage: str, words: str) -> None:
    model_id = service.order(getattr(world, stage)())
    before = world.status(model_id)
    with pytest.raises(Conflict, match=words):
        service.ordering.cancel(model_id)
    assert world.status(model_id) == before


def test_order_that_was_not_paid_yet_is_paid_and_refunded(world: World, service: Service) -> None:
    model_id = service.order(uuid.uuid4(), Status.PAYING)
    service.ordering.cancel(model_id)
    service.expect_refunded(model_id)


def test_payment_on_its_way_is_waited_for(world: World, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    model_id = service.order(uuid.uuid4(), Status.PAYING)
    monkeypatch.setattr(gateway, "RECEIPT_TIMEOUT", 0.1)
    world.rpc("evm_setAutomine", False)
    for _ in range(2):  # sent, not mined; and not sent again
        with pytest.raises(ChainUnavailable):
            service.ordering.cancel(model_id)
    assert world.buyer.unconfirmed(address_of(world.buyer)) == 1
    world.rpc("evm_mine")
    world.rpc("evm_setAutomine", True)
    service.ordering.cancel(model_id)
    service.expect_refunded(model_id)


@pytest.mark.parametrize("status", [Status.PAYING, Status.INITIATED, Status.IN_PROGRESS])
def test_model_is_not_removed_while_its_money_is_in_the_contract(service: Service, status: Status) -> None:
    model_id = service.order(uuid.uuid4(), status)
    with pytest.raises(Conflict, match="it can be removed when it is over"):
        service.ordering.remove(model_id)
    assert service.storage.shown(model_id).removed is None


def test_user_cancels_and_sees_it(service: Service) -> None:
    model_id = service.order(service.world.order())
    ada, path = service.client("ada"), f"/models/{model_id}"
    for _ in range(2):
        answer = ada.delete(path)
        assert (answer.status_code, answer.get_json()["model"]["status"]) == (200, "CANCELLED")
    assert ada.get(path).get_json() == answer.get_json()
    assert [model["status"] for model in ada.get("/models").get_json()["models"]] == ["CANCELLED"]
    service.expect_refunded(model_id)


def test_order_is_its_users_to_cancel(service: Service) -> None:
    model_id = service.order(service.world.order())
    path = f"/models/{model_id}"
    assert service.client("mallory").delete(path).status_code == 404
    assert service.client("eve", Role.VIEWER).delete(path).status_code == 403
    nobody = service.client("nobody")
    del nobody.environ_base["HTTP_AUTHORIZATION"]
    assert nobody.delete(path).status_code == 401
    assert service.world.status(model_id) == ChainStatus.OPEN


def test_order_that_changed_since_it_was_seen_is_not_cancelled(service: Service) -> None:
    model_id = service.order(service.world.order())
    ada, path = service.client("ada"), f"/models/{model_id}"
    seen = ada.get(path).headers["ETag"]
    service.storage.move(model_id, announced=False)
    assert ada.delete(path, headers={"If-Match": seen}).status_code == 412
    assert service.world.status(model_id) == ChainStatus.OPEN
    assert ada.delete(path, headers={"If-Match": ada.get(path).headers["ETag"]}).status_code == 200
    service.expect_refunded(model_id)


def test_training_that_has_started_is_not_deleted(service: Service) -> None:
    model_id = service.order(service.world.started())
    ada, path = service.client("ada"), f"/models/{model_id}"
    for _ in range(2):  # before this service has seen that it started, and afterwards
        answer = ada.delete(path)
        assert answer.status_code == 409
        assert "It ends by itself: with a model, or with a refund" in answer.get_json()["detail"]
    assert ada.get(path).get_json()["model"]["status"] == "IN_PROGRESS"


@pytest.mark.parametrize("status", [Status.FINISHED, Status.FAILED])
def test_model_that_is_over_is_removed_with_its_predictions(service: Service, status: Status) -> None:
    model_id = service.order(uuid.uuid4(), status)
    prediction = Prediction(
        id=uuid.uuid4(), model_id=model_id, file_id=None, rows=1, mse=None, r2=None, values=bytes(8)
    )
    with service.database.write() as session:
        session.add(prediction)
    ada, path = service.client("ada"), f"/models/{model_id}"
    assert ada.delete(path).status_code == 204
    assert ada.get(path).status_code == ada.delete(path).status_code == 404
    assert ada.get("/models").get_json()["total"] == 0
    with service.database.read() as session:
        assert session.get(Prediction, prediction.id) is None
    assert service.storage.model(model_id).status == status, "what was said in its training is kept"
