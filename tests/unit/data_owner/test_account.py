"""Pages are not kept waiting for the chain, and say what it said last."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from commons.chain.marketplace import ChainUnavailable
from commons.http.contract import Contract
from data_owner.account import Glances, Sight

ACCOUNT = "0x" + "0a" * 20


def contract(balance: int) -> Contract:
    return Contract(
        address=ACCOUNT, chain_id=1, account=ACCOUNT, role="DATA_OWNER", balance_wei=str(balance), credit_wei="0"
    )


def eventually(look: Callable[[], Sight], balance: str) -> Sight:
    deadline = time.monotonic() + 10
    while True:
        sight = look()
        if not sight.failed and sight.contract is not None and sight.contract.balance_wei == balance:
            return sight
        assert time.monotonic() < deadline


def test_slow_chain_is_not_waited_for_and_asked_once_at_a_time() -> None:
    answer, asked = threading.Event(), []

    def look() -> Contract:
        asked.append(None)
        assert answer.wait(10)
        return contract(len(asked))

    glances = Glances(look)
    began = time.monotonic()
    assert [glances.sight() for _ in range(3)] == [Sight()] * 3
    assert time.monotonic() - began < 5 and len(asked) == 1
    answer.set()
    assert eventually(glances.sight, "2").seen is not None


def test_what_was_said_last_stays_while_the_chain_is_away() -> None:
    away = threading.Event()

    def look() -> Contract:
        if away.is_set():
            raise ChainUnavailable("the chain does not answer")
        return contract(7)

    glances = Glances(look)
    seen = eventually(glances.sight, "7")
    away.set()
    while not (sight := glances.sight()).failed:
        time.sleep(0.01)
    assert sight.contract == seen.contract and sight.seen is not None
    away.clear()
    eventually(glances.sight, "7")
