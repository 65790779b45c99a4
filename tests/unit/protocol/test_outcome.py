"""From opened errors to what everybody is paid for: both sides compute the same."""

from __future__ import annotations

import uuid
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commons.crypto.packing import slots
from commons.crypto.paillier import PrivateKey
from commons.learning.contributions import UNIT, coalition_points, contributions
from commons.protocol.outcome import Outcome, factors, packed_count, settle, settlement_bytes, settlement_vectors

TRAINING = uuid.UUID(int=7)
WEIGHTS = (5, 1, 3, 2)
ZERO = UNIT


def game(k: int) -> list[int]:
    """Return errors at the coalition points of k trainers, of a quadratic that each of them improves differently."""
    generator = np.random.default_rng(k)
    directions = generator.normal(size=(k, 6))
    goal = directions.sum(axis=0) / k
    return [int(UNIT * float(((point @ directions - goal) ** 2).sum()) / 6) for point in np.array(coalition_points(k))]


def settled(
    contributors: tuple[int, ...] = (0, 1, 2, 3),
    rounds: list[tuple[int, ...]] | None = None,
    validators: tuple[int, ...] = (0, 1),
    trained: int = UNIT // 5,
    averaged: int = UNIT // 4,
) -> Outcome:
    measured = [trained, averaged, *game(len(contributors))]
    answered = [(0, 1, 2, 3)] * 10 if rounds is None else rounds
    return settle(TRAINING, ZERO, measured, WEIGHTS, answered, contributors, 2, validators)


def test_zero_model_has_no_vector() -> None:
    assert factors("zero", WEIGHTS, (0, 1), ()) == ()


def test_model_of_a_round_has_the_weights_of_its_trainers() -> None:
    assert factors("iteration", WEIGHTS, (0, 2, 3), ()) == (5 + 3 + 2,)


def test_settlement_has_the_trained_model_the_average_and_the_points() -> None:
    trained, averaged, *points = factors("settlement", WEIGHTS, (0, 1, 2, 3), (1, 2, 3))
    assert (trained, averaged) == (5 + 1 + 3 + 2, 1 + 3 + 2)
    assert points == [1] * len(coalition_points(3)) == [1] * 9


def test_settlement_scores_the_sums_that_its_factors_belong_to(private_key: PrivateKey) -> None:
    key = private_key.public_key
    models = [[1, 10], [2, 20], [3, 30]]
    encrypted = [private_key.encrypt(model) for model in models]
    vectors = settlement_vectors(private_key.encrypt([7, 8]), encrypted, (1, 3, 2), key)
    opened = [[int(private_key.decrypt_signed(c)) for c in vector] for vector in vectors]
    points = [
        [sum(b * m[j] for b, m in zip(point, models, strict=True)) for j in (0, 1)] for point in coalition_points(3)
    ]
    assert opened == [[7, 8], [1 * 1 + 3 * 2 + 2 * 3, 10 + 60 + 60], *points]
    assert len(vectors) == len(factors("settlement", (1, 3, 2), (0, 1, 2), (0, 1, 2)))


def test_outcome_is_that_of_the_game() -> None:
    outcome = settled()
    expected = contributions(ZERO, game(4), WEIGHTS, TRAINING.bytes)
    assert outcome.contributions == expected.values
    assert outcome.partial_mses == expected.partial_mses
    assert (outcome.iterations, outcome.initial_mse) == (10, ZERO)
    assert (outcome.trained_mse, outcome.averaged_mse) == (UNIT // 5, UNIT // 4)
    assert outcome.trainers_answered == (True,) * 4
    assert outcome.validators_answered == (True, True)


@pytest.mark.parametrize(
    ("trained", "averaged", "model"),
    [(3, 4, "trained"), (4, 4, "trained"), (5, 4, "averaged")],
)
def test_better_model_is_delivered_and_paid_for(trained: int, averaged: int, model: str) -> None:
    outcome = settled(trained=trained, averaged=averaged)
    assert outcome.model == model
    assert outcome.final_mse == min(trained, averaged)


@pytest.mark.parametrize(
    ("rounds", "answered", "paid"),
    [
        (10, 8, True),
        (10, 7, False),
        (5, 4, True),
        (5, 3, False),
        (1, 1, True),
        (1, 0, False),
        (7, 6, True),
        (7, 5, False),
    ]
    + [(100, 80, True), (100, 79, False), (10_000, 8_000, True), (10_000, 7_999, False)],
)
def test_trainer_is_paid_from_four_fifths_of_the_rounds_on(rounds: int, answered: int, paid: bool) -> None:
    who = [(0, 1, 2, 3)] * answered + [(0, 2, 3)] * (rounds - answered)
    assert settled(rounds=who).trainers_answered == (True, paid, True, True)


@given(st.lists(st.sets(st.integers(0, 3)).map(lambda places: tuple(sorted(places))), min_size=1, max_size=30))
def test_share_of_answered_rounds_is_exact(rounds: list[tuple[int, ...]]) -> None:
    expected = tuple(Fraction(sum(i in who for who in rounds), len(rounds)) >= Fraction(4, 5) for i in range(4))
    assert settled(rounds=rounds).trainers_answered == expected


def test_trainer_without_a_local_model_contributes_nothing_and_the_others_share() -> None:
    outcome = settled(contributors=(0, 2, 3))
    expected = contributions(ZERO, game(3), (5, 3, 2), TRAINING.bytes)
    first, *others = expected.values
    assert outcome.contributions == (first, 0, *others)
    first, *others = expected.partial_mses
    assert outcome.partial_mses == (first, outcome.averaged_mse, *others)


@pytest.mark.parametrize(
    ("validators", "flags"), [((0, 1), (True, True)), ((1,), (False, True)), ((0,), (True, False))]
)
def test_validator_is_paid_if_it_scored_to_the_end(validators: tuple[int, ...], flags: tuple[bool, ...]) -> None:
    assert settled(validators=validators).validators_answered == flags


@given(st.integers(0, 300))
def test_packed_count_fills_the_slots(private_key: PrivateKey, values: int) -> None:
    key = private_key.public_key
    packed = packed_count(values, key)
    assert packed * slots(key) >= values > (packed - 1) * slots(key)


@pytest.mark.parametrize(("length", "trainers"), [(2, 2), (11, 4), (31, 4), (11, 16)])
def test_settlement_is_as_large_as_its_parts(length: int, trainers: int) -> None:
    vectors = 2 + len(coalition_points(trainers))
    ciphertexts = vectors * length * (length + 1) // 2 + vectors * length
    assert settlement_bytes(length, trainers, 2048) == ciphertexts * 512 + vectors * length * 21
    assert settlement_bytes(length, trainers, 3072) == ciphertexts * 768 + vectors * length * 21
