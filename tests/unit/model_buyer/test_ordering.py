"""An order stands where the chain says, and what is said of it names who deviated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from commons.chain.marketplace import Dispute, Outcome, Payment, PaymentKind
from commons.chain.marketplace import Status as ChainStatus
from commons.crypto.proofs import KeyProof, verify_key
from commons.errors import PeerUnavailable, VerificationFailed
from commons.http.peer import Peers
from commons.protocol.messages import Message, TrainingRequest
from commons.protocol.signed import Signed, proof_context
from model_buyer.ordering import Ordering
from model_buyer.storage import Status
from tests.unit.model_buyer.scene import (
    AGGREGATOR,
    ARBITER,
    BUYER,
    DOMAIN,
    OWNERS,
    Scene,
    reported,
    signer,
)


@dataclass
class Heard:
    """Peers who take note of everything, or do not answer."""

    down: bool = False
    questions: list[tuple[str, Signed, str]] = field(default_factory=list)

    def sign(self, message: Message) -> Signed:
        return signer(BUYER).sign(message)

    def ask(self, method: str, url: str, question: Signed, answer: Any, sender: str, patience: Any) -> None:
        self.questions.append((f"{method} {url}", question, sender))
        if self.down:
            raise PeerUnavailable("nobody is there")


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def ordering(scene: Scene, heard: Heard) -> Ordering:
    urls = ("http://aggregator", "http://buyer")
    return Ordering(scene.storage, scene.vault, scene.chain, cast(Peers, heard), *urls, ARBITER.address)


def test_order_is_announced_signed_and_with_a_proof_of_its_key(scene: Scene, heard: Heard, ordering: Ordering) -> None:
    scene.storage.move(scene.id, announced=False)
    with scene.database.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE models SET status = 'INITIATED'")
    heard.down = True
    ordering.follow(scene.id)
    assert not scene.model.announced
    with scene.database.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE models SET status = 'INITIATED'")
    heard.down = False
    ordering.follow(scene.id)
    assert scene.model.announced
    (_, first, _), (url, signed, sender) = heard.questions
    assert (url, sender) == ("POST http://aggregator/model", AGGREGATOR.address)
    assert signed == first, "the proof is random: it was made once"
    request = signed.verified(TrainingRequest, DOMAIN, BUYER.address)
    context = proof_context(DOMAIN, scene.id, "key", 0, BUYER.address)
    modulus = int(request.order.modulus, 16)
    proof = KeyProof.from_bytes(request.key_proof, 1024)
    assert verify_key(modulus, proof, context, minimum_bits=1024).n == modulus
    with pytest.raises(VerificationFailed):
        verify_key(modulus, proof, proof_context(DOMAIN, scene.id, "key", 0, ARBITER.address), minimum_bits=1024)


def test_failed_training_says_who_deviated_by_the_chain_and_by_what_was_found_here(
    scene: Scene, ordering: Ordering
) -> None:
    question = scene.totals("zero").model_copy(update={"masks": bytes(32)})
    with pytest.raises(VerificationFailed):
        scene.open(question)
    scene.market.status, scene.market.reason = ChainStatus.FAILED, "data owner 0x07 sent a wrong signature"
    model = ordering.follow(scene.id)
    assert model.status == Status.FAILED and model.reason is not None
    assert "data owner 0x07 sent a wrong signature" in model.reason
    assert "the aggregator asked to open sums of zero 0 that stay closed" in model.reason


def dispute(scene: Scene, ordering: Ordering) -> None:
    """Run a training, and have the buyer dispute its result."""
    scene.market.report(reported(scene.run(), iterations=3))
    scene.reviewing.review(ordering.follow(scene.id))
    ordering.follow(scene.id)


def test_dispute_is_shown_while_it_lasts(scene: Scene, ordering: Ordering) -> None:
    dispute(scene, ordering)
    assert scene.market.disputed is not None
    assert scene.model.status == Status.IN_PROGRESS
    assert scene.model.dispute == {
        "disputer": BUYER.address,
        "reason": scene.model.reason,
        "evidence_hash": scene.market.disputed.evidence_hash.hex(),
        "outcome": None,
    }


def test_dispute_of_an_owner_is_shown_without_the_buyers_reason(scene: Scene, ordering: Ordering) -> None:
    scene.market.report(reported(scene.run()))
    scene.market.status, scene.market.disputed = ChainStatus.DISPUTED, Dispute(OWNERS[0].address, b"\x05" * 32, None)
    assert ordering.follow(scene.id).dispute == {
        "disputer": OWNERS[0].address,
        "reason": None,
        "evidence_hash": "05" * 32,
        "outcome": None,
    }


def test_owner_that_disputed_first_is_shown_although_the_buyer_was_about_to(scene: Scene, ordering: Ordering) -> None:
    scene.market.report(reported(scene.run(), iterations=3))
    scene.market.refusal = PeerUnavailable("the chain is away")
    with pytest.raises(PeerUnavailable):
        scene.reviewing.review(scene.model)
    scene.market.status, scene.market.disputed = ChainStatus.DISPUTED, Dispute(OWNERS[0].address, b"\x05" * 32, None)
    shown = ordering.follow(scene.id).dispute
    assert shown is not None and (shown["disputer"], shown["reason"]) == (OWNERS[0].address, None)


@pytest.mark.parametrize("decided", [Outcome.AS_REPORTED, Outcome.CORRECTED, None])
def test_dispute_that_was_decided_ends_with_what_the_chain_paid(
    scene: Scene, ordering: Ordering, decided: Outcome | None
) -> None:
    dispute(scene, ordering)
    scene.market.resolve(decided)
    model = ordering.follow(scene.id)
    assert (model.status, model.spent, model.payments) == (Status.FINISHED, 10, {AGGREGATOR.address: "10"})
    assert model.dispute is not None and model.dispute["disputer"] == BUYER.address
    assert model.dispute["outcome"] == (decided.name if decided is not None else None)
    assert model.dispute["reason"] == model.reason


def test_refund_of_a_dispute_is_a_failed_training(scene: Scene, ordering: Ordering) -> None:
    dispute(scene, ordering)
    scene.market.resolve(Outcome.REFUND)
    model = ordering.follow(scene.id)
    assert (model.status, model.spent, model.payments) == (Status.FAILED, 0, {})
    assert model.reason is not None
    assert model.reason.startswith("the arbiter of a dispute refunded the payment: the reported result is not the one")
    assert model.dispute is not None and model.dispute["outcome"] == "REFUND"


def test_training_that_was_settled_without_a_delivery_is_over(scene: Scene, ordering: Ordering) -> None:
    scene.market.report(reported(scene.run()))
    scene.market.status = ChainStatus.FINISHED
    scene.market.paid = [
        Payment(AGGREGATOR.address, PaymentKind.ORCHESTRATION, 10),
        Payment(BUYER.address, PaymentKind.BUYER_RETURN, 90),
    ]
    model = ordering.follow(scene.id)
    assert (model.status, model.weights, model.spent, model.dispute) == (Status.FINISHED, None, 10, None)
    assert ordering.unfinished() == []
