"""Routes of the chain as a service sees it: the contract, the service's own account on it, and its money there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from http import HTTPStatus

import structlog

from commons.chain.connection import Connection
from commons.chain.marketplace import Marketplace
from commons.errors import Conflict
from commons.http.application import ABOUT
from commons.http.documents import Wei
from commons.http.routes import Routes, problems
from commons.protocol.messages import Address, Body

Moving = Callable[[Marketplace], AbstractContextManager[None]]
"""What a service does around its move to another contract; raises Conflict while it must not move."""

log = structlog.get_logger()


class Contract(Body):
    """The chain as a service sees it, and its own account there: what it has, and what the contract owes it."""

    address: Address
    chain_id: int
    account: Address
    role: str
    balance_wei: Wei
    credit_wei: Wei


class ContractAddress(Body):
    """Which contract to work on."""

    address: Address


class Withdrawn(Body):
    """What was withdrawn to the service's account, and by which transaction."""

    transaction: str
    amount_wei: Wei


def blueprint(chain: Connection, moving: Moving | None = None) -> Routes:
    """Make the routes.

    Parameters
    ----------
    chain : Connection
        The way to the contract, as the service's account.
    moving : callable, optional
        What is done around a move to another contract, given the other one; without it there is no route to move.
    """
    routes = Routes("contract", __name__, ABOUT, tag="service", url_prefix="/contract")
    one_at_a_time = threading.Lock()

    def document() -> Contract:
        market = chain.marketplace()
        account = chain.address
        return Contract(
            address=market.address,
            chain_id=market.chain_id,
            account=account,
            role=market.role(account).name,
            balance_wei=str(market.balance(account)),
            credit_wei=str(market.credit(account)),
        )

    @routes.get("", responses={HTTPStatus.OK: Contract, **problems(HTTPStatus.SERVICE_UNAVAILABLE)})
    def show() -> Contract:
        """Show the contract, and the service's account on it."""
        return document()

    @routes.post(
        "/withdraw",
        responses={HTTPStatus.OK: Withdrawn, **problems(HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE)},
    )
    def withdraw() -> Withdrawn:
        """Withdraw what the contract owes the service's account, as it does by itself at the end of a training.

        To repeat it is safe: the contract pays a credit once.
        """
        with one_at_a_time:
            market = chain.marketplace()
            if market.credit(chain.address) == 0:
                raise Conflict(f"account {chain.address} has no credit: there is nothing to withdraw")
            done = market.withdraw()
        log.info("withdrawn", transaction=done.transaction, wei=str(done.amount))
        return Withdrawn(transaction=done.transaction, amount_wei=str(done.amount))

    if moving is None:
        return routes

    @routes.patch(
        "",
        responses={HTTPStatus.OK: Contract, **problems(HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE)},
    )
    def move(body: ContractAddress) -> Contract:
        """Work on another contract of this version from now on, restarts included.

        Not while something is unfinished or not withdrawn on the one before.
        """
        with one_at_a_time:
            before, to = chain.marketplace(), chain.verified(body.address)
            if to.address != before.address:
                with moving(to):
                    if before.credit(chain.address):
                        raise Conflict(f"contract {before.address} owes this account: POST /contract/withdraw first")
                    chain.move(to)
                log.info("moved to another contract", before=before.address, now=to.address)
        return document()

    return routes
