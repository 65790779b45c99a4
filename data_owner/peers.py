"""What the data owner says to the aggregator."""

from __future__ import annotations

import uuid

from commons.http.peer import Patience, Peers
from commons.protocol.messages import Acceptance, Acknowledgement, OwnerRegistration

INTERACTIVE = Patience(answer_s=10, total_s=3)


def register(peers: Peers, aggregator_url: str, address: str, url: str) -> None:
    """Make the owner known, so that it is asked to take part in trainings."""
    content = OwnerRegistration(address=address, url=url)
    peers.call("POST", f"{aggregator_url}/dataowner", content, Acknowledgement, INTERACTIVE)


def announce_acceptance(peers: Peers, aggregator_url: str, training: uuid.UUID, address: str) -> None:
    """Tell the aggregator that this owner's acceptance is on chain."""
    content = Acceptance(training=training, address=address)
    peers.call("POST", f"{aggregator_url}/model/{training}/accept", content, Acknowledgement, INTERACTIVE)
