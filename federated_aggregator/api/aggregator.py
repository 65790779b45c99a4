"""Routes about the aggregator itself and the owners it knows."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from uuid import UUID

from flask import Response, request

from commons.chain.arbitration import require_arbiter
from commons.chain.connection import Connection
from commons.chain.marketplace import Marketplace, Role
from commons.errors import Conflict, NotAuthorised
from commons.http import bodies
from commons.http.documents import Listing, Page
from commons.http.request_signing import RequestVerifier
from commons.http.routes import PUBLIC, TOKEN, Routes, problems
from commons.http.signatures import Signatures, require_sender
from commons.protocol.messages import Address, AggregatorDescription, Body, OwnerRegistration
from commons.users.access import Access
from federated_aggregator.storage import Storage


class OwnerDocument(Body):
    """A data owner that the aggregator tells of orders."""

    address: str
    url: str
    registered: datetime


class OwnerFilter(Page):
    """Which part of the list of data owners, or which of them; and in the dispute of which training that is needed."""

    address: Address | None = None
    training: UUID | None = None


class OwnerList(Listing):
    """Some of the data owners that the aggregator knows, the first first."""

    data_owners: list[OwnerDocument]


class AggregatorAccount(Body):
    """The account that the aggregator shall have."""

    account: Address


def blueprint(
    storage: Storage, chain: Connection, signatures: Signatures, requests: RequestVerifier, access: Access
) -> Routes:
    """Make the routes."""
    routes = Routes("aggregator", __name__, "The aggregator itself, and the data owners that it knows")

    def description() -> AggregatorDescription:
        market = chain.marketplace()
        if market.role(chain.address) != Role.FEDERATED_AGGREGATOR:
            raise Conflict("the aggregator is not registered on chain yet: try again in a moment")
        return AggregatorDescription(account=chain.address, contract=market.address, chain_id=market.chain_id)

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
        return bodies.negotiated(description())

    @routes.patch(
        "/federated-aggregator",
        responses={
            HTTPStatus.OK: AggregatorDescription,
            **problems(HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE),
        },
    )
    def change(body: AggregatorAccount) -> Response:
        """Refuse another account: it is a private key, which no request carries. To name the one there is is fine."""
        if body.account.lower() != chain.address.lower():
            raise Conflict(
                f"the aggregator's account is {chain.address}: another one is configured where its key is"
                " (DELTAML_ACCOUNT_KEYSTORE), when no training is unfinished, and takes effect after a restart"
            )
        return bodies.document(description())

    @routes.post("/dataowner", **routes.between_services("Make an owner known", OwnerRegistration))
    def register() -> Response:
        caller = requests.caller()
        question = signatures.read(OwnerRegistration)
        requests.require(lambda: [question.content.address])
        require_sender(question, caller)
        if chain.marketplace().role(caller) != Role.DATA_OWNER:
            raise NotAuthorised(f"{caller} is no data owner on chain: register there first")
        storage.register(question.sender, question.content.url)
        return signatures.acknowledge(question)

    @routes.get("/dataowner", responses={HTTPStatus.OK: OwnerList}, security=[*TOKEN, {"request_signature": []}])
    def list_owners(query: OwnerFilter) -> OwnerList:
        """List the data owners that are told of orders, or show one.

        The arbiter of a dispute, too, may ask for an owner of its training, by a signed request.
        """
        if "Signature-Input" in request.headers:
            _require_dispute(chain.marketplace(), query, requests.caller())
        else:
            access.user()
        found, total = storage.data_owner_page(query.limit, query.offset, query.address)
        listed = [OwnerDocument.model_validate(each, from_attributes=True) for each in found]
        return OwnerList(data_owners=listed, total=total, limit=query.limit, offset=query.offset)

    return routes


def _require_dispute(market: Marketplace, query: OwnerFilter, caller: str) -> None:
    if query.training is None or query.address is None:
        raise NotAuthorised("an arbiter says which owner it asks for, and in the dispute of which training")
    require_arbiter(market, query.training, caller)
    if query.address.lower() not in {owner.address.lower() for owner in market.training(query.training).owners}:
        raise NotAuthorised(f"{query.address} has no part in training {query.training}")
