"""What the data owner says to the aggregator."""

from __future__ import annotations

import uuid

from commons.chain.marketplace import Marketplace, Role
from commons.errors import VerificationFailed
from commons.http.peer import Patience, Peers
from commons.protocol.messages import Acceptance, Acknowledgement, AggregatorDescription, OwnerRegistration

INTERACTIVE = Patience(answer_s=10, total_s=3)


def register(peers: Peers, market: Marketplace, aggregator_url: str, address: str, url: str) -> None:
    """Make the owner known, so that it is asked to take part in trainings.

    Raises
    ------
    VerificationFailed
        What answers there is no aggregator of this contract.
    """
    path = f"{aggregator_url}/federated-aggregator"
    described = peers.call("GET", path, None, AggregatorDescription, INTERACTIVE)
    found = (market.chain_id, market.address.lower(), market.role(described.account))
    claimed = (described.chain_id, described.contract.lower(), Role.FEDERATED_AGGREGATOR)
    if found != claimed:
        raise VerificationFailed(f"{path} claims {claimed} for {described.account}, and this owner finds {found}")
    content = peers.sign(OwnerRegistration(address=address, url=url))
    peers.ask("POST", f"{aggregator_url}/dataowner", content, Acknowledgement, described.account, INTERACTIVE)


def announce_acceptance(peers: Peers, aggregator_url: str, aggregator: str, training: uuid.UUID, address: str) -> None:
    """Tell the aggregator that this owner's acceptance is on chain."""
    content = peers.sign(Acceptance(training=training, address=address))
    peers.ask("POST", f"{aggregator_url}/model/{training}/accept", content, Acknowledgement, aggregator, INTERACTIVE)
