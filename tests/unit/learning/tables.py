"""The owners of the tests: pieces of scikit-learn's diabetes data, targets divided by 512, and random ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.datasets import load_diabetes

from commons.learning.statistics import FloatArray, GramStatistics, TableStatistics

TARGET_SCALE = 512


def owner(features: FloatArray, target: FloatArray, target_scale: float = TARGET_SCALE) -> GramStatistics:
    columns = [f"x{i}" for i in range(features.shape[1])]
    table = np.column_stack([features, target])
    return TableStatistics.accumulate([table], [*columns, "y"]).select(columns, "y", target_scale)


def diabetes(start: int, stop: int, change: Callable[[FloatArray], FloatArray] | None = None) -> GramStatistics:
    data = load_diabetes()
    target = data.target[start:stop]
    return owner(data.data[start:stop], target if change is None else change(target))


def random_owner(rows: int, d: int, seed: int) -> GramStatistics:
    """Return an owner with standard normal features, and targets in [−1, 1] that depend on them."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, d - 1))
    slopes = np.random.default_rng(d).normal(size=d - 1) / (4 * np.sqrt(d))
    target = np.clip(0.25 + features @ slopes + random.normal(scale=0.1, size=rows), -1, 1)
    return owner(features, target, 1)
