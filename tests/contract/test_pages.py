"""What pages show of the chain, and do there: a buyer's service in this process, on a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.pages.buyer import Buyer

from .world import World, address_of


@pytest.fixture
def buyer(world: World, tmp_path: Path) -> Iterator[Buyer]:
    """The service of the buyer of the trainings in the world, whose operator is logged in."""
    assert world.buyer.account is not None
    key = world.buyer.account.key.to_0x_hex()
    made = Buyer(tmp_path, chain_url=world.rpc_url, contract_address=world.address, account_private_key=key)
    assert made.sign_up().status_code == 303
    yield made
    made.close()


def test_credit_is_withdrawn_by_click(world: World, buyer: Buyer) -> None:
    assert "The contract owes this account nothing" in buyer.get("/account").text
    world.finished()
    account = address_of(world.buyer)
    credit = world.buyer.credit(account)
    shown = buyer.get("/account").text
    (button,) = (line for line in shown.splitlines() if "<button>Withdraw" in line)
    assert world.address in shown and account in shown and "model buyer" in shown
    answer = buyer.post("/account/withdraw")
    assert answer.status_code == 303
    assert world.buyer.credit(account) == 0
    assert world.buyer.ledger(account) == (credit, credit)
    assert "The credit was withdrawn" in buyer.get(answer.headers["Location"]).text
    again = buyer.post("/account/withdraw")
    assert again.status_code == 409 and "there is nothing to withdraw" in again.text
    assert button not in again.text
