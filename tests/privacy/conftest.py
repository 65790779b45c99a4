"""A platform whose services keep records, and one whole training on it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commons.protocol.messages import Order
from scripts.local import diabetes, flow
from scripts.local.platform import LocalPlatform, Ports
from tests.integration.conftest import Town
from tests.privacy.record import Entry, Record, read_tape

ROWS = 50
HYPER = {"iterations": 50, "learning_rate": 1.5, "evaluation_interval": 2}
TWO_VALIDATORS = {"validator_share": 0.4}
SHORT = {"iterations": 4, "evaluation_interval": 2}
ALL_OF_THEM = TWO_VALIDATORS | {"minimum": 5}


class RecordedPlatform(LocalPlatform):
    """The local platform with every service behind the recorder."""

    def tape(self, name: str) -> Path:
        return self.directory / f"{name}.tape"

    def _service_argv(self, name: str) -> list[str]:
        python, _, module, *rest = super()._service_argv(name)
        return [python, "-m", "tests.privacy.recording", module, *rest]

    def _service_env(self, name: str) -> dict[str, str]:
        return super()._service_env(name) | {"PRIVACY_TAPE": str(self.tape(name))}


@pytest.fixture(scope="package")
def tables() -> dict[str, diabetes.Table]:
    """Rows of five owners, the features scaled to [−2, 2] as the 2019 platform asked for."""
    scale = np.append(np.full(len(diabetes.FEATURES), np.sqrt(442) / 3), 1)
    return {f"owner-{number}": table * scale for number, table in enumerate(diabetes.split(5, ROWS), start=1)}


@pytest.fixture(scope="package")
def recorded_town(tmp_path_factory: pytest.TempPathFactory, tables: Mapping[str, diabetes.Table]) -> Iterator[Town]:
    with RecordedPlatform(tmp_path_factory.mktemp("recorded"), Ports.free()) as platform:
        platform.start()
        members = {
            name: flow.enter(flow.Owner(platform.urls[name]), name, diabetes.to_csv(table))
            for name, table in tables.items()
        }
        buyer = flow.Buyer(platform.urls["buyer"])
        buyer_id, _ = buyer.sign_up("buyer")
        yield Town(platform, buyer, buyer_id, flow.Aggregator.entered(platform.urls["aggregator"]), members)


@pytest.fixture(scope="package")
def record(recorded_town: Town, tables: dict[str, diabetes.Table]) -> Record:
    """The first training of the recorded town: three trainers, two validators, run to its end."""
    return _recorded(recorded_town, tables, {}, hyper_parameters=HYPER, participants=TWO_VALIDATORS)


@pytest.fixture(scope="package")
def standardised(recorded_town: Town, tables: dict[str, diabetes.Table], record: Record) -> Record:
    """A training after that, a short one of standardised features."""
    before = {name: len(tape) for name, tape in _tapes(recorded_town).items()}
    return _recorded(recorded_town, tables, before, hyper_parameters=SHORT, participants=ALL_OF_THEM, standardise=True)


def _tapes(town: Town) -> dict[str, list[Entry]]:
    assert isinstance(town.platform, RecordedPlatform)
    return {name: read_tape(town.platform.tape(name)) for name in town.platform.services}


def _recorded(town: Town, tables: dict[str, diabetes.Table], before: Mapping[str, int], **ordered: Any) -> Record:
    """Run a training, and return what is on the tapes of it, after so many entries of each."""
    training = town.train(**ordered)
    model: dict[str, Any] = town.buyer.wait_finished(training, timeout=120)
    owners = [member.owner.wait_for_status(training, "FINISHED") for member in town.members.values()]
    names = {member.address: name for name, member in town.members.items()}
    roles = town.aggregator.training(training)["roles"]
    platform = town.platform
    listed = town.buyer.call("GET", "/models?limit=100")["models"]
    others = [each["id"] for each in listed if each["id"] != training]  # which may still be told that they are over
    tapes = {
        name: [
            entry
            for entry in tape[before.get(name, 0) :]
            if not any(other in entry.get("url", entry.get("path") or "") for other in others)
        ]
        for name, tape in _tapes(town).items()
    }
    return Record(
        training=uuid.UUID(training),
        directory=platform.directory,
        urls=platform.urls,
        accounts={name: account.address for name, account in platform.accounts.items()},
        contract=town.buyer.contract()["address"],
        order=Order.model_validate(owners[0]["order"]),
        tables=tables,
        trainers=tuple(names[address] for address in roles["trainers"]),
        validators=tuple(names[address] for address in roles["validators"]),
        weights=np.array(model["model"]["weights"]),
        delivered=model["metrics"]["delivered_model"],
        delivered_at=max(e["time"] for e in tapes["buyer"] if e["what"] == "served" and e["method"] == "PUT"),
        tapes=tapes,
    )
