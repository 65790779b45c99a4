"""Who may see what a dispute is about."""

from __future__ import annotations

from uuid import UUID

from commons.chain.marketplace import Marketplace, Status
from commons.errors import NotAuthorised


def require_arbiter(market: Marketplace, training_id: UUID, caller: str) -> None:
    """Let nobody pass but the arbiter of a training that is disputed now.

    Parameters
    ----------
    market : Marketplace
        Says who that is.
    training_id : UUID
        The training.
    caller : str
        Address of who asks, proven by a signature.

    Raises
    ------
    NotAuthorised
        It is somebody else, or nothing is disputed.
    """
    training = market.training(training_id)
    if training.status != Status.DISPUTED:
        raise NotAuthorised(f"training {training_id} is {training.status.name}: this is shown in a dispute only")
    if caller.lower() != training.arbiter.lower():
        raise NotAuthorised(f"this is shown to the training's arbiter, {training.arbiter}, and to nobody else")
