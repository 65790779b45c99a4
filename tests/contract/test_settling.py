from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from eth_utils.crypto import keccak

from commons.chain.marketplace import Marketplace, Outcome, Payment, PaymentKind, Result, Status
from commons.chain.settlement import settle

from .world import BOND, DAY, ESCROW, ETHER, HOUR, World, address_of, refused


def assert_paid_by(world: World, training_id: UUID, result: Result) -> None:
    """Events and credits are what the mirror of the settlement says, and nothing can be paid again."""
    training = world.buyer.training(training_id)
    assert training.status is Status.FINISHED
    assert training.result == result
    assert training.digest == result.digest()
    split = settle(training.escrow, training.terms.fixed_share, result)
    owed = [(training.aggregator, PaymentKind.ORCHESTRATION, split.aggregator)]
    owed += [(a, PaymentKind.CONTRIBUTION, w) for a, w in zip(training.trainers, split.trainers, strict=True)]
    owed += [(a, PaymentKind.VALIDATION, w) for a, w in zip(training.validators, split.validators, strict=True)]
    answered = (True, *result.trainers_answered, *result.validators_answered)
    expected = [Payment(*each) for each, paid in zip(owed, answered, strict=True) if paid]
    expected.append(Payment(training.buyer, PaymentKind.BUYER_RETURN, split.buyer))
    payments = world.buyer.payments(training_id)
    assert [payment for payment in payments if payment.kind is not PaymentKind.BOND] == expected
    assert sum(payment.wei for payment in expected) == training.escrow
    for account in {payment.recipient for payment in payments}:
        owed_to_account = sum(payment.wei for payment in payments if payment.recipient == account)
        assert world.buyer.credit(account) == owed_to_account
    assert_settled_once(world, training_id)


def assert_settled_once(world: World, training_id: UUID) -> None:
    world.pass_time(100 * DAY)
    digest = world.buyer.training(training_id).digest
    with refused("WrongStatus", status=Status.FINISHED):
        world.buyer.finish_model_training(training_id, digest)
    with refused("WrongStatus", status=Status.FINISHED):
        world.arbiter.resolve(training_id, Outcome.AS_REPORTED)
    with refused("InvalidTransition", status=Status.FINISHED):
        world.stranger.finalize(training_id)
    with refused("InvalidTransition", status=Status.FINISHED):
        world.buyer.dispute_result(training_id, bytes(32), BOND)
    with refused("InvalidTransition", status=Status.FINISHED):
        world.aggregator.abort_training(training_id, "again")
    with refused("InvalidTransition", status=Status.FINISHED):
        world.stranger.expire(training_id)
    with refused("InvalidTransition", status=Status.FINISHED):
        world.buyer.cancel(training_id)


def test_the_buyer_confirms_the_result_and_everybody_is_paid_once(world: World) -> None:
    training_id = world.reported()
    result = world.result(training_id)
    world.buyer.finish_model_training(training_id, result.digest())
    assert world.events("TrainingFinished", training_id) == [{}]
    assert_paid_by(world, training_id, result)


def test_the_worked_example_of_the_design(world: World) -> None:
    training_id = world.finished(owners=3, fixed_share=0, result={"contributions": (3 * ETHER, ETHER)})
    paid: dict[PaymentKind, int] = {}
    for payment in world.buyer.payments(training_id):
        paid[payment.kind] = paid.get(payment.kind, 0) + payment.wei
    assert paid == {
        PaymentKind.ORCHESTRATION: ETHER // 2,
        PaymentKind.VALIDATION: ETHER,
        PaymentKind.CONTRIBUTION: 7 * ETHER // 4,
        PaymentKind.BUYER_RETURN: 7 * ETHER // 4,
    }


@pytest.mark.parametrize(
    "result",
    [
        pytest.param({"final_mse": 1001 * 10**18}, id="the model got worse"),
        pytest.param({"final_mse": 0}, id="the model is perfect"),
        pytest.param({"initial_mse": 0, "final_mse": 0}, id="the zero model was perfect"),
        pytest.param({"initial_mse": 0, "final_mse": 5}, id="the zero model was perfect and is left"),
        pytest.param({"initial_mse": 2**256 - 1, "final_mse": 1}, id="huge"),
        pytest.param({"contributions": (0, 0, 0, 0)}, id="nobody contributed"),
        pytest.param({"contributions": (0, 0, 0, 9)}, id="one contributed"),
        pytest.param({"contributions": (1, 1, 1, 0)}, id="thirds leave dust"),
        pytest.param({"trainers_answered": (True, False, True, False)}, id="two trainers silent"),
        pytest.param({"trainers_answered": (False,) * 4}, id="all trainers silent"),
        pytest.param({"validators_answered": (False,)}, id="the validator silent"),
    ],
)
def test_the_chain_settles_as_the_mirror_does(world: World, result: dict[str, Any]) -> None:
    training_id = world.reported(result=result)
    reported = world.result(training_id, **result)
    world.buyer.finish_model_training(training_id, reported.digest())
    assert_paid_by(world, training_id, reported)


@pytest.mark.parametrize("value", [1, 7, 999, 2**127])
def test_an_escrow_of_any_size_is_paid_out_to_the_wei(world: World, value: int) -> None:
    world.rpc("anvil_setBalance", address_of(world.buyer), hex(2**130))
    training_id = world.finished(value=value)
    assert_paid_by(world, training_id, world.result(training_id))


def test_parts_of_silent_validators_return_to_the_buyer(world: World) -> None:
    answered = (True, False)
    training_id = world.finished(owners=6, result={"validators_answered": answered})
    payments = world.buyer.payments(training_id)
    assert [p.wei for p in payments if p.kind is PaymentKind.VALIDATION] == [ESCROW // 10]
    assert_paid_by(world, training_id, world.result(training_id, validators_answered=answered))


def test_only_the_buyer_confirms(world: World) -> None:
    training_id = world.reported()
    digest = world.result(training_id).digest()
    for other in (world.other_buyer, world.aggregator, world.arbiter, world.owners[0]):
        with refused("NotAllowed", caller=address_of(other), allowed=address_of(world.buyer)):
            other.finish_model_training(training_id, digest)


def test_another_digest_is_refused_with_both(world: World) -> None:
    training_id = world.reported()
    reported = world.result(training_id).digest()
    computed = world.result(training_id, final_mse=1).digest()
    with refused("DigestMismatch", reported="0x" + reported.hex(), computed="0x" + computed.hex()):
        world.buyer.finish_model_training(training_id, computed)


@pytest.mark.parametrize("build", ["started", "disputed", "finished"])
def test_the_buyer_confirms_a_reported_result_only(world: World, build: str) -> None:
    arrange: Any = getattr(world, build)
    training_id = arrange()
    with refused("WrongStatus", needed=Status.REPORTED):
        world.buyer.finish_model_training(training_id, bytes(32))


def test_the_buyer_still_confirms_after_the_review(world: World) -> None:
    training_id = world.reported()
    world.pass_time(2 * HOUR)
    world.buyer.finish_model_training(training_id, world.result(training_id).digest())
    assert_paid_by(world, training_id, world.result(training_id))


def test_anyone_finalizes_when_the_review_has_passed_without_a_word(world: World) -> None:
    training_id = world.reported()
    deadline = world.buyer.training(training_id).deadline
    world.next_block_at(deadline)
    with refused("TooEarly", deadline=deadline, time=deadline):
        world.stranger.finalize(training_id)
    world.next_block_at(deadline + 1)
    world.stranger.finalize(training_id)
    assert_paid_by(world, training_id, world.result(training_id))


@pytest.mark.parametrize("build", ["order", "closed", "started"])
def test_nothing_is_finalized_before_a_report(world: World, build: str) -> None:
    arrange: Any = getattr(world, build)
    training_id = arrange()
    with refused("InvalidTransition", next=Status.FINISHED):
        world.stranger.finalize(training_id)


def disputers(world: World) -> list[Marketplace]:
    return [world.buyer, world.owners[0], world.owners[4]]


@pytest.mark.parametrize("who", [0, 1, 2])
def test_the_buyer_or_an_owner_disputes_with_the_bond(world: World, who: int) -> None:
    disputer = disputers(world)[who]
    training_id = world.disputed(disputer)
    training = world.buyer.training(training_id)
    assert (training.status, training.disputer) == (Status.DISPUTED, address_of(disputer))
    block = world.web3.eth.get_block("latest")
    assert training.deadline == block["timestamp"] + 7 * DAY
    assert world.buyer.balance(world.address) == ESCROW + BOND
    assert world.events("ResultDisputed", training_id) == [
        {"disputer": address_of(disputer), "evidenceHash": keccak(text="evidence"), "bond": BOND}
    ]


def test_nobody_else_disputes(world: World) -> None:
    training_id = world.reported()
    for other in (world.aggregator, world.arbiter, world.other_buyer, world.owners[5], world.stranger):
        with refused("NotParticipant", caller=address_of(other)):
            other.dispute_result(training_id, bytes(32), BOND)


@pytest.mark.parametrize("value", [0, BOND - 1, BOND + 1])
def test_a_dispute_costs_exactly_the_bond(world: World, value: int) -> None:
    training_id = world.reported()
    with refused("WrongBond", value=value, needed=BOND):
        world.buyer.dispute_result(training_id, bytes(32), value)


def test_a_dispute_comes_within_the_review(world: World) -> None:
    training_id = world.reported()
    deadline = world.buyer.training(training_id).deadline
    world.next_block_at(deadline + 1)
    with refused("TooLate", deadline=deadline, time=deadline + 1):
        world.owners[0].dispute_result(training_id, bytes(32), BOND)
    world.next_block_at(deadline)
    world.owners[0].dispute_result(training_id, bytes(32), BOND)


@pytest.mark.parametrize("build", ["started", "disputed", "finished"])
def test_only_a_reported_result_is_disputed(world: World, build: str) -> None:
    arrange: Any = getattr(world, build)
    training_id = arrange()
    with refused("InvalidTransition", next=Status.DISPUTED):
        world.buyer.dispute_result(training_id, bytes(32), BOND)


def bonds(world: World, training_id: UUID) -> list[tuple[str, int]]:
    payments = world.buyer.payments(training_id)
    return [(payment.recipient, payment.wei) for payment in payments if payment.kind is PaymentKind.BOND]


@pytest.mark.parametrize("who", [0, 1, 2])
def test_a_result_that_stands_costs_the_disputer_its_bond(world: World, who: int) -> None:
    training_id = world.disputed(disputers(world)[who])
    world.arbiter.resolve(training_id, Outcome.AS_REPORTED)
    assert world.events("DisputeResolved", training_id) == [
        {"arbiter": address_of(world.arbiter), "outcome": Outcome.AS_REPORTED}
    ]
    assert bonds(world, training_id) == [(address_of(world.arbiter), BOND)]
    assert_paid_by(world, training_id, world.result(training_id))


@pytest.mark.parametrize("who", [0, 1, 2])
def test_a_corrected_result_is_paid_and_the_bond_goes_back(world: World, who: int) -> None:
    disputer = disputers(world)[who]
    training_id = world.disputed(disputer)
    corrected = world.result(
        training_id, final_mse=250 * 10**18, contributions=(4, 3, 2, 1), trainers_answered=(False,) + (True,) * 3
    )
    world.arbiter.resolve(training_id, Outcome.CORRECTED, corrected)
    assert [each["digest"] for each in world.events("ResultCorrected", training_id)] == [corrected.digest()]
    assert bonds(world, training_id) == [(address_of(disputer), BOND)]
    assert_paid_by(world, training_id, corrected)


@pytest.mark.parametrize("who", [0, 1, 2])
def test_a_refund_returns_the_escrow_to_the_buyer_and_the_bond_to_the_disputer(world: World, who: int) -> None:
    disputer = disputers(world)[who]
    training_id = world.disputed(disputer)
    world.arbiter.resolve(training_id, Outcome.REFUND)
    assert world.status(training_id) is Status.FINISHED
    assert world.buyer.payments(training_id) == [
        Payment(address_of(disputer), PaymentKind.BOND, BOND),
        Payment(address_of(world.buyer), PaymentKind.BUYER_RETURN, ESCROW),
    ]
    assert_settled_once(world, training_id)


def test_only_the_arbiter_of_the_training_resolves(world: World) -> None:
    training_id = world.disputed()
    for other in (world.other_arbiter, world.buyer, world.aggregator, world.owners[0]):
        with refused("NotAllowed", caller=address_of(other), allowed=address_of(world.arbiter)):
            other.resolve(training_id, Outcome.REFUND)


@pytest.mark.parametrize("build", ["started", "reported", "finished"])
def test_only_a_disputed_result_is_resolved(world: World, build: str) -> None:
    arrange: Any = getattr(world, build)
    training_id = arrange()
    with refused("WrongStatus", needed=Status.DISPUTED):
        world.arbiter.resolve(training_id, Outcome.REFUND)


def test_a_corrected_result_fits_the_roles(world: World) -> None:
    training_id = world.disputed()
    corrected = world.result(training_id, contributions=(1, 2, 3))
    with refused("WrongLength", field="contributions", length=3, needed=4):
        world.arbiter.resolve(training_id, Outcome.CORRECTED, corrected)


def test_the_arbiter_has_seven_days(world: World) -> None:
    training_id = world.disputed()
    deadline = world.buyer.training(training_id).deadline
    world.next_block_at(deadline)
    with refused("TooEarly", deadline=deadline, time=deadline):
        world.stranger.finalize(training_id)
    world.next_block_at(deadline + 1)
    with refused("TooLate", deadline=deadline, time=deadline + 1):
        world.arbiter.resolve(training_id, Outcome.REFUND)


@pytest.mark.parametrize("who", [0, 1, 2])
def test_a_silent_arbiter_leaves_the_result_as_reported_and_earns_nothing(world: World, who: int) -> None:
    disputer = disputers(world)[who]
    training_id = world.disputed(disputer)
    world.pass_time(7 * DAY + 1)
    world.stranger.finalize(training_id)
    assert bonds(world, training_id) == [(address_of(disputer), BOND)]
    assert_paid_by(world, training_id, world.result(training_id))


def test_trainings_do_not_touch_each_other(world: World) -> None:
    bystander = world.order()
    training_id = world.finished()
    for party in (*world.owners[:5], world.aggregator, world.buyer):
        party.withdraw()
    assert world.buyer.balance(world.address) == ESCROW
    assert world.buyer.payments(bystander) == []
    world.buyer.cancel(bystander)
    world.buyer.withdraw()
    assert world.buyer.balance(world.address) == 0
    assert world.status(training_id) is Status.FINISHED
