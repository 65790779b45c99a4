"""The contract, called by whoever may not, and in front of whoever may.

What each call may do and when, to the second, and payees that are contracts are in ``tests/contract``.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from commons.chain.marketplace import Marketplace, Status
from tests.contract.world import BOND, ETHER, World, address_of

STATUSES = {
    "order": Status.OPEN,
    "joined": Status.OPEN,
    "closed": Status.CLOSED,
    "started": Status.TRAINING,
    "reported": Status.REPORTED,
    "disputed": Status.DISPUTED,
    "finished": Status.FINISHED,
}
CHANGING = {
    "register", "newModel", "cancel", "acceptTraining", "withdrawAcceptance", "closeJoining", "startTraining",
    "saveMse", "reportResult", "abortTraining", "expire", "finishModelTraining", "disputeResult", "resolve",
    "finalize", "withdraw",
}  # fmt: skip


def encoded(training_id: UUID) -> bytes:
    return training_id.bytes.ljust(32, b"\0")


def calls(world: World, training_id: UUID) -> dict[str, str]:
    """Return a call of every function that changes anything, with arguments that the right caller would give."""
    contract, key = world.buyer._contract, encoded(training_id)
    training = world.buyer.training(training_id)
    result = world.result(training_id).to_abi()
    terms = world.terms()
    order = (
        terms.arbiter, terms.wanted_owners, terms.minimum_owners, terms.join_deadline, terms.training_deadline,
        terms.review_period, terms.fixed_share, terms.validator_share, terms.order_hash,
    )  # fmt: skip
    arguments: dict[str, list[Any]] = {
        "register": [2],
        "newModel": [key, bytes(32), address_of(world.other_aggregator), order],
        "cancel": [key],
        "acceptTraining": [key, 1],
        "withdrawAcceptance": [key],
        "closeJoining": [key],
        "startTraining": [key],
        "saveMse": [key, training.evaluations, 1],
        "reportResult": [key, result],
        "abortTraining": [key, "mine"],
        "expire": [key],
        "finishModelTraining": [key, training.digest],
        "disputeResult": [key, bytes(32)],
        "resolve": [key, 2, result],
        "finalize": [key],
        "withdraw": [],
    }
    names = {entry["name"] for entry in contract.abi if entry["type"] == "function" and _changes(entry)}
    assert names == set(arguments) == CHANGING, "a function was added: whose money can it move?"
    return {name: str(contract.encode_abi(name, values)) for name, values in arguments.items()}


def _changes(entry: Any) -> bool:
    return entry["stateMutability"] not in ("view", "pure")


def money(world: World, training_id: UUID) -> tuple[Any, ...]:
    """Return whose money is where: in the contract, owed to everybody, and in the training's escrow."""
    people = [world.buyer, world.aggregator, world.arbiter, *world.owners, world.other_buyer, world.other_aggregator]
    training = world.buyer.training(training_id)
    owed = [world.buyer.credit(address_of(each)) for each in (*people, world.other_arbiter, world.stranger)]
    return world.buyer.balance(world.address), owed, training


PAYABLE = {"newModel": 1, "disputeResult": BOND}


def goes_through(world: World, sender: Marketplace, name: str, data: str) -> bool:
    return world.call_from(address_of(sender), world.address, data, PAYABLE.get(name, 0))


@pytest.mark.parametrize("build", STATUSES)
def test_another_ones_escrow_is_moved_by_no_function(world: World, build: str) -> None:
    """Whatever the status, by whoever is not in the training."""
    training_id = getattr(world, build)()
    assert world.status(training_id) is STATUSES[build]
    outsiders = (world.stranger, world.other_buyer, world.other_aggregator, world.other_arbiter, world.owners[5])
    functions, before = calls(world, training_id), money(world, training_id)
    for attacker in outsiders:
        for name, data in functions.items():
            if attacker is world.stranger and name == "register":
                continue  # which is everybody's to do
            if attacker is world.owners[5] and name == "acceptTraining" and build == "order":
                continue
            assert not goes_through(world, attacker, name, data), (address_of(attacker), name)
        assert money(world, training_id) == before


@pytest.mark.parametrize("build", ["started", "reported", "disputed", "finished"])
def test_a_party_moves_the_escrow_by_no_function_but_its_own(world: World, build: str) -> None:
    """The buyer cannot take it back from those who worked for it, nor the others pay themselves."""
    training_id = getattr(world, build)()
    allowed = {
        ("started", world.aggregator): {"saveMse", "reportResult", "abortTraining"},
        ("reported", world.buyer): {"finishModelTraining", "disputeResult"},
        ("reported", world.owners[0]): {"disputeResult"},
        ("disputed", world.arbiter): {"resolve"},
    }
    functions, before = calls(world, training_id), money(world, training_id)
    for party in (world.buyer, world.aggregator, world.arbiter, world.owners[0]):
        for name, data in functions.items():
            if name not in allowed.get((build, party), ()) and not (name == "withdraw" and build == "finished"):
                assert not goes_through(world, party, name, data), (address_of(party), name)
        assert money(world, training_id) == before


def in_one_block(world: World, *transactions: tuple[Marketplace, str, int]) -> list[bool]:
    """Have calls mined in one block, in this order; say of each whether it went through."""
    world.rpc("evm_setAutomine", False)
    try:
        hashes = []
        for price, (sender, data, value) in zip(range(10**12, 0, -(10**10)), transactions, strict=False):
            account = address_of(sender)
            world.rpc("anvil_impersonateAccount", account)
            call = {"from": account, "to": world.address, "data": data, "gas": hex(10**6), "value": hex(value)}
            fees = dict.fromkeys(("maxFeePerGas", "maxPriorityFeePerGas"), hex(price))
            hashes.append(world.rpc("eth_sendTransaction", call | fees))
        world.rpc("evm_mine")
        receipts = [world.rpc("eth_getTransactionReceipt", each) for each in hashes]
    finally:
        world.rpc("evm_setAutomine", True)
    assert len({receipt["blockNumber"] for receipt in receipts}) == 1
    assert [int(receipt["transactionIndex"], 16) for receipt in receipts] == list(range(len(receipts)))
    return [int(receipt["status"], 16) == 1 for receipt in receipts]


def test_who_overtakes_an_acceptance_takes_a_place_and_nothing_else(world: World) -> None:
    """A fourth owner pays for the last place; the third keeps its ether, and the order its number of owners."""
    training_id = world.joined(2, wanted_owners=3)
    accept = calls(world, training_id)["acceptTraining"]
    before = world.buyer.credit(address_of(world.owners[2]))
    assert in_one_block(world, (world.owners[3], accept, 0), (world.owners[2], accept, 0)) == [True, False]
    owners = [owner.address for owner in world.buyer.training(training_id).owners]
    assert owners == [address_of(world.owners[n]) for n in (0, 1, 3)]
    assert world.buyer.credit(address_of(world.owners[2])) == before


def test_an_acceptance_is_copied_in_nobodys_name(world: World) -> None:
    """The call names no owner: who sends it accepts, and only who is registered."""
    training_id = world.joined(2, wanted_owners=3)
    accept = calls(world, training_id)["acceptTraining"]
    assert in_one_block(
        world, (world.stranger, accept, 0), (world.owners[0], accept, 0), (world.owners[2], accept, 0)
    ) == [False, False, True]
    assert len(world.buyer.training(training_id).owners) == 3


def test_who_overtakes_the_closing_neither_joins_nor_leaves_behind_it(world: World) -> None:
    training_id = world.joined(5)
    data = calls(world, training_id)
    leaver, joiner = world.owners[0], world.owners[5]
    went = in_one_block(
        world,
        (joiner, data["acceptTraining"], 0),
        (world.aggregator, data["closeJoining"], 0),
        (leaver, data["withdrawAcceptance"], 0),
        (world.aggregator, data["startTraining"], 0),
    )
    assert went == [False, True, False, False]
    assert world.status(training_id) is Status.CLOSED
    assert len(world.buyer.training(training_id).owners) == 5


def test_who_leaves_in_front_of_the_closing_keeps_it_from_closing_short(world: World) -> None:
    training_id = world.joined(5)
    data = calls(world, training_id)
    went = in_one_block(
        world, (world.owners[0], data["withdrawAcceptance"], 0), (world.aggregator, data["closeJoining"], 0)
    )
    assert went == [True, False]
    assert world.status(training_id) is Status.OPEN


def test_nobody_starts_in_front_of_the_aggregator(world: World) -> None:
    """The roles would be the same: they are drawn from a block that is mined already. But it is not theirs to do."""
    training_id = world.closed()
    start = calls(world, training_id)["startTraining"]
    others = [world.stranger, world.buyer, world.owners[0], world.other_aggregator]
    went = in_one_block(world, *((each, start, 0) for each in others), (world.aggregator, start, 0))
    assert went == [False] * len(others) + [True]
    assert world.status(training_id) is Status.TRAINING


def test_an_order_is_not_overwritten_by_who_overtakes_it_nor_by_who_follows(world: World) -> None:
    training_id = uuid4()
    order = calls(world, training_id)["newModel"]
    went = in_one_block(
        world, (world.other_buyer, order, 1), (world.buyer, order, ETHER), (world.other_buyer, order, ETHER)
    )
    assert went == [True, False, False]
    training = world.buyer.training(training_id)
    assert (training.buyer, training.escrow) == (address_of(world.other_buyer), 1)
    assert world.buyer.balance(world.address) == 1
