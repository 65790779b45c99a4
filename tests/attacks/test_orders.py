"""Overtaking an order on its way into a block, and having trained what was not paid for."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import pytest
import requests

from commons.chain.deployment import ensure_role
from commons.chain.marketplace import Role, Status
from commons.protocol.messages import TrainingRequest
from scripts.local import diabetes, flow
from tests.attacks.people import Rogue, gateway, rpc
from tests.integration.conftest import Town
from tests.integration.refusals import refused
from tests.signing import voice


def order_call(rogue: Rogue, identifier: str) -> str:
    """Return the call of the contract by which the rogue orders, under an id of 0x and 64 digits."""
    terms = rogue.terms()
    order = (
        terms.arbiter, terms.wanted_owners, terms.minimum_owners, terms.join_deadline, terms.training_deadline,
        terms.review_period, terms.fixed_share, terms.validator_share, terms.order_hash,
    )  # fmt: skip
    kind = b"LINEAR_REGRESSION".ljust(32, b"\0")
    return str(rogue.buyer._contract.encode_abi("newModel", [identifier, kind, rogue.address, order]))


def overtake(town: Town, rogue: Rogue) -> str:
    """Wait for an order on its way to the contract, order its id for a wei at a higher price, and return the id."""
    function = order_call(rogue, "0x" + "00" * 32)[:10]
    seen: list[str] = []
    while not seen:
        time.sleep(0.02)
        pending = rpc(town.platform, "txpool_content")["pending"].values()
        inputs = [transaction["input"] for of_one in pending for transaction in of_one.values()]
        seen = ["0x" + each[10:74] for each in inputs if each.startswith(function)]
    assert rogue.buyer.account is not None
    call = {
        "from": rogue.buyer.account.address,
        "to": rogue.buyer.address,
        "data": order_call(rogue, seen[0]),
        "value": "0x1",
        "gas": hex(10**6),
        **dict.fromkeys(("maxFeePerGas", "maxPriorityFeePerGas"), hex(10**12)),
    }
    rpc(town.platform, "anvil_impersonateAccount", rogue.buyer.account.address)
    rpc(town.platform, "eth_sendTransaction", call)
    return str(uuid.UUID(seen[0][2:34]))


@pytest.fixture(scope="module")
def overtaken(town: Town, rogue: Rogue) -> tuple[str, requests.Response]:
    """An order whose payment somebody else's order of the same id has overtaken in the same block; and the answer."""
    answers: list[requests.Response] = []

    def order() -> None:
        body: Any = flow.order_for(town.buyer_id, diabetes.FEATURES)
        with requests.Session() as http:
            http.trust_env = False
            answers.append(http.post(f"{town.buyer.url}/models", json=body, headers=town.buyer.authorization))

    account = town.platform.accounts["buyer"]
    ensure_role(gateway(town.platform, account), account.address, Role.MODEL_BUYER)
    rpc(town.platform, "evm_setAutomine", False)
    thread = threading.Thread(target=order)
    try:
        thread.start()
        training = overtake(town, rogue)
        rpc(town.platform, "evm_mine")
    finally:
        rpc(town.platform, "evm_setAutomine", True)
    thread.join(30)
    (answer,) = answers
    return training, answer


def test_an_order_is_not_overwritten_and_who_comes_late_pays_nothing(
    town: Town, rogue: Rogue, overtaken: tuple[str, requests.Response]
) -> None:
    training, answer = overtaken
    assert "IdTaken" in refused(answer, 409)
    model = town.buyer.model(training)
    assert (model["model"]["status"], model["metrics"]["spent"]) == ("FAILED", "0")
    assert "IdTaken" in model["model"]["reason"]
    on_chain = rogue.buyer.training(uuid.UUID(training))
    assert rogue.buyer.account is not None
    assert (on_chain.status, on_chain.buyer, on_chain.escrow) == (Status.OPEN, rogue.buyer.account.address, 1)
    assert on_chain.terms.order_hash == rogue.order.digest()


def test_an_order_whose_payment_reverted_is_not_trained(
    town: Town, rogue: Rogue, overtaken: tuple[str, requests.Response]
) -> None:
    """Nor if its buyer announces it all the same, for the training that is on chain under its id."""
    training, _ = overtaken
    accounts = town.platform.accounts
    with requests.Session() as http:
        http.trust_env = False
        request: TrainingRequest = rogue.request(uuid.UUID(training), accounts["buyer"].address)
        places = {"aggregator": "/model", **dict.fromkeys(town.members, "/trainings")}
        for service, path in places.items():
            answer = voice(town.platform, "buyer").say(http, "POST", town.platform.urls[service] + path, request)
            assert "the chain says" in refused(answer, 409)
    time.sleep(1)  # in which the aggregator would have offered it
    assert training not in str(town.aggregator.call("GET", "/model"))
    for member in town.members.values():
        assert training not in str(member.owner.trainings())
    assert rogue.buyer.training(uuid.UUID(training)).owners == ()


def test_an_order_that_was_never_paid_is_not_trained(town: Town, rogue: Rogue) -> None:
    training = uuid.uuid4()
    request = rogue.request(training, town.platform.accounts["buyer"].address)
    with requests.Session() as http:
        http.trust_env = False
        for service, path in (("aggregator", "/model"), ("owner-1", "/trainings")):
            answer = voice(town.platform, "buyer").say(http, "POST", town.platform.urls[service] + path, request)
            assert f"training {training} is not on chain" in refused(answer, 409)
    assert str(training) not in str(town.aggregator.call("GET", "/model"))
    assert str(training) not in str(town.members["owner-1"].owner.trainings())


def test_an_order_of_less_than_its_buyer_has_said_is_not_trained(town: Town, rogue: Rogue) -> None:
    """What is on chain is another order: one hash, however the words differ."""
    other = rogue.order.model_copy(
        update={"hyper_parameters": rogue.order.hyper_parameters.model_copy(update={"iterations": 1})}
    )
    request = rogue.request(rogue.training).model_copy(update={"order": other})
    with requests.Session() as http:
        http.trust_env = False
        for service, path in (("aggregator", "/model"), ("owner-1", "/trainings")):
            answer = rogue.voice(rogue.buyer).say(http, "POST", town.platform.urls[service] + path, request)
            assert "the chain says" in refused(answer, 409)
    shown = town.members["owner-1"].owner.training(str(rogue.training))
    assert shown["order"]["hyper_parameters"]["iterations"] == 100
