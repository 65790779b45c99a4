"""Features of wildly different scales, which only standardised can be trained on, on the real platform."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from commons.learning.local_steps import (
    federated_average_of_local_models,
    federated_descent,
    relative_weights,
    require_stable,
)
from commons.learning.standardisation import Scaling
from commons.learning.statistics import FloatArray, TableStatistics
from scripts.local import flow
from tests.integration.conftest import Town
from tests.transcripts import expect_audited

FEATURES = ("malic_acid", "magnesium", "flavanoids", "hue", "proline")
COLUMNS = (*FEATURES, "quality")
HYPER = {"iterations": 100, "learning_rate": 0.5, "evaluation_interval": 50}
SCALE = 16


@pytest.fixture(scope="module")
def tables() -> list[FloatArray]:
    """Return five owners' rows of scikit-learn's wines, with a target that follows from them but for some noise."""
    wine: Any = load_wine()
    features = wine.data[:, [wine.feature_names.index(name) for name in FEATURES]]
    random = np.random.default_rng(1)
    features = features[random.permutation(len(features))]
    scores = (features - features.mean(axis=0)) / features.std(axis=0)
    target = 13 + scores @ [0.4, -0.3, 0.5, -0.2, 0.6] + random.normal(0, 0.01, len(features))
    return np.array_split(np.column_stack([features, target]), 5)


@pytest.fixture(scope="module")
def trained(town: Town, tables: list[FloatArray]) -> str:
    """Return the id of a finished training. The owners keep their wines, which fit no other test's order."""
    for member, table in zip(town.members.values(), tables, strict=True):
        text = io.StringIO()
        np.savetxt(text, table, fmt="%.17g", delimiter=",", header=",".join(COLUMNS), comments="")
        member.owner.upload_dataset(text.getvalue().encode(), "wines.csv")
    order = flow.order_for(
        town.buyer_id, FEATURES, standardise=True, hyper_parameters=HYPER, participants={"minimum": 4}
    )
    order["data_requirements"]["features"]["range"] = [0, 1700]
    order["data_requirements"]["target"] = {"name": "quality", "range": [10, 16]}
    training = town.buyer.order(order)
    town.accept(training)
    town.buyer.wait_finished(training, timeout=120)
    for member in town.members.values():
        member.owner.wait_for_status(training, "FINISHED")
    return training


@pytest.fixture(scope="module")
def by_role(town: Town, tables: list[FloatArray], trained: str) -> dict[str, list[FloatArray]]:
    owned = {member.address: table for member, table in zip(town.members.values(), tables, strict=True)}
    roles = town.aggregator.training(trained)["roles"]
    return {role: [owned[address] for address in addresses] for role, addresses in roles.items()}


def test_model_is_that_of_scikit_learn_with_standard_scaler_in_the_units_of_the_columns(
    town: Town, trained: str, by_role: dict[str, list[FloatArray]]
) -> None:
    intercept, *coefficients = town.buyer.model(trained)["model"]["weights"]
    rows = np.vstack(by_role["trainers"])
    scaler, fitted = (
        make_pipeline(StandardScaler(), LinearRegression()).fit(rows[:, :-1], rows[:, -1]).named_steps.values()
    )
    folded = fitted.coef_ / scaler.scale_
    assert coefficients == pytest.approx(folded, rel=5e-3)
    assert intercept == pytest.approx(fitted.intercept_ - folded @ scaler.mean_, rel=5e-3)


def test_error_is_nearly_that_of_least_squares(town: Town, trained: str, by_role: dict[str, list[FloatArray]]) -> None:
    metrics = town.buyer.model(trained)["metrics"]
    rows, scored = np.vstack(by_role["trainers"]), np.vstack(by_role["validators"])
    least = LinearRegression().fit(rows[:, :-1], rows[:, -1])
    mse = float(np.mean((least.predict(scored[:, :-1]) - scored[:, -1]) ** 2))
    assert metrics["trained_mse"] == pytest.approx(mse, rel=0.05)
    assert metrics["mse"] < metrics["initial_mse"] / 1e5


def test_model_is_that_of_training_in_the_clear(town: Town, trained: str, by_role: dict[str, list[FloatArray]]) -> None:
    model = town.buyer.model(trained)
    rows = np.vstack(by_role["trainers"])[:, :-1]
    scaling = Scaling(tuple(rows.mean(axis=0)), tuple(rows.std(axis=0)))
    owners = [
        scaling.standardise(TableStatistics.accumulate([table], COLUMNS).select(FEATURES, "quality", SCALE))
        for table in by_role["trainers"]
    ]
    for owner in owners:
        require_stable(owner, 0.5, 0.0)
    weights = relative_weights([owner.rows for owner in owners], "rows")
    clear = (
        federated_descent(owners, weights, 100, 0.5, 0.0, 1)
        if model["metrics"]["delivered_model"] == "trained"
        else federated_average_of_local_models(owners, weights, 0.5, 0.0, 100)
    )
    assert model["model"]["weights"] == pytest.approx(scaling.fold(list(clear * SCALE)), rel=1e-6)


def test_predictions_and_the_scikit_learn_download_take_the_columns_as_they_are(
    town: Town, trained: str, by_role: dict[str, list[FloatArray]]
) -> None:
    rows = by_role["validators"][0]
    named = [dict(zip(COLUMNS, map(float, row), strict=True)) for row in rows]
    answer = town.buyer.call("POST", "/predictions", json={"model_id": trained, "rows": named})
    assert answer["r2"] > 0.999
    assert answer["predictions"] == pytest.approx(rows[:, -1], abs=0.06)
    fitted = town.buyer.call("GET", f"/models/{trained}/download", params={"format": "sklearn"})
    vars(model := LinearRegression()).update({name: np.array(value) for name, value in fitted.items()})
    del model.feature_names_in_
    assert model.predict(rows[:, :-1]) == pytest.approx(np.array(answer["predictions"]), rel=1e-12)


def test_audit_replays_the_sums_that_it_was_standardised_by(town: Town, trained: str) -> None:
    transcript = expect_audited(town.platform, trained)
    assert {("score-moments", 0), ("total-moments", 0), ("opening-moments", 0)} <= transcript.records.keys()
