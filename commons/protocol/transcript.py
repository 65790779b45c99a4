"""A training's transcript: everything that was said about it, in the order of the protocol, under one Merkle root.

The aggregator writes it and puts the root on chain with the result. It holds ciphertexts, the aggregator's masks and
randomisers, and everybody's signatures: whoever reads it can check every step without a secret key
(:mod:`commons.audit`), and whoever holds the private key could decrypt it. So it is shown to the arbiter of a
dispute, never to the buyer.

A file is :data:`MAGIC`, then every entry and at last the aggregator's signed :class:`TranscriptRoot`, each behind its
length in four bytes, big-endian.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from pydantic import StrictInt, StrictStr

from commons.errors import InvalidInput
from commons.protocol.messages import Address, Digest, EvaluationKind, Record, Reply, TrainingMessage
from commons.protocol.signed import Signed

MAGIC = b"DeltaML transcript 2\n"
LENGTH_BYTES = 4
BUYER = -1
"""Place of the buyer among those who reply."""


class InvalidTranscript(InvalidInput):
    """Bytes that are no transcript, or not a whole one."""


class Header(Record):
    """What the training is: the buyer's request, and who is in it, trainers first. ``rows`` are of all owners."""

    request: Signed
    aggregator: Address
    trainers: tuple[Address, ...]
    validators: tuple[Address, ...]
    rows: tuple[StrictInt, ...]


class Round(Record):
    """A round's question to the trainers, and their updates. ``refreshed`` is the buyer's answer that led to it."""

    refreshed: Signed | None
    question: Signed
    answers: tuple[Reply, ...]


class Masking(Record):
    """What the buyer was asked, with the aggregator's masks and the r of its randomisers r^n."""

    question: Signed
    masks: bytes
    randomisers: bytes
    salts: bytes = b""


class LocalModels(Record):
    """The question for the models that each trainer's data alone give, and the answers."""

    question: Signed
    answers: tuple[Reply, ...]


class Scores(Record):
    """The question to the validators and their answers. ``products`` is the buyer's answer that led to it."""

    products: Signed | None
    question: Signed
    answers: tuple[Reply, ...]


class Cosigned(Record):
    """The validators' signatures of the sums, and what the buyer was asked with them."""

    question: Signed
    answers: tuple[Reply, ...]
    totals: Signed


class Opened(Record):
    """The buyer's openings of the sums."""

    openings: Signed


class Entry(Record):
    """One record under its name: the leaf of the Merkle tree."""

    kind: StrictStr
    round: StrictInt
    content: bytes


class TranscriptRoot(TrainingMessage):
    """The aggregator's word that this is the whole transcript."""

    root: Digest
    entries: StrictInt


RECORDS: dict[str, type[Record]] = {
    "header": Header,
    "round": Round,
    "refresh": Masking,
    "local": LocalModels,
    **{
        f"{step}-{kind}": record
        for kind in ("zero", "iteration", "settlement")
        for step, record in (
            ("mask", Masking),
            ("score", Scores),
            ("total", Cosigned),
            ("opening", Opened),
        )
        if (step, kind) != ("mask", "zero")
    },
}
"""The record of every kind of entry. ``mask-zero`` there is none: the zero model is not masked."""

_STEPS = ("mask", "score", "total", "opening")


def name(step: str, kind: EvaluationKind) -> str:
    """Return the kind of an evaluation's entry: of its masking, its scores, its totals or their opening."""
    return f"{step}-{kind}"


def position(kind: str, round_: int) -> tuple[int, int, int, int]:
    """Return where an entry stands: transcripts are in the order of this.

    ``iteration`` evaluations of r rounds follow round r − 1, before its refresh.

    Raises
    ------
    InvalidTranscript
        There is no such kind of entry.
    """
    if kind not in RECORDS:
        raise InvalidTranscript(f"there are no entries {kind!r} in a transcript")
    step, _, evaluation = kind.partition("-")
    place = _STEPS.index(step) if evaluation else 0
    match kind, evaluation:
        case "header", _:
            return (0, 0, 0, 0)
        case _, "zero":
            return (1, 0, 0, place) if round_ == 0 else (5, round_, 0, place)
        case "round", _:
            return (2, round_, 0, 0)
        case _, "iteration":
            return (2, round_ - 1, 1, place)
        case "refresh", _:
            return (2, round_, 2, 0)
        case "local", _:
            return (3, 0, 0, 0)
        case _:
            return (4, 0, 0, place)


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over byte strings, of which there is at least one: the Merkle tree hash of RFC 6962, 2.1."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + merkle_root(leaves[:half]) + merkle_root(leaves[half:])).digest()


def write(entries: Iterable[Entry], root: Signed) -> Iterator[bytes]:
    """Yield the pieces of a transcript file. Entries come in the order of :func:`position`."""
    yield MAGIC
    for record in (*entries, root):
        data = record.pack()
        yield len(data).to_bytes(LENGTH_BYTES, "big") + data
