"""The composition root: a test puts a cheating party in place of any part that speaks to others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model_buyer.answering import Answering
from model_buyer.app import create_app
from model_buyer.config import Config
from model_buyer.reviewing import Reviewing
from model_buyer.settlement import Settlement
from tests.unit.model_buyer.scene import ARBITER, BUYER, DOMAIN

MADE: list[Any] = []


class Liar(Answering):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        MADE.append(self)


class Forgetful(Settlement):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        assert MADE[-1] in arguments
        MADE.append(self)


class Silent(Reviewing):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        assert MADE[-1] in arguments
        MADE.append(self)


def test_cheats_are_put_in_and_given_to_each_other(tmp_path: Path) -> None:
    config = Config.model_validate(
        {
            "data_dir": tmp_path,
            "public_url": "http://127.0.0.1:9",
            "chain_url": "http://127.0.0.1:9",
            "contract_address": DOMAIN.contract,
            "account_private_key": BUYER.key.to_0x_hex(),
            "arbiter_address": ARBITER.address,
        }
    )
    MADE.clear()
    app = create_app(config, answering=Liar, settlement=Forgetful, reviewing=Silent)
    assert [type(part) for part in MADE] == [Liar, Forgetful, Silent]
    assert app.test_client().get("/helpers/ping").status_code == 200
