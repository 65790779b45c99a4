"""Transcript files: what is written is read back, and whatever is not whole is refused with the place where."""

from __future__ import annotations

import hashlib
import io
import resource
from collections.abc import Callable

import ormsgpack
import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from commons.protocol.messages import Record
from commons.protocol.signed import Domain, Signed, Signer
from commons.protocol.transcript import (
    LENGTH_BYTES,
    MAGIC,
    RECORDS,
    Entry,
    Header,
    InvalidTranscript,
    LocalModels,
    Masking,
    Opened,
    Round,
    Scores,
    TranscriptRoot,
    merkle_root,
    position,
    read,
    write,
)
from tests.unit.audit.parties import Story

TRAINING = "6f1c2d0e-0a50-4a3c-9d35-3a8f2c1e7b90"
SIGNER = Signer(Account.from_key(b"\x01" * 32), Domain(1, "0x" + "0" * 40))


@pytest.fixture(scope="module")
def file() -> bytes:
    return Story().tell()


@pytest.fixture(scope="module")
def pieces(file: bytes) -> list[bytes]:
    """The entries and the root, each with its length."""
    found, place = [], len(MAGIC)
    while place < len(file):
        end = place + LENGTH_BYTES + int.from_bytes(file[place : place + LENGTH_BYTES], "big")
        found.append(file[place:end])
        place = end
    return found


def piece(data: bytes) -> bytes:
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def whole(entries: list[bytes]) -> bytes:
    """Return a file of these pieces with a root that is theirs, as an aggregator could sign it."""
    leaves = [entry[LENGTH_BYTES:] for entry in entries]
    root = TranscriptRoot(training=TRAINING, root=merkle_root(leaves), entries=len(leaves))  # type: ignore[arg-type]
    return MAGIC + b"".join(entries) + piece(SIGNER.sign(root).pack())


def refused(data: bytes) -> str:
    with pytest.raises(InvalidTranscript) as refusal:
        read(io.BytesIO(data))
    return str(refusal.value)


def test_what_was_written_is_read_back(file: bytes) -> None:
    transcript = read(io.BytesIO(file))
    entries = [Entry(kind=kind, round=r, content=record.pack()) for (kind, r), record in transcript.records.items()]
    assert b"".join(write(entries, transcript.root)) == file
    assert list(transcript.records) == sorted(transcript.records, key=lambda name: position(*name))
    assert all(type(record) is RECORDS[kind] for (kind, _), record in transcript.records.items())
    assert isinstance(transcript.header, Header)
    kinds = {type(record) for record in transcript.records.values()}
    assert kinds >= {Header, Round, Masking, LocalModels, Scores, Opened}


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x00" * 100, b"{}"], ids=repr)
def test_what_does_not_begin_as_a_transcript_is_none(data: bytes) -> None:
    assert refused(data) == "it is no DeltaML transcript: it does not begin as one"


def test_another_version_is_named(file: bytes) -> None:
    assert "version 3: only 2 is read here" in refused(file.replace(MAGIC, b"DeltaML transcript 3\n", 1))


def test_a_file_that_is_cut_off_is_refused_wherever(file: bytes, pieces: list[bytes]) -> None:
    for stop in range(1, len(MAGIC)):
        assert refused(file[:stop]) == f"{stop} of the 21 bytes that it begins with are there: it is cut off"
    ends = [len(MAGIC)]
    for each in pieces:
        ends.append(ends[-1] + len(each))
    for end in ends[:-1]:
        for stop in (end, end + 2, end + LENGTH_BYTES, end + 40):
            assert "cut off" in refused(file[:stop])
    assert "entry 22" in refused(file[:-1])
    assert "22 entries" in refused(file[: ends[-2]])


def test_bytes_behind_the_root_are_refused(file: bytes) -> None:
    assert refused(file + b"\x00") == "bytes follow its root, which is behind 22 entries"


def test_a_length_of_gigabytes_costs_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = refused(MAGIC + (2**32 - 1).to_bytes(LENGTH_BYTES, "big") + b"short")
    assert told == "entry 0: 5 of 4294967295 bytes are there: it is cut off"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


def test_entries_in_another_order_are_refused(pieces: list[bytes]) -> None:
    entries = pieces[:-1]
    entries[4], entries[5] = entries[5], entries[4]
    assert "out of order" in refused(whole(entries)) and "entry 5" in refused(whole(entries))


def test_an_entry_twice_is_refused(pieces: list[bytes]) -> None:
    entries = pieces[:-1]
    assert refused(whole([*entries[:4], *entries[3:]])) == "entry 4: there is opening-zero 0 twice"


def test_any_entry_that_is_missing_is_named(pieces: list[bytes]) -> None:
    entries = pieces[:-1]
    for place, gone in enumerate(entries):
        entry = Entry.unpack(gone[LENGTH_BYTES:])
        told = refused(whole(entries[:place] + entries[place + 1 :]))
        if entry.kind == "round":  # then something else has no round
            assert "is missing" in told or "belongs to nothing" in told
        else:
            assert told == f"the entry {entry.kind} {entry.round} is missing"


def test_entries_that_belong_to_nothing_are_named(pieces: list[bytes]) -> None:
    entries = pieces[:-1]
    extra = Entry.unpack(entries[-1][LENGTH_BYTES:]).model_copy(update={"round": 4})
    assert "the entry mask-settlement 3 is missing" in refused(whole([*entries[:-4], piece(extra.pack())]))
    masking = Masking(question=Signed(content=b"", signature=b""), masks=b"", randomisers=b"")
    places = [Entry.unpack(entry[LENGTH_BYTES:]).kind for entry in entries]
    last = places.index("mask-settlement")
    more = [*entries[:last], piece(Entry(kind="refresh", round=2, content=masking.pack()).pack()), *entries[last:]]
    assert refused(whole(more)) == "the entry refresh 2 belongs to nothing"


def test_an_unknown_kind_of_entry_is_refused(pieces: list[bytes]) -> None:
    unknown = piece(Entry(kind="weather", round=0, content=b"").pack())
    assert "there are no entries 'weather'" in refused(whole([pieces[0], unknown, *pieces[1:-1]]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda entry: Entry(kind=entry.kind, round=entry.round, content=b"\xc0").pack(), "it is no Header"),
        (lambda entry: Entry(kind=entry.kind, round=entry.round, content=b"\xc1").pack(), "it is no Header"),
        (
            lambda entry: Entry(kind=entry.kind, round=entry.round, content=_reordered(entry.content)).pack(),
            "canonical",
        ),
        (lambda entry: _reordered(entry.pack()), "canonical"),
        (lambda entry: b"", "it is no Entry"),
        (lambda entry: b"\x93\x01\x02\x03", "it is no Entry"),
    ],
)
def test_what_is_no_record_in_its_one_encoding_is_refused(
    pieces: list[bytes], change: Callable[[Entry], bytes], reason: str
) -> None:
    first = change(Entry.unpack(pieces[0][LENGTH_BYTES:]))
    told = refused(whole([piece(first), *pieces[1:-1]]))
    assert told.startswith("entry 0: ") and reason in told


def _reordered(data: bytes) -> bytes:
    return ormsgpack.packb(dict(reversed(list(ormsgpack.unpackb(data).items()))))


def test_a_root_of_other_entries_is_refused(pieces: list[bytes]) -> None:
    entries = MAGIC + b"".join(pieces[:-1])
    wrong = TranscriptRoot(training=TRAINING, root=bytes(32), entries=len(pieces) - 1)  # type: ignore[arg-type]
    assert "signed entries with the root 0000" in refused(entries + piece(SIGNER.sign(wrong).pack()))
    fewer = TranscriptRoot(training=TRAINING, root=bytes(32), entries=3)  # type: ignore[arg-type]
    assert "signed 3 entries, and there are 22" in refused(entries + piece(SIGNER.sign(fewer).pack()))
    no_root = Signed(content=b"\x80", signature=bytes(65))
    assert "the root: it is no TranscriptRoot" in refused(entries + piece(no_root.pack()))


@given(st.data())
def test_no_bytes_make_reading_fail_in_another_way(file: bytes, data: st.DataObject) -> None:
    # The last bytes are the root's signature, which is for the audit to check.
    place = data.draw(st.integers(0, len(file) - 100))
    noise, shift = data.draw(st.binary(max_size=20)), data.draw(st.integers(-2, 2))
    changed = file[:place] + noise + file[max(0, place + len(noise) + shift) :]
    if changed != file:
        with pytest.raises(InvalidTranscript):
            read(io.BytesIO(changed))


def test_a_transcript_can_be_read_in_drops(file: bytes) -> None:
    class Drops(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 7))

    assert read(Drops(file)) == read(io.BytesIO(file))


def test_the_merkle_root_is_that_of_rfc_6962() -> None:
    # The test vectors of Google's Certificate Transparency: eight leaves, then the first seven, five, three, and one.
    leaves = [bytes.fromhex(x) for x in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )]  # fmt: skip
    roots = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    for count, root in roots.items():
        assert merkle_root(leaves[:count]).hex() == root
    assert merkle_root([]) == hashlib.sha256().digest()


def test_every_record_is_of_a_kind_that_has_a_place() -> None:
    places = [position(kind, 1) for kind in RECORDS]
    assert len(set(places)) == len(places)
    assert all(issubclass(record, Record) for record in RECORDS.values())
