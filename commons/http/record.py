"""What the chain has on record of a training, as services show it to their users."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from commons.chain.record import Records
from commons.http.documents import Listing, Page
from commons.protocol.messages import Address, Body


class EventDocument(Body):
    """An event of the contract, and which account's transaction made it happen, by which call, when.

    ``values`` are what the event says, as docs/contract.md has it: integers in decimal digits (wei, or 1e-18 units),
    hashes and addresses in hexadecimal.
    """

    event: str
    values: dict[str, Any]
    time: datetime
    sender: Address
    call: str
    transaction: str
    block: int


class RecordDocument(Listing):
    """Some of what the contract has on record of a training, the oldest first."""

    contract: Address
    chain_id: int
    status: str
    events: list[EventDocument]


def document(records: Records, training_id: uuid.UUID, page: Page) -> RecordDocument:
    """Return part of a training's record; raises as :meth:`commons.chain.record.Records.read`."""
    found = records.read(training_id)
    shown = found.events[page.offset : page.offset + page.limit]
    return RecordDocument(
        contract=found.contract,
        chain_id=found.chain_id,
        status=found.training.status.name,
        events=[
            EventDocument(
                event=event.name,
                values=dict(event.values),
                time=datetime.fromtimestamp(made.time, UTC),
                sender=made.sender,
                call=made.call,
                transaction=event.transaction,
                block=event.block,
            )
            for event, made in zip(shown, records.transactions(shown), strict=True)
        ],
        total=len(found.events),
        limit=page.limit,
        offset=page.offset,
    )
