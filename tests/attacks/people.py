"""People who are not the town's: accounts with ether on its chain, and a training of their own."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import requests
from eth_account import Account
from eth_account.signers.local import LocalAccount

from commons.chain.marketplace import Marketplace, Role, Terms
from commons.crypto.paillier import PrivateKey
from commons.crypto.proofs import prove_key
from commons.protocol.messages import (
    DataRequirements,
    HyperParameters,
    Order,
    Participants,
    TrainingRequest,
)
from commons.protocol.signed import Signer, proof_context
from scripts.local import diabetes, flow
from scripts.local.platform import LocalPlatform
from tests.integration.conftest import Town
from tests.signing import Voice, domain

ETHER = 10**18
NOBODY = "http://127.0.0.1:9"


def rpc(platform: LocalPlatform, method: str, *parameters: object) -> Any:
    """Ask the town's chain for something that only a development chain does."""
    with requests.Session() as http:
        http.trust_env = False
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        answer = http.post(platform.urls["chain"], json=call, timeout=30).json()
    assert "error" not in answer, answer
    return answer["result"]


def gateway(platform: LocalPlatform, account: LocalAccount) -> Marketplace:
    """Return the contract, as an account calls it without its service."""
    return Marketplace(platform.urls["chain"], domain(platform).contract, account)


def newcomer(platform: LocalPlatform, role: Role) -> Marketplace:
    """Give somebody an account with ether, and a role on chain."""
    account: LocalAccount = Account.create()
    rpc(platform, "anvil_setBalance", account.address, hex(100 * ETHER))
    market = gateway(platform, account)
    if role is not Role.NONE:
        market.register(role)
    return market


@dataclass(frozen=True)
class Rogue:
    """An aggregator that is registered like any other, and its buyer, whose order every owner of the town knows."""

    town: Town
    aggregator: Marketplace
    buyer: Marketplace
    key: PrivateKey
    order: Order
    training: uuid.UUID

    @classmethod
    def arrive(cls, town: Town) -> Rogue:
        """Register both, order on chain, and offer the order to the owners."""
        aggregator = newcomer(town.platform, Role.FEDERATED_AGGREGATOR)
        buyer = newcomer(town.platform, Role.MODEL_BUYER)
        key = PrivateKey.generate()
        requirements = flow.order_for(town.buyer_id, diabetes.FEATURES)["data_requirements"]
        order = Order(
            model_type="LINEAR_REGRESSION",
            data_requirements=DataRequirements.model_validate(requirements),
            hyper_parameters=HyperParameters(),
            participants=Participants(),
            modulus=f"{int(key.public_key.n):x}",
        )
        made = cls(town, aggregator, buyer, key, order, uuid.uuid4())
        buyer.new_model(made.training, order.model_type, made.address, made.terms(), ETHER)
        with requests.Session() as http:
            http.trust_env = False
            for member in town.members.values():
                url, request = f"{member.owner.url}/trainings", made.request(made.training)
                offered = made.voice(buyer).say(http, "POST", url, request, through=made.voice(aggregator))
                assert offered.status_code == 200
        return made

    @property
    def address(self) -> str:
        """The aggregator's address."""
        assert self.aggregator.account is not None
        return str(self.aggregator.account.address)

    def terms(self) -> Terms:
        """Return what the order says on chain."""
        now = self.buyer.now()
        return Terms(
            wanted_owners=5,
            minimum_owners=3,
            join_deadline=now + 3600,
            training_deadline=now + 7200,
            review_period=3600,
            fixed_share=0,
            arbiter=self.town.platform.accounts["arbiter"].address,
            order_hash=self.order.digest(),
        )

    def request(self, training: uuid.UUID, buyer: str | None = None) -> TrainingRequest:
        """Return a request with the rogue's own key and a sound proof of it, for its own training or another."""
        assert self.buyer.account is not None
        here, buyer = domain(self.town.platform), buyer or str(self.buyer.account.address)
        return TrainingRequest(
            training=training,
            chain_id=here.chain_id,
            contract=here.contract,
            buyer=buyer,
            buyer_url=NOBODY,
            aggregator_url=NOBODY,
            order=self.order,
            key_proof=prove_key(self.key, proof_context(here, training, "key", 0, buyer)).to_bytes(),
        )

    def voice(self, who: Marketplace) -> Voice:
        """Return what says something as the rogue aggregator or its buyer."""
        assert who.account is not None
        return Voice(Signer(who.account, domain(self.town.platform)))

    def leave(self) -> None:
        """Take the order back."""
        self.buyer.cancel(self.training)
