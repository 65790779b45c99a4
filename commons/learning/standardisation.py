"""Standard scores of features, by means and standard deviations over the rows of many owners.

Of its rows an owner tells m, and Σx and Σx² of every feature, as integers to be added up encrypted
(:mod:`commons.protocol.moments`). From the sums everybody computes the same floats: in integers, with one correctly
rounded division. A feature x becomes (x − mean)/scale, where the scale is the standard deviation √(Σx²/m − mean²), as
in scikit-learn's ``StandardScaler``; a model of the standardised features is folded back into one of the features.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from commons.crypto.packing import to_fixed
from commons.errors import VerificationFailed
from commons.learning.statistics import FloatArray, GramStatistics

MOMENT_BITS = 128
"""Scale, in bits, of Σx and Σx². They are not packed: a plaintext has room for sums of squares up to 2^1800."""

NOISE_BITS = 36
"""Noise is uniform, up to 2^−NOISE_BITS of the largest that the sum could be for the owner's Σx²."""

LEAST_SPREAD_BITS = 16
"""A standard deviation below 2^−LEAST_SPREAD_BITS of the root mean square is none that floats could tell from zero."""

LEAST_SQUARE_BITS = 88
"""A mean square below 2^−LEAST_SQUARE_BITS is too near to the resolution of sums: it counts as zero."""

SLACK_BITS = 20
"""Sums may be beyond what the rows can make by this part of it: noise and rounding of floats are far less."""

ROUNDED = 1 << 10
"""Sums of squares may also be too small by this, in units of their scale: every owner rounds its own."""


@dataclass(frozen=True)
class Scaling:
    """How features become standard scores.

    Parameters
    ----------
    means, scales : tuple of float
        One for every feature, in the order of the model's weights. Scales are positive.
    """

    means: tuple[float, ...]
    scales: tuple[float, ...]

    def standardise(self, stats: GramStatistics) -> GramStatistics:
        """Return an owner's least-squares problem in standard scores."""
        transform = self._transform()
        gram = transform.T @ stats.gram @ transform
        return GramStatistics(
            rows=stats.rows,
            gram=(gram + gram.T) / 2,
            moment=transform.T @ stats.moment,
            target_square=stats.target_square,
        )

    def fold(self, weights: Sequence[float]) -> list[float]:
        """Return the weights (d, intercept first) that predict from features what these do from standard scores."""
        return [float(weight) for weight in self._transform() @ np.asarray(weights)]

    def _transform(self) -> FloatArray:
        """Return T, shape (d, d), such that X T are the standard scores of rows X, both with a column of ones."""
        transform = np.diag([1.0, *(1 / scale for scale in self.scales)])
        transform[0, 1:] = [-mean / scale for mean, scale in zip(self.means, self.scales, strict=True)]
        return transform


def moments(stats: GramStatistics) -> list[int]:
    """Return m, then Σx and Σx² of every feature at scale MOMENT_BITS, with noise: what an owner encrypts.

    Sums of floats have more digits than anybody needs to standardise by; the lowest tell about single rows, and are
    drowned here: in Σx by up to 2^−36 of √(m·Σx²), in Σx² by up to 2^−36 of itself. Sums of whole numbers show through.

    Parameters
    ----------
    stats : GramStatistics
        The owner's rows, of d − 1 features.

    Returns
    -------
    list of 2d − 1 int
    """
    values = [stats.rows]
    for total, squares in zip(stats.gram[0, 1:].tolist(), stats.gram.diagonal()[1:].tolist(), strict=True):
        values += [
            to_fixed(total, MOMENT_BITS) + _noise(to_fixed(math.sqrt(stats.rows * squares), MOMENT_BITS)),
            to_fixed(squares, MOMENT_BITS) + _noise(to_fixed(squares, MOMENT_BITS)),
        ]
    return values


def _noise(largest: int) -> int:
    bound = largest >> NOISE_BITS
    return secrets.randbelow(2 * bound + 1) - bound


def scaling_of(totals: Sequence[int], rows: int, largest: float) -> Scaling:
    """Return the scaling that follows from added moments, the same bits for everybody.

    A feature that hardly varies, or that is next to zero, counts as constant: scikit-learn divides it by 1, and so is
    it here, or by 2^−16 of its root mean square if that is more than 1, so that no standard score of the rows that were
    summed is above the square root of their number.

    Parameters
    ----------
    totals : sequence of 2d − 1 int
        Sums over owners of :func:`moments`.
    rows : int
        What these owners have declared, together.
    largest : float
        Bound of every absolute value of a feature.

    Raises
    ------
    VerificationFailed
        No such rows have these sums.
    """
    count, *sums = totals
    if count != rows:
        raise VerificationFailed(f"moments of {rows} declared rows were claimed, and the sum is of another number")
    means, scales = [], []
    for feature, (total, squares) in enumerate(zip(sums[::2], sums[1::2], strict=True)):
        _require_possible(feature, total, squares, rows, largest)
        mean, scale = _mean_and_scale(total, squares, rows)
        means.append(mean)
        scales.append(scale)
    return Scaling(tuple(means), tuple(scales))


def _require_possible(feature: int, total: int, squares: int, rows: int, largest: float) -> None:
    bound = to_fixed(largest, MOMENT_BITS)
    most = rows * bound**2 >> MOMENT_BITS
    limit = rows * (squares + ROUNDED) << MOMENT_BITS  # Σx ≤ √(m·Σx²), after Cauchy and Schwarz
    in_range = 0 <= squares <= most + (most >> SLACK_BITS) + ROUNDED
    if not (in_range and total**2 <= limit + (limit >> SLACK_BITS)):
        raise VerificationFailed(
            f"moments of {rows} rows within {largest:g} were claimed, and no such rows have those of feature {feature}"
        )


def _mean_and_scale(total: int, squares: int, rows: int) -> tuple[float, float]:
    unit = rows << MOMENT_BITS
    mean_square = rows * squares << MOMENT_BITS  # like the variance, at scale unit²
    variance = mean_square - total**2
    root_mean_square = math.isqrt(mean_square) / unit
    varies = variance << 2 * LEAST_SPREAD_BITS > mean_square
    if not varies or mean_square << LEAST_SQUARE_BITS < unit**2:
        return total / unit, max(1.0, math.ldexp(root_mean_square, -LEAST_SPREAD_BITS))
    return total / unit, math.isqrt(variance) / unit
