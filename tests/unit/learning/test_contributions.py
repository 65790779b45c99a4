from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commons.learning import contributions as module
from commons.learning.contributions import UNIT, Contributions, coalition_points, contributions, shares


class World:
    """A made-up quadratic error of Σβ_i u_i, with integer coefficients, and the game on it by definition."""

    def __init__(self, zero: int, linear: list[int], square: list[list[int]], weights: list[int]) -> None:
        self.zero, self.linear, self.square, self.weights = zero, linear, square, weights
        self.k = len(weights)

    def mse(self, beta: Sequence[Fraction | int]) -> Fraction:
        value = Fraction(self.zero)
        for g, b in zip(self.linear, beta, strict=True):
            value += g * b
        for i, j in itertools.product(range(self.k), repeat=2):
            value += self.square[i][j] * beta[i] * beta[j]
        return value

    def value(self, members: frozenset[int]) -> Fraction:
        if not members:
            return Fraction(0)
        total = sum(self.weights[i] for i in members)
        beta = tuple(Fraction(self.weights[i], total) if i in members else Fraction(0) for i in range(self.k))
        return self.zero - self.mse(beta)

    def shapley(self) -> list[Fraction]:
        """Average every player's marginal value over all orders of all players."""
        values = [Fraction(0)] * self.k
        for order in itertools.permutations(range(self.k)):
            for place, player in enumerate(order):
                before = frozenset(order[:place])
                values[player] += self.value(before | {player}) - self.value(before)
        return [value / math.factorial(self.k) for value in values]

    def contributions(self, seed: bytes = b"") -> Contributions:
        measured = [self.mse(point) for point in coalition_points(self.k)]
        assert all(value.denominator == 1 for value in measured)
        return contributions(self.zero, [int(value) for value in measured], self.weights, seed)


def world(k: int, seed: int) -> World:
    """Return a game of k players; errors around 10^16, as those of scaled targets are in units of 1e-18."""
    random = np.random.default_rng(seed)
    models = random.normal(size=(k, 3)) * 0.05 + [0.3, 0.1, -0.2]
    unit = 10**17
    square = [[int(unit * value) for value in row] for row in (models @ models.T).tolist()]
    linear = [int(-2 * unit * value) for value in (models @ np.array([0.3, 0.12, -0.25])).tolist()]
    return World(2 * unit // 10, linear, square, random.integers(1, 1000, size=k).tolist())


def test_points_come_in_the_agreed_order() -> None:
    assert coalition_points(3) == (
        *((1, 0, 0), (0, 1, 0), (0, 0, 1)),
        *((2, 0, 0), (0, 2, 0), (0, 0, 2)),
        *((1, 1, 0), (1, 0, 1), (0, 1, 1)),
    )
    assert all(len(coalition_points(k)) == 2 * k + k * (k - 1) // 2 for k in range(1, 20))


@given(st.integers(1, 5), st.integers(0, 10**6))
@settings(max_examples=60)
def test_contributions_are_shapley_values_over_all_orders(k: int, seed: int) -> None:
    game = world(k, seed)
    result = game.contributions()
    for value, expected in zip(result.raw, game.shapley(), strict=True):
        assert abs(value - expected) <= k + 1
    assert result.values == tuple(max(0, value) for value in result.raw)
    assert result.standard_errors is None


@given(st.integers(1, 9), st.integers(0, 10**6))
@settings(max_examples=40)
def test_contributions_add_up_to_the_value_of_all(k: int, seed: int) -> None:
    game = world(k, seed)
    result = game.contributions()
    everyone = frozenset(range(k))
    assert abs(sum(result.raw) - game.value(everyone)) <= k + 1
    assert abs(result.coalition_mse_all - (game.zero - game.value(everyone))) <= 1


def test_partial_mse_is_that_of_all_but_one() -> None:
    game = world(4, 1)
    for i, partial in enumerate(game.contributions().partial_mses):
        assert abs(partial - (game.zero - game.value(frozenset(range(4)) - {i}))) <= 1


def test_the_only_trainer_has_everything_and_leaves_zero() -> None:
    game = world(1, 5)
    result = game.contributions()
    assert result.raw == (game.zero - result.coalition_mse_all,)
    assert result.partial_mses == (game.zero,)


def test_equal_players_get_equal_contributions() -> None:
    game = World(10**17, [-(10**16)] * 2 + [-(2 * 10**16)], [[10**15] * 3] * 3, [7, 7, 3])
    result = game.contributions()
    assert result.raw[0] == result.raw[1] != result.raw[2]


class Gloves(module._Game):
    """Player 0 has left gloves, 1 and 2 have right ones, 3 has none; a pair is worth 600."""

    def __init__(self) -> None:
        self.k = 4

    def value(self, members: Sequence[int]) -> int:
        return 600 if 0 in members and (1 in members or 2 in members) else 0


def test_enumeration_solves_the_glove_game_with_a_null_player() -> None:
    assert module._exact(Gloves()) == (400, 100, 100, 0)


def test_owners_of_the_same_model_share_alike_whatever_their_weights() -> None:
    same = World(10**17, [-(10**16)] * 3, [[10**15] * 3] * 3, [1, 2, 3])
    result = same.contributions()
    assert max(result.raw) - min(result.raw) <= 1


def test_models_that_change_nothing_are_worth_nothing() -> None:
    assert World(10**17, [0, 0, 0], [[0] * 3] * 3, [1, 2, 3]).contributions().raw == (0, 0, 0)


def test_a_harmful_player_is_floored_at_zero() -> None:
    good, bad = [-(10**17), -(10**17)], [3 * 10**17]
    game = World(10**17, good + bad, [[10**16] * 3] * 3, [1, 1, 1])
    result = game.contributions()
    assert result.raw[2] < 0
    assert result.values[2] == 0
    assert min(result.values[:2]) > 0


def test_sampling_is_within_its_standard_errors_of_enumeration(monkeypatch: pytest.MonkeyPatch) -> None:
    game = world(9, 3)
    exact = game.contributions()
    monkeypatch.setattr(module, "EXACT_TRAINERS", 8)
    sampled = game.contributions(b"any public seed")
    assert sampled.standard_errors is not None
    for value, estimate, error in zip(exact.raw, sampled.raw, sampled.standard_errors, strict=True):
        assert 0 < error < abs(value)
        assert abs(value - estimate) <= 4 * error + 1
    assert abs(sum(sampled.raw) - sum(exact.raw)) <= 20


def test_the_seed_alone_decides_what_is_sampled() -> None:
    k = 17
    linear = [-(10**15) * (i * i % 23 + 1) for i in range(k)]
    square = [[10**14 * ((i + j) % 5 + 1) for j in range(k)] for i in range(k)]
    game = World(10**17, linear, square, list(range(1, k + 1)))
    first, again, other = (game.contributions(seed) for seed in (b"a", b"a", b"b"))
    assert first == again != other
    assert first.standard_errors is not None
    # The same on every machine and in every release.
    assert first.raw[:3] == (-143389522098681, -205520491871019, 22700196663425)


def test_sixteen_trainers_are_still_enumerated() -> None:
    assert world(16, 6).contributions().standard_errors is None


def test_another_number_of_points_is_refused() -> None:
    with pytest.raises(ValueError, match="4 measured points instead of 5"):
        contributions(1, [1, 1, 1, 1], [1, 1], b"")


def test_shares_are_proportional_and_equal_without_contributions() -> None:
    assert shares([3, 0, 1]) == (750_000_000_000_000_000, 0, 250_000_000_000_000_000)
    assert shares([0, 0]) == (UNIT // 2, UNIT // 2)
    assert shares([0, 0, 0]) == (UNIT // 3,) * 3
    assert UNIT - 3 < sum(shares([1, 10**30, 7])) <= UNIT
