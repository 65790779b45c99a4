"""What was written stays as it was written, and one root says so."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from commons.database import Database
from commons.journal import JOURNAL, Journal
from commons.protocol.messages import CosignQuestion, Record, Reply, RoundQuestion, ScoreQuestion
from commons.protocol.signed import Signed
from commons.protocol.transcript import (
    MAGIC,
    Entry,
    Masking,
    Opened,
    Round,
    Scores,
    TranscriptRoot,
    merkle_root,
    write,
)
from federated_aggregator.transcripts import Transcripts
from tests.unit.accounts import DOMAIN, Offline, account, signer

TRAINING = uuid.UUID(int=7)
QUESTION = signer(1).sign(RoundQuestion(training=TRAINING, round=0, included=(), model=b""))
REPLY = Reply(place=0, content=b"content", signature=bytes(65))
RECORDS: dict[tuple[str, int], Record] = {
    ("score-zero", 0): Scores(
        products=None,
        question=signer(1).sign(ScoreQuestion(training=TRAINING, kind="zero", round=0)),
        answers=(REPLY,),
    ),
    ("round", 0): Round(refreshed=None, question=QUESTION, answers=(REPLY,)),
    ("opening-iteration", 1): Opened(
        openings=signer(2).sign(
            CosignQuestion(training=TRAINING, kind="zero", round=0, answers=(), totals=b"", randomisers=b"")
        )
    ),
    ("refresh", 0): Masking(question=QUESTION, masks=b"masks", randomisers=b"roots"),
    ("round", 1): Round(refreshed=QUESTION, question=QUESTION, answers=()),
}
"""In the order of the protocol."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    on = Database(f"sqlite:///{tmp_path / 'service.db'}")
    JOURNAL.create(on.engine)
    yield on
    on.close()


def transcripts(on: Database) -> Transcripts:
    return Transcripts(Journal(on), Offline(account(1)))  # type: ignore[arg-type]


@pytest.fixture
def written(database: Database) -> Transcripts:
    made = transcripts(database)
    for (kind, round_), record in reversed(RECORDS.items()):
        made.keep(TRAINING, kind, round_, record)
    made.keep(uuid.UUID(int=8), "round", 5, RECORDS["round", 0])
    return made


def entries() -> list[Entry]:
    return [Entry(kind=kind, round=round_, content=record.pack()) for (kind, round_), record in RECORDS.items()]


def test_records_read_back(written: Transcripts) -> None:
    for (kind, round_), record in RECORDS.items():
        assert written.find(TRAINING, kind, round_, type(record)) == record
    assert written.find(TRAINING, "round", 2, Round) is None
    assert written.find(uuid.UUID(int=9), "round", 0, Round) is None
    assert (written.last(TRAINING, "round"), written.last(TRAINING, "local")) == (1, None)


def test_root_is_over_the_entries_in_the_order_of_the_protocol(written: Transcripts, database: Database) -> None:
    expected = merkle_root([entry.pack() for entry in entries()])
    assert written.root(TRAINING) == expected
    assert transcripts(database).root(TRAINING) == expected  # after a restart


def test_root_tells_every_change(written: Transcripts, database: Database) -> None:
    before = written.root(TRAINING)
    with database.writer.begin() as connection:
        later = JOURNAL.c.kind == "refresh"
        connection.execute(JOURNAL.update().where(later).values(question=RECORDS["round", 0].pack()))
    assert written.root(TRAINING) != before


def test_record_that_is_written_again_changes_nothing(written: Transcripts) -> None:
    before = written.root(TRAINING)
    written.keep(TRAINING, "round", 0, RECORDS["round", 1])
    assert written.find(TRAINING, "round", 0, Round) == RECORDS["round", 0]
    assert written.root(TRAINING) == before


def test_file_has_the_entries_and_the_root_with_the_aggregators_signature(written: Transcripts) -> None:
    root = TranscriptRoot(training=TRAINING, root=written.root(TRAINING), entries=len(RECORDS))
    data = b"".join(written.stream(TRAINING))
    assert data == b"".join(write(entries(), signer(1).sign(root)))
    assert data.startswith(MAGIC)
    signed = signer(1).sign(root).pack()
    assert data.endswith(signed)
    assert Signed.unpack(signed).verified(TranscriptRoot, DOMAIN, account(1).address) == root
