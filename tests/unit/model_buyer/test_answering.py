"""What the buyer answers with its key, and what it refuses: it opens nothing that the validators did not co-sign."""

from __future__ import annotations

import pytest

from commons.chain.marketplace import Status as ChainStatus
from commons.crypto.proofs import ProductProof, verify_products
from commons.errors import Conflict, InvalidInput, VerificationFailed
from commons.protocol import totals, wire
from commons.protocol.evaluation import Diverged
from commons.protocol.messages import EvaluationKind, MaskedModels, Products, Totals, Vector
from commons.protocol.signed import Signed, proof_context
from tests.unit.model_buyer.scene import AGGREGATOR, BUYER, DOMAIN, OWNERS, STRANGER, Scene, signer


def test_answers_are_signed_as_answers_to_their_questions(scene: Scene) -> None:
    question = scene.masked_round()
    asked = scene.sign(question)
    answer = scene.answering.refresh(question, asked)
    assert answer.verified(Vector, DOMAIN, BUYER.address, asked)
    models = scene.masked_models("iteration")
    with pytest.raises(VerificationFailed):
        scene.answering.multiply(models, scene.sign(models)).verified(Products, DOMAIN, BUYER.address, asked)


def test_journal_has_question_and_answer_as_they_were_signed(scene: Scene) -> None:
    models = scene.masked_models("iteration")
    asked = scene.sign(models)
    answer = scene.answering.multiply(models, asked)
    entry = scene.journal.find(scene.id, "products-iteration", 1)
    assert entry is not None and (entry.question, entry.answer) == (asked.pack(), answer.pack())
    assert Signed.unpack(entry.question).verified(MaskedModels, DOMAIN, AGGREGATOR.address) == models


def test_same_question_gets_the_same_bytes_after_a_restart(scene: Scene) -> None:
    models = scene.masked_models("iteration")
    first = scene.answering.multiply(models, scene.sign(models))
    scene.start()
    assert scene.answering.multiply(models, scene.sign(models)) == first


def test_another_question_of_the_same_name_is_refused(scene: Scene) -> None:
    scene.multiply(scene.masked_models("iteration"))
    with pytest.raises(Conflict, match="already been answered another products-iteration 1"):
        scene.multiply(scene.masked_models("iteration"))


@pytest.mark.parametrize("kind", ["iteration", "settlement"])
def test_products_are_proven_for_this_training_and_evaluation(scene: Scene, kind: EvaluationKind) -> None:
    models = scene.masked_models(kind)
    products = scene.multiply(models)
    count = len(scene.scales(models.kind))
    masked = scene.hidden[kind].masked
    given = wire.split(scene.key.decode(products.ciphertexts, count * wire.product_count(3)), count)
    proof = ProductProof.from_bytes(products.proof, count, scene.key)
    context = proof_context(DOMAIN, scene.id, f"products-{kind}", models.round, BUYER.address)
    verify_products(masked, given, proof, scene.key, context)
    elsewhere = proof_context(DOMAIN, scene.id, f"products-{kind}", models.round + 1, BUYER.address)
    with pytest.raises(VerificationFailed):
        verify_products(masked, given, proof, scene.key, elsewhere)


def test_masked_models_of_another_count_are_refused(scene: Scene) -> None:
    models = scene.masked_models("iteration")
    short = models.model_copy(update={"masked": models.masked[: len(models.masked) // 3 * 2]})
    with pytest.raises(InvalidInput):
        scene.multiply(short)
    assert scene.journal.find(scene.id, "products-iteration", 1) is None


def test_cosigned_totals_are_opened_and_kept_as_metrics(scene: Scene) -> None:
    (zero,) = scene.evaluate("zero")
    (trained,) = scene.evaluate("iteration")
    assert [(metric.iteration, metric.mse) for metric in scene.storage.metrics(scene.id)] == [(0, zero), (1, trained)]
    assert scene.model.reason is None


def refuses(scene: Scene, question: Totals, words: str) -> None:
    with pytest.raises(VerificationFailed, match=words):
        scene.open(question)
    reason = scene.model.reason
    assert reason is not None and reason.startswith("the aggregator asked to open sums of ") and words in reason


@pytest.mark.parametrize("field", ["question", "masks"])
def test_totals_of_another_question_to_the_validators_stay_closed(scene: Scene, field: str) -> None:
    question = scene.totals("zero").model_copy(update={field: bytes(32)})
    refuses(scene, question, "its validators did not co-sign them")
    assert scene.journal.find(scene.id, "open-zero", 0) is None


def test_totals_that_the_aggregator_made_up_stay_closed(scene: Scene) -> None:
    scene.evaluate("zero")
    models = scene.masked_models("iteration")
    question = scene.totals("iteration", models, scene.multiply(models))
    (made_up,) = scene.secrets.key.encrypt([7])
    refuses(scene, question.model_copy(update={"ciphertexts": scene.key.encode([made_up])}), "did not co-sign them")
    assert [metric.iteration for metric in scene.storage.metrics(scene.id)] == [0]
    scene.open(question)


def test_totals_of_other_products_than_were_answered_stay_closed(scene: Scene) -> None:
    scene.evaluate("zero")
    models = scene.masked_models("iteration")
    products = scene.multiply(models)
    honest = scene.totals("iteration", models, products)
    shown = totals.statement_of_totals(honest, models, products.ciphertexts[::-1])
    cosignatures = tuple(signer(owner).sign(shown).signature for owner in OWNERS[3:])
    refuses(scene, honest.model_copy(update={"cosignatures": cosignatures}), "did not co-sign them")


def test_every_validator_that_answered_has_to_sign(scene: Scene) -> None:
    question = scene.totals("zero")
    refuses(scene, question.model_copy(update={"cosignatures": question.cosignatures[:1]}), "1 owners signed")
    refuses(
        scene,
        question.model_copy(update={"cosignatures": (question.cosignatures[0],) * 2}),
        f"a TotalStatement of {OWNERS[4].address} was claimed",
    )


def test_signatures_of_somebody_who_is_no_validator_count_for_nothing(scene: Scene) -> None:
    question = scene.totals("zero")
    forged = tuple(signer(STRANGER).sign(question).signature for _ in question.cosignatures)
    refuses(scene, question.model_copy(update={"cosignatures": forged}), "did not co-sign them")


def test_settlement_without_commitments_stays_closed(scene: Scene) -> None:
    scene.evaluate("zero")
    models = scene.masked_models("settlement")
    question = scene.totals("settlement", models, scene.multiply(models))
    refuses(scene, question.model_copy(update={"commitments": ()}), "0 commitments instead of 2")


def test_validator_that_was_lost_stays_out(scene: Scene) -> None:
    scene.evaluate("zero")
    scene.evaluate("iteration", validators=(1,))
    models = scene.masked_models("settlement")
    products = scene.multiply(models)
    refuses(scene, scene.totals("settlement", models, products), "whoever was lost stays out")
    scene.open(scene.totals("settlement", models, products, validators=(1,)))


def test_validator_that_did_not_score_the_zero_model_does_not_come_later(scene: Scene) -> None:
    scene.evaluate("zero", validators=(0,))
    models = scene.masked_models("iteration")
    refuses(scene, scene.totals("iteration", models, scene.multiply(models)), "those of the evaluation before were")


def test_answered_totals_are_answered_again_although_validators_were_lost_since(scene: Scene) -> None:
    question = scene.totals("zero")
    opened = scene.open(question)
    scene.evaluate("iteration", validators=(0,))
    scene.start()
    assert scene.open(question) == opened


def test_zero_model_is_opened_again_for_those_who_remain_and_only_after_the_settlement(scene: Scene) -> None:
    scene.evaluate("zero")
    again = scene.totals("zero", validators=(1,), round_=1)
    with pytest.raises(Conflict, match="after it"):
        scene.open(again)
    scene.evaluate("settlement", validators=(1,))
    scene.open(again)
    assert scene.mses["zero", 1] != scene.mses["zero", 0]


def test_nothing_is_refreshed_or_evaluated_once_the_settlement_is_asked_for(scene: Scene) -> None:
    scene.evaluate("zero")
    scene.multiply(scene.masked_models("settlement"))
    question = scene.masked_round()
    with pytest.raises(Conflict, match="is being settled"):
        scene.answering.refresh(question, scene.sign(question))
    with pytest.raises(Conflict, match="is being settled"):
        scene.multiply(scene.masked_models("iteration"))


def test_nothing_is_answered_before_the_training_runs(scene: Scene) -> None:
    scene.market.status = ChainStatus.CLOSED
    with pytest.raises(Conflict, match="is CLOSED on chain"):
        scene.multiply(scene.masked_models("iteration"))


@pytest.mark.parametrize("shift", ["half", "long"])
def test_number_that_no_model_and_mask_make_is_not_multiplied(scene: Scene, shift: str) -> None:
    # 1/2 mod n on the intercept would leave every error as it is, and nothing that could be delivered.
    models = scene.masked_models("settlement")
    count = len(scene.scales("settlement")) * 3
    ciphertexts = scene.key.decode(models.masked, count)
    ciphertexts[0] = scene.key.add(ciphertexts[0], (int(scene.key.n) + 1) // 2 if shift == "half" else 1 << 200)
    changed = models.model_copy(update={"masked": scene.key.encode(ciphertexts)})
    with pytest.raises(VerificationFailed):
        scene.multiply(changed)
    assert scene.journal.find(scene.id, "products-settlement", 0) is None


def test_sum_that_is_no_error_of_a_model_stays_closed(scene: Scene) -> None:
    # Vectors of the aggregator's own, with entries far apart, would write the validators' sums side by side in one.
    scene.trained = [float(2**20), 0.0, 0.0]
    scene.evaluate("zero")
    models = scene.masked_models("iteration")
    question = scene.totals("iteration", models, scene.multiply(models))
    with pytest.raises(Diverged):
        scene.open(question)
    assert scene.journal.find(scene.id, "open-iteration", 1) is None
    assert "an error of about 2^" in (scene.model.reason or "")


def test_settlement_before_the_last_round_is_refused_without_a_tolerance(scene: Scene) -> None:
    models = scene.masked_models("settlement").model_copy(update={"round": 1})
    with pytest.raises(InvalidInput, match="it is settled after 2 rounds"):
        scene.multiply(models)


def test_sums_of_a_settlement_after_other_rounds_stay_closed(scene: Scene) -> None:
    scene.evaluate("zero")
    models = scene.masked_models("settlement")
    question = scene.totals("settlement", models, scene.multiply(models)).model_copy(update={"round": 1})
    with pytest.raises(Conflict, match="is of round 2, not 1"):
        scene.open(question)


def test_refused_question_is_not_followed_by_another(scene: Scene) -> None:
    # Each refusal tells whether a masked number is in its range: many of them, under one name, would decrypt it.
    models = scene.masked_models("settlement")
    ciphertexts = scene.key.decode(models.masked, len(scene.scales("settlement")) * 3)
    ciphertexts[0] = scene.key.add(ciphertexts[0], 1 << 200)
    with pytest.raises(VerificationFailed, match="no model and mask"):
        scene.multiply(models.model_copy(update={"masked": scene.key.encode(ciphertexts)}))
    with pytest.raises(Conflict, match="was asked another products-settlement 0 before"):
        scene.multiply(models)


def test_sum_that_stays_closed_is_not_followed_by_another_and_does_not_tell_its_size(scene: Scene) -> None:
    scene.trained = [float(2**20), 0.0, 0.0]
    scene.evaluate("zero")
    models = scene.masked_models("iteration")
    products = scene.multiply(models)
    with pytest.raises(Diverged, match="^the training diverged: sums that are no errors of a model stay closed$"):
        scene.open(scene.totals("iteration", models, products))
    with pytest.raises(Conflict, match="was asked another open-iteration 1 before"):
        scene.open(scene.totals("iteration", models, products))
