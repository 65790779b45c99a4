from __future__ import annotations

import dataclasses
import io
import json

import pytest
from rich.console import Console

from commons.errors import VerificationFailed
from scripts.local import diabetes
from scripts.local.report import ETHER, Candidates, Report, make_parties, make_report, train_in_plaintext

NAMES = ("a", "b", "c", "aggregator", "buyer")
ADDRESSES = {name: f"0x{place:040x}" for place, name in enumerate(NAMES, start=1)}
HYPER_PARAMETERS = {
    "iterations": 100,
    "local_steps": 1,
    "learning_rate": 1.5,
    "ridge": 0.0,
    "weighting": "rows",
}

# What the services answer, in the shapes of the REST API; owners a and c train, b validates.
MODEL = {
    "model": {"id": "6f1f0d4e-6a3c-4a7e-9a56-0a2d3f1a2b3c", "status": "FINISHED", "weights": [152.1, 3.2]},
    "metrics": {
        "initial_mse": 29074.48,
        "mse": 3311.86,
        "trained_mse": 3311.86,
        "averaged_mse": 3500.0,
        "iterations": 100,
        "improvement": 0.886,
        "partial_MSEs": [
            {"data_owner": ADDRESSES["a"], "partial_MSE": 3400.5, "payment": "1000", "contributions": 0.25},
            {"data_owner": ADDRESSES["c"], "partial_MSE": 3500.5, "payment": "3000", "contributions": 0.75},
        ],
        "mse_history": [{"time": "2026-01-01T00:00:00+00:00", "iteration": 0, "mse": 29074.48}],
        "initial_payment": str(5 * ETHER),
        "spent": str(4 * ETHER),
    },
}
TRAINING = {
    "id": MODEL["model"]["id"],
    "status": "FINISHED",
    "phases": [
        {"name": "joining", "seconds": 0.5, "bytes": 1000},
        {"name": "rounds", "seconds": 3.25, "bytes": 200000},
    ],
    "roles": {"trainers": [ADDRESSES["a"], ADDRESSES["c"]], "validators": [ADDRESSES["b"]]},
}


@pytest.fixture
def report() -> Report:
    received = {ADDRESSES["a"]: 1000, ADDRESSES["b"]: ETHER, ADDRESSES["c"]: 3000}
    rows = {"a": "0–49", "b": "50–99", "c": "100–149"}
    parties = make_parties(MODEL, TRAINING, received, ADDRESSES, dict.fromkeys(ADDRESSES, -7), rows)
    return make_report(MODEL, TRAINING, parties, Candidates(3311.86, 3500.0), 3200.0, 2048, 4.5)


def test_the_report_for_machines_has_every_figure(report: Report) -> None:
    document = json.loads(json.dumps(report.to_json()))
    assert document == {
        "training": MODEL["model"]["id"],
        "roles": TRAINING["roles"],
        "rows": {ADDRESSES["a"]: "0–49", ADDRESSES["b"]: "50–99", ADDRESSES["c"]: "100–149"},
        "initial_mse": 29074.48,
        "final_mse": 3311.86,
        "plaintext_mse": 3311.86,
        "delivered_mse": 3311.86,
        "sklearn_mse": 3200.0,
        "shares": {ADDRESSES["a"]: 0.25, ADDRESSES["c"]: 0.75},
        "payouts_wei": {
            ADDRESSES["a"]: 1000,
            ADDRESSES["b"]: ETHER,
            ADDRESSES["c"]: 3000,
            ADDRESSES["aggregator"]: 0,
            ADDRESSES["buyer"]: 0,
        },
        "seconds": {"joining": 0.5, "rounds": 3.25, "training": 4.5},
        "bytes": {"joining": 1000, "rounds": 200000, "total": 201000},
        "key_bits": 2048,
        "rounds": 100,
    }


def test_the_report_for_people_shows_roles_and_errors(report: Report) -> None:
    text = io.StringIO()
    report.show(Console(file=text, width=140))
    for shown in ("3311.860000", "validator", "75.00%", "1.000000", "201.0", "The chain drew as trainers: a, c"):
        assert shown in text.getvalue()


@pytest.mark.parametrize("mse", [3311.87, float("nan")])
def test_an_encrypted_training_that_differs_from_plaintext_is_an_error(report: Report, mse: float) -> None:
    report.require_success()
    for encrypted in (Candidates(mse, 3500.0), Candidates(3311.86, mse)):
        with pytest.raises(VerificationFailed, match="differ by a relative"):
            dataclasses.replace(report, encrypted=encrypted).require_success()


def test_the_better_candidate_is_the_one_delivered(report: Report) -> None:
    document = dataclasses.replace(report, encrypted=Candidates(3311.86, 3000.0)).to_json()
    assert (document["final_mse"], document["delivered_mse"]) == (3311.86, 3000.0)


def test_plaintext_training_reaches_the_figure_of_the_2019_split() -> None:
    first, validator, *others = diabetes.split()
    candidates, sklearn_mse = train_in_plaintext([first, *others], [validator], HYPER_PARAMETERS)
    assert candidates.trained == pytest.approx(3311.86, abs=0.005)
    assert sklearn_mse < candidates.trained


def test_csv_reads_back_exactly() -> None:
    table = diabetes.split()[0]
    header, *lines = diabetes.to_csv(table).decode().splitlines()
    assert tuple(header.split(",")) == diabetes.COLUMNS
    assert [[float(cell) for cell in line.split(",")] for line in lines] == table.tolist()
