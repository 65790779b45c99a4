"""A small service with users: the real routes, tables and checks, with cheap passwords and a clock to put forward."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from eth_account import Account
from eth_account.signers.local import LocalAccount
from flask import Blueprint, Flask, jsonify
from flask.testing import FlaskClient
from flask.typing import ResponseReturnValue
from werkzeug.test import TestResponse

from commons.crypto import signatures
from commons.database import Database
from commons.http import application
from commons.users import api
from commons.users.accounts import Accounts
from commons.users.passwords import Passwords
from commons.users.registration import Registration
from commons.users.storage import Token, User

URL = "https://buyer.example"
CHAIN_ID = 31337
LIFETIME = timedelta(hours=12)
PASSWORD = "seven wooden horses"
ACCOUNT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"

Json = dict[str, Any]


class Clock:
    """Two clocks that stand still until they are put forward: of the wall, and one that only grows."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def seconds(self) -> float:
        return self.moment.timestamp()

    def forward(self, **duration: float) -> None:
        self.moment += timedelta(**duration)


class Service:
    """A service with one route of each kind besides those of users."""

    def __init__(self, folder: Path, registration: Registration = Registration.FIRST) -> None:
        self.path = folder / "service.db"
        self.database = Database(f"sqlite:///{self.path}")
        for kind in (User, Token):
            kind.metadata.tables[kind.__tablename__].create(self.database.engine)
        self.clock = Clock()
        cheap = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        self.accounts = Accounts(
            self.database, URL, lambda: CHAIN_ID, LIFETIME, cheap, self.clock.now, self.clock.seconds
        )
        self.users, self.tokens, self.access = self.accounts.users, self.accounts.tokens, self.accounts.access
        self.owners: dict[uuid.UUID, uuid.UUID] = {}
        self.changed = 0
        self.app = self._app(registration)
        self.client: FlaskClient = self.app.test_client()

    def _app(self, registration: Registration) -> Flask:
        app = application.create(__name__)
        app.register_blueprint(application.health("service", "/helpers/ping"))
        app.register_blueprint(api.blueprint(self.accounts, registration, ACCOUNT))
        app.register_blueprint(self._models())
        self.access.protect(
            app, anyone=application.FOR_ANYONE | api.FOR_ANYONE | {"models.notice"}, users={"users", "models.predict"}
        )
        return app

    def _models(self) -> Blueprint:
        routes = Blueprint("models", __name__)

        @routes.get("/models")
        def list_all() -> ResponseReturnValue:
            return jsonify({"by": self.access.user().email})

        @routes.get("/models/<uuid:model_id>")
        def show(model_id: uuid.UUID) -> ResponseReturnValue:
            owner = self.owners.get(model_id, uuid.UUID(int=0))
            self.access.require_own(owner, f"model {model_id}")
            return jsonify({"id": str(model_id)})

        @routes.post("/models")
        def order() -> ResponseReturnValue:
            self.changed += 1
            return jsonify({}), 201

        @routes.post("/predictions")
        def predict() -> ResponseReturnValue:
            self.changed += 1
            return jsonify({}), 201

        @routes.put("/models/<uuid:model_id>")
        def notice(model_id: uuid.UUID) -> ResponseReturnValue:
            return jsonify({})

        return routes

    def sign_up(self, name: str, **fields: Any) -> Json:
        """Register somebody, with the password of everybody here."""
        body = {"name": name, "email": f"{name.lower()}@example.org", "password": PASSWORD, **fields}
        answer = self.client.post("/users", json=body)
        assert answer.status_code == 201, answer.text
        made: Json = answer.get_json()
        return made

    def log_in(self, name: str, password: str = PASSWORD) -> Caller:
        """Return somebody who has logged in."""
        answer = self.client.post("/users/login", json={"email": f"{name.lower()}@example.org", "password": password})
        assert answer.status_code == 200, answer.text
        return Caller(self.client, answer.get_json()["token"], answer.get_json()["user_id"])

    def ada(self) -> Caller:
        """Return the first user, who is an operator."""
        self.sign_up("Ada")
        return self.log_in("Ada")

    def bob(self, operator: Caller) -> Caller:
        """Return a viewer, whom an operator makes."""
        body = {"name": "Bob", "email": "bob@example.org", "password": PASSWORD}
        assert operator.post("/users", json=body).status_code == 201
        return self.log_in("Bob")

    def offer(self, wallet: LocalAccount, user_id: str | None = None) -> str:
        """Return what a wallet is to sign."""
        query = {"address": wallet.address} | ({} if user_id is None else {"user_id": user_id})
        return str(self.client.get("/users/nonce", query_string=query).get_json()["message"])

    def link(self, caller: Caller, wallet: LocalAccount) -> None:
        """Link a wallet to a user."""
        text = self.offer(wallet, caller.user_id)
        body = {"message": text, "signature": signed(text, wallet), "password": PASSWORD}
        answer = caller.post(f"/users/{caller.user_id}/wallet", json=body)
        assert answer.status_code == 200, answer.text

    def close(self) -> None:
        self.database.close()


class Caller:
    """Somebody with a token."""

    def __init__(self, client: FlaskClient, token: str, user_id: str) -> None:
        self._client = client
        self.token = token
        self.user_id = user_id

    def get(self, path: str, **more: Any) -> TestResponse:
        return self._open("GET", path, **more)

    def post(self, path: str, **more: Any) -> TestResponse:
        return self._open("POST", path, **more)

    def put(self, path: str, **more: Any) -> TestResponse:
        return self._open("PUT", path, **more)

    def delete(self, path: str, **more: Any) -> TestResponse:
        return self._open("DELETE", path, **more)

    def _open(self, method: str, path: str, **more: Any) -> TestResponse:
        return self._client.open(path, method=method, headers={"Authorization": f"Bearer {self.token}"}, **more)


def wallet(number: int = 1) -> LocalAccount:
    made: LocalAccount = Account.from_key(number.to_bytes(32))
    return made


def signed(text: str, by: LocalAccount) -> str:
    return "0x" + signatures.sign(text.encode(), by).hex()
