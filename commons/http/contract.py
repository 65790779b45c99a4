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


class ContractAccount:
    """A service's account on the contract, by the API as by pages: what it has there, and what operators do with it.

    Parameters
    ----------
    chain : Connection
        The way to the contract, as the service's account.
    """

    def __init__(self, chain: Connection) -> None:
        self._chain = chain
        self._one_at_a_time = threading.Lock()

    def show(self) -> Contract:
        """Return the contract, and the account's money on it and outside; ChainUnavailable if it cannot be asked."""
        market, account = self._chain.marketplace(), self._chain.address
        return Contract(
            address=market.address,
            chain_id=market.chain_id,
            account=account,
            role=market.role(account).name,
            balance_wei=str(market.balance(account)),
            credit_wei=str(market.credit(account)),
        )

    def withdraw(self) -> Withdrawn:
        """Withdraw what the contract owes the account.

        Raises
        ------
        Conflict
            It owes nothing.
        ChainUnavailable
            The chain does not answer; to ask again is safe.
        """
        with self._one_at_a_time:
            market = self._chain.marketplace()
            if market.credit(self._chain.address) == 0:
                raise Conflict(f"account {self._chain.address} has no credit: there is nothing to withdraw")
            done = market.withdraw()
        log.info("withdrawn", transaction=done.transaction, wei=str(done.amount))
        return Withdrawn(transaction=done.transaction, amount_wei=str(done.amount))

    def move(self, address: str, moving: Moving) -> Contract:
        """Work on another contract from now on.

        Parameters
        ----------
        address : str
            Of the other one.
        moving : callable
            What is done around the move, given the other contract.

        Raises
        ------
        InvalidInput
            There is no contract of this version there.
        Conflict
            Something is unfinished or not withdrawn on the one before.
        ChainUnavailable
            The chain does not answer.
        """
        with self._one_at_a_time:
            before, to = self._chain.marketplace(), self._chain.verified(address)
            if to.address != before.address:
                with moving(to):
                    if before.credit(self._chain.address):
                        raise Conflict(f"contract {before.address} owes this account: POST /contract/withdraw first")
                    self._chain.move(to)
                log.info("moved to another contract", before=before.address, now=to.address)
        return self.show()


def blueprint(account: ContractAccount, moving: Moving | None = None) -> Routes:
    """Make the routes.

    Parameters
    ----------
    account : ContractAccount
    moving : callable, optional
        What is done around a move to another contract, given the other one; without it there is no route to move.
    """
    routes = Routes("contract", __name__, ABOUT, tag="service", url_prefix="/contract")

    @routes.get("", responses={HTTPStatus.OK: Contract, **problems(HTTPStatus.SERVICE_UNAVAILABLE)})
    def show() -> Contract:
        """Show the contract, and the service's account on it."""
        return account.show()

    @routes.post(
        "/withdraw",
        responses={HTTPStatus.OK: Withdrawn, **problems(HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE)},
    )
    def withdraw() -> Withdrawn:
        """Withdraw what the contract owes the service's account, as it does by itself at the end of a training.

        To repeat it is safe: the contract pays a credit once.
        """
        return account.withdraw()

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
        return account.move(body.address, moving)

    return routes
