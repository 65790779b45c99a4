"""What the chain has on record of trainings: every event, and who made it happen, when. Read once where it stays."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from commons.chain.connection import Connection
from commons.chain.marketplace import Event, Training, Transaction

KEPT_TRAININGS = 64
KEPT_TRANSACTIONS = 4096


@dataclass(frozen=True)
class Recorded:
    """What the chain has on record of one training.

    Parameters
    ----------
    contract : str
        Address of the contract.
    chain_id : int
    training : Training
        Where it stands.
    events : tuple of Event
        What has happened, the oldest first.
    """

    contract: str
    chain_id: int
    training: Training
    events: tuple[Event, ...]


class Records:
    """The records of trainings. What cannot change any more is asked of the chain once; so are transactions.

    Parameters
    ----------
    chain : Connection
        The way to the contract.
    """

    def __init__(self, chain: Connection) -> None:
        self._chain = chain
        self._lock = threading.Lock()
        self._read: OrderedDict[tuple[str, UUID], Recorded] = OrderedDict()
        self._made: OrderedDict[tuple[str, str], Transaction] = OrderedDict()

    def read(self, training_id: UUID) -> Recorded:
        """Return where a training stands, and all that the contract says has happened in it.

        Raises
        ------
        ChainUnavailable
            It has to be asked, and does not answer.
        """
        market = self._chain.marketplace()
        key = market.address, training_id
        with self._lock:
            known = self._read.get(key)
        if known is not None and known.training.status.is_final:  # since before its events were read
            return known
        training = market.training(training_id)
        events = market.events(training_id, () if known is None else known.events)
        found = Recorded(market.address, market.chain_id, training, events)
        with self._lock:
            self._read[key] = found
            self._read.move_to_end(key)
            while len(self._read) > KEPT_TRAININGS:
                self._read.popitem(last=False)
        return found

    def transactions(self, events: Sequence[Event]) -> list[Transaction]:
        """Return what made each of these events happen; raises as :meth:`read`."""
        with self._lock:
            found = {place: self._made[place] for place in map(_place, events) if place in self._made}
        unknown = [event for event in events if _place(event) not in found]
        if unknown:
            made = self._chain.marketplace().transactions(unknown)
            fresh = dict(zip(map(_place, unknown), made, strict=True))
            found |= fresh
            with self._lock:
                self._made.update(fresh)
                while len(self._made) > KEPT_TRANSACTIONS:
                    self._made.popitem(last=False)
        return [found[_place(event)] for event in events]


def _place(event: Event) -> tuple[str, str]:
    return event.transaction, event.block_hash
