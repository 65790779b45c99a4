from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commons.errors import InvalidInput
from commons.learning.local_steps import (
    DivergingStep,
    federated_average_of_local_models,
    federated_descent,
    local_map,
    local_model,
    quantise_map,
    relative_weights,
    require_stable,
)
from commons.learning.statistics import FloatArray, GramStatistics
from tests.unit.learning.tables import diabetes, random_owner


def descend(stats: GramStatistics, weights: FloatArray, rate: float, ridge: float, steps: int) -> FloatArray:
    """Gradient descent, one step after the other."""
    for _ in range(steps):
        gradient = (stats.gram @ weights - stats.moment) / stats.rows
        penalty = ridge * weights
        penalty[0] = 0
        weights = weights - rate * (gradient + penalty)
    return weights


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 10, 37])
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_local_map_is_that_many_gradient_steps(steps: int, ridge: float) -> None:
    stats = random_owner(30, 4, seed=1)
    weights = np.array([0.3, -1.0, 0.2, 2.0])
    matrix, offset = local_map(stats, 0.2, ridge, steps)
    np.testing.assert_allclose(matrix @ weights + offset, descend(stats, weights, 0.2, ridge, steps), atol=1e-13)
    np.testing.assert_allclose(
        local_model(stats, 0.2, ridge, steps), descend(stats, np.zeros(4), 0.2, ridge, steps), atol=1e-13
    )


def test_ridge_does_not_pull_the_intercept() -> None:
    stats = random_owner(200, 3, seed=2)
    plain, penalised = (local_model(stats, 0.01, ridge, 3000) for ridge in (0.0, 100.0))
    assert np.abs(penalised[1:]).max() < 0.01 < np.abs(plain[1:]).max()
    assert penalised[0] == pytest.approx(stats.moment[0] / stats.rows, abs=0.02)


def test_steps_up_to_the_limit_are_accepted_and_beyond_it_refused() -> None:
    stats = random_owner(50, 5, seed=3)
    penalty = np.diag([0.0, 0.1, 0.1, 0.1, 0.1])
    limit = 2 / np.linalg.eigvalsh(stats.gram / 50 + penalty)[-1]
    require_stable(stats, limit * 0.999, 0.1)
    with pytest.raises(DivergingStep, match="it has to be below") as caught:
        require_stable(stats, limit * 1.001, 0.1)
    assert caught.value.learning_rate == limit * 1.001
    assert caught.value.limit == pytest.approx(limit)
    matrix, _ = local_map(stats, limit * 1.001, 0.1, 1)
    assert np.abs(np.linalg.eigvals(matrix)).max() > 1


@given(st.integers(1, 10**6), st.floats(0.05, 0.999), st.integers(2, 6), st.integers(0, 10**6))
def test_weights_of_a_stable_training_are_bounded(steps: int, part: float, d: int, seed: int) -> None:
    # The bound that the headroom of packing relies on.
    stats = random_owner(20, d, seed)
    rate = part * 2 / float(np.linalg.eigvalsh(stats.gram / 20)[-1])
    require_stable(stats, rate, 0.0)
    mean_square = stats.target_square / stats.rows
    assert np.linalg.norm(local_model(stats, rate, 0.0, steps)) <= math.sqrt(2 * rate * steps * mean_square) * (
        1 + 1e-9
    )


def test_quantised_map_is_within_half_a_unit() -> None:
    matrix, offset = local_map(diabetes(0, 50), 1.5, 0.0, 1)
    rows, constants = quantise_map(matrix, offset)
    assert np.abs(np.array(rows, dtype=float) / 2**40 - matrix).max() <= 2**-41
    assert np.abs(np.array(constants, dtype=float) / 2**80 - offset).max() <= 2**-52
    assert all(type(value) is int for row in rows for value in (*row, *constants))


@pytest.mark.parametrize(
    ("rows", "weights"),
    [
        ((50, 50, 50), (1, 1, 1)),
        ((30, 50, 200), (3, 5, 20)),
        ((1,), (1,)),
        ((65536, 1), (65536, 1)),
        ((131072 * 3, 3), (65536, 1)),
        ((10**9, 5 * 10**8, 1), (65536, 32768, 1)),
        ((10**6, 10**6 - 1), (1, 1)),
    ],
)
def test_weights_are_rows_relative_to_the_largest_owner(rows: tuple[int, ...], weights: tuple[int, ...]) -> None:
    assert relative_weights(rows, "rows") == weights
    assert relative_weights(rows, "equal") == (1,) * len(rows)


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=8))
def test_weights_are_short_coprime_and_proportional(rows: list[int]) -> None:
    weights = relative_weights(rows, "rows")
    assert math.gcd(*weights) == 1
    assert all(1 <= weight <= 2**16 for weight in weights)
    largest = max(range(len(rows)), key=rows.__getitem__)
    for count, weight in zip(rows, weights, strict=True):
        assert abs(weight / weights[largest] - count / rows[largest]) <= 2**-16


def test_other_weightings_and_empty_owners_are_refused() -> None:
    with pytest.raises(InvalidInput, match="weighting"):
        relative_weights([1, 2], "size")
    with pytest.raises(InvalidInput):
        relative_weights([1, 0], "rows")


def test_descent_of_all_owners_is_descent_on_all_their_rows() -> None:
    owners = [random_owner(rows, 4, seed=rows) for rows in (30, 50, 200)]
    together = GramStatistics(
        rows=280,
        gram=np.sum([owner.gram for owner in owners], axis=0),
        moment=np.sum([owner.moment for owner in owners], axis=0),
        target_square=sum(owner.target_square for owner in owners),
    )
    trained = federated_descent(owners, relative_weights([30, 50, 200], "rows"), 40, 0.2, 0.1, 1)
    np.testing.assert_allclose(trained, descend(together, np.zeros(4), 0.2, 0.1, 40), atol=1e-12)


def test_average_of_local_models_is_weighted() -> None:
    owners = [random_owner(30, 3, seed=1), random_owner(60, 3, seed=2)]
    models = [local_model(owner, 0.2, 0.0, 10) for owner in owners]
    average = federated_average_of_local_models(owners, [1, 2], 0.2, 0.0, 10)
    np.testing.assert_allclose(average, (models[0] + 2 * models[1]) / 3)


def test_diabetes_descends_to_the_known_error() -> None:
    trainers = [diabetes(*rows) for rows in ((0, 50), (100, 150), (150, 200), (200, 250))]
    weights = federated_descent(trainers, [1] * 4, 100, 1.5, 0.0, 1)
    assert diabetes(50, 100).mse(weights) * 512**2 == pytest.approx(3311.86, abs=0.005)
