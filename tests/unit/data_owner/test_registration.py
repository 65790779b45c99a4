"""An owner registers at an aggregator of its own contract, and knows it by its signature."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from eth_account.signers.local import LocalAccount
from flask import Flask
from flask.typing import ResponseReturnValue
from werkzeug.serving import make_server

from commons.chain.connection import Connection
from commons.chain.marketplace import Role
from commons.errors import Conflict, PeerUnavailable, VerificationFailed
from commons.http import application, bodies
from commons.http.peer import Peers
from commons.http.signatures import Question, Signatures, answer
from commons.protocol.messages import Acknowledgement, AggregatorDescription, OwnerRegistration
from commons.protocol.signed import Domain, Signer
from data_owner.participation import Participation
from tests.unit.data_owner.chain import Chain
from tests.unit.data_owner.parties import AGGREGATOR, OWNERS, STRANGER, Owner, Parties

OWN_URL = "http://127.0.0.1:5000"


@dataclass
class Aggregator:
    """An aggregator that describes itself as told, and answers with some account's signature."""

    described: AggregatorDescription
    answering: LocalAccount = AGGREGATOR
    registered: list[Question[OwnerRegistration]] = field(default_factory=list)
    url: str = ""

    def app(self, parties: Parties) -> Flask:
        made = application.create(__name__)
        signatures = Signatures(cast(Connection, Chain(parties.market, AGGREGATOR)))

        @made.get("/federated-aggregator")
        def describe() -> ResponseReturnValue:
            return bodies.message(self.described)

        @made.post("/dataowner")
        def register() -> ResponseReturnValue:
            question = signatures.read(OwnerRegistration)
            self.registered.append(question)
            return answer(Signer(self.answering, parties.domain).sign(Acknowledgement(), question.signed))

        return made


@pytest.fixture
def aggregator(parties: Parties) -> Iterator[Aggregator]:
    market = parties.market
    described = AggregatorDescription(account=AGGREGATOR.address, contract=market.address, chain_id=market.chain_id)
    made = Aggregator(described)
    server = make_server("127.0.0.1", 0, made.app(parties))
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def owner(parties: Parties, tmp_path: Path) -> Iterator[Owner]:
    made = parties.owner(0, tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def participation(owner: Owner) -> Participation:
    chain = cast(Connection, owner.chain)
    return Participation(owner.storage, chain, Peers(chain), owner.reviewing)


def test_owner_registers_on_chain_and_at_the_aggregator(
    parties: Parties, aggregator: Aggregator, participation: Participation
) -> None:
    for _ in range(2):
        participation.register(aggregator.url, OWN_URL)
    assert parties.market.roles[OWNERS[0].address] == Role.DATA_OWNER
    assert [(question.sender, question.content.url) for question in aggregator.registered] == [
        (OWNERS[0].address, OWN_URL)
    ] * 2
    assert aggregator.registered[0].content.address == OWNERS[0].address


@pytest.mark.parametrize("changed", [{"account": STRANGER.address}, {"contract": "0x" + "0f" * 20}, {"chain_id": 1}])
def test_owner_registers_at_an_aggregator_of_its_contract_only(
    aggregator: Aggregator, participation: Participation, changed: dict[str, object]
) -> None:
    aggregator.described = aggregator.described.model_copy(update=changed)
    with pytest.raises(VerificationFailed, match="/federated-aggregator claims"):
        participation.register(aggregator.url, OWN_URL)
    assert aggregator.registered == []


def test_answer_of_somebody_else_is_no_registration(aggregator: Aggregator, participation: Participation) -> None:
    aggregator.answering = STRANGER
    with pytest.raises(PeerUnavailable, match="its signature gives"):
        participation.register(aggregator.url, OWN_URL)


def test_account_of_another_role_is_refused(
    parties: Parties, aggregator: Aggregator, participation: Participation
) -> None:
    parties.market.roles[OWNERS[0].address] = Role.MODEL_BUYER
    with pytest.raises(Conflict, match="is registered as MODEL_BUYER already"):
        participation.register(aggregator.url, OWN_URL)


def test_signature_of_another_contract_counts_nothing(parties: Parties, aggregator: Aggregator, owner: Owner) -> None:
    elsewhere = Signer(OWNERS[0], Domain(1, parties.domain.contract))
    content = OwnerRegistration(address=OWNERS[0].address, url=OWN_URL)
    peers = Peers(cast(Connection, owner.chain))
    with pytest.raises(PeerUnavailable):
        peers.ask("POST", f"{aggregator.url}/dataowner", elsewhere.sign(content), Acknowledgement, STRANGER.address)
    assert aggregator.registered[0].sender != OWNERS[0].address
