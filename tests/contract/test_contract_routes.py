"""What operators do by hand: withdraw, and move their service to another contract. Real services and chain."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from commons.chain.marketplace import ChainUnavailable, Marketplace, Role, deploy
from commons.database import Database
from commons.protocol.messages import AggregatorDescription
from data_owner.app import create_app as create_owner
from data_owner.config import Config as OwnerConfig
from federated_aggregator.app import create_app as create_aggregator
from federated_aggregator.config import Config as AggregatorConfig
from federated_aggregator.storage import Storage, Training
from model_buyer import peers
from model_buyer.app import create_app as create_buyer
from model_buyer.config import Config as BuyerConfig
from scripts.local import flow

from .world import ESCROW, World, address_of

PASSWORD = "seven wooden horses"


class Service:
    """A service in this process, and clients of its operator, of a viewer, and of nobody."""

    def __init__(self, name: str, world: World, folder: Path, **changes: Any) -> None:
        self.world = world
        self.gateway: Marketplace = {"buyer": world.buyer, "aggregator": world.aggregator, "owner": world.owners[0]}[
            name
        ]
        assert self.gateway.account is not None
        self.account: LocalAccount = self.gateway.account
        self.file = folder / "contract-address"
        self.file.write_text(world.address)
        self._values = {
            "data_dir": folder / name,
            "public_url": "http://127.0.0.1:9",
            "chain_url": world.rpc_url,
            "contract_address_file": self.file,
            "account_private_key": self.account.key.to_0x_hex(),
            **({"arbiter_address": address_of(world.arbiter)} if name == "buyer" else {}),
            **changes,
        }
        self._create = {
            "buyer": lambda values: create_buyer(BuyerConfig.model_validate(values)),
            "aggregator": lambda values: create_aggregator(AggregatorConfig.model_validate(values)),
            "owner": lambda values: create_owner(OwnerConfig.model_validate(values)),
        }[name]
        self.app = self.start()
        self.nobody = self.app.test_client()
        self.operator = self._log_in("operator", self.nobody)
        self.viewer = self._log_in("viewer", self.operator)

    def start(self) -> Flask:
        """Make the application: again, after a restart."""
        return self._create(self._values)

    def _log_in(self, name: str, maker: FlaskClient) -> FlaskClient:
        proof = {"email": f"{name}@example.org", "password": PASSWORD}
        assert maker.post("/users", json={"name": name, **proof}).status_code == 201
        token = self.nobody.post("/users/login", json=proof).get_json()["token"]
        client = self.app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        return client

    def move(self, address: str, client: FlaskClient | None = None) -> TestResponse:
        return (client or self.operator).patch("/contract", json={"address": address})

    @property
    def contract(self) -> Any:
        return self.operator.get("/contract").get_json()


@pytest.fixture
def make(world: World, tmp_path: Path) -> Callable[..., Service]:
    return lambda name, **changes: Service(name, world, tmp_path, **changes)


@pytest.fixture(params=["buyer", "aggregator"])
def service(make: Callable[..., Service], request: pytest.FixtureRequest) -> Service:
    return make(request.param)


@pytest.fixture
def other(world: World) -> Iterator[str]:
    """Another marketplace of the same version on the same chain."""
    assert world.buyer.account is not None
    yield deploy(world.rpc_url, world.buyer.account)


@pytest.mark.parametrize("name", ["buyer", "aggregator", "owner"])
def test_credit_is_withdrawn_once_by_hand(world: World, make: Callable[..., Service], name: str) -> None:
    service = make(name)
    world.finished()
    credit = world.buyer.credit(service.account.address)
    assert credit == int(service.contract["credit_wei"]) > 0
    for client, status in ((service.nobody, 401), (service.viewer, 403)):
        assert client.post("/contract/withdraw").status_code == status
    assert world.buyer.credit(service.account.address) == credit
    with ThreadPoolExecutor(3) as pool:
        clicks = [pool.submit(service.operator.post, "/contract/withdraw") for _ in range(3)]
        answers = sorted((click.result() for click in clicks), key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [200, 409, 409]
    done = answers[0].get_json()
    assert done["amount_wei"] == str(credit)
    assert world.web3.eth.get_transaction_receipt(done["transaction"])["status"] == 1
    assert "has no credit" in answers[1].get_json()["detail"]
    assert world.buyer.ledger(service.account.address) == (credit, credit)


def test_withdrawal_whose_receipt_was_lost_is_not_paid_again(
    world: World, make: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make("aggregator")
    world.finished()
    real = Marketplace.withdraw

    def crash(self: Marketplace) -> None:
        real(self)
        raise ChainUnavailable("the power is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Marketplace, "withdraw", crash)
        assert service.operator.post("/contract/withdraw").status_code == 503
    assert service.operator.post("/contract/withdraw").status_code == 409
    assert world.buyer.ledger(service.account.address) == (ESCROW // 10, ESCROW // 10)


def test_service_moves_to_another_contract_and_stays_there(service: Service, other: str) -> None:
    answer = service.move(other)
    assert answer.status_code == 200, answer.text
    assert answer.get_json() == service.contract
    assert service.contract["address"] == other
    again = service.start().test_client()
    token = service.operator.environ_base["HTTP_AUTHORIZATION"]
    assert again.get("/contract", headers={"Authorization": token}).get_json()["address"] == other


def test_aggregator_registers_on_the_contract_that_it_moves_to(make: Callable[..., Service], other: str) -> None:
    service = make("aggregator")
    assert service.move(other).get_json()["role"] == Role.FEDERATED_AGGREGATOR.name
    assert service.nobody.get("/federated-aggregator").get_json()["contract"] == other


def test_aggregators_account_is_nobodys_to_change(world: World, make: Callable[..., Service]) -> None:
    service = make("aggregator")
    own, other = {"account": service.account.address}, {"account": address_of(world.other_aggregator)}
    path, before = "/federated-aggregator", service.nobody.get("/federated-aggregator").get_json()
    for body in (own, other):
        assert service.nobody.patch(path, json=body).status_code == 401
        assert service.viewer.patch(path, json=body).status_code == 403
    assert service.operator.patch(path, json=own).get_json() == before
    refused = service.operator.patch(path, json=other)
    assert refused.status_code == 409
    assert "DELTAML_ACCOUNT_KEYSTORE" in refused.get_json()["detail"]
    assert service.operator.patch(path, json={"account": "0x1"}).status_code == 422
    assert service.nobody.get(path).get_json() == before


def test_contract_is_the_operators_to_change(service: Service, other: str) -> None:
    assert service.move(other, service.nobody).status_code == 401
    assert service.move(other, service.viewer).status_code == 403
    assert service.contract["address"] == service.world.address
    assert service.file.read_text() == service.world.address


def test_owner_is_moved_by_its_configuration(make: Callable[..., Service], other: str) -> None:
    assert make("owner").move(other).status_code == 405


def test_only_a_contract_of_this_version_is_moved_to(world: World, service: Service, compiled: dict[str, Any]) -> None:
    puppet = world.deploy(compiled["Puppet.sol"]["Puppet"], 0)
    for address in (address_of(world.stranger), "0x" + "00" * 20, puppet):
        answer = service.move(address)
        assert answer.status_code == 422, answer.text
        assert [error["field"] for error in answer.get_json()["errors"]] == ["address"]
    assert service.contract["address"] == service.world.address


def test_service_with_a_credit_stays(world: World, make: Callable[..., Service], other: str) -> None:
    service = make("aggregator")
    world.finished()
    answer = service.move(other)
    assert (answer.status_code, service.contract["address"]) == (409, world.address)
    assert "POST /contract/withdraw first" in answer.get_json()["detail"]
    assert service.operator.post("/contract/withdraw").status_code == 200
    assert service.move(other).status_code == 200


def test_service_with_an_unfinished_training_stays(make: Callable[..., Service], other: str) -> None:
    service = make("aggregator")
    database = Database(f"sqlite:///{service.file.parent / 'aggregator' / 'service.db'}")
    training_id = uuid.uuid4()
    Storage(database).add(Training(id=training_id, status="INITIATED", request=b""))
    database.close()
    answer = service.move(other)
    assert answer.status_code == 409
    assert f"training {training_id} is unfinished" in answer.get_json()["detail"]
    assert service.move(service.world.address).status_code == 200, "there it is already"


def test_address_that_is_fixed_is_changed_where_it_is_fixed(
    world: World, make: Callable[..., Service], other: str
) -> None:
    fixed = make("buyer", contract_address_file=None, contract_address=world.address)
    answer = fixed.move(other)
    assert answer.status_code == 409
    assert "DELTAML_CONTRACT_ADDRESS" in answer.get_json()["detail"]
    assert fixed.contract["address"] == world.address


def test_file_that_cannot_be_written_is_changed_where_it_is_made(make: Callable[..., Service], other: str) -> None:
    service = make("buyer")
    service.file.with_name("contract-address.new").mkdir()
    answer = service.move(other)
    assert answer.status_code == 409
    assert "DELTAML_CONTRACT_ADDRESS_FILE cannot be written" in answer.get_json()["detail"]
    assert service.contract["address"] == service.world.address == service.file.read_text()


def test_order_is_not_paid_on_a_contract_that_its_aggregator_does_not_work_on(
    world: World, make: Callable[..., Service], other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    buyer = make("buyer")
    here = AggregatorDescription(account=address_of(world.aggregator), contract=world.address, chain_id=31337)

    def describe(*_: object) -> AggregatorDescription:
        assert buyer.move(other).status_code == 200  # while the order is under way
        return here

    monkeypatch.setattr(peers, "describe", describe)
    user_id = buyer.operator.get("/users").get_json()["users"][0]["id"]
    answer = buyer.operator.post("/models", json=flow.order_for(user_id, ["x"]))
    assert answer.status_code == 409, answer.text
    assert "moved to another contract meanwhile: order again" in answer.get_json()["detail"]
    assert buyer.operator.get("/models").get_json()["models"] == []
    assert world.buyer.balance(other) == world.buyer.balance(world.address) == 0
