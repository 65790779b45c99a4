"""What stays the same while a training runs, and what its phases cost."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from gmpy2 import mpz

from commons.crypto.paillier import PublicKey, UniformRandomisers
from commons.errors import Conflict, InvalidInput, VerificationFailed
from commons.http.peer import Counter
from commons.protocol.messages import Order
from commons.protocol.signed import Domain


class TooFewAnswered(Conflict):
    """Fewer than two trainers, or no validator, answered: the training cannot go on."""


class Deviated(VerificationFailed):
    """A party's message proves that it did not follow the protocol.

    Parameters
    ----------
    party : str
        Its role and address.
    finding : Exception
        What was claimed and what was found.
    """

    def __init__(self, party: str, finding: Exception) -> None:
        super().__init__(f"{party} deviated: {type(finding).__name__}: {finding}")


@contextmanager
def blaming(party: str) -> Iterator[None]:
    """Raise Deviated, naming the party, when the verification of what it said fails in the block."""
    try:
        yield
    except (VerificationFailed, InvalidInput) as error:
        raise Deviated(party, error) from None


@dataclass(frozen=True)
class Party:
    """Somebody to talk to: where it is reached, and the account that signs what it says."""

    url: str
    address: str


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

    An owner that never registered here has a place but is no party: it cannot be asked.
    ``lost`` are the addresses of owners that did not answer the last time; ``untold`` those, by address, that have not
    confirmed the sums by which they standardise.
    """

    id: uuid.UUID
    order: Order
    key: PublicKey
    domain: Domain
    randomisers: UniformRandomisers
    buyer: Party
    trainers: Mapping[int, Party]
    trainer_addresses: Sequence[str]
    trainer_rows: Sequence[int]
    weights: Sequence[int]
    validators: Mapping[int, Party]
    validator_addresses: Sequence[str]
    validator_rows: Sequence[int]
    meter: Meter = field(default_factory=Meter)
    lost: set[str] = field(default_factory=set)
    untold: dict[str, Party] = field(default_factory=dict)

    @property
    def owners(self) -> list[Party]:
        """Everybody who trains or validates and can be asked."""
        return [*self.trainers.values(), *self.validators.values()]

    def vector(self, data: bytes) -> list[mpz]:
        """Decode one encrypted vector of the model's length."""
        return self.key.decode(data, self.order.length)

    def blaming_buyer(self) -> AbstractContextManager[None]:
        """Name the buyer when the verification of what it said fails in the block."""
        return blaming(f"the model buyer {self.buyer.address}")
