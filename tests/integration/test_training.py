"""A training from the order to the payment, on the real platform."""

from __future__ import annotations

from uuid import UUID

import pytest

from commons.chain.marketplace import Marketplace
from commons.learning.local_steps import federated_descent
from commons.learning.statistics import TableStatistics
from scripts.local import diabetes
from tests.integration.conftest import QUICK, ROWS, Town


def test_trained_model_is_that_of_plaintext_descent(town: Town) -> None:
    training_id = town.train()
    model = town.buyer.wait_finished(training_id)
    roles = town.aggregator.training(training_id)["roles"]
    columns = (*diabetes.FEATURES, "target")
    statistics = {
        member.address: TableStatistics.accumulate([table], columns).select(diabetes.FEATURES, "target", 512)
        for member, table in zip(town.members.values(), diabetes.split(5, ROWS), strict=True)
    }
    weights = federated_descent(
        [statistics[address] for address in roles["trainers"]],
        [1] * 4,
        int(QUICK["iterations"]),
        float(QUICK["learning_rate"]),
        0.0,
        1,
    )
    (validator,) = (statistics[address] for address in roles["validators"])
    assert model["metrics"]["trained_mse"] == pytest.approx(validator.mse(weights) * 512**2, rel=1e-8)
    if model["metrics"]["delivered_model"] == "trained":
        assert model["model"]["weights"] == pytest.approx(weights * 512, abs=1e-6)


def test_everybody_is_paid_what_the_contract_says(town: Town) -> None:
    training_id = town.train()
    model = town.buyer.wait_finished(training_id)
    contract = town.buyer.contract()
    chain = Marketplace(town.platform.urls["chain"], contract["address"])
    payments = chain.payments(UUID(training_id))
    assert sum(payment.wei for payment in payments) == 5 * 10**18
    for member in town.members.values():
        earned = int(member.owner.wait_for_status(training_id, "FINISHED")["earned"])
        assert earned == sum(payment.wei for payment in payments if payment.recipient == member.address)
        assert int(model["metrics"]["payments"][member.address]) == earned
        assert int(member.owner.contract()["credit_wei"]) == 0
