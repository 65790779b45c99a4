"""What was verified of a training: by this service, of what others said, and what it proved to them.

All of it is read from what this service keeps and from the chain. Nothing is said to be checked that it did not check.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from commons.chain.marketplace import Event, Transaction
from commons.chain.marketplace import Status as ChainStatus
from commons.chain.record import Recorded, Records
from commons.errors import PeerUnavailable
from commons.journal import Journal
from commons.pages.record import shown
from model_buyer.answering import MOMENTS, SETTLEMENT
from model_buyer.storage import Model, Status

OVER = (Status.FINISHED, Status.FAILED, Status.CANCELLED)
SUMS = ("open-zero", "open-iteration", f"open-{SETTLEMENT}")
PRODUCTS = ("products-iteration", f"products-{SETTLEMENT}")

CHECKS = (
    "order",
    "key",
    "moments",
    "sums",
    "openings",
    "products",
    "divisions",
    "result",
    "model",
    "transcript",
)
"""What is verified of a training; the moments where it standardises."""


class Finding(StrEnum):
    """What came of something that is verified."""

    CHECKED = "checked"
    """By this service, and it is as it should be."""
    DIFFERS = "differs"
    """By this service, and it is not."""
    PROVED = "proved"
    """By this service, to the others, who check it."""
    UNPROVED = "unproved"
    """Done by this service, without a proof."""
    WAITING = "waiting"
    """It is not there yet."""
    NONE = "none"
    """It did not come to that."""
    UNCONFIRMED = "unconfirmed"
    """It stands without a word of this service."""
    UNSEEN = "unseen"
    """Others can check it; this service does not."""
    UNKNOWN = "unknown"
    """The chain has to be asked, and does not answer."""


@dataclass(frozen=True)
class Check:
    """Something that is verified.

    Parameters
    ----------
    name : str
        One of `CHECKS`.
    finding : Finding
    count : int
        How often, where it is done more than once.
    """

    name: str
    finding: Finding
    count: int = 0


@dataclass(frozen=True)
class Verified:
    """What there is of one training.

    Parameters
    ----------
    checks : list of Check
    recorded : Recorded or None
        What the chain has on record; None if it does not answer.
    events : tuple of Event
        Those that a page tells.
    made : list of Transaction
        One for each of them.
    """

    checks: list[Check]
    recorded: Recorded | None
    events: tuple[Event, ...]
    made: list[Transaction]


class Verification:
    """Tells what was verified.

    Parameters
    ----------
    records : Records
        What the chain has on record.
    journal : Journal
        What this service answered: a sum is opened in it if it was checked before.
    own : str
        Address of this service's account.
    """

    def __init__(self, records: Records, journal: Journal, own: str) -> None:
        self._records = records
        self._journal = journal
        self.own = own

    def of(self, model: Model) -> Verified:
        """Return what there is of a training, if the chain answers, and else what this service knows itself."""
        try:
            recorded = self._records.read(model.id)
            events = shown(recorded)
            made = self._records.transactions(events)
            confirmed = self._confirmed(recorded)
        except PeerUnavailable:
            return Verified(self._checks(model, None, confirmed=False), None, (), [])
        return Verified(self._checks(model, recorded, confirmed), recorded, events, made)

    def _confirmed(self, recorded: Recorded) -> bool:
        # This service confirms what it computed itself, and nothing else (model_buyer.reviewing).
        last = [event for event in recorded.events if event.name == "TrainingFinished"]
        made = self._records.transactions(last)
        return any((each.call, each.sender) == ("finishModelTraining", self.own) for each in made)

    def _checks(self, model: Model, recorded: Recorded | None, confirmed: bool) -> list[Check]:
        over = model.status in OVER
        told = Counter(kind for kind, _ in self._journal.names(model.id))
        opened, multiplied = sum(told[kind] for kind in SUMS), sum(told[kind] for kind in PRODUCTS)

        def times(count: int, finding: Finding) -> tuple[Finding, int]:
            return finding if count else _missing(over), count

        found = {
            "order": (_order(model, recorded), 0),
            "key": (Finding.PROVED if model.key_proof else _missing(over), 0),
            "sums": times(opened, Finding.CHECKED),
            "openings": times(opened + told[MOMENTS], Finding.PROVED),
            "products": times(multiplied, Finding.PROVED),
            "divisions": times(told["refresh"], Finding.UNPROVED),
            "result": (Finding.CHECKED if confirmed else _result(model, recorded), 0),
            "model": (Finding.CHECKED if model.weights is not None else _missing(over), 0),
            "transcript": (_transcript(recorded), 0),
        }
        if model.parsed_order.standardises:
            found["moments"] = times(told[MOMENTS], Finding.CHECKED)
        return [Check(name, *found[name]) for name in CHECKS if name in found]


def _missing(over: bool) -> Finding:
    return Finding.NONE if over else Finding.WAITING


def _order(model: Model, recorded: Recorded | None) -> Finding:
    if recorded is None:
        return Finding.UNKNOWN
    if recorded.training.status is ChainStatus.NONE:
        return _missing(model.status in OVER)
    same = recorded.training.terms.order_hash == model.parsed_order.digest()
    return Finding.CHECKED if same else Finding.DIFFERS


def _result(model: Model, recorded: Recorded | None) -> Finding:
    if model.claim is not None:
        return Finding.DIFFERS
    if recorded is None:
        return Finding.UNKNOWN
    if recorded.training.result is None:
        return _missing(recorded.training.status.is_final)
    return Finding.UNCONFIRMED if recorded.training.status.is_final else Finding.WAITING


def _transcript(recorded: Recorded | None) -> Finding:
    if recorded is None:
        return Finding.UNKNOWN
    return _missing(recorded.training.status.is_final) if recorded.training.result is None else Finding.UNSEEN
