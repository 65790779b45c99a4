from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from commons.chain.marketplace import Payment, PaymentKind, Role, Status

from .world import DAY, ESCROW, ETHER, HOUR, World, address_of, refused


def test_an_order_escrows_what_was_paid_under_its_terms(world: World) -> None:
    training_id = uuid4()
    terms = world.terms()
    world.buyer.new_model(training_id, "LINEAR_REGRESSION", address_of(world.aggregator), terms, ESCROW)
    training = world.buyer.training(training_id)
    assert training.status is Status.OPEN
    assert training.terms == terms
    assert (training.escrow, training.bond) == (ESCROW, ESCROW // 20)
    assert (training.buyer, training.aggregator) == (address_of(world.buyer), address_of(world.aggregator))
    assert training.arbiter == address_of(world.arbiter)
    assert (training.owners, training.trainers, training.validators) == ((), (), ())
    assert (training.result, training.disputer, training.startable) == (None, None, False)
    assert world.buyer.balance(world.address) == ESCROW
    assert world.events("ModelCreationPayment", training_id) == [{"owner": address_of(world.buyer), "amount": ESCROW}]
    [order] = world.events("ModelOrdered", training_id)
    assert order["modelType"] == b"LINEAR_REGRESSION".ljust(32, b"\0")
    assert (order["buyer"], order["aggregator"]) == (training.buyer, training.aggregator)
    assert order["terms"]["orderHash"] == terms.order_hash


def test_a_training_that_nobody_ordered_has_no_status(world: World) -> None:
    training = world.buyer.training(uuid4())
    assert (training.status, training.escrow, training.owners) == (Status.NONE, 0, ())


def test_an_id_is_ordered_once(world: World) -> None:
    training_id = world.order()
    taken = "0x" + training_id.bytes.ljust(32, b"\0").hex()
    for buyer in (world.buyer, world.other_buyer):
        with refused("IdTaken", id=taken):
            buyer.new_model(training_id, "LINEAR_REGRESSION", address_of(world.aggregator), world.terms(), 1)


def test_only_a_buyer_orders(world: World) -> None:
    with refused("WrongRole", account=address_of(world.owners[0]), role=Role.DATA_OWNER, needed=Role.MODEL_BUYER):
        world.owners[0].new_model(uuid4(), "X", address_of(world.aggregator), world.terms(), 1)


def test_an_order_names_a_registered_aggregator(world: World) -> None:
    with refused("WrongRole", role=Role.NONE, needed=Role.FEDERATED_AGGREGATOR):
        world.buyer.new_model(uuid4(), "X", address_of(world.stranger), world.terms(), 1)


def test_an_order_names_a_registered_arbiter(world: World) -> None:
    with refused("WrongRole", role=Role.MODEL_BUYER, needed=Role.ARBITER):
        world.order(arbiter=address_of(world.other_buyer))


@pytest.mark.parametrize("value", [0, 2**128])
def test_an_escrow_is_something_and_not_absurd(world: World, value: int) -> None:
    world.rpc("anvil_setBalance", address_of(world.buyer), hex(2**130))
    with refused("InvalidEscrow", value=value, most=2**128 - 1):
        world.order(value=value)


@pytest.mark.parametrize(("minimum", "wanted"), [(2, 5), (6, 5), (3, 257)])
def test_owner_counts_are_in_order(world: World, minimum: int, wanted: int) -> None:
    with refused("InvalidOwnerCounts", minimum=minimum, wanted=wanted, least=3, most=256):
        world.order(minimum_owners=minimum, wanted_owners=wanted)


@pytest.mark.parametrize(("join", "training"), [(0, HOUR), (HOUR, HOUR), (HOUR, 365 * DAY + 1)])
def test_deadlines_are_in_order_and_within_a_year(world: World, join: int, training: int) -> None:
    now = world.buyer.now() + 100
    terms = world.terms(join_deadline=now + join, training_deadline=now + training)
    world.next_block_at(now)
    with refused("InvalidDeadlines", join=now + join, training=now + training, time=now, latest=now + 365 * DAY):
        world.buyer.new_model(uuid4(), "X", address_of(world.aggregator), terms, 1)


def test_deadlines_may_be_as_far_apart_as_a_year(world: World) -> None:
    now = world.buyer.now() + 100
    terms = world.terms(join_deadline=now + 1, training_deadline=now + 365 * DAY)
    world.next_block_at(now)
    world.buyer.new_model(uuid4(), "X", address_of(world.aggregator), terms, 1)


@pytest.mark.parametrize("period", [0, 30 * DAY + 1])
def test_a_review_takes_a_second_to_30_days(world: World, period: int) -> None:
    world.order(review_period=1)
    world.order(review_period=30 * DAY)
    with refused("InvalidReviewPeriod", period=period, longest=30 * DAY):
        world.order(review_period=period)


@pytest.mark.parametrize("term", ["fixed_share", "validator_share"])
def test_a_share_is_at_most_the_whole(world: World, term: str) -> None:
    world.order(**{term: ETHER})
    with refused("InvalidShare", share=ETHER + 1, whole=ETHER):
        world.order(**{term: ETHER + 1})


def assert_refunded(world: World, training_id: UUID, status: Status) -> None:
    """Also used for trainings that end later: a refund is the whole escrow, once."""
    assert world.status(training_id) is status
    assert world.buyer.credit(address_of(world.buyer)) == ESCROW
    assert world.buyer.payments(training_id) == [Payment(address_of(world.buyer), PaymentKind.BUYER_RETURN, ESCROW)]
    for way_out in (world.buyer.cancel, world.buyer.expire, world.buyer.finalize):
        with refused("InvalidTransition", status=status):
            way_out(training_id)
    assert world.buyer.credit(address_of(world.buyer)) == ESCROW


def test_the_buyer_cancels_while_nobody_has_accepted(world: World) -> None:
    training_id = world.order()
    world.buyer.cancel(training_id)
    assert world.events("TrainingCancelled", training_id) == [{}]
    assert_refunded(world, training_id, Status.CANCELLED)


def test_the_buyer_cancels_when_everybody_has_withdrawn(world: World) -> None:
    training_id = world.order()
    world.owners[0].accept_training(training_id, 1)
    world.owners[0].withdraw_acceptance(training_id)
    world.buyer.cancel(training_id)
    assert_refunded(world, training_id, Status.CANCELLED)


def test_the_buyer_cannot_cancel_once_somebody_has_accepted(world: World) -> None:
    training_id = world.order()
    world.owners[0].accept_training(training_id, 1)
    with refused("TooEarly", deadline=world.buyer.training(training_id).terms.join_deadline):
        world.buyer.cancel(training_id)


@pytest.mark.parametrize("accepted", [0, 2])
def test_anyone_cancels_after_the_join_deadline_without_the_minimum(world: World, accepted: int) -> None:
    training_id = world.order()
    for owner in world.owners[:accepted]:
        owner.accept_training(training_id, 1)
    deadline = world.buyer.training(training_id).terms.join_deadline
    world.next_block_at(deadline)
    with refused("TooEarly", deadline=deadline, time=deadline):
        world.stranger.cancel(training_id)
    world.next_block_at(deadline + 1)
    world.stranger.cancel(training_id)
    assert_refunded(world, training_id, Status.CANCELLED)


@pytest.mark.parametrize("owners", [3, 5])
def test_anyone_cancels_when_nobody_closes_for_a_day(world: World, owners: int) -> None:
    training_id = world.order()
    for owner in world.owners[:owners]:
        owner.accept_training(training_id, 1)
    patience = world.buyer.training(training_id).terms.join_deadline + DAY
    world.next_block_at(patience)
    with refused("TooEarly", deadline=patience, time=patience):
        world.stranger.cancel(training_id)
    world.next_block_at(patience + 1)
    world.stranger.cancel(training_id)
    assert_refunded(world, training_id, Status.CANCELLED)


def test_nothing_is_cancelled_after_joining_closed(world: World) -> None:
    training_id = world.closed()
    world.pass_time(3 * DAY)
    with refused("InvalidTransition", status=Status.CLOSED, next=Status.CANCELLED):
        world.buyer.cancel(training_id)


def test_the_bond_is_rounded_up(world: World) -> None:
    changes: list[tuple[int, int]] = [(1, 1), (20, 1), (21, 2)]
    for value, bond in changes:
        arguments: dict[str, Any] = {"value": value}
        assert world.buyer.training(world.order(**arguments)).bond == bond
