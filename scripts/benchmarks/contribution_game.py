"""How near the contributions are to Shapley values of real retraining, as a Markdown table.

    python -m scripts.benchmarks.contribution_game

Four owners of 50 rows of the diabetes data train, a fifth one validates, and the labels of one trainer are left as
they are, shuffled, shifted or negated. "Retraining" trains every coalition of trainers for itself, 100 rounds, and
takes the Shapley value of the validator's errors: the definition, and 2^k trainings. "DeltaML" is what the protocol
pays by: the game of one round of model averaging, from errors that are measured encrypted. "2019" is what DeltaML
paid by then: initial error − error without the owner. Everything here is in the clear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from math import factorial

import numpy as np
from sklearn.datasets import load_diabetes

from commons.learning.contributions import UNIT, coalition_points, contributions
from commons.learning.local_steps import federated_descent, local_model
from commons.learning.statistics import FloatArray, GramStatistics
from scripts.benchmarks.cases import LEARNING_RATE, statistics

ROUNDS = 100
TRAINERS = ((0, 50), (100, 150), (150, 200), (200, 250))
VALIDATOR = (50, 100)
CHANGED = 1

LABELS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "clean": lambda labels: labels,
    "shuffled": lambda labels: np.random.default_rng(0).permutation(labels),
    "shifted by 200": lambda labels: labels + 200,
    "negated": np.negative,
}


def comparisons() -> Iterator[tuple[str, list[float], list[float], list[float]]]:
    """Yield, for each change of the second trainer's labels, everybody's share by retraining, DeltaML and 2019."""
    data = load_diabetes()

    def owner(piece: tuple[int, int], change: Callable[[FloatArray], FloatArray]) -> GramStatistics:
        rows = slice(*piece)
        return statistics(data.data[rows], change(data.target[rows]))

    validator = owner(VALIDATOR, LABELS["clean"])
    for name, change in LABELS.items():
        trainers = [owner(piece, change if i == CHANGED else LABELS["clean"]) for i, piece in enumerate(TRAINERS)]
        values = {
            members: validator.mse(np.zeros(11)) - validator.mse(_retrained([trainers[i] for i in members]))
            for size in range(len(trainers) + 1)
            for members in combinations(range(len(trainers)), size)
        }
        everyone = range(len(trainers))
        left_out = [values[tuple(i for i in everyone if i != player)] for player in everyone]
        yield name, _shares(_shapley(values, len(trainers))), _shares(_averaged(trainers, validator)), _shares(left_out)


def _retrained(trainers: Sequence[GramStatistics]) -> FloatArray:
    if not trainers:
        return np.zeros(11)
    return federated_descent(trainers, [1] * len(trainers), ROUNDS, LEARNING_RATE, 0.0, 1)


def _shapley(values: Mapping[tuple[int, ...], float], k: int) -> list[float]:
    result = [0.0] * k
    for members, value in values.items():
        size = len(members)
        for i in range(k):
            if i in members:
                result[i] += value * factorial(size - 1) * factorial(k - size) / factorial(k)
            else:
                result[i] -= value * factorial(size) * factorial(k - size - 1) / factorial(k)
    return result


def _averaged(trainers: Sequence[GramStatistics], validator: GramStatistics) -> list[float]:
    models = np.array([local_model(owner, LEARNING_RATE, 0.0, ROUNDS) for owner in trainers])
    measured = [round(validator.mse(np.array(point) @ models) * UNIT) for point in coalition_points(len(trainers))]
    zero = round(validator.mse(np.zeros(11)) * UNIT)
    return [float(value) for value in contributions(zero, measured, [1] * len(trainers), b"").raw]


def _shares(values: Sequence[float]) -> list[float]:
    floored = np.maximum(values, 0)
    shares: list[float] = (floored / floored.sum()).tolist()
    return shares


def table() -> str:
    """Return the comparison in Markdown."""
    lines = [
        "| labels of owner 2 | owner | retraining | DeltaML | 2019 |",
        "|---|---|---|---|---|",
    ]
    for name, *columns in comparisons():
        for i, shares in enumerate(zip(*columns, strict=True)):
            cells = " | ".join(f"{share:.4f}" for share in shares)
            lines.append(f"| {name} | {i + 1} | {cells} |")
    worst = max(
        abs(ours - retrained)
        for _, real, averaged, _ in comparisons()
        for retrained, ours in zip(real, averaged, strict=True)
    )
    return "\n".join([*lines, "", f"Largest difference of a share from retraining: {worst:.4f}."])


if __name__ == "__main__":
    print(table())
