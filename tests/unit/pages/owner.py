"""The data owner's application as a browser meets it: real tables and checks, no chain and no peers."""

from __future__ import annotations

import io
import uuid
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from werkzeug.test import TestResponse

from commons.chain.training import WHOLE
from commons.database import Database
from commons.protocol.messages import (
    DataRequirements,
    Features,
    HyperParameters,
    Order,
    Participants,
    Standardisation,
    Target,
)
from commons.users.tokens import Tokens
from data_owner.app import create_app
from data_owner.config import Config
from data_owner.seen import Seen
from data_owner.storage import Status, Storage, Training
from tests.unit.data_owner.parties import AGGREGATOR, ARBITER, BUYER, OWNERS
from tests.unit.pages.visitor import PASSWORD, Visitor

ORIGIN = "http://localhost:5000"
COOKIE = "deltaml_127.0.0.1_5000"
ROWS = b"age,bmi,y\n1,0.25,-1\n0,-0.5,0.125\n1,0.75,1\n"
ETHER = 10**18

SEEN = Seen(
    status="OPEN",
    escrow=str(5 * ETHER),
    bond=str(ETHER // 4),
    wanted=5,
    minimum=3,
    join_deadline=1_800_000_000,
    training_deadline=1_800_086_400,
    review_period=3600,
    deadline=0,
    fixed_share=WHOLE // 10,
    validator_share=3 * WHOLE // 10,
    arbiter=ARBITER.address,
    owners=1,
    trainers=0,
    share=0,
    answered=False,
    reported=False,
    improvement=0,
)


class Owner(Visitor):
    """An owner's service, and the browser of somebody in front of it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        config = Config.model_validate(
            {
                "data_dir": folder,
                "public_url": "http://127.0.0.1:5000",
                "chain_url": "http://127.0.0.1:9",
                "contract_address": "0x" + "0c" * 20,
                "account_private_key": OWNERS[0].key.to_0x_hex(),
                "aggregator_url": "http://127.0.0.1:9",
                **settings,
            }
        )
        self.folder = folder
        super().__init__(create_app(config), ORIGIN)
        self.database = Database(config.database)
        self.storage = Storage(self.database)
        self.tokens = Tokens(self.database)

    def token(self) -> str:
        """Return a token of whoever is logged in, for the API."""
        cookie = self.browser.get_cookie(COOKIE, "localhost")
        assert cookie is not None
        user, _ = self.tokens.find(cookie.value)
        return self.tokens.issue(user, timedelta(hours=1))[0]

    def become_viewer(self) -> None:
        """Log out, and in again as somebody who may look only."""
        operator = {"Authorization": f"Bearer {self.token()}"}
        sent = {"name": "Bob", "email": "bob@example.org", "password": PASSWORD}
        assert self.browser.post("/users", json=sent, headers=operator).status_code == 201
        self.post("/logout")
        assert self.post("/login", {"email": "bob@example.org", "password": PASSWORD}).status_code == 303

    def upload(self, content: bytes = ROWS, name: str = "rows.csv") -> TestResponse:
        answer = self.post("/data", {"file": (io.BytesIO(content), name)})
        answer.request.environ["wsgi.input"].close()  # a temporary file, if it is large
        return answer

    def training(
        self,
        status: Status = Status.OFFERED,
        features: Sequence[str] = ("age", "bmi"),
        standardise: bool = False,
        seen: Seen | None = SEEN,
        **values: Any,
    ) -> Training:
        """Add a training request."""
        steps = (Standardisation(method="standard"),) if standardise else ()
        order = Order(
            model_type="LINEAR_REGRESSION",
            data_requirements=DataRequirements(
                features=Features(list=tuple(features), range=(-5, 5), pre_processing=steps),
                target=Target(name="y", range=(-1, 1)),
            ),
            hyper_parameters=HyperParameters(iterations=20),
            participants=Participants(),
            modulus="f" * 512,
        )
        made = Training(
            **{
                "id": uuid.uuid4(),
                "status": status,
                "order": order.canonical(),
                "buyer": BUYER.address,
                "aggregator": AGGREGATOR.address,
                "aggregator_url": "http://127.0.0.1:9",
                "seen": None if seen is None else seen.model_dump(mode="json"),
            }
            | values
        )
        self.storage.offer(made)
        return made

    def close(self) -> None:
        self.database.close()
