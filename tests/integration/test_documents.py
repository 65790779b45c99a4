"""The services answer as their OpenAPI documents say: what is generated from those, and what really exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import schemathesis
from schemathesis.specs.openapi.schemas import OpenApiSchema

from scripts.local import diabetes, flow
from scripts.local.platform import LocalPlatform, Ports
from tests.integration.conftest import ROWS, Town

SERVICES = ("buyer", "owner-1", "aggregator")

FAREWELLS = ("users.change", "users.delete", "users.log_out", "users.revoke_token", "users.set_password")
"""Routes by which a caller may shut itself out: called last."""


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, flow.Service]]:
    """Services that nobody else needs, with an operator and a little of everything in each."""
    with LocalPlatform(tmp_path_factory.mktemp("village"), Ports.free(owners=1)) as platform:
        platform.start()
        aggregator = flow.Aggregator.entered(platform.urls["aggregator"])
        rows = diabetes.to_csv(diabetes.split(5, ROWS)[0])
        owner = flow.enter(flow.Owner(platform.urls["owner-1"]), "owner-1", rows).owner
        buyer = flow.Buyer(platform.urls["buyer"])
        buyer_id, _ = buyer.sign_up("buyer")
        buyer.order(flow.order_for(buyer_id, diabetes.FEATURES))
        yield {"buyer": buyer, "owner-1": owner, "aggregator": aggregator}


def generate(service: flow.Service, folder: Path, *operations: str) -> None:
    """Call a service with what its document allows, with what it forbids, and without a token where it wants one."""
    (header,) = (f"{name}: {value}" for name, value in service.authorization.items())
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json", f"--header={header}"]
    options = [
        "--phases=examples,coverage,fuzzing",
        "--max-examples=5",
        "--seed=1",
        "--checks=all",
        # A schema cannot say every rule: which fields go together, or that a bound is below another.
        "--exclude-checks=positive_data_acceptance",
        # Those want a service's signature before they read anything: test_bad_questions.py has them.
        "--exclude-tag=between services",
        "--continue-on-failure",
        "--no-shrink",
        "--generation-database=none",
        f"--report-dir={folder}",
        *operations,
    ]
    env = os.environ | {"NO_PROXY": "127.0.0.1", "HOME": str(folder)}
    run = subprocess.run(
        [*command, *options], cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stdout[-10_000:] + run.stderr[-2_000:]


@pytest.mark.parametrize("name", SERVICES)
def test_generated_calls_are_answered_as_documented(
    village: dict[str, flow.Service], tmp_path: Path, name: str
) -> None:
    farewells = [f"--exclude-operation-id={each}" for each in FAREWELLS]
    # The routes of users are the same code everywhere.
    generate(village[name], tmp_path, *(farewells if name == "buyer" else ["--exclude-operation-id-regex=^users[.]"]))


def test_calls_that_end_a_session_are_answered_as_documented(village: dict[str, flow.Service], tmp_path: Path) -> None:
    # Whoever is shut out on the way is answered so, which is documented too.
    generate(village["aggregator"], tmp_path, *(f"--include-operation-id={each}" for each in FAREWELLS))


@pytest.mark.parametrize("name", SERVICES)
def test_no_two_paths_differ_in_the_names_of_their_variables_only(village: dict[str, flow.Service], name: str) -> None:
    shapes = [re.sub(r"{\w+}", "{}", path) for path in document(village[name])]
    assert len(shapes) > 10
    assert len(shapes) == len(set(shapes))


def document(service: flow.Service) -> OpenApiSchema:
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


def test_what_exists_is_shown_as_documented(town: Town) -> None:
    """Generated identifiers exist rarely: these do, and answers have every optional part of a finished training."""
    training = town.train()
    town.buyer.wait_finished(training)
    model = town.buyer.model(training)
    features = dict.fromkeys(diabetes.FEATURES, 0.01)
    prediction = town.buyer.call("POST", "/predictions", json={"model_id": training, "rows": [features]})
    assert model["metrics"]["partial_MSEs"] and model["metrics"]["mse_history"]
    shown = set()
    for name, known in {
        "buyer": {"model_id": training, "prediction_id": prediction["id"], "user_id": town.buyer_id},
        "owner-1": {
            "training_id": training,
            "dataset_id": town.members["owner-1"].owner.training(training)["dataset_id"],
            "user_id": town.members["owner-1"].user_id,
        },
        "aggregator": {"training_id": training},
    }.items():
        service = town.services[name]
        for result in document(service).include(method="GET").get_all_operations():
            operation = result.ok()
            wanted = {parameter.name for parameter in operation.path_parameters}
            if "between services" in (operation.tags or ()) or not wanted <= known.keys():
                continue
            case = operation.Case(path_parameters={each: known[each] for each in wanted})
            answer = case.call_and_validate(headers=service.authorization)
            assert answer.status_code == 200, f"{operation.label}: {answer.text}"
            head = requests.head(service.url + case.formatted_path, headers=service.authorization, timeout=60)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["Content-Type"] == answer.headers["content-type"][0]
            shown.add(f"{name} {operation.path}")
    assert {
        "buyer /models",
        "buyer /models/{model_id}",
        "buyer /models/{model_id}/download",
        "buyer /predictions/{prediction_id}",
        "buyer /users/{user_id}/tokens",
        "buyer /contract",
        "owner-1 /datasets/{dataset_id}",
        "owner-1 /models/{training_id}",
        "aggregator /contributions/{training_id}",
        "aggregator /dataowner",
        "aggregator /federated-aggregator",
        "aggregator /model/{training_id}",
    } <= shown
