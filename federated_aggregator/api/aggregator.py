"""Routes about the aggregator itself and the owners it knows."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus

from flask import Response

from commons.chain.connection import Connection
from commons.chain.marketplace import Role
from commons.errors import Conflict
from commons.http import bodies
from commons.http.routes import PUBLIC, Routes, problems
from commons.http.signatures import Signatures, require_sender
from commons.protocol.messages import AggregatorDescription, Body, OwnerRegistration
from federated_aggregator.storage import Storage


class OwnerDocument(Body):
    """A data owner that the aggregator tells of orders."""

    address: str
    url: str
    registered: datetime


class OwnerList(Body):
    """The data owners that the aggregator knows."""

    data_owners: list[OwnerDocument]


def blueprint(storage: Storage, chain: Connection, signatures: Signatures) -> Routes:
    """Make the routes."""
    routes = Routes("aggregator", __name__, "The aggregator itself, and the data owners that it knows")

    @routes.get(
        "/federated-aggregator",
        responses={
            HTTPStatus.OK: AggregatorDescription,
            **problems(HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE),
        },
        security=PUBLIC,
    )
    def describe() -> Response:
        """Say which account the aggregator has, and on which contract it works. In MessagePack to who asks for that."""
        market = chain.marketplace()
        if market.role(chain.address) != Role.FEDERATED_AGGREGATOR:
            raise Conflict("the aggregator is not registered on chain yet: try again in a moment")
        return bodies.negotiated(
            AggregatorDescription(account=chain.address, contract=market.address, chain_id=market.chain_id)
        )

    @routes.post("/dataowner", **routes.between_services("Make an owner known", OwnerRegistration))
    def register() -> Response:
        question = signatures.read(OwnerRegistration)
        require_sender(question, question.content.address)
        storage.register(question.sender, question.content.url)
        return signatures.acknowledge(question)

    @routes.get("/dataowner", responses={HTTPStatus.OK: OwnerList})
    def list_owners() -> OwnerList:
        """List the data owners that are told of orders."""
        found = storage.data_owners()
        return OwnerList(data_owners=[OwnerDocument.model_validate(each, from_attributes=True) for each in found])

    return routes
