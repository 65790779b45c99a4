from __future__ import annotations

import hashlib
import statistics

import numpy as np
import pytest
from gmpy2 import mpz, powmod

from commons.crypto.packing import VALUE_BITS, to_fixed
from commons.crypto.paillier import PrivateKey, ShortRandomisers, UniformRandomisers
from commons.crypto.proofs import verify_opening
from commons.learning.contributions import UNIT
from commons.learning.statistics import FloatArray, GramStatistics
from commons.protocol import evaluation
from commons.protocol.evaluation import Diverged, MaskedVectors
from tests.unit.learning.tables import random_owner


@pytest.fixture(scope="module")
def stats() -> GramStatistics:
    return random_owner(40, 3, seed=9)


WEIGHTS = np.array([0.5, -0.25, 1.5])


def encrypted(weights: FloatArray, factor: int, key: PrivateKey) -> list[mpz]:
    return key.encrypt([to_fixed(float(weight), 80) * factor for weight in weights])


def scored(
    stats: GramStatistics,
    vectors: list[tuple[FloatArray, int]],
    key: PrivateKey,
    short: ShortRandomisers,
    uniform: UniformRandomisers,
) -> tuple[list[int], MaskedVectors, list[list[int]]]:
    """Return the opened total of every (weights, factor) on one validator, and what the parties held."""
    public = key.public_key
    hidden = evaluation.mask_vectors([encrypted(w, f, key) for w, f in vectors], public, uniform)
    opened = evaluation.open_masked(hidden.masked, key)
    totals = [
        evaluation.open_total(evaluation.score(stats, f, masked, products, masks, public, short), key).total
        for (_, f), masked, masks, products in zip(
            vectors, hidden.masked, hidden.masks, evaluation.products(opened, key), strict=True
        )
    ]
    return totals, hidden, opened


@pytest.mark.parametrize("factor", [1, 4, 2**16 * 5])
def test_score_is_rows_times_the_mse(
    stats: GramStatistics, private_key: PrivateKey, short: ShortRandomisers, uniform: UniformRandomisers, factor: int
) -> None:
    (total,), _, _ = scored(stats, [(WEIGHTS, factor)], private_key, short, uniform)
    mse = evaluation.mse_of_total(total, factor, stats.rows)
    assert mse / UNIT == pytest.approx(stats.mse(WEIGHTS), abs=1e-11)


def test_vectors_of_one_evaluation_have_their_own_factors(
    stats: GramStatistics, private_key: PrivateKey, short: ShortRandomisers, uniform: UniformRandomisers
) -> None:
    vectors = [(WEIGHTS, 1), (-WEIGHTS, 7), (0 * WEIGHTS, 1), (2 * WEIGHTS, 3)]
    totals, hidden, _ = scored(stats, vectors, private_key, short, uniform)
    for total, (weights, factor) in zip(totals, vectors, strict=True):
        mse = evaluation.mse_of_total(total, factor, stats.rows)
        assert mse / UNIT == pytest.approx(stats.mse(weights), abs=1e-11)


def test_largest_vectors_that_fit_a_slot_are_scored_without_overflow(
    stats: GramStatistics, private_key: PrivateKey, short: ShortRandomisers, uniform: UniformRandomisers
) -> None:
    largest = (1 << VALUE_BITS) - 1
    hidden = evaluation.mask_vectors(
        [private_key.encrypt([largest, -largest, largest])], private_key.public_key, uniform
    )
    opened = evaluation.open_masked(hidden.masked, private_key)
    assert opened == [[value + mask for value, mask in zip((largest, -largest, largest), hidden.masks[0], strict=True)]]
    (products,) = evaluation.products(opened, private_key)
    score = evaluation.score(stats, 1, hidden.masked[0], products, hidden.masks[0], private_key.public_key, short)
    total = evaluation.open_total(score, private_key).total
    weights = np.array([1.0, -1.0, 1.0]) * 2.0**40
    assert total / 2**200 == pytest.approx(stats.rows * stats.mse(weights), rel=1e-9)
    with pytest.raises(Diverged):
        evaluation.mse_of_total(total, 1, stats.rows)


def test_the_buyer_multiplies_what_it_opened_row_by_row(private_key: PrivateKey) -> None:
    products = evaluation.products([[2, 3, 5], [7, 11, 13]], private_key)
    assert [[private_key.decrypt(c) for c in vector] for vector in products] == [
        [4, 6, 10, 9, 15, 25],
        [49, 77, 91, 121, 143, 169],
    ]


def test_noise_is_below_the_reporting_unit_and_unbiased(
    stats: GramStatistics, private_key: PrivateKey, short: ShortRandomisers, uniform: UniformRandomisers
) -> None:
    public = private_key.public_key
    hidden = evaluation.mask_vectors([encrypted(WEIGHTS, 1, private_key)], public, uniform)
    opened = evaluation.open_masked(hidden.masked, private_key)
    (products,) = evaluation.products(opened, private_key)
    totals = [
        evaluation.open_total(
            evaluation.score(stats, 1, hidden.masked[0], products, hidden.masks[0], public, short), private_key
        ).total
        for _ in range(300)
    ]
    weights = [to_fixed(float(weight), 80) for weight in WEIGHTS]
    gram = [[to_fixed(value) for value in row] for row in stats.gram.tolist()]
    moment = [to_fixed(value) for value in stats.moment.tolist()]
    exact = (
        sum(gram[j][k] * weights[j] * weights[k] for j in range(3) for k in range(3))
        - 2 * sum(value * weight for value, weight in zip(moment, weights, strict=True)) * 2**80
        + to_fixed(stats.target_square) * 2**160
    )
    noise = [(total - exact) / 2**200 for total in totals]
    assert len(set(totals)) == 300
    assert max(map(abs, noise)) <= 2**-36
    assert max(noise) > 2**-37 > -(2**-37) > min(noise)
    # The mean of 300 draws has a standard deviation of 2^−36/√900.
    assert abs(statistics.mean(noise)) < 5 * 2**-36 / 30


def test_zero_model_is_scored_without_masks(
    stats: GramStatistics, private_key: PrivateKey, short: ShortRandomisers, uniform: UniformRandomisers
) -> None:
    other = random_owner(70, 3, seed=10)
    public = private_key.public_key
    scores = [evaluation.score_zero(owner, public, short) for owner in (stats, other)]
    total = evaluation.open_total(evaluation.combine(scores, public, uniform)[0], private_key).total
    mse = evaluation.mse_of_zero_total(total, 110) / UNIT
    assert mse == pytest.approx((stats.target_square + other.target_square) / 110, abs=1e-11)


def test_combined_scores_are_the_mse_over_all_validators(
    stats: GramStatistics, private_key: PrivateKey, short: ShortRandomisers, uniform: UniformRandomisers
) -> None:
    public = private_key.public_key
    owners = [stats, random_owner(70, 3, seed=10)]
    hidden = evaluation.mask_vectors([encrypted(WEIGHTS, 6, private_key)], public, uniform)
    opened = evaluation.open_masked(hidden.masked, private_key)
    (products,) = evaluation.products(opened, private_key)
    scores = [evaluation.score(o, 6, hidden.masked[0], products, hidden.masks[0], public, short) for o in owners]
    combined, root = evaluation.combine(scores, public, uniform)
    plain = scores[0] * scores[1] % public.n_squared
    assert combined != plain  # re-randomised, with what the validators are shown
    assert combined == plain * powmod(root, public.n, public.n_squared) % public.n_squared
    opening = evaluation.open_total(combined, private_key)
    verify_opening(combined, opening, public)
    expected = sum(o.rows * o.mse(WEIGHTS) for o in owners) / 110
    assert evaluation.mse_of_total(opening.total, 6, 110) / UNIT == pytest.approx(expected, abs=1e-11)


def test_totals_are_rounded_to_reporting_units() -> None:
    unit = 2**200 * 40
    assert evaluation.mse_of_total(3 * unit // 4, 1, 40) == 3 * UNIT // 4
    assert evaluation.mse_of_total(9 * 3 * unit // 4, 3, 40) == 3 * UNIT // 4
    assert evaluation.mse_of_zero_total(3 * 2**80 * 10, 40) == 3 * UNIT // 4
    assert evaluation.mse_of_total(2**16 * unit, 1, 40) == 2**16 * UNIT


@pytest.mark.parametrize("mse", [2**16 + 1, 2**60, -1, -(2**-20)])
def test_errors_outside_the_bound_end_the_training(mse: float) -> None:
    with pytest.raises(Diverged, match="diverged"):
        evaluation.mse_of_total(int(mse * 2**20) << 180, 1, 1)
    with pytest.raises(Diverged, match="diverged"):
        evaluation.mse_of_zero_total(int(mse * 2**20) << 60, 1)


def test_noise_around_an_exact_fit_is_reported_as_zero(
    private_key: PrivateKey, short: ShortRandomisers, uniform: UniformRandomisers
) -> None:
    features = np.random.default_rng(0).normal(size=(30, 2))
    design = np.column_stack([np.ones(30), features])
    target = design @ WEIGHTS
    fit = GramStatistics(30, design.T @ design, design.T @ target, float(target @ target))
    for _ in range(5):
        (total,), _, _ = scored(fit, [(WEIGHTS, 1)], private_key, short, uniform)
        assert evaluation.mse_of_total(total, 1, 30) / UNIT == pytest.approx(0, abs=1e-11)
    assert evaluation.mse_of_total(-(2**160), 1, 1) == 0


def test_delivered_model_is_exact_to_one_unit_and_no_finer(
    stats: GramStatistics, private_key: PrivateKey, short: ShortRandomisers, uniform: UniformRandomisers
) -> None:
    factor = 12
    _, hidden, (opened,) = scored(stats, [(WEIGHTS, factor)], private_key, short, uniform)
    divisor = factor << 40
    delivered = evaluation.delivery(hidden.masks[0], divisor)
    assert delivered == [mask // divisor for mask in hidden.masks[0]]
    model = evaluation.deliver_model(opened, delivered, divisor)
    for value, weight in zip(model, WEIGHTS, strict=True):
        assert 0 <= value - to_fixed(float(weight)) <= 1


def test_masked_vectors_are_the_vectors_plus_masks_times_the_roots_that_are_kept(
    private_key: PrivateKey, uniform: UniformRandomisers
) -> None:
    public = private_key.public_key
    vectors = [encrypted(WEIGHTS, factor, private_key) for factor in (1, 3)]
    hidden = evaluation.mask_vectors(vectors, public, uniform)
    assert hidden.masked == [
        [
            public.encrypt(mask, powmod(root, public.n, public.n_squared)) * ciphertext % public.n_squared
            for ciphertext, mask, root in zip(vector, masks, roots, strict=True)
        ]
        for vector, masks, roots in zip(vectors, hidden.masks, hidden.roots, strict=True)
    ]
    assert len({root for roots in hidden.roots for root in roots}) == 6
    assert len({mask for masks in hidden.masks for mask in masks}) == 6


def test_commitment_is_to_every_quotient_and_its_salt() -> None:
    salt, quotients = b"s" * 32, [1, 2**100]
    commitment = evaluation.commitment(salt, quotients)
    assert commitment == hashlib.sha256(salt + b"".join(value.to_bytes(21, "big") for value in quotients)).digest()
    for other in (
        evaluation.commitment(b"t" * 32, quotients),
        evaluation.commitment(salt, [2, 2**100]),
        evaluation.commitment(salt, quotients[::-1]),
        evaluation.commitment(salt, quotients[:1]),
    ):
        assert other != commitment
