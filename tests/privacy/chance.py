"""How far chance alone goes: bounds that a fair sample exceeds once in 1/FALSE_ALARM times, whatever its size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from commons.learning.statistics import FloatArray

FALSE_ALARM = 1e-9


def distance_from_uniform(values: Sequence[float]) -> float:
    """Return the largest gap between the sample's distribution function and that of the uniform law on [0, 1)."""
    ordered = np.sort(np.asarray(values))
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return float(max(np.max(steps[1:] - ordered), np.max(ordered - steps[:-1])))


def tolerated_distance(count: int) -> float:
    """Return how far a uniform sample may be: Dvoretzky, Kiefer and Wolfowitz's bound with Massart's constant."""
    return math.sqrt(math.log(2 / FALSE_ALARM) / (2 * count))


def tolerated_excess(count: int) -> float:
    """Return how far from count/2 the heads of that many fair coins may be: Hoeffding's bound."""
    return math.sqrt(count * math.log(2 / FALSE_ALARM) / 2)


def recovered(truth: ArrayLike, estimate: ArrayLike, guess: ArrayLike = 0.0) -> float:
    """Return the part of the truth, beyond a guess, that an estimate explains: 1 if it is right, about 0 by chance.

    The squared cosine between what the truth and the estimate have beyond the guess: the attacker is forgiven a wrong
    scale. A direction drawn at random in N dimensions exceeds :func:`tolerated_share` once in 1/FALSE_ALARM times.
    """
    wanted = _vector(truth, guess)
    found = _vector(estimate, guess)
    norms = float(np.linalg.norm(wanted) * np.linalg.norm(found))
    return float(wanted @ found) ** 2 / norms**2 if norms else 0.0


def tolerated_share(count: int) -> float:
    """Return the squared cosine that a random direction in `count` dimensions may have with a fixed one.

    P(cos² > t) ≤ 2·exp(−t·count/2): Ball, *An elementary introduction to modern convex geometry* (1997), lemma 2.2.
    """
    return 2 * math.log(2 / FALSE_ALARM) / count


def _vector(values: ArrayLike, guess: ArrayLike) -> FloatArray:
    array: FloatArray = np.asarray(values, dtype=np.float64)
    difference: FloatArray = (array - np.asarray(guess, dtype=np.float64)).ravel()
    largest = float(np.max(np.abs(difference)))
    return difference / largest if largest else difference
