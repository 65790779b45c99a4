"""An owner's gradient steps as one affine map, and the same training in the clear to compare with.

Federated averaging after McMahan et al., *Communication-efficient learning of deep networks from
decentralized data*, AISTATS 2017: every round each trainer takes N local steps of gradient descent from the
common model and the results are averaged. For least squares with A = XᵀX/m and b = Xᵀy/m, one step of size η
with the ridge term λ is w ↦ (I − η(A + λI′))w + ηb, where I′ is the identity without the entry of the
intercept, so N steps are an affine map as well and cost no more than one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from commons.crypto.packing import FRACTION_BITS, to_fixed
from commons.errors import InvalidInput
from commons.learning.statistics import FloatArray, GramStatistics

MAXIMUM_WEIGHT = 1 << 16


class DivergingStep(InvalidInput):
    """A learning rate at which gradient descent grows without bound on the owner's own rows.

    Parameters
    ----------
    learning_rate : float
        The rate that was asked for.
    limit : float
        The rate below which it converges: 2/λ_max(A + λI′).
    """

    def __init__(self, learning_rate: float, limit: float) -> None:
        super().__init__(f"a learning rate of {learning_rate:g} diverges on these rows: it has to be below {limit:g}")
        self.learning_rate = learning_rate
        self.limit = limit


def _curvature(stats: GramStatistics, ridge: float) -> FloatArray:
    penalty = np.full(len(stats.moment), ridge)
    penalty[0] = 0
    return stats.gram / stats.rows + np.diag(penalty)


def require_stable(stats: GramStatistics, learning_rate: float, ridge: float) -> None:
    """Refuse a step that diverges on these rows.

    Overflow cannot be seen under masks, so it is prevented here. Below the limit S = I − η(A + λI′) stretches no
    vector, and N steps from zero lead no further than √(2ηNc), c = yᵀy/m: along an eigenvector of A + λI′ with
    eigenvalue μ they lead to β·g, β the part of b, g = (1 − (1 − ημ)^N)/μ ≤ min(2/μ, ηN), so g² ≤ 2ηN/μ; and
    Σβ²/μ ≤ c, the part of yᵀy/m that the columns explain. So T rounds lead no further than T·√(2ηNc), whatever the
    weights in the average. As the intercept's column has curvature 1, η < 2.

    Raises
    ------
    DivergingStep
        If learning_rate · λ_max(A + λI′) ≥ 2.
    """
    largest = float(np.linalg.eigvalsh(_curvature(stats, ridge))[-1])
    if learning_rate * largest >= 2:
        raise DivergingStep(learning_rate, 2 / largest)


def local_map(stats: GramStatistics, learning_rate: float, ridge: float, steps: int) -> tuple[FloatArray, FloatArray]:
    """Return (M, c) such that `steps` gradient steps from w lead to M w + c.

    M = (I − ηA − ηλI′)^N and c = η·Σ_{k<N} (I − ηA − ηλI′)^k b, by repeated squaring of the map.

    Returns
    -------
    matrix : ndarray of shape (d, d)
    offset : ndarray of shape (d,)
    """
    d = len(stats.moment)
    square = np.eye(d) - learning_rate * _curvature(stats, ridge)
    step = learning_rate * stats.moment / stats.rows
    matrix, offset = np.eye(d), np.zeros(d)
    while steps:
        if steps & 1:
            matrix, offset = square @ matrix, square @ offset + step
        square, step = square @ square, square @ step + step
        steps >>= 1
    return matrix, offset


def local_model(stats: GramStatistics, learning_rate: float, ridge: float, steps: int) -> FloatArray:
    """Return the weights, shape (d,), that `steps` gradient steps from zero on these rows alone lead to."""
    return local_map(stats, learning_rate, ridge, steps)[1]


def quantise_map(matrix: FloatArray, offset: FloatArray) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Return the map in fixed point: the matrix at scale F, the offset at scale 2F."""
    return (
        tuple(tuple(to_fixed(value) for value in row) for row in matrix.tolist()),
        tuple(to_fixed(value, 2 * FRACTION_BITS) for value in offset.tolist()),
    )


def relative_weights(rows: Sequence[int], weighting: str) -> tuple[int, ...]:
    """Return the integer weights a_i ≤ 2^16 of the owners in the average, without a common factor.

    Parameters
    ----------
    rows : sequence of int
        Declared rows of every owner, positive.
    weighting : {"rows", "equal"}
        Proportional to rows (rounded, if the largest owner has more than 2^16), or all 1 as in DeltaML.

    Raises
    ------
    InvalidInput
        If `weighting` is neither, or an owner has no rows.
    """
    if weighting not in ("rows", "equal"):
        raise InvalidInput(f"{weighting!r} is neither 'rows' nor 'equal'", "hyper_parameters.weighting")
    if min(rows) < 1:
        raise InvalidInput("an owner has no rows")
    if weighting == "equal":
        return (1,) * len(rows)
    divisor = math.gcd(*rows)
    weights = [count // divisor for count in rows]
    largest = max(weights)
    if largest > MAXIMUM_WEIGHT:
        # Rounding to nearest, in integers so that every party gets the same; nobody's weight becomes 0.
        weights = [max(1, (2 * MAXIMUM_WEIGHT * count + largest) // (2 * largest)) for count in weights]
        divisor = math.gcd(*weights)
        weights = [count // divisor for count in weights]
    return tuple(weights)


def federated_descent(
    stats: Sequence[GramStatistics],
    weights: Sequence[int],
    iterations: int,
    learning_rate: float,
    ridge: float,
    local_steps: int,
) -> FloatArray:
    """Train in the clear what the protocol trains encrypted, from zero weights.

    Parameters
    ----------
    stats : sequence of GramStatistics
        The trainers' rows.
    weights : sequence of int
        The trainers' weights in the average.

    Returns
    -------
    ndarray of shape (d,)
        Final weights, intercept first.
    """
    matrices, offsets = zip(*(local_map(owner, learning_rate, ridge, local_steps) for owner in stats), strict=True)
    matrix = np.average(matrices, axis=0, weights=weights)
    offset = np.average(offsets, axis=0, weights=weights)
    model: FloatArray = np.zeros(len(offset))
    for _ in range(iterations):
        model = matrix @ model + offset
    return model


def federated_average_of_local_models(
    stats: Sequence[GramStatistics], weights: Sequence[int], learning_rate: float, ridge: float, steps: int
) -> FloatArray:
    """Return Σa_i u_i / Σa_i of the models u_i that every owner's rows alone give after `steps` steps."""
    models = [local_model(owner, learning_rate, ridge, steps) for owner in stats]
    average: FloatArray = np.average(models, axis=0, weights=weights)
    return average
