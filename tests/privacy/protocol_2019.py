"""The 2019 protocol, and all that its honest buyer saw of one training: enough to attack it.

In every round the trainers send their gradients at the current model. Every few rounds the validators send residuals of
the new model, and of the models that leave one trainer's gradient out of the sum. The aggregator adds the same vector
of integers from 0 to 9 to all of them, the buyer decrypts them and the weights, and is given the vector to compute
errors. Paillier changes none of these numbers (its floats were exact), so they are computed in the clear here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from commons.learning.statistics import FloatArray

Rows = tuple[FloatArray, FloatArray]
"""Features with a column of ones, shape (m, d), and targets, shape (m,)."""


@dataclass(frozen=True)
class View:
    """What the buyer decrypts and is told.

    Parameters
    ----------
    models : ndarray of shape (evaluations + 1, d)
        Weights, the initial ones first.
    shown : ndarray of shape (evaluations + 1, m)
        Residuals of those on all validators' rows, plus the noise.
    left_out : ndarray of shape (evaluations, k, m)
        Residuals without one trainer each, plus the noise.
    noise : ndarray of shape (m,)
    """

    models: FloatArray
    shown: FloatArray
    left_out: FloatArray
    noise: FloatArray


def train(
    trainers: Sequence[Rows],
    validators: Sequence[Rows],
    iterations: int,
    learning_rate: float,
    interval: int,
    random: np.random.Generator,
) -> View:
    features = np.vstack([rows for rows, _ in validators])
    targets = np.concatenate([values for _, values in validators])
    noise = random.integers(0, 10, len(targets)).astype(np.float64)
    model = random.random(features.shape[1])
    models, shown, left_out = [model], [features @ model - targets + noise], []
    for round_ in range(1, iterations + 1):
        gradients = [rows.T @ (rows @ model - values) / len(values) for rows, values in trainers]
        share, total = learning_rate / len(trainers), np.sum(gradients, axis=0)
        without = [model - share * (total - gradient) for gradient in gradients]
        model = model - share * total
        if round_ % interval == 0:
            models.append(model)
            shown.append(features @ model - targets + noise)
            left_out.append([features @ other - targets + noise for other in without])
    return View(np.array(models), np.array(shown), np.array(left_out), noise)
