"""The real thing: a chain, the contract, three kinds of services, five owners."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.local import diabetes, flow
from scripts.local.platform import LocalPlatform, Ports

ROWS = 50

QUICK = {"iterations": 10, "learning_rate": 1.5, "evaluation_interval": 5}
"""Hyper-parameters of a training that takes about two seconds."""


@dataclass(frozen=True)
class Town:
    """A running platform whose people have signed up: five owners with fifty rows each, and a buyer."""

    platform: LocalPlatform
    buyer: flow.Buyer
    buyer_id: str
    aggregator: flow.Aggregator
    members: dict[str, flow.Member]

    @property
    def services(self) -> dict[str, flow.Service]:
        """The clients of everybody who is signed up, by the names of their services."""
        owners = {name: member.owner for name, member in self.members.items()}
        return {"buyer": self.buyer, "aggregator": self.aggregator, **owners}

    def order(self, **optional: Any) -> str:
        """Order a quick training (or another, by ``hyper_parameters``) and return its id."""
        optional = {"hyper_parameters": QUICK} | optional
        return self.buyer.order(flow.order_for(self.buyer_id, diabetes.FEATURES, **optional))

    def accept(self, training_id: str, *names: str) -> None:
        """Have owners accept, by default all of them."""
        for name in names or self.members:
            owner = self.members[name].owner
            owner.wait_for_status(training_id, "READY")
            owner.accept(training_id)

    def train(self, **optional: Any) -> str:
        """Order a training, have everybody accept, and return its id while it runs."""
        training_id = self.order(**optional)
        self.accept(training_id)
        return training_id


def settle_town(directory: Path) -> Iterator[Town]:
    """Start the platform, have everybody sign up, and stop it afterwards: the fixture ``town`` of all packages."""
    with LocalPlatform(directory, Ports.free()) as platform:
        platform.start()
        tables = diabetes.split(5, ROWS)
        members = {
            f"owner-{number}": flow.enter(flow.Owner(url), f"owner-{number}", diabetes.to_csv(table))
            for number, (url, table) in enumerate(zip(platform.owner_urls, tables, strict=True), start=1)
        }
        buyer = flow.Buyer(platform.urls["buyer"])
        buyer_id, _ = buyer.sign_up("buyer")
        yield Town(platform, buyer, buyer_id, flow.Aggregator.entered(platform.urls["aggregator"]), members)
