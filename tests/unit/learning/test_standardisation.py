"""Standard scores: the same as scikit-learn's, from sums that many owners add up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from commons.crypto.packing import to_fixed
from commons.errors import VerificationFailed
from commons.learning.standardisation import MOMENT_BITS, NOISE_BITS, Scaling, moments, scaling_of
from commons.learning.statistics import FloatArray
from tests.unit.learning.tables import owner

RANDOM = np.random.default_rng(3)
ROWS = (40, 50, 60)
FEATURES = RANDOM.normal(size=(sum(ROWS), 4)) * [1e-6, 1.0, 300.0, 2e5] + [1e-6, -3.0, 1500.0, 1e6]
TARGET = (FEATURES - FEATURES.mean(axis=0)) / FEATURES.std(axis=0) @ [0.1, -0.2, 0.05, 0.15] + 0.3
PARTS = np.split(np.arange(sum(ROWS)), np.cumsum(ROWS)[:-1])


def summed(features: FloatArray) -> list[int]:
    told = [moments(owner(features[part], TARGET[part], 1)) for part in PARTS]
    return [sum(values) for values in zip(*told, strict=True)]


def scaling(features: FloatArray) -> Scaling:
    return scaling_of(summed(features), len(features), float(np.abs(features).max()))


def fixed(*values: float) -> list[int]:
    return [to_fixed(value, MOMENT_BITS) for value in values]


def test_moments_are_rows_sums_and_squares() -> None:
    count, *sums = summed(FEATURES)
    assert count == sum(ROWS)
    expected = np.column_stack([FEATURES.sum(axis=0), (FEATURES**2).sum(axis=0)]).ravel()
    assert [value / 2**MOMENT_BITS for value in sums] == pytest.approx(expected, rel=1e-9)


def test_low_digits_of_moments_differ_from_telling_to_telling() -> None:
    own = owner(FEATURES[:40], TARGET[:40], 1)
    (count, *first), (again, *second) = moments(own), moments(own)
    assert count == again == 40
    bounds = []
    for squares in own.gram.diagonal()[1:]:
        bounds += fixed(math.sqrt(40 * squares), squares)
    differences = [abs(a - b) for a, b in zip(first, second, strict=True)]
    assert all(0 < d <= bound >> NOISE_BITS - 1 for d, bound in zip(differences, bounds, strict=True))
    assert any(d > bound >> NOISE_BITS + 6 for d, bound in zip(differences, bounds, strict=True))


def test_scaling_is_that_of_scikit_learn() -> None:
    expected, found = StandardScaler().fit(FEATURES), scaling(FEATURES)
    assert found.means == pytest.approx(expected.mean_, rel=1e-9)
    assert found.scales == pytest.approx(expected.scale_, rel=1e-8)


def test_scaling_is_the_same_bits_for_the_same_sums() -> None:
    totals = summed(FEATURES)
    assert scaling_of(totals, sum(ROWS), 1e7) == scaling_of(tuple(totals), sum(ROWS), 1e7)
    assert scaling_of([4, *fixed(2.0, 5.0)], 4, 2.0) == Scaling((0.5,), (1.0,))


def test_statistics_of_standard_scores_are_those_of_standardised_rows() -> None:
    found = scaling(FEATURES)
    scores = (FEATURES - found.means) / found.scales
    direct, derived = owner(scores, TARGET, 1), found.standardise(owner(FEATURES, TARGET, 1))
    assert derived.rows == direct.rows and derived.target_square == direct.target_square
    np.testing.assert_allclose(derived.gram, direct.gram, rtol=0, atol=1e-8)
    np.testing.assert_allclose(derived.moment, direct.moment, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(derived.gram, derived.gram.T)


def test_folded_weights_predict_from_features_what_weights_do_from_standard_scores() -> None:
    found = scaling(FEATURES)
    fitted = LinearRegression().fit((FEATURES - found.means) / found.scales, TARGET)
    intercept, *coefficients = found.fold([fitted.intercept_, *fitted.coef_])
    assert FEATURES @ coefficients + intercept == pytest.approx(TARGET, abs=1e-9)
    assert coefficients == pytest.approx([0.1, -0.2, 0.05, 0.15] / FEATURES.std(axis=0), rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 7.5, -1e-3, 1e-20])
def test_constant_feature_is_only_centred_as_scikit_learn_does(value: float) -> None:
    features = FEATURES.copy()
    features[:, 1] = value
    found = scaling(features)
    assert found.scales[1] == 1 == StandardScaler().fit(features).scale_[1]
    assert found.means[1] == pytest.approx(value, rel=1e-9)


def test_large_feature_that_hardly_varies_has_no_large_standard_scores() -> None:
    features = FEATURES.copy()
    features[:, 1] = 1e9 + 1000 * RANDOM.uniform(-1, 1, len(features))
    found = scaling(features)
    assert found.scales[1] == pytest.approx(1e9 / 2**16)
    assert np.abs((features[:, 1] - found.means[1]) / found.scales[1]).max() < 1


def test_no_standard_score_of_the_summed_rows_is_above_the_root_of_their_number() -> None:
    features = np.zeros((sum(ROWS), 1))
    features[0] = 1e6
    found = scaling(features)
    assert ((features - found.means) / found.scales).max() <= math.sqrt(len(features))


@pytest.mark.parametrize(
    ("totals", "reason"),
    [
        ([5, *fixed(0, 4)], "moments of 4 declared rows were claimed, and the sum is of another number"),
        ([4, *fixed(0, -1)], "no such rows have those of feature 0"),
        ([4, *fixed(0, 16.1)], "no such rows have those of feature 0"),
        ([4, *fixed(4.1, 4)], "no such rows have those of feature 0"),
        ([4, *fixed(-4.1, 4)], "no such rows have those of feature 0"),
        ([4, *fixed(0, 4), *fixed(1, 0)], "no such rows have those of feature 1"),
    ],
)
def test_sums_that_no_rows_have_are_refused(totals: list[int], reason: str) -> None:
    with pytest.raises(VerificationFailed, match=reason):
        scaling_of(totals, 4, 2.0)


def test_sums_at_their_bounds_are_accepted() -> None:
    assert scaling_of([4, *fixed(8, 16)], 4, 2.0).means == (2.0,)
    assert scaling_of([4, *fixed(0, 16)], 4, 2.0) == Scaling((0.0,), (2.0,))
