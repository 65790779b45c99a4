from __future__ import annotations

import itertools

import numpy as np
import pytest

from commons.crypto.paillier import PrivateKey
from commons.learning.contributions import UNIT, shares
from commons.learning.local_steps import (
    federated_average_of_local_models,
    federated_descent,
    relative_weights,
    require_stable,
)
from commons.learning.statistics import FloatArray, GramStatistics
from tests.unit.learning.tables import TARGET_SCALE, diabetes, random_owner
from tests.unit.protocol.training import Order, Outcome, Training

PIECES = ((0, 50), (50, 100), (100, 150), (150, 200), (200, 250))


def check(
    outcome: Outcome, trainers: list[GramStatistics], validators: list[GramStatistics], weights: list[int], order: Order
) -> None:
    """Compare an encrypted training with the same one in the clear."""
    rows = sum(owner.rows for owner in validators)

    def mse(model: FloatArray) -> float:
        return sum(owner.rows * owner.mse(model) for owner in validators) / rows

    expected = federated_descent(
        trainers, weights, order.iterations, order.learning_rate, order.ridge, order.local_steps
    )
    # In original units of the target.
    assert np.abs(outcome.weights - expected).max() * TARGET_SCALE < 1e-7
    assert outcome.final_mse / UNIT == pytest.approx(mse(expected), rel=1e-8)
    assert outcome.initial_mse / UNIT == pytest.approx(mse(np.zeros(len(expected))), rel=1e-8)
    average = federated_average_of_local_models(
        trainers, weights, order.learning_rate, order.ridge, order.iterations * order.local_steps
    )
    assert outcome.contributions.coalition_mse_all / UNIT == pytest.approx(mse(average), rel=1e-7)
    assert sum(outcome.contributions.raw) == pytest.approx(
        outcome.initial_mse - outcome.contributions.coalition_mse_all, abs=len(trainers)
    )


def test_diabetes_at_2048_bits_trains_as_in_the_clear() -> None:
    trainers = [diabetes(*PIECES[i]) for i in (0, 2, 3, 4)]
    validators = [diabetes(*PIECES[1])]
    order = Order()
    outcome = Training(PrivateKey.generate(2048), trainers, validators, [1] * 4, order).run()
    check(outcome, trainers, validators, [1] * 4, order)
    assert outcome.final_mse / UNIT * TARGET_SCALE**2 == pytest.approx(3311.86, abs=0.005)
    # What the four owners of whole, clean data are worth to each other: nearly the same.
    assert all(0.2 < share / UNIT < 0.3 for share in shares(outcome.contributions.values))


@pytest.mark.parametrize("validating", [(0,), (4,), (1, 3), (0, 2, 4)])
def test_any_split_of_roles_trains_as_in_the_clear(private_key: PrivateKey, validating: tuple[int, ...]) -> None:
    owners = [diabetes(*piece) for piece in PIECES]
    trainers = [owner for i, owner in enumerate(owners) if i not in validating]
    validators = [owners[i] for i in validating]
    weights, order = [1] * len(trainers), Order(iterations=20)
    check(Training(private_key, trainers, validators, weights, order).run(), trainers, validators, weights, order)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_local_steps_and_unequal_owners_train_as_in_the_clear(private_key: PrivateKey, ridge: float) -> None:
    trainers = [diabetes(0, 30), diabetes(30, 80), diabetes(80, 280)]
    validators = [diabetes(280, 442)]
    weights = list(relative_weights([owner.rows for owner in trainers], "rows"))
    assert weights == [3, 5, 20]
    order = Order(iterations=10, local_steps=10, learning_rate=1.2, ridge=ridge)
    check(Training(private_key, trainers, validators, weights, order).run(), trainers, validators, weights, order)


@pytest.mark.parametrize("d", [2, 30])
def test_other_numbers_of_features_train_as_in_the_clear(private_key: PrivateKey, d: int) -> None:
    *trainers, validator = (random_owner(100, d, seed) for seed in range(4))
    order = Order(iterations=10, learning_rate=0.3)
    for owner in trainers:
        require_stable(owner, order.learning_rate, order.ridge)
    weights = [1] * 3
    outcome = Training(private_key, trainers, [validator], weights, order).run()
    check(outcome, trainers, [validator], weights, order)


def test_aggregates_of_an_extreme_order_stay_below_their_bound() -> None:
    # The longest order and the largest weights of 16 owners, against the bound in `commons.crypto.packing`: every
    # round moves weights by at most √(2ηNc), with η < 2 (the intercept's curvature is 1) and c = mean y² ≤ 1.
    rounds, local_steps, weights = 10_000, 1_000, 16 * 2**16
    assert 2**80 * weights * rounds * (4 * local_steps) ** 0.5 < 2**120
    # Twice a local model after all these steps, the largest vector of the contributions.
    assert 2**80 * 2 * (4 * rounds * local_steps) ** 0.5 < 2**120


def test_coalition_errors_are_those_of_averaged_local_models(private_key: PrivateKey) -> None:
    trainers = [diabetes(*PIECES[i]) for i in (0, 2, 3)]
    validators = [diabetes(*PIECES[1])]
    weights, order = [2, 1, 3], Order(iterations=5)
    result = Training(private_key, trainers, validators, weights, order).run().contributions
    for left_out, partial in enumerate(result.partial_mses):
        rest = [i for i in range(3) if i != left_out]
        model = federated_average_of_local_models(
            [trainers[i] for i in rest], [weights[i] for i in rest], order.learning_rate, order.ridge, 5
        )
        assert partial / UNIT == pytest.approx(validators[0].mse(model), rel=1e-8)
    assert len(set(itertools.chain(result.raw, result.partial_mses))) == 6
