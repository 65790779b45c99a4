"""What each trainer contributed: the Shapley value of a game that a few measured errors determine.

The game (one round of model averaging): v(S) = MSE(0) − MSE(Σ_{i∈S} a_i u_i / Σ_{i∈S} a_i), v(∅) = 0, with
u_i the model of trainer i's rows alone and a_i its weight. The MSE is a quadratic function of β in Σβ_i u_i,
so its values at β = 0, e_i, 2e_i and e_i + e_j determine it everywhere, and with it v for all 2^k coalitions.
The value of a player is Shapley's (*A value for n-person games*, Contributions to the Theory of Games II,
1953).

Everything is in integers: the aggregator and the buyer, on different machines, must get the same numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

UNIT = 10**18
"""MSEs and shares are integers in units of 1/UNIT."""

EXACT_TRAINERS = 16
"""Largest number of trainers whose coalitions are enumerated."""

PERMUTATIONS = 2048
"""Orders that are sampled for more trainers than that."""


@dataclass(frozen=True)
class Contributions:
    """The outcome of the game. MSEs and values in 1e-18 of the scaled target squared, in the trainers' order.

    Parameters
    ----------
    values : tuple of int
        Shapley values floored at 0: what payment is proportional to.
    raw : tuple of int
        Shapley values, possibly negative.
    partial_mses : tuple of int
        MSE of the average of all trainers but this one (MSE of zero if it is the only one).
    coalition_mse_all : int
        MSE of the average of all trainers' local models.
    standard_errors : tuple of int or None
        Of `raw`, if it was sampled; None if it is exact.
    """

    values: tuple[int, ...]
    raw: tuple[int, ...]
    partial_mses: tuple[int, ...]
    coalition_mse_all: int
    standard_errors: tuple[int, ...] | None


def coalition_points(k: int) -> tuple[tuple[int, ...], ...]:
    """Return the β vectors to measure for k trainers: all e_i, all 2e_i, then e_i + e_j for i < j.

    Returns
    -------
    tuple of 2k + k(k − 1)/2 tuples of length k
    """

    def point(*players: int) -> tuple[int, ...]:
        return tuple(players.count(player) for player in range(k))

    return (
        *(point(i) for i in range(k)),
        *(point(i, i) for i in range(k)),
        *(point(i, j) for i in range(k) for j in range(i + 1, k)),
    )


class _Game:
    """The quadratic 2·MSE(β) = 2·zero + Σ linear_i β_i + Σ_{i≤j} square_ij β_i β_j, from measured points."""

    def __init__(self, mse_zero: int, measured: Sequence[int], weights: Sequence[int]) -> None:
        k = len(weights)
        if len(measured) != len(coalition_points(k)):
            raise ValueError(f"{len(measured)} measured points instead of {len(coalition_points(k))}")
        self.k = k
        self.mse_zero = mse_zero
        self.weights = weights
        single, double, pairs = measured[:k], measured[k : 2 * k], iter(measured[2 * k :])
        own = [double[i] - 2 * single[i] + mse_zero for i in range(k)]
        linear = [2 * (single[i] - mse_zero) - own[i] for i in range(k)]
        # With weights folded in, β_i = a_i / Σ_{i∈S} a_i leaves only the denominator to each coalition.
        self._linear = [a * g for a, g in zip(weights, linear, strict=True)]
        self._square = [[0] * k for _ in range(k)]
        for i in range(k):
            self._square[i][i] = weights[i] ** 2 * own[i]
            for j in range(i + 1, k):
                cross = 2 * (next(pairs) - single[i] - single[j] + mse_zero)
                self._square[i][j] = self._square[j][i] = weights[i] * weights[j] * cross

    def grow(self, order: Iterator[int] | Sequence[int]) -> Iterator[int]:
        """Yield v of the coalition after each player of `order` joins it."""
        total = linear = square = 0
        members: list[int] = []
        for player in order:
            total += self.weights[player]
            linear += self._linear[player]
            row = self._square[player]
            square += row[player] + sum([row[member] for member in members])
            members.append(player)
            # −(linear/total + square/total²)/2, rounded to nearest.
            yield (total * total - linear * total - square) // (2 * total * total)

    def value(self, members: Sequence[int]) -> int:
        """Return v(members)."""
        return list(self.grow(members))[-1] if members else 0


def _exact(game: _Game) -> tuple[int, ...]:
    """Shapley values by enumeration: Σ_S |S|!(k−|S|−1)!/k! · (v(S ∪ i) − v(S))."""
    k = game.k
    shares = [math.factorial(size) * math.factorial(k - size - 1) for size in range(k)]
    sums = [0] * k
    for coalition in range(1, 1 << k):
        members = [i for i in range(k) if coalition >> i & 1]
        value = game.value(members)
        size = len(members)
        for i in range(k):
            if coalition >> i & 1:
                sums[i] += shares[size - 1] * value
            else:
                sums[i] -= shares[size] * value
    orders = math.factorial(k)
    return tuple((2 * total + orders) // (2 * orders) for total in sums)


def _sampled(game: _Game, seed: bytes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapley values over random orders of the players, with standard errors.

    Castro, Gómez and Tejada, *Polynomial calculation of the Shapley value based on sampling*, Computers &
    Operations Research 36 (2009).
    """
    k = game.k
    sums, squares = [0] * k, [0] * k
    for order in _orders(k, seed):
        before = 0
        for player, value in zip(order, game.grow(order), strict=True):
            sums[player] += value - before
            squares[player] += (value - before) ** 2
            before = value
    m = PERMUTATIONS
    means = tuple((2 * total + m) // (2 * m) for total in sums)
    errors = tuple(
        math.isqrt((m * square - total**2) // (m * m * (m - 1))) for total, square in zip(sums, squares, strict=True)
    )
    return means, errors


def _orders(k: int, seed: bytes) -> Iterator[list[int]]:
    """PERMUTATIONS random orders of k players that depend on `seed` alone, whatever the machine."""
    for index in range(PERMUTATIONS):
        stream = hashlib.shake_256(seed + index.to_bytes(4, "big")).digest(16 * k)
        # Sorting by 128 random bits is a uniform shuffle but for ties, which do not happen.
        yield sorted(range(k), key=[stream[i : i + 16] for i in range(0, 16 * k, 16)].__getitem__)


def contributions(mse_zero: int, measured: Sequence[int], weights: Sequence[int], seed: bytes) -> Contributions:
    """Return every trainer's contribution.

    Parameters
    ----------
    mse_zero : int
        MSE of the zero model, in 1e-18 units.
    measured : sequence of int
        MSEs at :func:`coalition_points`, in its order and the same units.
    weights : sequence of k int
        The trainers' weights a_i, positive.
    seed : bytes
        Public seed of the sampling, which is needed beyond EXACT_TRAINERS trainers.

    Raises
    ------
    ValueError
        If the number of measured points is not that of `coalition_points`.
    """
    game = _Game(mse_zero, measured, weights)
    everyone = range(game.k)
    errors = None
    if game.k <= EXACT_TRAINERS:
        raw = _exact(game)
    else:
        raw, errors = _sampled(game, seed)
    return Contributions(
        values=tuple(max(0, value) for value in raw),
        raw=raw,
        partial_mses=tuple(mse_zero - game.value([j for j in everyone if j != i]) for i in everyone),
        coalition_mse_all=mse_zero - game.value(everyone),
        standard_errors=errors,
    )


def shares(values: Sequence[int]) -> tuple[int, ...]:
    """Return each value's share of the sum in 1e-18 units, rounded down; equal shares if all are 0.

    Parameters
    ----------
    values : sequence of int
        Contributions, not negative.
    """
    if not any(values):
        values = [1] * len(values)
    total = sum(values)
    return tuple(value * UNIT // total for value in values)
