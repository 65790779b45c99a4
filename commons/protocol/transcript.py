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
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeVar

from pydantic import StrictStr, ValidationError

from commons.errors import InvalidInput
from commons.protocol.messages import (
    Address,
    Digest,
    EvaluationKind,
    Integer,
    Record,
    Reply,
    TrainingMessage,
    problems_of,
)
from commons.protocol.signed import Signed

MAGIC = b"DeltaML transcript 2\n"
LENGTH_BYTES = 4
CHUNK_BYTES = 1 << 20
"""Most that is read at a time, so that a length that is not true costs no memory."""
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
    rows: tuple[Integer, ...]


class SummedMoments(Record):
    """The question for the moments of each trainer's features, and the answers."""

    question: Signed
    answers: tuple[Reply, ...]


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
    """The signatures of the sums by all whose answers are in them, and what the buyer was asked with them.

    They are validators', or of moments trainers'.
    """

    question: Signed
    answers: tuple[Reply, ...]
    totals: Signed


class Opened(Record):
    """The buyer's openings of the sums."""

    openings: Signed


class Entry(Record):
    """One record under its name: the leaf of the Merkle tree."""

    kind: StrictStr
    round: Integer
    content: bytes


class TranscriptRoot(TrainingMessage):
    """The aggregator's word that this is the whole transcript."""

    root: Digest
    entries: Integer


RECORDS: dict[str, type[Record]] = {
    "header": Header,
    "score-moments": SummedMoments,
    "total-moments": Cosigned,
    "opening-moments": Opened,
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

MOMENTS: Final = "moments"
"""What is summed before the first evaluation, in the same steps, if the order standardises."""


def name(step: str, kind: EvaluationKind | Literal["moments"]) -> str:
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
        case _, "moments":
            return (0, 1, 0, place)
        case _, "zero":
            return (1, 0, 0, place) if round_ == 0 else (5, round_, 0, place)
        case "round", _:
            return (2, round_, 0, 0)
        case _, "iteration":
            return (2, round_ - 1, 1, place)
        case "refresh", _:
            return (2, round_, 2, 0)
        case "local", _:
            return (1, 1, 0, 0)
        case _:
            return (4, 0, 0, place)


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """Return the root over byte strings: the Merkle tree hash of RFC 6962, 2.1.

    They are read once, one at a time: together they may be more than fits into memory.
    """
    return _node([_leaf(leaf) for leaf in leaves])


def _leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def _node(hashes: Sequence[bytes]) -> bytes:
    if len(hashes) < 2:
        return hashes[0] if hashes else hashlib.sha256().digest()
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + _node(hashes[:half]) + _node(hashes[half:])).digest()


def write(entries: Iterable[Entry], root: Signed) -> Iterator[bytes]:
    """Yield the pieces of a transcript file. Entries come in the order of :func:`position`."""
    yield MAGIC
    for record in (*entries, root):
        data = record.pack()
        yield len(data).to_bytes(LENGTH_BYTES, "big") + data


class Source(Protocol):
    """Where a transcript is read from: a binary file, for instance."""

    def read(self, size: int, /) -> bytes:
        """Return at most that many bytes; none at the end."""


@dataclass(frozen=True)
class Transcript:
    """A transcript as it was read. Nothing that it says is checked, but that it is whole and in order.

    Parameters
    ----------
    records : mapping
        From kind and round to the record, in the order of :func:`position`.
    root : Signed
        The aggregator's :class:`TranscriptRoot`, which is over these records. Its signature is not checked.
    """

    records: Mapping[tuple[str, int], Record]
    root: Signed

    @property
    def header(self) -> Header:
        """What the training is."""
        header = self.records["header", 0]
        assert isinstance(header, Header)
        return header


def read(source: Source) -> Transcript:
    """Read a transcript file.

    Parameters
    ----------
    source : Source
        Where the next byte is the file's first. It is read in small pieces, and to its end.

    Raises
    ------
    InvalidTranscript
        It is no transcript, or one of another version, or it is cut off, has an entry twice, too many, too few or in
        another order, or is not what its aggregator signed. The text says at which entry.
    """
    _require_magic(source)
    records: dict[tuple[str, int], Record] = {}
    hashes: list[bytes] = []
    before: tuple[tuple[int, ...], str] = ((-1,), "the beginning")
    for index in itertools.count():
        data = _piece(source, index)
        entry = _decode(data, index)
        if isinstance(entry, Signed):
            if source.read(1):
                raise InvalidTranscript(f"bytes follow its root, which is behind {index} entries")
            _require_complete(records)
            _require_root(entry, hashes)
            return Transcript(records, entry)
        title = f"{entry.kind} {entry.round}"
        here = position(entry.kind, entry.round)
        if (entry.kind, entry.round) in records:
            raise InvalidTranscript(f"entry {index}: there is {title} twice")
        if here <= before[0]:
            raise InvalidTranscript(f"entry {index}: {title} stands behind {before[1]}, out of order")
        before = here, title
        records[entry.kind, entry.round] = _unpack(RECORDS[entry.kind], entry.content, f"entry {index}: {title}")
        hashes.append(_leaf(data))
    raise AssertionError("the loop has no end")


def _require_magic(source: Source) -> None:
    found = _take(source, len(MAGIC))
    if found == MAGIC:
        return
    if found and MAGIC.startswith(found):
        raise InvalidTranscript(f"{len(found)} of the {len(MAGIC)} bytes that it begins with are there: it is cut off")
    common = MAGIC.rstrip(b"0123456789\n")
    if found.startswith(common):
        version = found[len(common) :].decode("ascii", "replace").strip()
        raise InvalidTranscript(f"it is a transcript of protocol version {version}: only 2 is read here")
    raise InvalidTranscript("it is no DeltaML transcript: it does not begin as one")


def _take(source: Source, count: int) -> bytes:
    """Return that many bytes, or as many as there are."""
    chunks = []
    while count and (chunk := source.read(min(count, CHUNK_BYTES))):
        chunks.append(chunk)
        count -= len(chunk)
    return b"".join(chunks)


def _piece(source: Source, index: int) -> bytes:
    prefix = _take(source, LENGTH_BYTES)
    if not prefix:
        raise InvalidTranscript(f"it ends behind {index} entries, without its aggregator's root: it is cut off")
    length = int.from_bytes(prefix, "big")
    data = _take(source, length)
    if len(prefix) < LENGTH_BYTES or len(data) < length:
        raise InvalidTranscript(f"entry {index}: {len(data)} of {length} bytes are there: it is cut off")
    return data


AnyRecord = TypeVar("AnyRecord", bound=Record)


def _unpack(model: type[AnyRecord], data: bytes, where: str) -> AnyRecord:
    try:
        record = model.unpack(data)
    except (ValidationError, InvalidInput) as error:
        raise InvalidTranscript(f"{where}: it is no {model.__name__}: {_first_line(error)}") from None
    if record.pack() != data:
        raise InvalidTranscript(f"{where}: the {model.__name__} is not in its canonical encoding")
    return record


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = problems_of(error)[0]
        return f"{problem['field']} {problem['reason']}"
    return str(error)


def _decode(data: bytes, index: int) -> Entry | Signed:
    """Return an entry, or the signed root, which alone has a signature."""
    where = f"entry {index}"
    try:
        return _unpack(Entry, data, where)
    except InvalidTranscript:
        try:
            return _unpack(Signed, data, where)
        except InvalidTranscript:
            pass
        raise


def _require_complete(records: Mapping[tuple[str, int], Record]) -> None:
    """Check that what refers to something else is not there without it."""
    rounds = sum(kind == "round" for kind, _ in records)
    evaluated = {round_ for kind, round_ in records if kind.endswith("-iteration")}
    again = any(kind.endswith("-zero") and round_ == 1 for kind, round_ in records)
    standardised = any(kind.endswith("-moments") for kind, _ in records)
    needed = {
        ("header", 0),
        *((name(step, MOMENTS), 0) for step in _STEPS[1:] if standardised),
        *((name(step, "zero"), round_) for step in _STEPS[1:] for round_ in range(1 + again)),
        *(("round", round_) for round_ in range(rounds)),
        *(("refresh", round_) for round_ in range(rounds - 1)),
        *((name(step, "iteration"), round_) for step in _STEPS for round_ in evaluated),
        ("local", 0),
        *((name(step, "settlement"), rounds) for step in _STEPS),
    }
    for what, names in (("is missing", needed - set(records)), ("belongs to nothing", set(records) - needed)):
        if names:
            kind, round_ = min(names, key=lambda each: position(*each))
            raise InvalidTranscript(f"the entry {kind} {round_} {what}")


def _require_root(signed: Signed, hashes: Sequence[bytes]) -> None:
    root = _unpack(TranscriptRoot, signed.content, "the root")
    if root.entries != len(hashes):
        raise InvalidTranscript(f"its aggregator signed {root.entries} entries, and there are {len(hashes)}")
    found = _node(hashes)
    if root.root != found:
        raise InvalidTranscript(
            f"its aggregator signed entries with the root {root.root.hex()}, and these have {found.hex()}"
        )
