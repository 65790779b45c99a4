"""The arithmetic of DeltaML in 2019, written anew on python-paillier to compare with.

An owner's round: the encrypted residual of every row, the encrypted gradient from the residuals, and fresh
randomness on every number that is sent, as python-paillier puts on numbers that are serialised.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import phe

from commons.learning.statistics import FloatArray


def owner_round(
    model: Sequence[phe.EncryptedNumber], design: FloatArray, target: FloatArray, learning_rate: float
) -> list[phe.EncryptedNumber]:
    """Return the encrypted weights after an owner's gradient step.

    Parameters
    ----------
    model : sequence of d EncryptedNumber
        Encrypted weights, intercept first.
    design : ndarray of shape (rows, d)
        Features, after a column of ones.
    target : ndarray of shape (rows,)
    learning_rate : float
    """
    residuals = [
        reduce(add, (weight * value for weight, value in zip(model, row, strict=True))) - goal
        for row, goal in zip(design.tolist(), target.tolist(), strict=True)
    ]
    step = learning_rate / len(design)
    updated = [
        weight - reduce(add, (residual * (step * value) for residual, value in zip(residuals, column, strict=True)))
        for weight, column in zip(model, design.T.tolist(), strict=True)
    ]
    for weight in updated:
        weight.obfuscate()
    return updated
