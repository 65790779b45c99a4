"""What a party says when it disputes a result, and shows the arbiter for it.

The claim is signed, and the chain has its hash. With it come the party's own copies of what it was asked and what it
answered, both signed, all under one Merkle root that the claim names: nothing can be added once it is on chain.

A file is :data:`MAGIC`, then the signed :class:`Claim` and every :class:`Copy`, each behind its length in four bytes,
big-endian.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, BinaryIO

from pydantic import Field, StrictStr, ValidationError

from commons.errors import InvalidInput, VerificationFailed
from commons.protocol.messages import Address, Digest, Integer, Record, TrainingMessage
from commons.protocol.signed import Domain, Signed
from commons.protocol.transcript import LENGTH_BYTES, merkle_root

MAGIC = b"DeltaML evidence 2\n"

MAX_WORDS = 10_000

NOT_DELIVERED = "delivery of the model"
"""What a difference is about when the model did not come: the arbiter then delivers it."""

Words = Annotated[StrictStr, Field(max_length=MAX_WORDS)]


@dataclass(frozen=True)
class Difference:
    """One thing that a result has wrong.

    Parameters
    ----------
    what : str
        What it is about, in plain words.
    reported, computed : str
        What the aggregator reported, and what follows from what it said before.
    """

    what: str
    reported: str
    computed: str

    def __str__(self) -> str:
        """Say it in one sentence."""
        return f"{self.what}: reported {self.reported}, computed {self.computed}"


class Copy(Record):
    """One exchange, as a party's journal has it: the packed :class:`commons.protocol.signed.Signed` of both sides."""

    kind: StrictStr
    round: Integer
    question: bytes
    answer: bytes


class Claim(TrainingMessage):
    """What a party disputes, in plain words, and which of its exchanges it shows.

    ``exchanges`` are the kinds and rounds of the copies, in their order; ``copies`` is the Merkle root over them.
    """

    disputer: Address
    claim: Words
    reported: Words
    computed: Words
    exchanges: tuple[tuple[StrictStr, Integer], ...]
    copies: Digest


@dataclass(frozen=True)
class Evidence:
    """A claim with the copies that it names, as they were read: :func:`verify` says whether they belong together."""

    signed: Signed
    copies: list[Copy]


def claim(training: uuid.UUID, disputer: str, differences: Sequence[Difference], copies: Iterable[Copy]) -> Claim:
    """Return a claim, to be signed.

    Parameters
    ----------
    training : UUID
    disputer : str
        Address of who claims it.
    differences : sequence of Difference
        What the result has wrong, at least one thing.
    copies : iterable of Copy
        What will be shown. Read once, one at a time.
    """
    exchanges: list[tuple[str, int]] = []

    def leaves() -> Iterator[bytes]:
        for copy in copies:
            exchanges.append((copy.kind, copy.round))
            yield copy.pack()

    root = merkle_root(leaves())
    return Claim(
        training=training,
        disputer=disputer,
        claim=_listed(difference.what for difference in differences),
        reported=_listed(difference.reported for difference in differences),
        computed=_listed(difference.computed for difference in differences),
        exchanges=tuple(exchanges),
        copies=root,
    )


def evidence_hash(signed: Signed) -> bytes:
    """Return the SHA-256 of a signed claim: what ``disputeResult`` puts on chain."""
    return hashlib.sha256(signed.pack()).digest()


def write(signed: Signed, copies: Iterable[Copy]) -> Iterator[bytes]:
    """Yield the pieces of an evidence file. Copies come in the order of the claim's ``exchanges``."""
    yield MAGIC
    yield _piece(signed)
    for copy in copies:
        yield _piece(copy)


def read(file: BinaryIO) -> Evidence:
    """Read an evidence file.

    Raises
    ------
    InvalidInput
        It is none, or not a whole one.
    """
    if file.read(len(MAGIC)) != MAGIC:
        raise InvalidInput(f"the file does not begin with {MAGIC!r}: it is no evidence of a dispute")
    try:
        first, *others = _pieces(file)
        return Evidence(Signed.unpack(first), [Copy.unpack(data) for data in others])
    except (ValidationError, ValueError) as error:
        raise InvalidInput(f"the file is no evidence of a dispute: {error}") from None


def verify(evidence: Evidence, training: uuid.UUID, claimant: str, on_chain: bytes | None, domain: Domain) -> Claim:
    """Check that evidence is somebody's own, and what its hash on chain is of.

    Parameters
    ----------
    evidence : Evidence
    training : UUID
    claimant : str
        Address of whose evidence it has to be.
    on_chain : bytes or None
        The hash that the claimant gave when it disputed; None if somebody else was faster.
    domain : Domain

    Returns
    -------
    Claim
        What it claims. Whether that is true, an audit says.

    Raises
    ------
    VerificationFailed
        The claim is another one, of another training or of somebody else, or the copies are not those that it names.
    """
    found = evidence_hash(evidence.signed)
    if on_chain is not None and found != on_chain:
        raise VerificationFailed(f"a claim with the hash {on_chain.hex()} is on chain, and this one's is {found.hex()}")
    claimed = evidence.signed.verified(Claim, domain, claimant)
    if (claimed.training, claimed.disputer.lower()) != (training, claimant.lower()):
        raise VerificationFailed(
            f"a claim of {claimant} about training {training} was expected,"
            f" and this one is of {claimed.disputer} about {claimed.training}"
        )
    names = tuple((copy.kind, copy.round) for copy in evidence.copies)
    if names != claimed.exchanges or merkle_root(copy.pack() for copy in evidence.copies) != claimed.copies:
        raise VerificationFailed("the copies are not those that the claim names")
    return claimed


def _listed(texts: Iterable[str]) -> str:
    return "; ".join(texts)[:MAX_WORDS]


def _piece(record: Record) -> bytes:
    data = record.pack()
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while prefix := file.read(LENGTH_BYTES):
        length = int.from_bytes(prefix, "big")
        data = file.read(length)
        if (len(prefix), len(data)) != (LENGTH_BYTES, length):
            raise InvalidInput("the file ends in the middle of a copy")
        yield data
