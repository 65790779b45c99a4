"""An order is taken back, and its payment refunded, once: on the real contract, through crashes and double clicks."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest

import commons.chain.marketplace as gateway
from commons.chain.connection import Connection
from commons.chain.marketplace import ChainUnavailable
from commons.chain.marketplace import Status as ChainStatus
from commons.configuration import Config
from commons.database import Database
from commons.errors import Conflict, PeerUnavailable
from commons.http.peer import Peers
from commons.protocol.messages import DataRequirements, Features, HyperParameters, Order, Participants, Target
from commons.users.storage import Users
from model_buyer.app import MIGRATIONS
from model_buyer.ordering import Ordering, Periods
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
        self.world = world
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

    def order(self, training_id: uuid.UUID, status: Status = Status.INITIATED) -> uuid.UUID:
        """Keep a record of an order."""
        self.storage.add(
            Model(
                id=training_id,
                user_id=self.user_id,
                name="a model",
                status=status,
                order=ORDER.canonical(),
                sealed_key=b"",
                payment=ESCROW,
                terms=asdict(PERIODS) | {"aggregator": address_of(self.world.aggregator)},
                announced=True,
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
