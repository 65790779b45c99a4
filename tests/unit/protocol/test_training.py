from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from commons.crypto.paillier import PrivateKey
from commons.learning.contributions import UNIT
from commons.learning.local_steps import federated_average_of_local_models, federated_descent
from commons.learning.statistics import GramStatistics, TableStatistics
from tests.unit.protocol.training import Order, Training


def diabetes(*ranges: tuple[int, int]) -> list[GramStatistics]:
    data = load_diabetes()
    table = np.column_stack([data.data, data.target])
    columns = [*data.feature_names, "target"]
    return [
        TableStatistics.accumulate([table[start:stop]], columns).select(columns[:-1], "target", 512)
        for start, stop in ranges
    ]


def test_smoke() -> None:
    trainers = diabetes((0, 50), (100, 150), (150, 200), (200, 250))
    validators = diabetes((50, 100))
    order = Order(iterations=10)
    key = PrivateKey.generate(1024)
    outcome = Training(key, trainers, validators, [1] * 4, order).run()
    expected = federated_descent(trainers, [1] * 4, 10, 1.5, 0.0, 1)
    np.testing.assert_allclose(outcome.weights, expected, rtol=0, atol=1e-9)
    assert outcome.final_mse / UNIT == pytest.approx(validators[0].mse(expected), rel=1e-8)
    assert outcome.initial_mse / UNIT == pytest.approx(validators[0].mse(np.zeros(11)), rel=1e-8)
    average = federated_average_of_local_models(trainers, [1] * 4, 1.5, 0.0, 10)
    assert outcome.contributions.coalition_mse_all / UNIT == pytest.approx(
        validators[0].mse(average), rel=1e-7
    )
    assert sum(outcome.contributions.raw) == pytest.approx(
        outcome.initial_mse - outcome.contributions.coalition_mse_all, abs=4
    )
