"""Deadlines that anybody may enforce, so that nobody's money waits for somebody who is gone."""

from __future__ import annotations

from commons.chain.marketplace import Marketplace, Status, Training

CLOSING_PERIOD_S = 24 * 60 * 60
"""How long the contract lets the aggregator close joining after its deadline, if enough have accepted."""

GRACE_S = 60
"""How much longer the others wait than the aggregator, whose task it is."""


def enforce(market: Marketplace, training: Training, grace_s: int = 0) -> bool:
    """End a training, if a deadline that ends it has passed.

    Parameters
    ----------
    market : Marketplace
        The contract, acting as whoever enforces.
    training : Training
        As the contract has it now.
    grace_s : int
        Seconds that others are left to do it first.

    Returns
    -------
    bool
        Whether it was ended: cancelled or expired with a refund, or settled as reported.
    """
    if training.status == Status.OPEN:
        enough = len(training.owners) >= training.terms.minimum_owners
        deadline, end = training.terms.join_deadline + (CLOSING_PERIOD_S if enough else 0), market.cancel
    elif training.status in (Status.CLOSED, Status.TRAINING):
        deadline, end = training.terms.training_deadline, market.expire
    elif training.status in (Status.REPORTED, Status.DISPUTED):
        deadline, end = training.deadline, market.finalize
    else:
        return False
    if market.now() <= deadline + grace_s:
        return False
    end(training.id)
    return True


def taken_back(market: Marketplace, training: Training) -> bool:
    """Return whether a training was cancelled by its buyer, which up to the join deadline nobody else may."""
    return training.status == Status.CANCELLED and market.now() <= training.terms.join_deadline
