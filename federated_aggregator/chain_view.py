"""The chain as the aggregator's operator looks at it: the service's account, and trainings."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from commons.chain.connection import Connection
from commons.chain.marketplace import Dispute, Role, Status


@dataclass(frozen=True)
class ChainView:
    """The chain and the service's account on it, when they were looked at.

    Parameters
    ----------
    contract : str
        The marketplace's address.
    chain_id, block : int
        Which chain, and the number of its newest block.
    mined : datetime
        When that block was made.
    account : str
        The service's.
    registered : bool
        Whether it is an aggregator's on this contract.
    balance, credit : int
        Wei that the account has, and that the contract owes it.
    """

    contract: str
    chain_id: int
    block: int
    mined: datetime
    account: str
    registered: bool
    balance: int
    credit: int


@dataclass(frozen=True)
class TrainingView:
    """A training as the contract has it, when it was looked at.

    Parameters
    ----------
    status : Status
    accepted : int
        Owners that have accepted.
    recorded : int
        Last iteration whose error is recorded, plus one.
    deadline : datetime or None
        By which it has to go on, or ends; None when it is over.
    dispute : Dispute or None
    """

    status: Status
    accepted: int
    recorded: int
    deadline: datetime | None
    dispute: Dispute | None


class ChainViews:
    """Looks at the chain.

    Every method raises what :class:`~commons.chain.marketplace.Marketplace` does when the chain is away.

    Parameters
    ----------
    chain : Connection
        The way to it, as the aggregator's account.
    """

    def __init__(self, chain: Connection) -> None:
        self._chain = chain

    def chain(self, address: str) -> ChainView:
        """Look at the chain and an account."""
        market = self._chain.marketplace()
        block, mined = market.head()
        return ChainView(
            contract=market.address,
            chain_id=market.chain_id,
            block=block,
            mined=datetime.fromtimestamp(mined, UTC),
            account=address,
            registered=market.role(address) == Role.FEDERATED_AGGREGATOR,
            balance=market.balance(address),
            credit=market.credit(address),
        )

    def training(self, training_id: uuid.UUID) -> TrainingView:
        """Look at a training."""
        market = self._chain.marketplace()
        found = market.training(training_id)
        match found.status:
            case Status.OPEN:
                deadline = found.terms.join_deadline
            case Status.CLOSED | Status.TRAINING:
                deadline = found.terms.training_deadline
            case _:
                deadline = found.deadline
        over = found.status == Status.NONE or found.status.is_final
        return TrainingView(
            status=found.status,
            accepted=len(found.owners),
            recorded=found.evaluations,
            deadline=None if over else datetime.fromtimestamp(deadline, UTC),
            dispute=None if found.disputer is None else market.dispute(training_id),
        )
