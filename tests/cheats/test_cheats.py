"""Whoever cheats is caught, or gains nothing: real services, one of which cheats, on a real chain."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace

import pytest

from commons.chain.settlement import settle
from commons.chain.training import Outcome, PaymentKind, Status
from scripts.local import honest
from scripts.local.cheats import CHEATS, PRECISION, Ended

Endings = Mapping[str, Future[Ended]]


@pytest.mark.parametrize("cheat", [cheat.name for cheat in CHEATS])
def test_it_ends_on_chain_in_the_records_and_in_payments_as_the_protocol_says(endings: Endings, cheat: str) -> None:
    assert endings[cheat].result().problems() == []


@pytest.mark.parametrize(
    ("cheat", "finding"),
    [
        ("buyer=false-product", "InvalidProof: the products of 1 vectors were claimed"),
        ("buyer=wrong-mse", "InvalidOpening: 11 totals were claimed"),
    ],
)
def test_a_buyer_that_lies_about_a_number_is_named_on_chain_and_in_every_record(
    endings: Endings, cheat: str, finding: str
) -> None:
    ended = endings[cheat].result()
    named = f"Deviated: the model buyer {ended.chain.buyer} deviated: {finding}"
    assert named in ended.failure
    for record in ended.records.values():
        assert record["status"] == "FAILED"
        assert named in record["reason"]
    assert {(p.recipient, p.wei) for p in ended.payments} == {(ended.chain.buyer, ended.chain.escrow)}
    assert ended.weights is None


def test_a_spoilt_refresh_costs_the_buyer_what_the_owners_own_models_are_worth(endings: Endings) -> None:
    ended = endings["buyer=spoils-refresh"].result()
    result = ended.chain.result
    assert result is not None
    assert all(result.trainers_answered)
    metrics = ended.records["buyer"]["metrics"]
    assert metrics["delivered_model"] == "averaged"
    assert metrics["trained_mse"] > 2 * metrics["averaged_mse"]
    assert result.final_mse == pytest.approx(ended.honest.averaged_mse, rel=PRECISION)
    without = replace(ended.honest, trained_mse=ended.honest.averaged_mse)
    split = honest.payments(ended.chain.escrow, ended.chain.terms.fixed_share, without)
    for account, wei in ended.shares(split).items():
        assert ended.received(account) == pytest.approx(wei, rel=1e-5)


def test_a_buyer_that_is_silent_pays_all_the_same(endings: Endings) -> None:
    ended = endings["buyer=refuses-finish"].result()
    assert ended.dispute is None
    for account in (ended.chain.buyer, *ended.chain.trainers):
        assert ended.received(account) == pytest.approx(ended.honestly(account), rel=1e-5)


def test_a_trainer_whose_updates_were_dropped_shows_its_answers_and_is_paid(endings: Endings) -> None:
    ended = endings["aggregator=drops-update"].result()
    dropped = ended.chain.trainers[0]
    assert ended.dispute is not None and ended.reported is not None and ended.chain.result is not None
    assert ended.dispute.disputer == dropped
    assert ended.reported.trainers_answered == (False, True, True)
    assert ended.chain.result.trainers_answered == (True, True, True)
    assert ended.received(dropped) > 0
    (own,) = [record for record in ended.records.values() if "6 of 6 rounds" in str(record["reason"])]
    assert own["role"] == "TRAINER"
    assert own["dispute"]["evidence_hash"] == ended.dispute.evidence_hash.hex()


@pytest.mark.parametrize("cheat", ["aggregator=reports-mse", "aggregator=swaps-contributions"])
def test_a_false_result_is_corrected_to_the_one_that_honesty_gives(endings: Endings, cheat: str) -> None:
    ended = endings[cheat].result()
    assert ended.reported is not None and ended.chain.result is not None
    assert ended.reported != ended.chain.result
    split = settle(ended.chain.escrow, ended.chain.terms.fixed_share, ended.reported)
    assert [ended.received(trainer) for trainer in ended.chain.trainers] != list(split.trainers)
    for account in (ended.chain.buyer, ended.chain.aggregator, *ended.chain.trainers, *ended.chain.validators):
        assert ended.received(account) == pytest.approx(ended.honestly(account), rel=1e-5)


def test_the_buyer_disputes_swapped_contributions_and_says_whose(endings: Endings) -> None:
    ended = endings["aggregator=swaps-contributions"].result()
    assert ended.dispute is not None
    assert ended.dispute.disputer == ended.chain.buyer
    reason = ended.records["buyer"]["reason"]
    assert sum(f"contribution of {trainer}" in reason for trainer in ended.chain.trainers) == 2


def test_validators_that_were_asked_different_questions_sign_nothing(endings: Endings) -> None:
    ended = endings["aggregator=different-questions"].result()
    assert ended.chain.evaluations == 1  # the zero model's, where there is nothing to mask
    for record in ended.records.values():
        assert "no validator signed the sums of iteration 2" in record["reason"]
    assert ended.received(ended.chain.aggregator) == 0


@pytest.mark.parametrize("cheat", ["aggregator=another-model", "aggregator=never-delivers"])
def test_the_arbiter_delivers_what_the_aggregator_did_not_and_the_result_stands(endings: Endings, cheat: str) -> None:
    ended = endings[cheat].result()
    assert ended.dispute is not None
    assert ended.dispute.disputer == ended.chain.buyer
    assert ended.chain.result == ended.reported
    assert ended.weights is not None
    bonds = [(p.recipient, p.wei) for p in ended.payments if p.kind == PaymentKind.BOND]
    assert bonds == [(ended.chain.buyer, ended.chain.bond)]


def test_an_aggregator_without_a_transcript_earns_nothing(endings: Endings) -> None:
    ended = endings["aggregator=withholds-transcript"].result()
    assert ended.dispute is not None
    assert (ended.chain.status, ended.dispute.outcome) == (Status.FINISHED, Outcome.REFUND)
    assert ended.received(ended.chain.aggregator) == 0
    assert ended.received(ended.chain.buyer) == ended.chain.escrow
    for name, record in ended.records.items():
        assert record["status"] == "FAILED", name
        assert "refunded" in record["reason"], name


def test_the_buyer_opens_no_total_that_validators_did_not_sign(endings: Endings) -> None:
    ended = endings["aggregator=makes-up-total"].result()
    for name in ("buyer", "aggregator"):
        assert "its validators did not co-sign them" in ended.records[name]["reason"]
    assert ended.failure == f"PeerRefused: the model buyer {ended.chain.buyer} answered 409"
    assert ended.received(ended.chain.aggregator) == 0


def test_a_trainer_that_signs_what_it_did_not_send_is_left_out_and_not_paid(endings: Endings) -> None:
    ended = endings["trainer=signs-another"].result()
    assert ended.chain.result is not None
    assert ended.chain.result.trainers_answered == (False, True, True)
    assert ended.received(ended.chain.trainers[0]) == 0


def test_a_validator_that_replays_an_answer_is_left_out_and_not_paid(endings: Endings) -> None:
    ended = endings["validator=replays-answer"].result()
    replaying, other = ended.chain.validators
    assert ended.chain.result is not None
    assert ended.chain.result.validators_answered == (False, True)
    assert ended.received(replaying) == 0
    assert ended.received(other) == ended.honestly(other) > 0


def test_an_order_that_asks_for_no_cheat_meets_honest_parties(endings: Endings) -> None:
    ended = endings["nobody"].result()
    assert ended.dispute is None
    assert ended.problems() == []
    for account in (ended.chain.buyer, ended.chain.aggregator, *ended.chain.trainers, *ended.chain.validators):
        assert ended.received(account) == pytest.approx(ended.honestly(account), rel=1e-5)
