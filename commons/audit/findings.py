"""What an audit finds: checks that passed, the deviation that stands out, and what was not checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from commons.chain.training import Result
from commons.protocol.messages import Delivery


@dataclass(frozen=True)
class Party:
    """Somebody in a training.

    Parameters
    ----------
    role : str
        ``buyer``, ``aggregator``, ``arbiter``, or a data owner's with its place, such as ``trainer 0``.
    address : str
        Its account.
    """

    role: str
    address: str

    def __str__(self) -> str:
        """Name both."""
        return f"{self.role} ({self.address})"


@dataclass(frozen=True)
class Deviation:
    """A step that was not as the protocol says.

    Parameters
    ----------
    party : Party
        Who deviated.
    entry : str
        Where it shows: an entry of the transcript by kind and round, or ``the chain``.
    claimed : str
        What the party claimed.
    found : str
        What was found instead.
    """

    party: Party
    entry: str
    claimed: str
    found: str

    def __str__(self) -> str:
        """Say it in one sentence."""
        return f"{self.party} in {self.entry}: {self.claimed} was claimed, and {self.found}"


@dataclass(frozen=True)
class Check:
    """One kind of thing that is checked.

    Parameters
    ----------
    name : str
        What is checked.
    items : int
        How many were as they should be.
    deviation : Deviation or None
        The first that was not.
    not_checked : str or None
        Why some or all were not looked at.
    """

    name: str
    items: int = 0
    deviation: Deviation | None = None
    not_checked: str | None = None

    @property
    def passed(self) -> bool:
        """Whether everything was checked, and was as it should be."""
        return self.deviation is None and self.not_checked is None


@dataclass(frozen=True)
class Report:
    """What an audit found.

    Parameters
    ----------
    training : UUID
        The training.
    checks : tuple of Check
        In the order of the protocol.
    first : Deviation or None
        The first deviation in the order of the protocol.
    curve : tuple of (int, int)
        Rounds and MSE (1e-18 units) of every evaluation that was verified; 0 is the zero model. A training that
        converged is measured twice after its last round.
    result : Result or None
        What follows from the transcript, and should be on chain; None if none follows.
    delivery : Delivery or None
        What unmasks the better model, with ``result``.
    contributors : tuple of int
        Places of the trainers whose local models are in ``result``.
    """

    training: UUID
    checks: tuple[Check, ...]
    first: Deviation | None
    curve: tuple[tuple[int, int], ...]
    result: Result | None
    delivery: Delivery | None
    contributors: tuple[int, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def with_checks(self, before: tuple[Check, ...], after: tuple[Check, ...]) -> Report:
        """Return the report with more checks, before and behind those that it has."""
        first = _first(before) or self.first or _first(after)
        return replace(self, checks=(*before, *self.checks, *after), first=first)

    def document(self) -> dict[str, Any]:
        """Return the report as JSON has it. Numbers that 53 bits may not hold are decimal digits, bytes hexadecimal."""
        return {
            "training": str(self.training),
            "passed": self.passed,
            "first_deviation": _deviation(self.first),
            "checks": [
                {
                    "name": check.name,
                    "items": check.items,
                    "deviation": _deviation(check.deviation),
                    "not_checked": check.not_checked,
                }
                for check in self.checks
            ],
            "result": None if self.result is None else dict(fields(self.result)),
        }


def _first(checks: tuple[Check, ...]) -> Deviation | None:
    return next((check.deviation for check in checks if check.deviation is not None), None)


def _deviation(deviation: Deviation | None) -> dict[str, str] | None:
    if deviation is None:
        return None
    return {
        "role": deviation.party.role,
        "address": deviation.party.address,
        "entry": deviation.entry,
        "claimed": deviation.claimed,
        "found": deviation.found,
    }


def fields(result: Result) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a result by name, as JSON has them."""
    for name, value in vars(result).items():
        yield name, _plain(value)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool) or not isinstance(value, (int, tuple)):
        return value
    return [_plain(item) for item in value] if isinstance(value, tuple) else str(value)
