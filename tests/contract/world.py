"""The people of a training, on a chain whose clock the tests turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from uuid import UUID, uuid4

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from eth_utils.crypto import keccak
from web3 import HTTPProvider, Web3

from commons.chain.marketplace import Marketplace, Result, Reverted, Role, Status, Terms, deploy

ETHER = 10**18
ESCROW = 5 * ETHER
BOND = ESCROW // 20
HOUR = 3600
DAY = 24 * HOUR


@dataclass
class World:
    """A deployed marketplace and a gateway for everybody."""

    rpc_url: str
    address: str
    buyer: Marketplace = field(init=False)
    other_buyer: Marketplace = field(init=False)
    aggregator: Marketplace = field(init=False)
    other_aggregator: Marketplace = field(init=False)
    arbiter: Marketplace = field(init=False)
    other_arbiter: Marketplace = field(init=False)
    stranger: Marketplace = field(init=False)
    owners: list[Marketplace] = field(init=False)

    def __post_init__(self) -> None:
        self.buyer = self.join("buyer", Role.MODEL_BUYER)
        self.other_buyer = self.join("other buyer", Role.MODEL_BUYER)
        self.aggregator = self.join("aggregator", Role.FEDERATED_AGGREGATOR)
        self.other_aggregator = self.join("other aggregator", Role.FEDERATED_AGGREGATOR)
        self.arbiter = self.join("arbiter", Role.ARBITER)
        self.other_arbiter = self.join("other arbiter", Role.ARBITER)
        self.stranger = self.join("stranger", Role.NONE)
        self.owners = [self.join(f"owner {number}", Role.DATA_OWNER) for number in range(6)]

    @cached_property
    def web3(self) -> Web3:
        return Web3(HTTPProvider(self.rpc_url))

    def join(self, name: str, role: Role) -> Marketplace:
        """Give somebody an account with ether, and a role unless it is NONE."""
        account: LocalAccount = Account.from_key(keccak(text=name))
        self.rpc("anvil_setBalance", account.address, hex(1000 * ETHER))
        marketplace = Marketplace(self.rpc_url, self.address, account)
        if role is not Role.NONE:
            marketplace.register(role)
        return marketplace

    def rpc(self, method: str, *parameters: object) -> Any:
        answer = self.web3.provider.make_request(method, list(parameters))  # type: ignore[arg-type]
        assert "error" not in answer, answer
        return answer["result"]

    def snapshot(self) -> str:
        return str(self.rpc("evm_snapshot"))

    def revert(self, snapshot: str) -> None:
        assert self.rpc("evm_revert", snapshot)

    def next_block_at(self, second: int) -> None:
        """Let the next transaction, sent or estimated, run at exactly this time."""
        self.rpc("evm_setNextBlockTimestamp", second)

    def pass_time(self, seconds: int) -> None:
        self.rpc("evm_increaseTime", seconds)
        self.rpc("evm_mine")

    def pass_blocks(self, count: int) -> None:
        self.rpc("anvil_mine", hex(count))

    def terms(self, **changes: Any) -> Terms:
        now = self.buyer.now()
        return Terms(
            **{
                "wanted_owners": 5,
                "minimum_owners": 3,
                "join_deadline": now + HOUR,
                "training_deadline": now + 2 * DAY,
                "review_period": HOUR,
                "fixed_share": ETHER // 10,
                "arbiter": address_of(self.arbiter),
                "order_hash": keccak(text="order"),
                **changes,
            }
        )

    def order(self, *, value: int = ESCROW, **changes: Any) -> UUID:
        training_id = uuid4()
        terms = self.terms(**changes)
        self.buyer.new_model(training_id, "LINEAR_REGRESSION", address_of(self.aggregator), terms, value)
        return training_id

    def joined(self, owners: int = 5, **changes: Any) -> UUID:
        training_id = self.order(**{"wanted_owners": owners, **changes})
        for number, owner in enumerate(self.owners[:owners]):
            owner.accept_training(training_id, 100 + number)
        return training_id

    def closed(self, owners: int = 5, **changes: Any) -> UUID:
        training_id = self.joined(owners, **changes)
        self.aggregator.close_joining(training_id)
        return training_id

    def started(self, owners: int = 5, **changes: Any) -> UUID:
        training_id = self.closed(owners, **changes)
        self.aggregator.start_training(training_id)
        return training_id

    def reported(self, owners: int = 5, *, result: dict[str, Any] | None = None, **changes: Any) -> UUID:
        training_id = self.started(owners, **changes)
        self.aggregator.report_result(training_id, self.result(training_id, **(result or {})))
        return training_id

    def disputed(self, disputer: Marketplace | None = None, **changes: Any) -> UUID:
        training_id = self.reported(**changes)
        bond = self.buyer.training(training_id).bond
        (disputer or self.buyer).dispute_result(training_id, keccak(text="evidence"), bond)
        return training_id

    def finished(self, **changes: Any) -> UUID:
        training_id = self.reported(**changes)
        self.buyer.finish_model_training(training_id, self.buyer.training(training_id).digest)
        return training_id

    def result(self, training_id: UUID, **changes: Any) -> Result:
        """A result that fits the training: MSE halved, contributions 1, 2, 3, …"""
        training = self.buyer.training(training_id)
        trainers = len(training.trainers)
        return Result(
            **{
                "iterations": 100,
                "initial_mse": 1000 * 10**18,
                "final_mse": 500 * 10**18,
                "partial_mses": tuple(600 * 10**18 + number for number in range(trainers)),
                "contributions": tuple(10**18 * (number + 1) for number in range(trainers)),
                "trainers_answered": (True,) * trainers,
                "validators_answered": (True,) * len(training.validators),
                "transcript_root": keccak(text="transcript"),
                "model_hash": keccak(text="model"),
                **changes,
            }
        )

    def status(self, training_id: UUID) -> Status:
        return self.buyer.training(training_id).status

    def events(self, name: str, training_id: UUID) -> list[dict[str, Any]]:
        """The arguments of every such event of the training, its id left out."""
        logs = self.buyer._events(training_id, 0, name)
        return [{key: value for key, value in log["args"].items() if key != "id"} for log in logs]

    def deploy(self, code: dict[str, Any], *arguments: object) -> ChecksumAddress:
        """Put a contract of the tests on the chain; its address."""
        sender = address_of(self.stranger)
        self.rpc("anvil_impersonateAccount", sender)
        factory = self.web3.eth.contract(abi=code["abi"], bytecode=code["evm"]["bytecode"]["object"])
        sent = factory.constructor(*arguments).transact({"from": sender})
        address = self.web3.eth.wait_for_transaction_receipt(sent)["contractAddress"]
        assert address is not None
        return address

    def call_from(self, account: str, to: str, data: str, value: int = 0) -> bool:
        """Send raw bytes from any address; whether the call went through."""
        self.rpc("anvil_impersonateAccount", account)
        call = {"from": account, "to": to, "data": data, "value": hex(value), "gas": hex(10**6)}
        return int(self.rpc("eth_sendTransactionSync", call)["status"], 16) == 1


def address_of(marketplace: Marketplace) -> str:
    assert marketplace.account is not None
    return str(marketplace.account.address)


def deploy_world(rpc_url: str) -> World:
    deployer: LocalAccount = Account.from_key(keccak(text="deployer"))
    Web3(HTTPProvider(rpc_url)).provider.make_request(
        "anvil_setBalance",  # type: ignore[arg-type]
        [deployer.address, hex(1000 * ETHER)],
    )
    return World(rpc_url, deploy(rpc_url, deployer))


@contextmanager
def refused(name: str, **arguments: object) -> Iterator[None]:
    """Expect the contract's error of this name, with these values among its arguments."""
    with pytest.raises(Reverted) as caught:
        yield
    assert caught.value.name == name
    assert {key: caught.value.arguments[key] for key in arguments} == arguments
