"""Secrets appear in no log, no database, no answer and no repr: searched for after a whole training.

The platform is one of its own, with what most deployments have: accounts in key files, and a log that says everything.
The rows and models of its people are searched for in ``tests/privacy/test_secrets.py``.
"""

from __future__ import annotations

import base64
import gc
import json
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from eth_account import Account

import data_owner.app
import data_owner.config
import federated_aggregator.app
import federated_aggregator.config
import model_buyer.app
import model_buyer.config
from commons.crypto.paillier import PrivateKey
from commons.users.tokens import MARK
from model_buyer.vault import Vault
from scripts.local import diabetes, flow
from scripts.local.platform import LocalPlatform, Ports
from tests.integration.conftest import QUICK
from tests.privacy.needles import Needles

OWNERS = 3


class KeyedPlatform(LocalPlatform):
    """The local platform whose accounts are in key files with passwords, and whose services log all they can."""

    @property
    def passwords(self) -> dict[str, str]:
        return {name: f"{name}-{'k' * 3}eystore-{self.ports.chain}-passphrase" for name in self.services}

    def _service_env(self, name: str) -> dict[str, str]:
        env = super()._service_env(name)
        del env["DELTAML_ACCOUNT_PRIVATE_KEY"]
        folder = self.directory / "keys"
        folder.mkdir(exist_ok=True)
        keystore, password = folder / f"{name}.json", folder / f"{name}.password"
        key = Account.encrypt(self.accounts[name].key, self.passwords[name], kdf="pbkdf2", iterations=1000)
        keystore.write_text(json.dumps(key))
        password.write_text(self.passwords[name])
        return env | {
            "DELTAML_ACCOUNT_KEYSTORE": str(keystore),
            "DELTAML_ACCOUNT_PASSWORD_FILE": str(password),
            "DELTAML_LOG_LEVEL": "DEBUG",
        }


@dataclass
class Story:
    """What happened on the platform: the secrets that were used, and what was answered."""

    platform: KeyedPlatform
    passwords: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    errors: int = 0

    def listen(self, service: flow.Service) -> None:
        """Note every answer of a service but the one that tells a token."""
        service._session.hooks["response"].append(self.note)

    def note(self, answer: requests.Response, *_: Any, **__: Any) -> None:
        self.errors += answer.status_code >= 400
        if not (answer.ok and answer.url.endswith("/login")):
            self.answers.append(str(answer.headers).encode() + answer.content)

    def sign_up(self, service: flow.Service, name: str) -> str:
        """Sign the first user up with a password that is known here; return its id."""
        self.listen(service)
        password = f"{name} has a password, {secrets.token_hex(8)}"
        email = f"{name}@example.org"
        user_id = service.create_user(name, email, password)
        service.log_in(email, password)
        service.set_address(user_id, str(service.contract()["account"]))
        self.passwords.append(password)
        self.tokens.append(service.authorization["Authorization"].removeprefix("Bearer "))
        return user_id

    def needles(self) -> Needles:
        """Return every secret, to be found in all the forms that it might have."""
        found = Needles()
        for name, account in self.platform.accounts.items():
            found.add_bytes(f"private key of {name}", bytes(account.key))
            found.add_integers(f"private key of {name}", [int.from_bytes(account.key, "big")])
        for password in self.passwords:
            found.add_bytes("password of a user", password.encode())
        for name, password in self.platform.passwords.items():
            found.add_bytes(f"password of {name}'s key file", password.encode())
        for token in self.tokens:
            found.add_bytes("token", token.encode())
            found.add_bytes("token", base64.urlsafe_b64decode(token.removeprefix(MARK) + "="))
        sealing = (self.platform.directory / "buyer" / "secret.key").read_bytes().strip()
        found.add_bytes("vault key", sealing)
        found.add_bytes("vault key", base64.urlsafe_b64decode(sealing))
        for factor in self.factors():
            found.add_bytes("factor", factor.to_bytes((factor.bit_length() + 7) // 8, "big"))
            found.add_integers("factor", [factor, factor - 1])
        return found

    def factors(self) -> list[int]:
        """Return p and q of every training's key."""
        data = self.platform.directory / "buyer"
        vault = Vault(data / "secret.key")
        with closing(sqlite3.connect(f"file:{data / 'service.db'}?mode=ro", uri=True)) as database:
            sealed = [row for (row,) in database.execute("SELECT sealed_key FROM models")]
        assert sealed
        return [int(factor) for each in sealed for factor in PrivateKey.from_bytes(vault.open(each)).factors]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """A training from the first user to the last prediction, and every mistake with a secret on the way."""
    with KeyedPlatform(tmp_path_factory.mktemp("secrets"), Ports.free(OWNERS)) as platform:
        platform.start()
        story = Story(platform)
        aggregator, buyer = flow.Aggregator(platform.urls["aggregator"]), flow.Buyer(platform.urls["buyer"])
        story.sign_up(aggregator, "operator")
        buyer_id = story.sign_up(buyer, "buyer")
        owners = [flow.Owner(url) for url in platform.owner_urls]
        for owner, table in zip(owners, diabetes.split(OWNERS, 50), strict=True):
            user_id = story.sign_up(owner, f"owner-{len(story.tokens)}")
            owner.upload_dataset(diabetes.to_csv(table))
            owner.register(user_id)
        people = {"wanted": OWNERS, "minimum": OWNERS}
        order = flow.order_for(buyer_id, diabetes.FEATURES, hyper_parameters=QUICK, participants=people)
        training = buyer.order(order)
        for owner in owners:
            owner.wait_for_status(training, "READY")
            owner.accept(training)
        buyer.wait_finished(training)
        for owner in owners:
            owner.wait_for_status(training, "FINISHED")
        buyer.call("POST", "/predictions", json={"model_id": training, "rows": [[0.0] * len(diabetes.FEATURES)]})
        for service in (aggregator, buyer, owners[0]):
            blunder(story, service)
        yield story


def blunder(story: Story, service: flow.Service) -> None:
    """Put secrets where they do not belong, where they are wrong, and where nobody reads them.

    But not in the place of a member's name: that is repeated, to whoever sent it, when it is not known.
    """
    account = next(a for name, a in story.platform.accounts.items() if story.platform.urls.get(name) == service.url)
    for secret in (story.passwords[0], story.tokens[0], bytes(account.key).hex(), story.platform.passwords["buyer"]):
        bodies: list[Any] = [
            {"name": "x", "email": "x@example.org", "password": [secret]},
            {"name": "x", "email": "x@example.org", "passwrd": secret},
            {"name": secret + "\n", "email": secret, "password": secret},
            {"email": "buyer@example.org", "password": secret},
            {"message": secret, "signature": "0x" + secret},
            {"address": "0x" + secret},
            [secret],
            secret,
        ]
        paths = ("/users", "/users/login", "/models", "/model", "/trainings", "/predictions", "/dataowner")
        for path in paths:
            for body in bodies:
                attempt(story, service, "POST", path, json=body)
            attempt(story, service, "POST", path, data=f'{{"password": "{secret}"')
            attempt(story, service, "POST", path, headers={"DeltaML-Signature": secret, "Signature": secret})
            attempt(story, service, "GET", path, params={"limit": secret, "status": secret, "password": secret})
            attempt(story, service, "GET", f"{path}/{secret}")
            for scheme in ("Basic ", "Bearer x ", "Bearer ", ""):
                attempt(story, service, "GET", path, headers={"Authorization": scheme + secret + "!"})
        files = {"file": ("rows.csv", f"a,b\n1,{secret[:8]}\n")}
        attempt(story, service, "POST", "/datasets", files=files)


def attempt(story: Story, service: flow.Service, method: str, path: str, **sent: Any) -> None:
    answer = service._session.request(method, service.url + path, timeout=30, **sent)
    assert answer.status_code < 500, answer.text


def test_what_is_searched_for_would_be_found(story: Story) -> None:
    needles = story.needles()
    key = bytes(story.platform.accounts["buyer"].key)
    p = story.factors()[0]
    for text in (
        *story.passwords,
        *story.tokens,
        *story.platform.passwords.values(),
        key.hex(),
        str(int.from_bytes(key, "big")),
        base64.b64encode(key).decode(),
        str(p),
        f"{p:x}",
        (story.platform.directory / "buyer" / "secret.key").read_text(),
    ):
        assert needles.find(b'{"detail": "' + text.encode() + b'"}'), text
    for raw in (key, p.to_bytes(128, "big"), base64.urlsafe_b64decode(story.tokens[0].removeprefix(MARK) + "=")):
        assert needles.find(b"SQLite" + raw + b"\0")


def test_no_log_has_a_secret(story: Story) -> None:
    logs = [story.platform.directory / f"{name}.log" for name in (*story.platform.services, "contract")]
    assert sum(log.stat().st_size for log in logs) > 0
    for log in logs:  # not the chain's, which is no part of this: anvil prints the keys of its accounts
        assert story.needles().find(log.read_bytes()) == set(), log


def test_no_database_has_a_secret_in_clear(story: Story) -> None:
    """Nor its write-ahead log, which has what was overwritten meanwhile."""
    needles = story.needles()
    found = sorted(story.platform.directory.glob("*/service.db*"))
    assert {path.parent.name for path in found} == set(story.platform.services)
    assert any(path.name.endswith("-wal") for path in found)
    for path in found:
        assert needles.find(path.read_bytes()) == set(), path


def test_no_answer_has_a_secret(story: Story) -> None:
    """Each as it came, errors above all: a token is told once, to who logs in."""
    assert story.errors > 1000
    needles = story.needles()
    for answer in story.answers:
        assert needles.find(answer) == set(), answer[:2000]


def test_no_file_but_the_vaults_own_has_a_secret(story: Story) -> None:
    directory = story.platform.directory
    allowed = {directory / "buyer" / "secret.key", directory / "chain.log", directory / "chain.json"}
    allowed |= {path for path in (directory / "keys").iterdir() if path.suffix == ".password"}
    needles = story.needles()
    for path in directory.rglob("*"):
        if path.is_file() and path not in allowed:
            assert needles.find(path.read_bytes()) == set(), path
    for path in allowed - {directory / "chain.log", directory / "chain.json", *(directory / "keys").iterdir()}:
        assert path.stat().st_mode & 0o077 == 0


PACKAGES = ("commons.", "model_buyer.", "data_owner.", "federated_aggregator.", "eth_account.")


def test_nothing_that_a_service_has_in_memory_shows_a_secret(story: Story, tmp_path: Path) -> None:
    """Whatever a log, a debugger or an error would print: the repr of each of its objects, keys and accounts too."""
    platform, apps = story.platform, []
    modules: dict[str, Any] = {"buyer": model_buyer, "aggregator": federated_aggregator, "owner-1": data_owner}
    for name, module in modules.items():
        settings = {
            "data_dir": platform.directory / name if name == "buyer" else tmp_path / name,
            "public_url": platform.urls[name],
            "chain_url": platform.urls["chain"],
            "contract_address_file": platform.directory / "contract-address",
            "account_private_key": "0x" + bytes(platform.accounts[name].key).hex(),
            "database_url": f"sqlite:///{platform.directory / name / 'service.db'}" if name == "buyer" else None,
        }
        if name == "buyer":
            settings["arbiter_address"] = platform.accounts["arbiter"].address
        apps.append(module.app.create_app(module.config.Config.model_validate(settings)))
    key = PrivateKey.from_bytes(PrivateKey(*story.factors()[:2]).to_bytes())
    needles, shown = story.needles(), 0
    for thing in gc.get_objects():
        kind = type(thing)
        if str(kind.__module__).startswith(PACKAGES):
            shown += 1
            assert needles.find(f"{thing!r} {thing!s}".encode()) == set(), kind
    assert shown > 100 and len(apps) == 3 and key is not None
