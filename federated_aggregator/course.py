"""What stays the same while a training runs, and what its phases cost."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from gmpy2 import mpz

from commons.crypto.paillier import PublicKey, UniformRandomisers
from commons.errors import Conflict
from commons.http.peer import Counter
from commons.protocol.messages import Order


class TooFewAnswered(Conflict):
    """Fewer than two trainers, or no validator, answered: the training cannot go on."""


class Meter:
    """Seconds and bytes of the phases of one training, since they were last taken."""

    def __init__(self) -> None:
        self._spent: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def phase(self, name: str) -> Iterator[Counter]:
        """Time a block as part of a phase; what it yields counts bytes."""
        started = time.monotonic()
        try:
            yield lambda size: self._add(name, 0.0, size)
        finally:
            self._add(name, time.monotonic() - started, 0)

    def take(self) -> dict[str, tuple[float, int]]:
        """Return seconds and bytes by phase, and begin anew."""
        with self._lock:
            spent, self._spent = self._spent, {}
        return spent

    def _add(self, name: str, seconds: float, size: int) -> None:
        with self._lock:
            before = self._spent.get(name, (0.0, 0))
            self._spent[name] = (before[0] + seconds, before[1] + size)


@dataclass(frozen=True)
class Course:
    """A running training: its order and key, and who is in it, by place in the contract's order.

    An owner that never registered here has a place but no URL: it cannot be asked.
    ``lost`` are the URLs of owners that did not answer the last time.
    """

    id: uuid.UUID
    order: Order
    key: PublicKey
    randomisers: UniformRandomisers
    buyer_url: str
    trainer_urls: Mapping[int, str]
    weights: Sequence[int]
    validator_urls: Mapping[int, str]
    validator_rows: Sequence[int]
    meter: Meter = field(default_factory=Meter)
    lost: set[str] = field(default_factory=set)

    def vector(self, data: bytes) -> list[mpz]:
        """Decode one encrypted vector of the model's length."""
        return self.key.decode(data, self.order.length)

    def close(self) -> None:
        """Stop what runs in the background."""
        self.randomisers.close()
