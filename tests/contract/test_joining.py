from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from commons.chain.marketplace import Participant, Role, Status

from .world import DAY, HOUR, World, address_of, refused


def test_an_owner_accepts_with_its_rows(world: World) -> None:
    training_id = world.order()
    world.owners[0].accept_training(training_id, 2**64 - 1)
    training = world.buyer.training(training_id)
    assert training.owners == (Participant(address_of(world.owners[0]), 2**64 - 1, 0, False),)
    assert (training.trainers, training.validators) == ((), ())
    assert world.events("TrainingAccepted", training_id) == [{"owner": address_of(world.owners[0]), "rows": 2**64 - 1}]


def test_an_owner_accepts_once(world: World) -> None:
    training_id = world.order()
    world.owners[0].accept_training(training_id, 1)
    with refused("AlreadyAccepted", owner=address_of(world.owners[0])):
        world.owners[0].accept_training(training_id, 2)


def test_only_a_data_owner_accepts(world: World) -> None:
    training_id = world.order()
    with refused("WrongRole", role=Role.FEDERATED_AGGREGATOR, needed=Role.DATA_OWNER):
        world.aggregator.accept_training(training_id, 1)


def test_nobody_accepts_without_rows(world: World) -> None:
    training_id = world.order()
    with refused("NoRows"):
        world.owners[0].accept_training(training_id, 0)


def test_no_more_owners_accept_than_are_wanted(world: World) -> None:
    training_id = world.joined(3)
    with refused("EnoughOwners", wanted=3):
        world.owners[3].accept_training(training_id, 1)


def test_owners_accept_up_to_the_last_second(world: World) -> None:
    training_id = world.order()
    deadline = world.buyer.training(training_id).terms.join_deadline
    world.next_block_at(deadline)
    world.owners[0].accept_training(training_id, 1)
    world.next_block_at(deadline + 1)
    with refused("TooLate", deadline=deadline, time=deadline + 1):
        world.owners[1].accept_training(training_id, 1)


def test_owners_accept_while_open_only(world: World) -> None:
    training_id = world.closed(3, wanted_owners=3)
    with refused("WrongStatus", status=Status.CLOSED, needed=Status.OPEN):
        world.owners[4].accept_training(training_id, 1)


@pytest.mark.parametrize("leaver", [0, 1, 2])
def test_an_owner_withdraws_its_acceptance(world: World, leaver: int) -> None:
    training_id = world.joined(3)
    world.owners[leaver].withdraw_acceptance(training_id)
    left = {address_of(owner) for number, owner in enumerate(world.owners[:3]) if number != leaver}
    assert {owner.address for owner in world.buyer.training(training_id).owners} == left
    assert world.events("AcceptanceWithdrawn", training_id) == [{"owner": address_of(world.owners[leaver])}]
    with refused("NotParticipant", caller=address_of(world.owners[leaver])):
        world.owners[leaver].withdraw_acceptance(training_id)
    # Everybody else can still leave, and whoever left can come back.
    for number in {0, 1, 2} - {leaver}:
        world.owners[number].withdraw_acceptance(training_id)
    world.owners[leaver].accept_training(training_id, 7)
    assert world.buyer.training(training_id).owners == (Participant(address_of(world.owners[leaver]), 7, 0, False),)


def test_owners_withdraw_while_open_only(world: World) -> None:
    training_id = world.closed()
    with refused("WrongStatus", status=Status.CLOSED, needed=Status.OPEN):
        world.owners[0].withdraw_acceptance(training_id)


def test_joining_closes_when_the_wanted_number_has_accepted(world: World) -> None:
    training_id = world.joined(5)
    receipt = world.aggregator.close_joining(training_id)
    training = world.buyer.training(training_id)
    assert (training.status, training.closed_block) == (Status.CLOSED, receipt.block)
    assert world.events("JoiningClosed", training_id) == [{"closedBlock": receipt.block}]


def test_joining_does_not_close_early_below_the_wanted_number(world: World) -> None:
    training_id = world.joined(4, wanted_owners=5)
    deadline = world.buyer.training(training_id).terms.join_deadline
    world.next_block_at(deadline)
    with refused("TooEarly", deadline=deadline, time=deadline):
        world.aggregator.close_joining(training_id)


def test_joining_closes_after_its_deadline_with_the_minimum(world: World) -> None:
    training_id = world.joined(3, wanted_owners=5)
    world.next_block_at(world.buyer.training(training_id).terms.join_deadline + 1)
    world.aggregator.close_joining(training_id)
    assert world.status(training_id) is Status.CLOSED


def test_joining_never_closes_below_the_minimum(world: World) -> None:
    training_id = world.joined(3, wanted_owners=5, minimum_owners=4)
    world.pass_time(2 * HOUR)
    with refused("TooFewOwners", accepted=3, minimum=4):
        world.aggregator.close_joining(training_id)


@pytest.mark.parametrize("step", ["close_joining", "start_training"])
def test_only_the_aggregator_closes_and_starts(world: World, step: str) -> None:
    training_id = world.joined() if step == "close_joining" else world.closed()
    for other in (world.buyer, world.other_aggregator, world.owners[0]):
        with refused("NotAllowed", caller=address_of(other), allowed=address_of(world.aggregator)):
            getattr(other, step)(training_id)


def test_joining_is_not_closed_again_while_the_start_can_come(world: World) -> None:
    training_id = world.closed()
    closed = world.buyer.training(training_id).closed_block
    world.pass_blocks(255)
    with refused("AlreadyClosed", closedBlock=closed):
        world.aggregator.close_joining(training_id)


def test_a_training_starts_in_the_256th_block_after_closing(world: World) -> None:
    training_id = world.closed()
    world.pass_blocks(255)
    assert world.buyer.training(training_id).startable
    world.aggregator.start_training(training_id)
    assert world.status(training_id) is Status.TRAINING


def test_a_start_that_comes_too_late_needs_another_closing(world: World) -> None:
    training_id = world.closed()
    closed = world.buyer.training(training_id).closed_block
    world.pass_blocks(256)
    assert not world.buyer.training(training_id).startable
    with refused("BlockHashUnavailable", closedBlock=closed, currentBlock=closed + 257):
        world.aggregator.start_training(training_id)
    receipt = world.aggregator.close_joining(training_id)
    assert world.buyer.training(training_id).closed_block == receipt.block
    world.aggregator.start_training(training_id)
    assert world.status(training_id) is Status.TRAINING


def test_a_training_does_not_start_in_the_block_that_closed_it(world: World) -> None:
    training_id = world.joined()
    world.rpc("evm_setAutomine", False)
    try:
        account = address_of(world.aggregator)
        world.rpc("anvil_impersonateAccount", account)
        nonce = int(world.rpc("eth_getTransactionCount", account, "latest"), 16)
        hashes = []
        for offset, step in enumerate(("closeJoining", "startTraining")):
            data = world.buyer._contract.encode_abi(step, [training_id.bytes.ljust(32, b"\0")])
            transaction = {"from": account, "to": world.address, "data": data, "gas": hex(10**6)}
            hashes.append(world.rpc("eth_sendTransaction", transaction | {"nonce": hex(nonce + offset)}))
        world.rpc("evm_mine")
        receipts = [world.rpc("eth_getTransactionReceipt", each) for each in hashes]
    finally:
        world.rpc("evm_setAutomine", True)
    assert receipts[0]["blockNumber"] == receipts[1]["blockNumber"]
    assert [int(receipt["status"], 16) for receipt in receipts] == [1, 0]
    assert world.status(training_id) is Status.CLOSED


@pytest.mark.parametrize(
    ("owners", "share", "trainers"),
    [(3, 3 * 10**17, 2), (4, 3 * 10**17, 3), (5, 3 * 10**17, 4), (6, 3 * 10**17, 4), (5, 0, 4), (5, 10**18, 2)],
)
def test_owners_are_split_into_trainers_and_validators(world: World, owners: int, share: int, trainers: int) -> None:
    training = world.buyer.training(world.started(owners, validator_share=share))
    assert (len(training.trainers), len(training.validators)) == (trainers, owners - trainers)
    assert set(training.trainers) | set(training.validators) == {address_of(owner) for owner in world.owners[:owners]}


def test_roles_are_shuffled_by_the_hash_of_the_closing_block(world: World) -> None:
    training_id = world.closed()
    before = world.buyer.training(training_id)
    shuffled = [owner.address for owner in before.owners]
    entropy = bytes(world.web3.eth.get_block(before.closed_block)["hash"])
    for i in range(len(shuffled) - 1, 0, -1):
        draw = keccak(encode(["bytes32", "bytes32", "uint256"], [entropy, training_id.bytes.ljust(32, b"\0"), i]))
        j = int.from_bytes(draw, "big") % (i + 1)
        shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
    world.aggregator.start_training(training_id)
    after = world.buyer.training(training_id)
    assert [*after.trainers, *after.validators] == shuffled
    rows = {owner.address: owner.rows for owner in before.owners}
    assert {owner.address: owner.rows for owner in after.owners} == rows
    assert world.events("TrainingStarted", training_id) == [
        {"trainers": list(after.trainers), "validators": list(after.validators)}
    ]


def test_every_owner_can_become_the_validator(world: World) -> None:
    drawn: set[str] = set()
    for _ in range(40):
        training_id = world.closed(3)
        world.aggregator.start_training(training_id)
        drawn.update(world.buyer.training(training_id).validators)
        if len(drawn) == 3:
            break
    assert drawn == {address_of(owner) for owner in world.owners[:3]}


@pytest.mark.parametrize(
    ("build", "status"), [("order", Status.OPEN), ("started", Status.TRAINING), ("finished", Status.FINISHED)]
)
def test_a_training_starts_from_closed_only(world: World, build: str, status: Status) -> None:
    arrange: Any = getattr(world, build)
    training_id = arrange()
    with refused("InvalidTransition", status=status, next=Status.TRAINING):
        world.aggregator.start_training(training_id)


def test_a_closed_training_outlives_its_join_deadline(world: World) -> None:
    training_id = world.closed()
    world.pass_time(DAY)
    world.aggregator.abort_training(training_id, "nobody answers")
    assert world.status(training_id) is Status.FAILED
