"""An order is taken back on the real platform: everybody sees it, and the money is back."""

from __future__ import annotations

import time
from uuid import UUID

import pytest

from commons.chain.marketplace import Marketplace, Status
from commons.errors import PeerRefused
from scripts.local import flow
from tests.integration.conftest import Town

ETHER = 10**18


def test_cancelled_order_is_cancelled_everywhere_and_paid_back(town: Town) -> None:
    before = int(town.buyer.contract()["balance_wei"])
    training_id = town.order()
    owner = town.members["owner-1"].owner
    owner.wait_for_status(training_id, "READY")
    for _ in range(2):
        assert town.buyer.cancel(training_id)["model"]["status"] == "CANCELLED"
    with pytest.raises(flow.TrainingFailed, match="FAILED: the order was cancelled"):
        owner.wait_for_status(training_id, "FINISHED", timeout=30)
    give_up = time.monotonic() + 30
    while (seen := town.aggregator.training(training_id))["status"] != "CANCELLED" and time.monotonic() < give_up:
        time.sleep(0.2)
    assert (seen["status"], seen["reason"]) == ("CANCELLED", "the buyer cancelled it before any data owner accepted")
    contract = town.buyer.contract()
    assert int(contract["credit_wei"]) == 0
    assert before - int(contract["balance_wei"]) < ETHER // 100, "all but the gas of three transactions"
    chain = Marketplace(town.platform.urls["chain"], contract["address"])
    assert chain.training(UUID(training_id)).status == Status.CANCELLED


def test_accepted_order_goes_on(town: Town) -> None:
    training_id = town.order()
    town.accept(training_id, "owner-1")
    with pytest.raises(PeerRefused, match="1 data owners have accepted") as refusal:
        town.buyer.cancel(training_id)
    assert refusal.value.status == 409
    town.accept(training_id, "owner-2", "owner-3", "owner-4", "owner-5")
    town.buyer.wait_finished(training_id)
