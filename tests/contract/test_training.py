from __future__ import annotations

from typing import Any

import pytest

from commons.chain.marketplace import Status

from .test_ordering import assert_refunded
from .world import ETHER, HOUR, World, address_of, refused


def test_the_aggregator_saves_an_mse_per_evaluated_iteration(world: World) -> None:
    training_id = world.started()
    history = [(0, 2**256 - 1), (5, 77), (6, 0), (2**32 - 2, 12)]
    for iteration, mse in history:
        world.aggregator.save_mse(training_id, iteration, mse)
        assert world.buyer.training(training_id).evaluations == iteration + 1
    assert world.events("MseSaved", training_id) == [{"iteration": iteration, "mse": mse} for iteration, mse in history]


def test_the_zero_model_is_evaluated_first(world: World) -> None:
    training_id = world.started()
    with refused("WrongIteration", iteration=5, least=0):
        world.aggregator.save_mse(training_id, 5, 1)


def test_iterations_strictly_increase(world: World) -> None:
    training_id = world.started()
    world.aggregator.save_mse(training_id, 0, 1)
    world.aggregator.save_mse(training_id, 5, 1)
    for iteration in (0, 4, 5):
        with refused("WrongIteration", iteration=iteration, least=6):
            world.aggregator.save_mse(training_id, iteration, 1)


@pytest.mark.parametrize("build", ["order", "closed", "reported", "finished"])
def test_mses_are_saved_during_training_only(world: World, build: str) -> None:
    arrange: Any = getattr(world, build)
    training_id = arrange()
    with refused("WrongStatus", needed=Status.TRAINING):
        world.aggregator.save_mse(training_id, 0, 1)


def test_only_the_aggregator_saves_reports_and_aborts(world: World) -> None:
    training_id = world.started()
    result = world.result(training_id)
    for other in (world.buyer, world.other_aggregator, world.owners[0]):
        parties = {"caller": address_of(other), "allowed": address_of(world.aggregator)}
        with refused("NotAllowed", **parties):
            other.save_mse(training_id, 0, 1)
        with refused("NotAllowed", **parties):
            other.report_result(training_id, result)
        with refused("NotAllowed", **parties):
            other.abort_training(training_id, "no")


def test_a_report_keeps_what_settlement_needs(world: World) -> None:
    training_id = world.started()
    result = world.result(training_id, trainers_answered=(True, False, True, True))
    world.aggregator.report_result(training_id, result)
    training = world.buyer.training(training_id)
    assert training.status is Status.REPORTED
    assert training.result == result
    assert training.digest == result.digest()
    assert training.improvement == ETHER // 2
    assert [owner.share for owner in training.owners] == [ETHER // 10 * part for part in (1, 2, 3, 4)] + [0]
    assert [owner.answered for owner in training.owners] == [True, False, True, True, True]
    block = world.web3.eth.get_block("latest")
    assert training.deadline == block["timestamp"] + HOUR


@pytest.mark.parametrize(
    ("field", "name", "value"),
    [
        ("partial_mses", "partialMses", (1, 2, 3)),
        ("contributions", "contributions", (1, 2, 3, 4, 5)),
        ("trainers_answered", "trainersAnswered", ()),
        ("validators_answered", "validatorsAnswered", (True, True)),
    ],
)
def test_the_lists_of_a_result_fit_the_roles(world: World, field: str, name: str, value: Any) -> None:
    training_id = world.started()
    result = world.result(training_id, **{field: value})
    needed = 1 if field == "validators_answered" else 4
    with refused("WrongLength", field=name, length=len(value), needed=needed):
        world.aggregator.report_result(training_id, result)


def test_contributions_that_overflow_are_refused(world: World) -> None:
    training_id = world.started()
    result = world.result(training_id, contributions=(2**256 - 1, 1, 0, 0))
    with refused("Panic", code=0x11):
        world.aggregator.report_result(training_id, result)


def test_a_report_comes_up_to_the_last_second(world: World) -> None:
    training_id = world.started()
    result = world.result(training_id)
    deadline = world.buyer.training(training_id).terms.training_deadline
    world.next_block_at(deadline + 1)
    with refused("TooLate", deadline=deadline, time=deadline + 1):
        world.aggregator.report_result(training_id, result)
    # Nothing was mined, so the clock can still be set back.
    world.next_block_at(deadline)
    world.aggregator.report_result(training_id, result)


@pytest.mark.parametrize("build", ["closed", "reported", "disputed", "finished"])
def test_a_result_is_reported_once_and_during_training(world: World, build: str) -> None:
    arrange: Any = getattr(world, build)
    training_id = arrange()
    with refused("InvalidTransition", next=Status.REPORTED):
        world.aggregator.report_result(training_id, world.result(training_id))


@pytest.mark.parametrize("build", ["closed", "started"])
def test_the_aggregator_gives_up_with_a_reason_and_the_buyer_is_refunded(world: World, build: str) -> None:
    arrange: Any = getattr(world, build)
    training_id = arrange()
    world.aggregator.abort_training(training_id, "only one trainer answered")
    assert world.events("TrainingFailed", training_id) == [{"reason": "only one trainer answered"}]
    assert_refunded(world, training_id, Status.FAILED)


@pytest.mark.parametrize("build", ["order", "reported", "disputed", "finished"])
def test_the_aggregator_gives_up_before_its_report_only(world: World, build: str) -> None:
    arrange: Any = getattr(world, build)
    training_id = arrange()
    with refused("InvalidTransition", next=Status.FAILED):
        world.aggregator.abort_training(training_id, "too late")


@pytest.mark.parametrize("build", ["closed", "started"])
def test_anyone_ends_a_training_without_a_report_after_its_deadline(world: World, build: str) -> None:
    arrange: Any = getattr(world, build)
    training_id = arrange()
    deadline = world.buyer.training(training_id).terms.training_deadline
    world.next_block_at(deadline)
    with refused("TooEarly", deadline=deadline, time=deadline):
        world.stranger.expire(training_id)
    world.next_block_at(deadline + 1)
    world.stranger.expire(training_id)
    assert world.events("TrainingExpired", training_id) == [{}]
    assert_refunded(world, training_id, Status.EXPIRED)


@pytest.mark.parametrize("build", ["order", "reported", "disputed", "finished"])
def test_only_a_training_without_a_report_expires(world: World, build: str) -> None:
    arrange: Any = getattr(world, build)
    training_id = arrange()
    world.pass_time(100 * 24 * HOUR)
    with refused("InvalidTransition", next=Status.EXPIRED):
        world.stranger.expire(training_id)
