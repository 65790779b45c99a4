"""What the chain has on record of a training, as lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from commons.chain.marketplace import Event, Transaction
from commons.chain.record import Recorded
from commons.learning.contributions import UNIT
from commons.pages.languages import Language

MEASUREMENT = "MseSaved"
MOST = 500
"""Lines in each list of a page; the API has all."""
_AMOUNTS = frozenset({"amount", "bond"})
_ABOUT = ("owner", "receiver", "disputer")
"""Values of events that are the account which they are about."""

_COUNTED = ("rows", "iteration")


@dataclass(frozen=True)
class Line:
    """An event, told.

    Parameters
    ----------
    text : str
        What happened.
    about : str or None
        To whom.
    reason : str or None
        Why, in words of whoever did it.
    sender, part : str
        Whose transaction it was, and in which part: a key of the catalogue's section ``record``.
    time : datetime
    transaction : str
    block : int
    """

    text: str
    about: str | None
    reason: str | None
    sender: str
    part: str
    time: datetime
    transaction: str
    block: int


@dataclass(frozen=True)
class Lines:
    """A training's record, told: measurements apart, since there are many. ``all`` says whether nothing is left out."""

    events: list[Line]
    measurements: list[Line]
    all: bool


def shown(recorded: Recorded) -> tuple[Event, ...]:
    """Return the events that a page tells: the first ones of each list."""
    lists: list[list[Event]] = [[], []]
    for event in recorded.events:
        lists[event.name == MEASUREMENT].append(event)
    return tuple(event for each in lists for event in each[:MOST])


def tell(
    recorded: Recorded, events: Sequence[Event], made: Sequence[Transaction], own: str, scale: float, t: Language
) -> Lines:
    """Tell events.

    Parameters
    ----------
    recorded : Recorded
        Of the training.
    events : sequence of Event
        As :func:`shown` returned them.
    made : sequence of Transaction
        One for each.
    own : str
        Address of the service's own account.
    scale : float
        Squared target scale: what the chain's MSEs are multiplied with.
    t : Language
        Of who reads it.
    """
    training = recorded.training
    parts = dict.fromkeys((owner.address for owner in training.owners), "data_owner")
    parts |= {training.arbiter: "arbiter", training.aggregator: "aggregator", training.buyer: "buyer", own: "own"}
    lists: list[list[Line]] = [[], []]
    for event, by in zip(events, made, strict=True):
        values = {name: _readable(name, value, scale, t) for name, value in event.values.items()}
        count = next((int(event.values[name]) for name in _COUNTED if name in event.values), None)
        line = Line(
            text=t(f"record.{event.name}", count=count, **values),
            about=next((event.values[name] for name in _ABOUT if name in event.values), None),
            reason=event.values.get("reason"),
            sender=by.sender,
            part=parts.get(by.sender, "somebody"),
            time=datetime.fromtimestamp(by.time, UTC),
            transaction=event.transaction,
            block=event.block,
        )
        lists[event.name == MEASUREMENT].append(line)
    return Lines(lists[False], lists[True], len(events) == len(recorded.events))


def _readable(name: str, value: Any, scale: float, t: Language) -> object:
    if name in _AMOUNTS:
        return t.ether(value)
    if name == "mse":
        return t.number(int(value) * scale / UNIT)
    if name == "outcome":
        return t(f"record.outcome_{value}")
    if isinstance(value, Mapping) and "iterations" in value:
        return value["iterations"]
    return len(value) if isinstance(value, list) else value
