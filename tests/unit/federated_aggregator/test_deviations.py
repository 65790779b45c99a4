"""Who deviates is named, who does not answer is left out, and nothing is made of either."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from gmpy2 import mpz

from commons.crypto.paillier import PublicKey
from commons.crypto.proofs import Opening, verify_openings
from commons.errors import InvalidInput, PeerRefused, PeerUnavailable, VerificationFailed
from commons.learning.contributions import UNIT
from commons.protocol import transcript
from commons.protocol.evaluation import Diverged
from commons.protocol.messages import (
    Acknowledgement,
    Cosignature,
    CosignQuestion,
    LocalModelQuestion,
    MaskedModels,
    MaskedRound,
    Message,
    Openings,
    Products,
    RoundQuestion,
    ScoreQuestion,
    Totals,
    TotalStatement,
    Vector,
)
from commons.protocol.signed import Domain
from commons.protocol.transcript import Cosigned, LocalModels, Scores
from federated_aggregator.course import Deviated, TooFewAnswered, blaming
from tests.unit.accounts import DOMAIN, signer
from tests.unit.federated_aggregator.parties import (
    BUYER,
    LENGTH,
    STRANGER,
    TRAINING,
    VALIDATOR_ADDRESSES,
    VALIDATOR_SIGNERS,
    VALIDATORS,
    World,
)

# The model buyer


def changed(index: int) -> Callable[[World], None]:
    """Return the deviation of a buyer that returns one wrong product."""

    def deviate(world: World) -> None:
        def wrong(_: Message, answer: Message) -> Message:
            if not isinstance(answer, Products):
                return answer
            ciphertexts = world.key.decode(answer.ciphertexts, len(answer.ciphertexts) // len(world.key.encode([1])))
            ciphertexts[index] = world.key.add(ciphertexts[index], 1)
            return answer.model_copy(update={"ciphertexts": world.key.encode(ciphertexts)})

        world.buyer.wrong = wrong

    return deviate


def answering(model: type[Message], change: Callable[[Message], Message]) -> Callable[[World], None]:
    """Return the deviation of a buyer that answers one kind of question with something else."""

    def deviate(world: World) -> None:
        world.buyer.wrong = lambda _, answer: change(answer) if isinstance(answer, model) else answer

    return deviate


def lower(answer: Openings) -> Openings:
    first, *others = answer.totals
    return answer.model_copy(update={"totals": (f"{int(first, 16) - 1:x}", *others)})


def signed_by(other: object) -> Callable[[World], None]:
    def deviate(world: World) -> None:
        world.buyer.signs = other

    return deviate


DEVIATIONS: dict[str, tuple[Callable[[World], None], str, str]] = {
    "a false product": (changed(1), "mask-iteration", "InvalidProof: the products of 1 vectors were claimed"),
    "a proof of something else": (
        answering(Products, lambda answer: answer.model_copy(update={"proof": b"\1" * len(answer.proof)})),
        "mask-iteration",
        "InvalidProof",
    ),
    "no proof": (
        answering(Products, lambda answer: answer.model_copy(update={"proof": b""})),
        "mask-iteration",
        "InvalidProof",
    ),
    "too few products": (
        answering(Products, lambda answer: answer.model_copy(update={"ciphertexts": answer.ciphertexts[:256]})),
        "mask-iteration",
        "InvalidCiphertext",
    ),
    "a false opening": (
        answering(Openings, lower), "total-zero", "InvalidOpening: 1 totals were claimed"
    ),
    "no openings": (
        answering(Openings, lambda answer: answer.model_copy(update={"totals": ()})),
        "total-zero",
        "InvalidInput: totals: 0 totals were opened instead of 1",
    ),
    "too few quotients": (
        answering(Vector, lambda answer: answer.model_copy(update={"ciphertexts": answer.ciphertexts[:256]})),
        "refresh",
        "InvalidCiphertext",
    ),
    "a number that is no ciphertext": (
        answering(Vector, lambda answer: answer.model_copy(update={"ciphertexts": bytes(len(answer.ciphertexts))})),
        "refresh",
        "InvalidCiphertext",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DEVIATIONS)
def test_buyer_that_deviates_is_named(world: World, name: str) -> None:
    deviate, last, finding = DEVIATIONS[name]
    deviate(world)
    with pytest.raises(Deviated, match=f"^the model buyer {BUYER.address} deviated: {finding}"):
        world.training.run(world.course)
    names = world.names()
    assert last in {kind for kind, _ in names}
    followed = {"mask-iteration": ("score-iteration", 2), "total-zero": ("opening-zero", 0), "refresh": ("round", 1)}
    assert followed[last] not in names  # nothing was made of it


@pytest.mark.parametrize(
    "deviate",
    [
        pytest.param(answering(Vector, lambda answer: Acknowledgement()), id="another message"),
        pytest.param(signed_by(STRANGER), id="the signature of somebody else"),
        pytest.param(signed_by(signer(2, Domain(1, DOMAIN.contract))), id="a signature for another chain"),
    ],
)
def test_nobody_is_named_for_what_the_buyer_did_not_sign(world: World, deviate: Callable[[World], None]) -> None:
    deviate(world)
    with pytest.raises(PeerUnavailable, match=f"answered what {BUYER.address} did not sign"):
        world.training.run(world.course)


def test_false_product_of_any_model_of_a_settlement_is_found(make_world: Callable[..., World]) -> None:
    for index in (0, 5, -1):
        world = make_world(iterations=1)
        changed(index)(world)
        with pytest.raises(Deviated, match=f"{BUYER.address} deviated: InvalidProof: the products of 11 vectors"):
            world.training.run(world.course)


def test_false_opening_of_any_model_of_a_settlement_is_found(make_world: Callable[..., World]) -> None:
    for index in (1, -1):
        world = make_world(iterations=1)

        def lie(answer: Openings, index: int = index) -> Openings:
            opened = list(answer.totals)
            if len(opened) > 1:  # at the settlement
                opened[index] = f"{int(opened[index], 16) + 1:x}"
            return answer.model_copy(update={"totals": tuple(opened)})

        answering(Openings, lie)(world)
        with pytest.raises(Deviated, match=f"{BUYER.address} deviated: InvalidOpening: 11 totals were claimed"):
            world.training.run(world.course)


def test_openings_that_pass_among_all_but_not_for_the_owners_are_found(make_world: Callable[..., World]) -> None:
    # A negated randomiser is off by an element of order two, which passes where its hashed exponent is even.
    def passes(ciphertexts: list[mpz], openings: list[Opening], key: PublicKey) -> bool:
        try:
            verify_openings(ciphertexts, openings, key)
        except VerificationFailed:
            return False
        return True

    def negated(world: World, ciphertexts: list[mpz], honest: list[Opening]) -> list[Opening] | None:
        for which in range(1, 1 << len(honest)):
            openings = [
                replace(opening, randomiser=int(world.key.n) - opening.randomiser) if which >> i & 1 else opening
                for i, opening in enumerate(honest)
            ]
            if passes(ciphertexts, openings, world.key) and not passes(ciphertexts[:2], openings[:2], world.key):
                return openings
        return None

    def found_out(world: World) -> bool:
        """Run a training; return False if its numbers left the buyer no such openings."""
        possible = True

        def wrong(question: Message, answer: Message) -> Message:
            nonlocal possible
            if not isinstance(question, Totals) or question.kind != "settlement":
                return answer
            assert isinstance(answer, Openings)
            ciphertexts = world.key.decode(question.ciphertexts, len(answer.totals))
            honest = [Opening(int(t, 16), int(r, 16)) for t, r in zip(answer.totals, answer.randomisers, strict=True)]
            openings = negated(world, ciphertexts, honest)
            possible = openings is not None
            return answer.model_copy(
                update={"randomisers": tuple(f"{opening.randomiser:x}" for opening in openings or honest)}
            )

        world.buyer.wrong = wrong
        try:
            world.training.run(world.course)
        except Deviated as error:
            assert f"{BUYER.address} deviated: InvalidOpening: 2 totals were claimed" in str(error)
            assert ("opening-settlement", 1) not in world.names()
            return True
        assert not possible
        return False

    assert any(found_out(make_world(iterations=1)) for _ in range(20))  # each has them with probability 7/8


@pytest.mark.parametrize("question", [MaskedRound, MaskedModels, Totals])
def test_buyer_that_does_not_answer_is_waited_for_and_not_blamed(world: World, question: type[Message]) -> None:
    world.buyer.mute = lambda content: isinstance(content, question)
    with pytest.raises(PeerUnavailable):
        world.training.run(world.course)
    world.buyer.mute = lambda content: False
    world.restart()
    outcome, _ = world.training.run(world.course)
    assert outcome.iterations == 3


@pytest.mark.parametrize("error", [VerificationFailed("x is 1"), InvalidInput("is odd", "x")])
def test_failed_verification_names_the_party_and_the_finding(error: Exception) -> None:
    with pytest.raises(Deviated) as found, blaming("the trainer 0xa"):
        raise error
    assert str(found.value) == f"the trainer 0xa deviated: {type(error).__name__}: {error}"


@pytest.mark.parametrize(
    "error", [PeerUnavailable("x"), PeerRefused("http://a", 409, "x"), Diverged("x"), ValueError()]
)
def test_nobody_is_blamed_for_other_errors(error: Exception) -> None:
    with pytest.raises(type(error)) as found, blaming("the trainer 0xa"):
        raise error
    assert found.value is error


# Trainers


def test_trainer_whose_signature_is_wrong_is_left_out(world: World) -> None:
    world.trainers[1].signs = STRANGER
    outcome, trained = world.training.run(world.course)
    assert trained.trainers == (0, 2)
    assert outcome.trainers_answered == (True, False, True)
    assert outcome.contributions[1] == 0
    assert world.course.lost == {world.trainers[1].signer.address}
    for round_ in range(3):
        record = world.record("round", round_, transcript.Round)
        assert [answer.place for answer in record.answers] == [0, 2]
        assert record.question.read(RoundQuestion).included == (() if round_ == 0 else (0, 2))
    assert [answer.place for answer in world.record("local", 0, LocalModels).answers] == [0, 2]


@pytest.mark.parametrize(
    "answer",
    [Acknowledgement(), Vector(ciphertexts=b""), Vector(ciphertexts=bytes(512)), Vector(ciphertexts=b"\1" * 768)],
)
def test_trainer_that_answers_nonsense_is_left_out(world: World, answer: Message) -> None:
    world.trainers[0].wrong = lambda question, _: answer
    _, trained = world.training.run(world.course)
    assert trained.trainers == (1, 2)


def test_trainer_that_answers_now_and_then_is_in_the_rounds_that_it_answered(world: World) -> None:
    world.trainers[2].mute = lambda content: isinstance(content, RoundQuestion) and content.round == 1
    outcome, _ = world.training.run(world.course)
    assert [world.rounds.trainers(world.course, round_) for round_ in range(3)] == [(0, 1, 2), (0, 1), (0, 1, 2)]
    questions = [world.record("round", round_, transcript.Round).question.read(RoundQuestion) for round_ in range(3)]
    assert [question.included for question in questions] == [(), (0, 1, 2), (0, 1)]
    assert outcome.trainers_answered == (True, True, False)  # two of three rounds


def test_sum_of_a_single_trainer_is_never_made(world: World) -> None:
    world.trainers[0].mute = world.trainers[1].mute = lambda content: isinstance(content, RoundQuestion)
    with pytest.raises(TooFewAnswered, match="1 trainers answered round 0: at least 2 are needed"):
        world.training.run(world.course)
    assert ("round", 0) not in world.names()


def test_contributions_of_a_single_trainer_are_never_measured(world: World) -> None:
    for trainer in world.trainers[:2]:
        trainer.mute = lambda content: isinstance(content, LocalModelQuestion)
    with pytest.raises(TooFewAnswered, match="1 trainers answered for their local models: at least 2 are needed"):
        world.training.run(world.course)
    assert ("local", 0) not in world.names()


# Validators


def deviating(world: World, change: Callable[[CosignQuestion, Cosignature], Message], kinds: set[str]) -> None:
    """Have the second validator answer differently when it is asked to sign the sums of such evaluations."""

    def wrong(question: Message, answer: Message) -> Message:
        return change(question, answer) if isinstance(question, CosignQuestion) and question.kind in kinds else answer

    world.validators[1].wrong = wrong


def of_another_statement(question: CosignQuestion, _: Cosignature) -> Cosignature:
    statement = TotalStatement(
        training=TRAINING,
        kind=question.kind,
        round=question.round,
        trainers=(0, 1, 2),
        contributors=(),
        question=bytes(32),
        masked=bytes(32),
        products=bytes(32),
        masks=bytes(32),
        validators=(0, 1),
        totals=bytes(32),
        commitments=(),
    )
    return Cosignature(signature=VALIDATOR_SIGNERS[1].sign(statement).signature)


NO_COSIGNATURES: dict[str, Callable[[CosignQuestion, Cosignature], Message]] = {
    "of another statement": of_another_statement,
    "of nobody": lambda question, answer: Cosignature(signature=bytes(65)),
    "of no length": lambda question, answer: Cosignature(signature=b""),
    "no message": lambda question, answer: Acknowledgement(),
}


@pytest.mark.parametrize("name", NO_COSIGNATURES)
def test_validator_that_does_not_cosign_is_left_out_and_the_sums_are_made_again(world: World, name: str) -> None:
    deviating(world, NO_COSIGNATURES[name], {"zero"})
    mse, validators = world.evaluations.zero(world.course, 0, (0, 1), all_of_them=False)
    assert validators == (0,)
    assert mse / UNIT == pytest.approx(VALIDATORS[0].mse(np.zeros(LENGTH)), rel=1e-8)
    scores, cosigned = world.record("score-zero", 0, Scores), world.record("total-zero", 0, Cosigned)
    assert [answer.place for answer in scores.answers] == [0, 1]
    assert [answer.place for answer in cosigned.answers] == [0]
    assert cosigned.question.read(CosignQuestion).answers == scores.answers[:1]
    asked = cosigned.totals.read(Totals)
    assert (asked.validators, len(asked.cosignatures)) == ((0,), 1)
    assert world.course.lost == {VALIDATOR_ADDRESSES[1]}


def test_validator_that_is_lost_later_is_left_out_of_the_zero_model_too(world: World) -> None:
    world.validators[0].mute = lambda content: isinstance(content, CosignQuestion) and content.kind == "iteration"
    outcome, _ = world.training.run(world.course)
    assert outcome.validators_answered == (False, True)
    assert outcome.initial_mse / UNIT == pytest.approx(VALIDATORS[1].mse(np.zeros(LENGTH)), rel=1e-8)
    assert {("score-zero", 1), ("total-zero", 1), ("opening-zero", 1)} <= world.names()
    assert world.storage.training(TRAINING).validators == [1]
    for name, round_ in (("score-settlement", 3), ("score-zero", 1)):
        assert [answer.place for answer in world.record(name, round_, Scores).answers] == [1]
    assert world.evaluations.metric(world.course, "zero", 1).iteration == 0


def test_validator_that_does_not_answer_is_not_asked_to_sign(world: World) -> None:
    world.validators[1].mute = lambda content: isinstance(content, ScoreQuestion)
    _, validators = world.evaluations.zero(world.course, 0, (0, 1), all_of_them=False)
    assert validators == (0,)
    assert world.validators[1].said == {}


def test_evaluation_that_no_validator_signs_ends_the_training(world: World) -> None:
    for validator in world.validators:
        validator.mute = lambda content: isinstance(content, CosignQuestion)
    with pytest.raises(TooFewAnswered, match="no validator signed the sums of zero 0"):
        world.training.run(world.course)
    assert ("total-zero", 0) not in world.names()


def test_evaluation_that_no_validator_answers_ends_the_training(world: World) -> None:
    for validator in world.validators:
        validator.signs = STRANGER
    with pytest.raises(TooFewAnswered, match="no validator answered the zero of round 0"):
        world.training.run(world.course)


@pytest.mark.parametrize(
    ("question", "reason", "kept"),
    [
        (ScoreQuestion, "a validator of the settlement does not answer", set()),
        (CosignQuestion, "a validator of the settlement does not sign", {("score-zero", 1)}),
    ],
)
def test_zero_model_at_the_end_waits_for_everybody(
    world: World, question: type[Message], reason: str, kept: set[tuple[str, int]]
) -> None:
    before = world.names()
    world.validators[1].mute = lambda content: isinstance(content, question)
    with pytest.raises(PeerUnavailable, match=reason):
        world.evaluations.zero(world.course, 1, (0, 1), all_of_them=True)
    assert world.names() - before == kept
    world.validators[1].mute = lambda content: False
    _, validators = world.evaluations.zero(world.course, 1, (0, 1), all_of_them=True)
    assert validators == (0, 1)


def test_training_that_diverges_ends_without_a_metric(world: World) -> None:
    for trainer in world.trainers:
        trainer.weight *= 2**30
    with pytest.raises(Diverged):
        world.training.run(world.course)
    assert [metric.iteration for metric in world.storage.metrics(TRAINING)] == [0]
