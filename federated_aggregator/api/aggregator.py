"""Routes about the aggregator itself and the owners it knows."""

from __future__ import annotations

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from commons.chain.connection import Connection
from commons.chain.marketplace import Role
from commons.errors import Conflict
from commons.http import bodies
from commons.http.signatures import Signatures, require_sender
from commons.protocol.messages import AggregatorDescription, OwnerRegistration
from federated_aggregator.storage import Storage


def blueprint(storage: Storage, chain: Connection, signatures: Signatures) -> Blueprint:
    """Make the routes."""
    routes = Blueprint("aggregator", __name__)

    @routes.get("/federated-aggregator")
    def describe() -> ResponseReturnValue:
        market = chain.marketplace()
        if market.role(chain.address) != Role.FEDERATED_AGGREGATOR:
            raise Conflict("the aggregator is not registered on chain yet: try again in a moment")
        return bodies.negotiated(
            AggregatorDescription(account=chain.address, contract=market.address, chain_id=market.chain_id)
        )

    @routes.post("/dataowner")
    def register() -> ResponseReturnValue:
        question = signatures.read(OwnerRegistration)
        require_sender(question, question.content.address)
        storage.register(question.sender, question.content.url)
        return signatures.acknowledge(question)

    @routes.get("/dataowner")
    def list_owners() -> ResponseReturnValue:
        owners = storage.data_owners()
        return jsonify(
            {
                "data_owners": [
                    {"address": owner.address, "url": owner.url, "registered": owner.registered.isoformat()}
                    for owner in owners
                ]
            }
        )

    return routes
