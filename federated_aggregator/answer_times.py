"""How owners answer: how long they take, and when and why they did not, since this process started."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from commons.database import now
from commons.errors import InvalidInput, PeerRefused, PeerUnavailable, VerificationFailed

LAST = 200
"""Answers of an owner that are kept."""
MOST_FAILURES = 500
"""Failures that are kept, of all owners together: equal ones count as one."""
REASON_LENGTH = 300
"""Characters of a reason that are kept: a peer may have written it."""


class Fault(StrEnum):
    """How an owner failed to answer."""

    SILENT = "silent"
    REFUSED = "refused"
    INVALID = "invalid"


@dataclass(frozen=True)
class Failure:
    """What an owner did not answer, and why.

    Parameters
    ----------
    training : UUID
        What it was asked about.
    address : str
        The owner.
    fault : Fault
    reason : str
        In the words of the error.
    count : int
        How often.
    last : datetime
        The last time.
    """

    training: uuid.UUID
    address: str
    fault: Fault
    reason: str
    count: int
    last: datetime


@dataclass(frozen=True)
class Answers:
    """How an owner has answered.

    Parameters
    ----------
    count : int
        Answers that the times are of: the last :data:`LAST` at most.
    median_s, slow_s : float or None
        Seconds that half of them took at most, and 95 % (by nearest rank); None without answers.
    last : datetime or None
        When it answered last.
    faults : mapping of Fault to int
        How often it did not.
    """

    count: int = 0
    median_s: float | None = None
    slow_s: float | None = None
    last: datetime | None = None
    faults: Mapping[Fault, int] = field(default_factory=dict)


@dataclass
class _Owner:
    times: deque[tuple[uuid.UUID, float, datetime]] = field(default_factory=lambda: deque(maxlen=LAST))
    faults: Counter[Fault] = field(default_factory=Counter)


class AnswerTimes:
    """The record of one process, of the owners that it has asked; safe from several threads.

    Attributes
    ----------
    since : datetime
        When it began.
    """

    def __init__(self) -> None:
        self.since = now()
        self._owners: defaultdict[str, _Owner] = defaultdict(_Owner)
        self._failures: OrderedDict[tuple[uuid.UUID, str, Fault, str], Failure] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def asking(self, training: uuid.UUID, address: str) -> Iterator[None]:
        """Note how the block, which asks an owner about a training, ends; what it raises passes."""
        started = time.monotonic()
        try:
            yield
        except PeerUnavailable as error:
            self._failed(training, address, Fault.SILENT, error)
            raise
        except PeerRefused as error:
            self._failed(training, address, Fault.REFUSED, error)
            raise
        except (VerificationFailed, InvalidInput) as error:
            self._failed(training, address, Fault.INVALID, error)
            raise
        taken = time.monotonic() - started
        with self._lock:
            self._owners[address].times.append((training, taken, now()))

    def of(self, address: str, training: uuid.UUID | None = None) -> Answers:
        """Return how an owner has answered, in one training or in all."""
        with self._lock:
            if address not in self._owners:
                return Answers()
            owner = self._owners[address]
            answered = [each for each in owner.times if training in (None, each[0])]
            faults = Counter(owner.faults)
        if training is not None:
            faults = Counter()
            for failure in self.failures(training):
                if failure.address == address:
                    faults[failure.fault] += failure.count
        times = sorted(seconds for _, seconds, _ in answered)
        return Answers(
            count=len(times),
            median_s=nearest_rank(times, 0.5),
            slow_s=nearest_rank(times, 0.95),
            last=answered[-1][2] if answered else None,
            faults=faults,
        )

    def failures(self, training: uuid.UUID | None = None) -> list[Failure]:
        """Return what was not answered, in one training or in all, the latest first."""
        with self._lock:
            return [each for each in reversed(self._failures.values()) if training in (None, each.training)]

    def _failed(self, training: uuid.UUID, address: str, fault: Fault, error: Exception) -> None:
        key = training, address, fault, str(error)[:REASON_LENGTH]
        with self._lock:
            self._owners[address].faults[fault] += 1
            known = self._failures.get(key) or Failure(*key, count=0, last=now())
            self._failures[key] = replace(known, count=known.count + 1, last=now())
            self._failures.move_to_end(key)
            if len(self._failures) > MOST_FAILURES:
                self._failures.popitem(last=False)


def nearest_rank(ordered: list[float], share: float) -> float | None:
    """Return the smallest of some ordered numbers that so large a share of them does not exceed; None of none."""
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None
