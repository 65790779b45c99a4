"""Who attacks the platform: somebody with no part in it, its own users and services, and an aggregator of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from flask import Flask

import federated_aggregator.app
import federated_aggregator.config
import model_buyer.app
import model_buyer.config
from tests.attacks.people import Rogue
from tests.contract.conftest import deployed, rpc_url, world  # noqa: F401
from tests.integration.conftest import Town
from tests.integration.refusals import session


@pytest.fixture(scope="module")
def http(town: Town) -> Iterator[requests.Session]:
    """Log in everywhere as who is signed up there, unless a call says otherwise."""
    with session(town) as made:
        yield made


@pytest.fixture(scope="package")
def rogue(town: Town) -> Iterator[Rogue]:
    """Put an aggregator, and a buyer that works with it, beside the town's."""
    rogue = Rogue.arrive(town)
    yield rogue
    rogue.leave()


PUBLIC = ("/helpers/ping", "/helper/ping", "/users/nonce", "/federated-aggregator", "/openapi", "/doc")
"""Begin the paths of what is shown to everybody, and is about nobody."""


def routes(app: Flask) -> list[tuple[str, str]]:
    """Return the method and path of every route that is not public, every id in it left open."""
    found = {
        (method, re.sub("<[^>]*>", "{0}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    return sorted(each for each in found if not each[1].startswith(PUBLIC))


@pytest.fixture(scope="module")
def buyer_routes(town: Town, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """List what the buyer's service serves."""
    settings = _settings(town, tmp_path_factory.mktemp("buyer"))
    arbiter = {"arbiter_address": town.platform.accounts["arbiter"].address}
    return routes(model_buyer.app.create_app(model_buyer.config.Config.model_validate(settings | arbiter)))


@pytest.fixture(scope="module")
def aggregator_routes(town: Town, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """List what the aggregator serves."""
    settings = _settings(town, tmp_path_factory.mktemp("aggregator"))
    config = federated_aggregator.config.Config.model_validate(settings)
    return routes(federated_aggregator.app.create_app(config))


def _settings(town: Town, directory: Path) -> dict[str, object]:
    return {
        "data_dir": directory,
        "public_url": "http://127.0.0.1:9",
        "chain_url": town.platform.urls["chain"],
        "contract_address": town.buyer.contract()["address"],
        "account_private_key": "0x" + "11" * 32,
    }
