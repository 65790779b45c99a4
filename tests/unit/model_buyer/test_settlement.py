"""The end of a training: the buyer takes the model that the validators vouched for, confirms what it computed itself
and disputes everything else."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest

from commons.chain.marketplace import Dispute, InsufficientFunds, Outcome
from commons.chain.marketplace import Status as ChainStatus
from commons.errors import Conflict, NotAuthorised, NotFound, VerificationFailed
from commons.protocol import disputes
from commons.protocol.messages import Delivery
from commons.protocol.outcome import Outcome as Computed
from commons.protocol.outcome import settle
from commons.protocol.signed import Signed
from tests.unit.model_buyer.scene import (
    AGGREGATOR,
    ARBITER,
    BUYER,
    DOMAIN,
    OWNERS,
    REPORTED_AT,
    REVIEW_S,
    STRANGER,
    TRAINERS,
    WEIGHTS,
    Scene,
    reported,
)


def through(scene: Scene, **changes: Any) -> Computed:
    """Run a training and report its outcome, with changes."""
    outcome = scene.run()
    scene.market.report(reported(outcome, **changes))
    return outcome


def deliver(scene: Scene, delivery: Delivery, sender: str = AGGREGATOR.address) -> None:
    scene.settlement.receive(delivery, sender)


def review(scene: Scene) -> None:
    scene.reviewing.review(scene.model)


# Delivery


@pytest.mark.parametrize("better", ["trained", "averaged"])
def test_better_model_is_unmasked(scene: Scene, better: str) -> None:
    scene.trained = [0.2, 0.1, -0.1] if better == "trained" else [0.9, -0.5, 0.5]
    scene.local = [[0.9, 0.5, -0.5], [0.8, 0.5, 0.5], [0.9, 0.0, 0.2]] if better == "trained" else scene.local
    assert through(scene).model == better
    deliver(scene, scene.delivery(better))
    assert scene.model.weights == pytest.approx(scene.weights(better), abs=1e-11)
    assert scene.model.outcome is not None and scene.model.outcome["model"] == better


def wrong(delivery: Delivery, field: str) -> Delivery:
    first, *rest = delivery.quotients
    change: dict[str, Any] = {
        "salt": {"salt": bytes(32)},
        "another number": {"quotients": (f"{int(first, 16) + 1:x}", *rest)},
        "too few numbers": {"quotients": tuple(rest)},
        "a number below zero": {"quotients": ("-1", *rest)},
        "a number longer than masks": {"quotients": ("1" + 42 * "0", *rest)},
    }[field]
    return delivery.model_copy(update=change)


@pytest.mark.parametrize(
    "field", ["salt", "another number", "too few numbers", "a number below zero", "a number longer than masks"]
)
def test_what_the_validators_did_not_vouch_for_is_no_delivery(scene: Scene, field: str) -> None:
    right = scene.run()
    scene.market.report(reported(right))
    delivery = scene.delivery(right.model)
    with pytest.raises(VerificationFailed, match=f"the aggregator {AGGREGATOR.address} did not deliver what it is"):
        deliver(scene, wrong(delivery, field))
    assert scene.model.weights is None
    assert scene.model.reason is not None and AGGREGATOR.address in scene.model.reason
    deliver(scene, delivery)
    assert scene.model.weights is not None


def test_worse_model_is_no_delivery(scene: Scene) -> None:
    outcome = through(scene)
    worse = "averaged" if outcome.model == "trained" else "trained"
    with pytest.raises(VerificationFailed, match=f"the {worse} model was delivered, the {outcome.model} one is better"):
        deliver(scene, scene.delivery(worse))
    assert scene.model.weights is None


def test_model_is_not_taken_before_the_result_is_on_chain(scene: Scene) -> None:
    outcome = scene.run()
    with pytest.raises(Conflict, match="is TRAINING on chain: nothing to deliver now"):
        deliver(scene, scene.delivery(outcome.model))


@pytest.mark.parametrize("sender", [STRANGER.address, OWNERS[0].address, ARBITER.address])
def test_aggregator_alone_delivers_while_nobody_disputes(scene: Scene, sender: str) -> None:
    outcome = through(scene)
    with pytest.raises(NotAuthorised, match="the aggregator delivers the model"):
        deliver(scene, scene.delivery(outcome.model), sender)


def test_arbiter_delivers_too_while_there_is_a_dispute_and_the_buyer_leaves_the_end_to_it(scene: Scene) -> None:
    outcome = through(scene)
    scene.market.status, scene.market.disputed = ChainStatus.DISPUTED, Dispute(OWNERS[0].address, bytes(32), None)
    with pytest.raises(NotAuthorised):
        deliver(scene, scene.delivery(outcome.model), STRANGER.address)
    deliver(scene, scene.delivery(outcome.model), ARBITER.address)
    assert scene.model.weights == pytest.approx(scene.weights(outcome.model), abs=1e-11)
    review(scene)
    assert (scene.market.status, scene.market.finished) == (ChainStatus.DISPUTED, 0)


def test_model_of_a_settled_training_is_still_taken(scene: Scene) -> None:
    outcome = through(scene)
    scene.market.status = ChainStatus.FINISHED
    deliver(scene, scene.delivery(outcome.model))
    assert scene.model.weights is not None


# Review


def test_result_that_is_the_same_here_is_confirmed_once_the_model_is_there(scene: Scene) -> None:
    outcome = through(scene)
    review(scene)
    assert scene.market.finished == 0
    deliver(scene, scene.delivery(outcome.model))
    review(scene)
    review(scene)
    assert (scene.market.finished, scene.market.bonds) == (1, [])


def test_hashes_are_the_aggregators_to_report(scene: Scene) -> None:
    outcome = through(scene, transcript_root=b"\x07" * 32, model_hash=b"\x08" * 32)
    deliver(scene, scene.delivery(outcome.model))
    review(scene)
    assert scene.market.finished == 1


def test_review_is_left_to_an_owner_that_is_said_not_to_have_answered(scene: Scene) -> None:
    scene.evaluate("zero", validators=(1,))
    question = scene.masked_round()
    scene.answering.refresh(question, scene.sign(question))
    (zero,) = scene.mses["zero", 0]
    measured = scene.evaluate("settlement", validators=(1,))
    outcome = settle(scene.id, zero, measured, WEIGHTS, [TRAINERS, TRAINERS], TRAINERS, 2, (1,))
    assert outcome.validators_answered == (False, True)
    scene.market.report(reported(outcome))
    deliver(scene, scene.delivery(outcome.model))
    scene.market.clock = REPORTED_AT + REVIEW_S
    review(scene)
    assert (scene.market.status, scene.market.finished, scene.market.bonds) == (ChainStatus.REPORTED, 0, [])


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("iterations", "number of rounds: reported 3, computed 2"),
        ("initial_mse", "initial MSE: reported "),
        ("final_mse", "final MSE: reported "),
        ("partial_mses", f"partial MSE of {OWNERS[1].address}: reported "),
        ("contributions", f"contribution of {OWNERS[1].address}: reported "),
        ("trainers_answered", f"whether it answered of {OWNERS[1].address}: reported False, computed True"),
        ("validators_answered", f"whether it answered of {OWNERS[4].address}: reported False, computed True"),
    ],
)
def test_result_that_differs_in_one_field_is_disputed_at_once(scene: Scene, field: str, words: str) -> None:
    outcome = scene.run()
    value = getattr(reported(outcome), field)
    if not isinstance(value, tuple):
        changed: Any = value + 1
    else:
        changed = (value[0], not value[1] if value[1] is True else value[1] + 1, *value[2:])
    scene.market.report(reported(outcome, **{field: changed}))
    review(scene)
    dispute = scene.market.disputed
    assert dispute is not None and (dispute.disputer, scene.market.bonds) == (BUYER.address, [5])
    reason = scene.model.reason
    assert reason is not None and reason.startswith("the reported result is not the one computed here: ")
    assert words in reason and reason.count("reported ") == 2


def test_swapped_contributions_are_disputed_although_the_model_came(scene: Scene) -> None:
    outcome = scene.run()
    first, second, third = outcome.contributions
    assert first != second
    scene.market.report(reported(outcome, contributions=(second, first, third)))
    deliver(scene, scene.delivery(outcome.model))
    review(scene)
    assert (scene.market.finished, scene.market.bonds) == (0, [5])


@pytest.mark.parametrize("stage", ["nothing was asked", "not opened", "a round was left out"])
def test_result_of_what_this_service_never_opened_is_disputed(scene: Scene, stage: str) -> None:
    outcome = scene.run() if stage == "a round was left out" else None
    if stage == "not opened":
        scene.evaluate("zero")
        scene.multiply(scene.masked_models("settlement"))
    if outcome is not None:  # as if the buyer had never been asked to divide
        with scene.database.writer.begin() as connection:
            connection.exec_driver_sql("DELETE FROM journal WHERE kind = 'refresh'")
    made_up = Computed(2, 4, 2, 3, (3, 3, 3), (1, 1, 1), (True,) * 3, (True,) * 2)
    scene.market.report(reported(outcome or made_up))
    review(scene)
    assert scene.market.bonds == [5]
    assert scene.model.reason is not None and "follows from nothing that this service opened" in scene.model.reason


def test_model_that_did_not_come_by_half_of_the_review_is_disputed(scene: Scene) -> None:
    outcome = through(scene)
    scene.market.clock = REPORTED_AT + REVIEW_S // 2 - 1
    review(scene)
    assert scene.market.bonds == []
    with pytest.raises(VerificationFailed):
        deliver(scene, wrong(scene.delivery(outcome.model), "salt"))
    scene.market.clock += 1
    review(scene)
    assert scene.market.bonds == [5]
    reason = scene.model.reason
    assert reason is not None and reason.startswith("the model was not delivered by half of the review period: the agg")


def test_model_that_came_in_time_is_paid_for_in_the_second_half_too(scene: Scene) -> None:
    outcome = through(scene)
    deliver(scene, scene.delivery(outcome.model))
    scene.market.clock = REPORTED_AT + REVIEW_S
    review(scene)
    assert (scene.market.finished, scene.market.bonds) == (1, [])


def test_dispute_that_could_not_be_paid_is_raised_later_with_the_same_claim(scene: Scene) -> None:
    scene.evaluate("zero")
    scene.market.report(reported(Computed(2, 4, 2, 3, (3, 3, 3), (1, 1, 1), (True,) * 3, (True,) * 2)))
    scene.market.refusal = InsufficientFunds(BUYER.address, 5)
    with pytest.raises(InsufficientFunds):
        review(scene)
    claim = scene.model.claim
    assert claim is not None and scene.market.disputed is None
    scene.start()  # killed before the transaction, and started again
    scene.evaluate("iteration")  # a claim made now would be another one
    scene.market.refusal = None
    review(scene)
    assert scene.model.claim == claim and scene.market.bonds == [5]
    assert scene.market.disputed == Dispute(BUYER.address, disputes.evidence_hash(Signed.unpack(claim)), None)


def test_dispute_is_raised_once(scene: Scene) -> None:
    through(scene, iterations=3)
    for _ in range(3):
        review(scene)
        scene.start()
    assert scene.market.bonds == [5]


# Evidence


def test_arbiter_reads_evidence_that_is_what_the_chain_has_the_hash_of(scene: Scene) -> None:
    through(scene, iterations=3)
    review(scene)
    assert scene.market.disputed is not None
    file = io.BytesIO(b"".join(scene.reviewing.evidence(scene.id, ARBITER.address)))
    evidence = disputes.read(file)
    claim = disputes.verify(evidence, scene.id, BUYER.address, scene.market.disputed.evidence_hash, DOMAIN)
    assert (claim.claim, claim.reported, claim.computed) == ("number of rounds", "3", "2")
    names = [kind for kind, _ in scene.journal.names(scene.id) if not kind.startswith("asked-")]
    assert [copy.kind for copy in evidence.copies] == names
    assert len(evidence.copies) == 6


def test_evidence_stays_what_it_was_although_more_is_asked(scene: Scene) -> None:
    scene.evaluate("zero")
    scene.market.report(reported(Computed(2, 4, 2, 3, (3, 3, 3), (1, 1, 1), (True,) * 3, (True,) * 2)))
    review(scene)
    before = b"".join(scene.reviewing.evidence(scene.id, ARBITER.address))
    scene.evaluate("iteration")
    assert b"".join(scene.reviewing.evidence(scene.id, ARBITER.address)) == before


@pytest.mark.parametrize("caller", [STRANGER, AGGREGATOR, BUYER, OWNERS[0]])
def test_evidence_is_for_the_arbiter_alone(scene: Scene, caller: Any) -> None:
    through(scene, iterations=3)
    review(scene)
    with pytest.raises(NotAuthorised):
        scene.reviewing.evidence(scene.id, caller.address)


@pytest.mark.parametrize("status", [ChainStatus.REPORTED, ChainStatus.FINISHED])
def test_evidence_is_shown_in_a_dispute_only(scene: Scene, status: ChainStatus) -> None:
    through(scene, iterations=3)
    review(scene)
    scene.market.status = status
    with pytest.raises(NotAuthorised):
        scene.reviewing.evidence(scene.id, ARBITER.address)


def test_there_is_no_evidence_for_what_somebody_else_disputes(scene: Scene) -> None:
    through(scene)
    scene.market.status, scene.market.disputed = ChainStatus.DISPUTED, Dispute(OWNERS[0].address, bytes(32), None)
    review(scene)
    with pytest.raises(NotFound, match="somebody else's"):
        scene.reviewing.evidence(scene.id, ARBITER.address)


def test_result_the_arbiter_corrected_is_not_reviewed_again(scene: Scene) -> None:
    outcome = through(scene, iterations=3)
    review(scene)
    scene.market.resolve(Outcome.CORRECTED)
    scene.market.result = dataclasses.replace(reported(outcome))
    review(scene)
    assert (scene.market.finished, scene.market.bonds) == (0, [5])
