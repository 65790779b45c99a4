"""What owners answer and sign, and what they refuse to."""

from __future__ import annotations

import uuid

import pytest

from commons.crypto.proofs import InvalidProof
from commons.crypto.signatures import InvalidSignature
from commons.errors import Conflict, InvalidInput, VerificationFailed
from commons.protocol import totals, wire
from commons.protocol.messages import Cosignature, LocalModelQuestion, ScoreQuestion, TotalStatement, Vector
from commons.protocol.outcome import factors
from commons.protocol.signed import Signed, Signer
from tests.unit.data_owner.parties import STRANGER, TRAINERS, TRAINING, VALIDATORS, Owner, Parties


def test_answer_is_signed_as_one_to_the_question_and_kept_with_it(parties: Parties, owners: list[Owner]) -> None:
    question = parties.ask(parties.round(0))
    answer = owners[0].answering.update(question)
    vector = answer.verified(Vector, parties.domain, TRAINERS[0].address, question.signed)
    assert len(parties.key.decode(vector.ciphertexts, 3)) == 3
    entry = owners[0].journal.find(TRAINING, "update", 0)
    assert entry is not None
    assert (Signed.unpack(entry.question), Signed.unpack(entry.answer)) == (question.signed, answer)


def test_same_question_gets_the_same_answer_and_another_one_none(parties: Parties, owners: list[Owner]) -> None:
    question = parties.round(1)
    answer = owners[0].answering.update(parties.ask(question))
    assert owners[0].answering.update(parties.ask(question)) == answer
    with pytest.raises(Conflict, match="has already been answered another update 1"):
        owners[0].answering.update(parties.ask(parties.round(1)))


@pytest.mark.parametrize("included", [(), (0,), (1, 0), (0, 2), (-1, 0)])
def test_trainer_is_told_a_sum_that_hides_each_update(
    parties: Parties, owners: list[Owner], included: tuple[int, ...]
) -> None:
    question = parties.round(1).model_copy(update={"included": included})
    with pytest.raises(InvalidInput, match="included"):
        owners[0].answering.update(parties.ask(question))
    assert owners[0].journal.names(TRAINING) == []


def test_round_0_sums_nothing(parties: Parties, owners: list[Owner]) -> None:
    with pytest.raises(InvalidInput, match="the model of round 0 is zero"):
        owners[0].answering.update(parties.ask(parties.round(0).model_copy(update={"included": (0, 1)})))


def test_local_model_is_kept_once(parties: Parties, owners: list[Owner]) -> None:
    question = parties.ask(LocalModelQuestion(training=TRAINING))
    answer = owners[1].answering.local_model(question)
    answer.verified(Vector, parties.domain, TRAINERS[1].address, question.signed)
    assert owners[1].journal.names(TRAINING) == [("local", 0)]


def test_products_that_are_none_are_not_scored(parties: Parties, owners: list[Owner]) -> None:
    question = parties.models("iteration", 5)
    width = len(parties.key.encode([parties.key.trivial(0)]))
    swapped = question.products[width : 2 * width] + question.products[:width] + question.products[2 * width :]
    for changed in ({"products": swapped}, {"proof": b""}, {"proof": bytes(len(question.proof))}):
        with pytest.raises(InvalidProof):
            owners[2].answering.score(parties.ask(question.model_copy(update=changed)))
    assert owners[2].journal.names(TRAINING) == []
    owners[2].answering.score(parties.ask(question))


@pytest.mark.parametrize("proven_as", [("settlement", 5), ("iteration", 4)])
def test_proof_of_another_evaluation_is_none(parties: Parties, owners: list[Owner], proven_as: tuple[str, int]) -> None:
    with pytest.raises(InvalidProof):
        owners[2].answering.score(parties.ask(parties.models("iteration", 5, proven_as)))
    assert owners[2].journal.names(TRAINING) == []


def test_settlement_has_the_salts_of_what_is_delivered(parties: Parties, owners: list[Owner]) -> None:
    question = parties.models("settlement", 10)
    for salts in (b"", question.salts[1:]):
        with pytest.raises(InvalidInput, match="salts"):
            owners[2].answering.score(parties.ask(question.model_copy(update={"salts": salts})))
    assert owners[2].journal.names(TRAINING) == []


def test_models_of_a_settlement_are_made_of_what_their_trainers_signed(parties: Parties, owners: list[Owner]) -> None:
    question = parties.models("settlement", 10)
    first, second = question.local_models
    masks = wire.decode_masks(question.masks, len(question.masks) // wire.MASK_BYTES)
    masks[3] += 1  # of the averaged model
    other = Signer(STRANGER, parties.domain).sign(Vector.unpack(second.content), parties.local_models().question)
    swapped = (first.model_copy(update={"place": 1}), second.model_copy(update={"place": 0}))[::-1]
    for changed in (
        {"local_models": swapped},
        {"local_models": parties.local_models().replies},
        {"local_models": (first, second.model_copy(update={"signature": other.signature}))},
        {"local_models": (first,)},
        {"masks": wire.encode_masks(masks)},
        {"randomisers": question.randomisers[::-1]},
        {"randomisers": b""},
        {"local_question": b""},
        {"local_question": LocalModelQuestion(training=uuid.UUID(int=9)).pack()},
    ):
        with pytest.raises((VerificationFailed, InvalidInput)):
            owners[2].answering.score(parties.ask(question.model_copy(update=changed)))
    assert owners[2].journal.names(TRAINING) == []
    owners[2].answering.score(parties.ask(question))


def answered(parties: Parties, owners: list[Owner], question: ScoreQuestion) -> tuple[Signed, dict[int, Signed]]:
    asked = parties.ask(question)
    return asked.signed, {place: owners[2 + place].answering.score(asked) for place in (0, 1)}


@pytest.mark.parametrize(("kind", "round_"), [("zero", 0), ("iteration", 5), ("settlement", 10)])
def test_validators_sign_one_statement_of_the_sums(
    parties: Parties, owners: list[Owner], kind: str, round_: int
) -> None:
    question = parties.zero() if kind == "zero" else parties.models(kind, round_)  # type: ignore[arg-type]
    asked, answers = answered(parties, owners, question)
    sums = parties.sums(question, answers)
    scales = factors(question.kind, (1, 1), question.trainers, question.contributors)
    committed = totals.commitments(question, scales, 3)
    statement = totals.statement(asked, question, (0, 1), sums.totals, committed)
    cosigned = [owner.answering.cosign(parties.ask(sums)) for owner in owners[2:]]
    signatures = [
        answer.verified(Cosignature, parties.domain, validator.address, parties.ask(sums).signed).signature
        for answer, validator in zip(cosigned, VALIDATORS, strict=True)
    ]
    totals.require_cosigned(statement.pack(), signatures, (0, 1), parties.addresses, parties.domain)
    assert [owner.answering.cosign(parties.ask(sums)) for owner in owners[2:]] == cosigned
    assert len(committed) == (2 if kind == "settlement" else 0)


def test_sums_without_a_validator_that_did_not_sign_are_signed_by_the_rest(
    parties: Parties, owners: list[Owner]
) -> None:
    question = parties.zero()
    asked, answers = answered(parties, owners, question)
    owners[2].answering.cosign(parties.ask(parties.sums(question, answers)))
    sums = parties.sums(question, {0: answers[0]})
    signature = owners[2].answering.cosign(parties.ask(sums)).read(Cosignature).signature
    statement = totals.statement(asked, question, (0,), sums.totals, ())
    Signed(content=statement.pack(), signature=signature).verified(
        TotalStatement, parties.domain, VALIDATORS[0].address
    )


def test_validator_that_did_not_answer_an_evaluation_does_not_sign_its_sums(
    parties: Parties, owners: list[Owner]
) -> None:
    question = parties.zero()
    answers = {0: owners[2].answering.score(parties.ask(question))}
    with pytest.raises(Conflict, match="has not answered zero 0"):
        owners[3].answering.cosign(parties.ask(parties.sums(question, answers)))


def test_settlement_is_signed_for_the_rounds_that_it_was_scored_after(parties: Parties, owners: list[Owner]) -> None:
    question = parties.models("settlement", 10)
    _, answers = answered(parties, owners, question)
    sums = parties.sums(question, answers).model_copy(update={"round": 9})
    with pytest.raises(Conflict, match="has not answered settlement 9"):
        owners[2].answering.cosign(parties.ask(sums))


def test_trainer_signs_no_sums(parties: Parties, owners: list[Owner]) -> None:
    question = parties.zero()
    _, answers = answered(parties, owners, question)
    with pytest.raises(Conflict, match="it does not validate"):
        owners[0].answering.cosign(parties.ask(parties.sums(question, answers)))


def test_validator_signs_no_sums_that_its_answer_is_not_in(parties: Parties, owners: list[Owner]) -> None:
    question = parties.zero()
    _, answers = answered(parties, owners, question)
    with pytest.raises(VerificationFailed, match="validator 1 is asked to sign sums of zero 0 that its answer"):
        owners[3].answering.cosign(parties.ask(parties.sums(question, {0: answers[0]})))


def test_validator_signs_no_sums_of_answers_to_another_question(parties: Parties, owners: list[Owner]) -> None:
    # The aggregator asks the two validators about different models.
    first, second = parties.models("iteration", 5), parties.models("iteration", 5)
    answers = {
        0: owners[2].answering.score(parties.ask(first)),
        1: owners[3].answering.score(parties.ask(second)),
    }
    for owner in owners[2:]:
        with pytest.raises(InvalidSignature):
            owner.answering.cosign(parties.ask(parties.sums(first, answers)))


def test_validator_signs_no_sums_with_an_old_answer(parties: Parties, owners: list[Owner]) -> None:
    _, old = answered(parties, owners, parties.models("iteration", 5))
    question = parties.zero()
    _, answers = answered(parties, owners, question)
    with pytest.raises(InvalidSignature):
        owners[2].answering.cosign(parties.ask(parties.sums(question, {0: answers[0], 1: old[1]})))


def test_validator_signs_no_sums_but_those_of_the_answers(parties: Parties, owners: list[Owner]) -> None:
    question = parties.zero()
    _, answers = answered(parties, owners, question)
    sums, others = (parties.sums(question, answers) for _ in range(2))
    for changed in ({"totals": others.totals}, {"randomisers": others.randomisers}):
        with pytest.raises(VerificationFailed, match="are not those of the validators' answers"):
            owners[2].answering.cosign(parties.ask(sums.model_copy(update=changed)))
    with pytest.raises(InvalidInput, match="answers"):
        owners[2].answering.cosign(parties.ask(sums.model_copy(update={"answers": sums.answers[::-1]})))
