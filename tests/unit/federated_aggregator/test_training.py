"""A training as the aggregator runs it: what it comes to, what its transcript has, and what a restart repeats."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from gmpy2 import powmod

from commons.crypto.packing import pack_masked
from commons.learning.contributions import UNIT
from commons.learning.local_steps import federated_average_of_local_models, federated_descent
from commons.learning.statistics import FloatArray, GramStatistics
from commons.protocol import evaluation, totals, transcript, wire
from commons.protocol.messages import (
    MaskedModels,
    MaskedRound,
    Openings,
    Products,
    RoundQuestion,
    ScoreQuestion,
    Totals,
    TotalStatement,
    Vector,
)
from commons.protocol.transcript import Cosigned, Masking, Opened, Scores, TranscriptRoot
from tests.unit.accounts import DOMAIN
from tests.unit.federated_aggregator.parties import (
    AGGREGATOR,
    BUYER,
    LENGTH,
    TRAINERS,
    TRAINING,
    VALIDATOR_ADDRESSES,
    VALIDATORS,
    WEIGHTS,
    PowerCut,
    World,
)

ENTRIES = [
    ("header", 0),
    ("score-zero", 0),
    ("total-zero", 0),
    ("opening-zero", 0),
    ("local", 0),
    ("round", 0),
    ("refresh", 0),
    ("round", 1),
    ("mask-iteration", 2),
    ("score-iteration", 2),
    ("total-iteration", 2),
    ("opening-iteration", 2),
    ("refresh", 1),
    ("round", 2),
    ("mask-settlement", 3),
    ("score-settlement", 3),
    ("total-settlement", 3),
    ("opening-settlement", 3),
]


def mse(model: FloatArray, owners: Sequence[GramStatistics] = VALIDATORS) -> float:
    return sum(owner.rows * owner.mse(model) for owner in owners) / sum(owner.rows for owner in owners)


def descended(rounds: int) -> FloatArray:
    return federated_descent(TRAINERS, list(WEIGHTS), rounds, 0.5, 0.0, 1)


def read(world: World) -> transcript.Transcript:
    return transcript.read(io.BytesIO(b"".join(world.transcripts.stream(TRAINING))))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, private_key: object, uniform: object) -> object:
    world = World(f"sqlite:///{tmp_path_factory.mktemp('finished') / 'service.db'}", private_key, uniform)
    outcome, trained = world.training.run(world.course)
    yield world, outcome, trained
    world.close()


def test_training_comes_to_what_it_does_in_the_clear(finished: tuple) -> None:
    world, outcome, trained = finished
    average = federated_average_of_local_models(TRAINERS, list(WEIGHTS), 0.5, 0.0, 3)
    assert outcome.iterations == 3
    assert outcome.initial_mse / UNIT == pytest.approx(mse(np.zeros(LENGTH)), rel=1e-8)
    assert outcome.trained_mse / UNIT == pytest.approx(mse(descended(3)), rel=1e-8)
    assert outcome.averaged_mse / UNIT == pytest.approx(mse(average), rel=1e-8)
    assert (outcome.trainers_answered, outcome.validators_answered) == ((True,) * 3, (True,) * 2)
    assert (trained.round, trained.trainers) == (2, (0, 1, 2))
    metrics = {metric.iteration: metric.mse for metric in world.storage.metrics(TRAINING)}
    assert metrics == {
        0: outcome.initial_mse,
        2: pytest.approx(UNIT * mse(descended(2)), rel=1e-8),
        3: outcome.trained_mse,
    }
    assert world.reported == [[0], [0, 2], [0, 2, 3]]


def test_transcript_has_every_step_in_the_order_of_the_protocol(finished: tuple) -> None:
    world, _, _ = finished
    found = read(world)
    assert list(found.records) == ENTRIES
    root = found.root.verified(TranscriptRoot, DOMAIN, AGGREGATOR.address)
    assert root == TranscriptRoot(training=TRAINING, root=world.transcripts.root(TRAINING), entries=len(ENTRIES))


def test_trainers_have_it_in_writing_whose_updates_arrived(finished: tuple) -> None:
    world, _, _ = finished
    asked = [world.record("round", round_, transcript.Round).question.read(RoundQuestion) for round_ in range(3)]
    assert [question.included for question in asked] == [(), (0, 1, 2), (0, 1, 2)]


def test_transcript_has_the_buyers_signed_answers_where_they_led_to_something(finished: tuple) -> None:
    world, _, _ = finished
    assert world.record("round", 0, transcript.Round).refreshed is None
    for round_ in (1, 2):
        question = world.record("refresh", round_ - 1, Masking).question
        assert question.verified(MaskedRound, DOMAIN, AGGREGATOR.address).round == round_ - 1
        refreshed = world.record("round", round_, transcript.Round).refreshed
        refreshed.verified(Vector, DOMAIN, BUYER.address, question)
    assert world.record("score-zero", 0, Scores).products is None
    for kind, round_ in (("iteration", 2), ("settlement", 3)):
        question = world.record(f"mask-{kind}", round_, Masking).question
        scores = world.record(f"score-{kind}", round_, Scores)
        products = scores.products.verified(Products, DOMAIN, BUYER.address, question)
        asked = scores.question.verified(ScoreQuestion, DOMAIN, AGGREGATOR.address)
        assert (asked.products, asked.proof) == (products.ciphertexts, products.proof)
        totals_ = world.record(f"total-{kind}", round_, Cosigned).totals
        opened = world.record(f"opening-{kind}", round_, Opened).openings
        opened.verified(Openings, DOMAIN, BUYER.address, totals_)


def test_masks_and_roots_in_the_transcript_make_what_the_buyer_was_asked(finished: tuple) -> None:
    world, _, _ = finished
    key = world.key
    record = world.record("mask-iteration", 2, Masking)
    masks = wire.decode_masks(record.masks, LENGTH)
    roots = wire.decode_roots(record.randomisers, LENGTH, key)
    total = world.rounds.collected(world.course, 1).ciphertexts
    assert key.decode(record.question.read(MaskedModels).masked, LENGTH) == [
        key.add(ciphertext, mask) * powmod(root, key.n, key.n_squared) % key.n_squared
        for ciphertext, mask, root in zip(total, masks, roots, strict=True)
    ]
    refresh = world.record("refresh", 1, Masking)
    (root,) = wire.decode_roots(refresh.randomisers, 1, key)
    (packed,) = pack_masked(total, wire.decode_masks(refresh.masks, LENGTH), key)
    expected = packed * powmod(root, key.n, key.n_squared) % key.n_squared
    assert key.decode(refresh.question.read(MaskedRound).packed, 1) == [expected]
    assert set(masks).isdisjoint(wire.decode_masks(refresh.masks, LENGTH))


@pytest.mark.parametrize(("kind", "round_"), [("zero", 0), ("iteration", 2), ("settlement", 3)])
def test_owners_are_told_metrics_that_they_can_verify(finished: tuple, kind: str, round_: int) -> None:
    world, outcome, _ = finished
    metric = world.evaluations.metric(world.course, kind, round_)
    claimed = totals.read_metric(
        metric,
        world.order.hyper_parameters,
        WEIGHTS,
        VALIDATOR_ADDRESSES,
        [owner.rows for owner in VALIDATORS],
        world.key,
        DOMAIN,
    )
    totals.verify_claims([claimed], world.key)
    statement, mses = claimed.statement, claimed.mses
    assert (statement.kind, statement.round, metric.iteration) == (kind, round_, 0 if kind == "zero" else round_)
    saved = {each.iteration: each.mse for each in world.storage.metrics(TRAINING)}
    assert int(metric.mse) == mses[0] == saved[metric.iteration]
    assert mses[1:] == ([outcome.averaged_mse] if kind == "settlement" else [])
    assert world.evaluations.is_opened(TRAINING, kind, round_)
    assert not world.evaluations.is_opened(TRAINING, kind, round_ + 1)


def test_what_is_delivered_is_what_the_validators_signed_and_gives_the_model(finished: tuple) -> None:
    world, _, _ = finished
    statement = TotalStatement.unpack(world.evaluations.metric(world.course, "settlement", 3).statement)
    masked = world.record("mask-settlement", 3, Masking).question.read(MaskedModels).masked
    vectors = world.key.decode(masked, len(masked) // len(world.key.encode([1])))
    divisor = sum(WEIGHTS) << 40
    average = federated_average_of_local_models(TRAINERS, list(WEIGHTS), 0.5, 0.0, 3)
    for place, expected in enumerate((descended(3), average)):
        quotients, salt = world.evaluations.delivery(TRAINING, 3, place, LENGTH, divisor)
        assert evaluation.commitment(salt, quotients) == statement.commitments[place]
        opened = evaluation.open_masked([vectors[place * LENGTH : (place + 1) * LENGTH]], world.buyer.private_key)[0]
        model = evaluation.deliver_model(opened, quotients, divisor)
        assert [value / 2**40 for value in model] == pytest.approx(list(expected), abs=1e-9)


def test_two_models_of_a_settlement_have_two_salts(finished: tuple) -> None:
    world, _, _ = finished
    assert len(set(totals.split_salts(world.record("mask-settlement", 3, Masking).salts))) == 2
    assert world.record("mask-iteration", 2, Masking).salts == b""


def test_finished_training_runs_again_without_a_question_and_with_the_same_root(finished: tuple) -> None:
    world, outcome, trained = finished
    root, asked = world.transcripts.root(TRAINING), world.buyer.said.copy()
    world.restart()
    assert world.transcripts.root(TRAINING) == root
    everybody = [world.buyer, *world.trainers, *world.validators]
    for speaker in everybody:
        speaker.mute = lambda question: True
    again, sum_again = world.training.run(world.course)
    for speaker in everybody:
        speaker.mute = lambda question: False
    assert (again, sum_again) == (outcome, trained)
    assert world.transcripts.root(TRAINING) == root
    assert world.buyer.said == asked


MOMENTS = len(ENTRIES) - 1 + 4
"""Before every entry but the header is saved, the validators, and every metric."""


def test_power_can_be_cut_at_that_many_moments(world: World) -> None:
    world.training.run(world.course)
    assert world.power.moments == MOMENTS


@pytest.mark.parametrize("moment", range(1, MOMENTS + 1))
def test_restart_goes_on_from_the_transcript_and_asks_the_same(world: World, moment: int) -> None:
    # Whoever is asked another question under the same name than before the restart fails the test.
    world.power.cut_at = moment
    with pytest.raises(PowerCut):
        world.training.run(world.course)
    before = {(kind, round_): entry for kind, round_, entry in world.journal.all(TRAINING)}
    root = world.transcripts.root(TRAINING)
    world.restart()
    assert world.transcripts.root(TRAINING) == root
    outcome, _ = world.training.run(world.course)
    after = {(kind, round_): entry for kind, round_, entry in world.journal.all(TRAINING)}
    assert {name: after[name] for name in before} == before
    assert list(read(world).records) == ENTRIES
    assert outcome.trained_mse / UNIT == pytest.approx(mse(descended(3)), rel=1e-8)
    assert [metric.iteration for metric in world.storage.metrics(TRAINING)] == [0, 2, 3]
    assert {name[0] for name in world.buyer.said} == {MaskedRound, MaskedModels, Totals}


def test_two_cuts_in_a_row_change_nothing(world: World) -> None:
    for moments in (5, 4, 4):
        world.power.moments, world.power.cut_at = 0, moments
        with pytest.raises(PowerCut):
            world.training.run(world.course)
        world.restart()
    outcome, _ = world.training.run(world.course)
    assert list(read(world).records) == ENTRIES
    assert outcome.trained_mse / UNIT == pytest.approx(mse(descended(3)), rel=1e-8)


def test_training_stops_early_when_the_error_hardly_changes(make_world: Callable[..., World]) -> None:
    world = make_world(iterations=10, evaluation_interval=2, tolerance=0.9)
    for trainer in world.trainers:
        trainer.order = trainer.order.model_copy(
            update={"hyper_parameters": trainer.order.hyper_parameters.model_copy(update={"iterations": 4})}
        )
    outcome, trained = world.training.run(world.course)
    iterations = [metric.iteration for metric in world.storage.metrics(TRAINING)]
    assert outcome.iterations == trained.round + 1 == iterations[-1] < 10
    assert outcome.trained_mse / UNIT == pytest.approx(mse(descended(outcome.iterations)), rel=1e-8)


def test_all_that_the_buyer_opens_was_signed_by_those_that_are_in_it(finished: tuple) -> None:
    world, _, _ = finished
    for kind, round_ in (("zero", 0), ("iteration", 2), ("settlement", 3)):
        cosigned = world.record(f"total-{kind}", round_, Cosigned)
        asked = cosigned.totals.verified(Totals, DOMAIN, AGGREGATOR.address)
        assert asked.validators == tuple(answer.place for answer in cosigned.answers) == (0, 1)
        assert len(asked.cosignatures) == 2
        assert len(asked.commitments) == (2 if kind == "settlement" else 0)
