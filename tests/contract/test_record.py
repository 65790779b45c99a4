"""What is read of a training's events, and of who made them happen, is what the chain has."""

from __future__ import annotations

import dataclasses
from typing import cast
from uuid import uuid4

import pytest

from commons.chain.connection import Connection
from commons.chain.marketplace import ChainUnavailable, Marketplace, Outcome
from commons.chain.record import Records

from .world import ESCROW, World, address_of


class Way:
    """A service's way to the contract."""

    def __init__(self, market: Marketplace) -> None:
        self.market = market

    def marketplace(self) -> Marketplace:
        return self.market


@pytest.fixture
def records(world: World) -> Records:
    return Records(cast(Connection, Way(world.buyer)))


def test_a_training_has_every_event_in_order(world: World) -> None:
    training_id = world.started()
    for iteration in (0, 5):
        world.aggregator.save_mse(training_id, iteration, 10**18 - iteration)
    world.aggregator.report_result(training_id, world.result(training_id))
    world.buyer.finish_model_training(training_id, world.buyer.training(training_id).digest)
    names = [event.name for event in world.buyer.events(training_id)]
    assert names[:7] == ["ModelOrdered", "ModelCreationPayment", *["TrainingAccepted"] * 5]
    assert names[7:12] == ["JoiningClosed", "TrainingStarted", "MseSaved", "MseSaved", "ResultReported"]
    paid = {"ContributionPayment", "ValidationPayment", "OrchestrationPayment", "ModelBuyerReturnPayment"}
    assert set(names[12:]) == {"TrainingFinished"} | paid
    assert sum(name == "ContributionPayment" for name in names) == len(world.buyer.training(training_id).trainers)


def test_values_are_those_of_the_event_as_json_has_them(world: World) -> None:
    training_id = world.disputed()
    world.arbiter.resolve(training_id, Outcome.AS_REPORTED)
    events = {event.name: event for event in world.buyer.events(training_id)}
    training = world.buyer.training(training_id)
    assert events["ModelCreationPayment"].values == {"owner": address_of(world.buyer), "amount": str(ESCROW)}
    assert events["TrainingStarted"].values["trainers"] == list(training.trainers)
    assert events["ModelOrdered"].values["terms"]["wantedOwners"] == "5"
    reported = events["ResultReported"].values
    assert reported["digest"] == "0x" + training.digest.hex()
    assert reported["result"]["contributions"][0] == str(10**18)
    assert reported["result"]["trainersAnswered"] == [True] * len(training.trainers)
    assert reported["result"]["transcriptRoot"].startswith("0x") and len(reported["result"]["transcriptRoot"]) == 66
    assert events["DisputeResolved"].values == {"arbiter": address_of(world.arbiter), "outcome": "AS_REPORTED"}


def test_every_event_has_who_made_it_happen_and_when(world: World) -> None:
    training_id = world.joined()
    at = world.buyer.now() + 1000
    world.next_block_at(at)
    world.aggregator.close_joining(training_id)
    events = world.buyer.events(training_id)
    made = world.buyer.transactions(events)
    assert [each.call for each in made] == ["newModel", "newModel", *["acceptTraining"] * 5, "closeJoining"]
    senders = [world.buyer, world.buyer, *world.owners[:5], world.aggregator]
    assert [each.sender for each in made] == list(map(address_of, senders))
    assert made[-1].time == at
    for event in events:
        receipt = world.web3.eth.get_transaction_receipt(event.transaction)  # type: ignore[arg-type]
        assert (receipt["blockNumber"], receipt["blockHash"].to_0x_hex()) == (event.block, event.block_hash)


def test_trainings_do_not_mix(world: World) -> None:
    first, second = world.joined(3, minimum_owners=3), world.order()
    assert len(world.buyer.events(first)) == 5
    assert [event.name for event in world.buyer.events(second)] == ["ModelOrdered", "ModelCreationPayment"]
    assert world.buyer.events(uuid4()) == ()


def test_what_is_over_is_asked_of_the_chain_once(world: World, records: Records) -> None:
    before = world.snapshot()
    finished, cancelled = world.finished(), world.order()
    world.buyer.cancel(cancelled)
    read = {each: records.read(each) for each in (finished, cancelled)}
    made = {each: records.transactions(found.events) for each, found in read.items()}
    world.revert(before)  # now the chain knows neither
    for training_id, found in read.items():
        assert world.buyer.events(training_id) == ()
        assert found.training.status.is_final and found.events
        assert records.read(training_id) == found
        assert records.transactions(found.events) == made[training_id]


def test_what_is_not_over_is_read_again(world: World, records: Records) -> None:
    training_id = world.order()
    before = records.read(training_id).events
    records.transactions(before)
    world.owners[0].accept_training(training_id, 10)
    after = records.read(training_id).events
    assert after[: len(before)] == before and after[-1].name == "TrainingAccepted"
    assert records.transactions(after)[-1].sender == address_of(world.owners[0])


def test_an_event_whose_transaction_the_node_has_lost_is_not_made_up(world: World) -> None:
    (event, _) = world.buyer.events(world.order())
    lost = dataclasses.replace(event, transaction="0x" + "ab" * 32)
    with pytest.raises(ChainUnavailable, match="has lost transactions"):
        world.buyer.transactions([event, lost])


def test_more_is_asked_than_fits_one_question(world: World) -> None:
    training_id = world.started()
    for iteration in range(0, 120):
        world.aggregator.save_mse(training_id, iteration, 10**18)
    events = world.buyer.events(training_id)
    assert len(events) == 129
    assert [each.call for each in world.buyer.transactions(events)][-120:] == ["saveMse"] * 120
