"""What the model buyer says to the aggregator."""

from __future__ import annotations

from commons.http.peer import Patience, Peers
from commons.protocol.messages import Acknowledgement, AggregatorDescription, TrainingRequest

INTERACTIVE = Patience(answer_s=10, total_s=3)


def describe(peers: Peers, aggregator_url: str) -> AggregatorDescription:
    """Ask the aggregator for its account and its contract."""
    return peers.call("GET", f"{aggregator_url}/federated-aggregator", None, AggregatorDescription, INTERACTIVE)


def announce(peers: Peers, aggregator_url: str, request: TrainingRequest, aggregator: str) -> None:
    """Tell the aggregator, whose account is `aggregator`, of a paid order."""
    peers.ask("POST", f"{aggregator_url}/model", peers.sign(request), Acknowledgement, aggregator, INTERACTIVE)
