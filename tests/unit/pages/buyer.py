"""The model buyer's application as a browser meets it: real tables and checks, no chain and no peers."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

from commons.database import Database
from commons.protocol.messages import DataRequirements, Features, HyperParameters, Order, Participants, Target
from commons.users.tokens import Tokens
from model_buyer.app import create_app
from model_buyer.config import Config
from model_buyer.storage import Model, Status, Storage
from tests.unit.model_buyer.scene import ARBITER, BUYER, DOMAIN
from tests.unit.pages.visitor import Visitor

ORIGIN = "http://localhost:9090"
COOKIE = "deltaml_127.0.0.1_9090"


class Buyer(Visitor):
    """A buyer's service, and the browser of somebody in front of it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        config = Config.model_validate(
            {
                "data_dir": folder,
                "public_url": "http://127.0.0.1:9090",
                "chain_url": "http://127.0.0.1:9",
                "contract_address": DOMAIN.contract,
                "account_private_key": BUYER.key.to_0x_hex(),
                "arbiter_address": ARBITER.address,
                **settings,
            }
        )
        self.folder = folder
        super().__init__(create_app(config), ORIGIN)
        self.database = Database(config.database)
        self.storage = Storage(self.database)
        self.tokens = Tokens(self.database)

    def cookie(self) -> str | None:
        found = self.browser.get_cookie(COOKIE, "localhost")
        return None if found is None else found.value

    def user_id(self) -> uuid.UUID:
        return self.tokens.find(self.cookie() or "")[0].id

    def token(self) -> str:
        """Return a token of whoever is logged in, for the API."""
        user, _ = self.tokens.find(self.cookie() or "")
        return self.tokens.issue(user, timedelta(hours=1))[0]

    def model(self, status: Status = Status.FINISHED, **values: Any) -> Model:
        """Add an order of whoever is logged in."""
        order = Order(
            model_type="LINEAR_REGRESSION",
            data_requirements=DataRequirements(
                features=Features(list=("age", "bmi"), range=(-5, 5)), target=Target(name="y", range=(-1, 1))
            ),
            hyper_parameters=HyperParameters(iterations=20),
            participants=Participants(),
            modulus="f" * 512,
        )
        made = Model(
            **{
                "id": uuid.uuid4(),
                "user_id": self.user_id(),
                "name": "progression <b>",
                "status": status,
                "order": order.canonical(),
                "sealed_key": b"",
                "payment": 5 * 10**18,
                "terms": {
                    "join_seconds": 86400,
                    "training_seconds": 7200,
                    "review_seconds": 90,
                    "fixed_share": 10**17,
                },
                "weights": [1.0, 2.0, 3.0] if status == Status.FINISHED else None,
            }
            | values
        )
        self.storage.add(made)
        return made

    def close(self) -> None:
        self.database.close()
