"""The transcripts that the aggregator writes: every step of a training, saved before it is acted on.

They are what a restart goes on from, and what the arbiter of a dispute is shown.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TypeVar

from commons.chain.connection import Connection
from commons.journal import Journal
from commons.protocol import transcript
from commons.protocol.messages import Record
from commons.protocol.transcript import Entry, TranscriptRoot, merkle_root

AnyRecord = TypeVar("AnyRecord", bound=Record)


class Transcripts:
    """The transcript of every training.

    Parameters
    ----------
    journal : Journal
        Where the entries are, each under its name.
    chain : Connection
        Has the account that signs roots.
    """

    def __init__(self, journal: Journal, chain: Connection) -> None:
        self._journal = journal
        self._chain = chain

    def find(self, training_id: uuid.UUID, kind: str, round_: int, record: type[AnyRecord]) -> AnyRecord | None:
        """Return a record, if it was written."""
        entry = self._journal.find(training_id, kind, round_)
        return None if entry is None else record.unpack(entry.question)

    def keep(self, training_id: uuid.UUID, kind: str, round_: int, record: AnyRecord) -> AnyRecord:
        """Write a record, once, and return it."""
        self._journal.keep(training_id, kind, round_, record.pack(), b"")
        return record

    def last(self, training_id: uuid.UUID, kind: str) -> int | None:
        """Return the highest round that has a record of that kind."""
        return self._journal.last(training_id, kind)

    def lasts(self, training_ids: Sequence[uuid.UUID], kind: str) -> dict[uuid.UUID, int]:
        """Return the highest round that has a record of that kind, of those of the trainings that have one."""
        return self._journal.lasts(training_ids, kind)

    def times(self, training_id: uuid.UUID, kind: str, first: int, last: int) -> dict[int, datetime]:
        """Return when the records of that kind from round `first` to `last` were written, by round."""
        return self._journal.times(training_id, kind, first, last)

    def size(self, training_id: uuid.UUID) -> tuple[int, int]:
        """Return how many records a training has so far, and their bytes."""
        return self._journal.size(training_id)

    def root(self, training_id: uuid.UUID) -> bytes:
        """Return the Merkle root over what was written so far."""
        return merkle_root([entry.pack() for entry in self._entries(training_id)])

    def stream(self, training_id: uuid.UUID) -> Iterator[bytes]:
        """Return the pieces of a training's transcript file, with the root signed."""
        entries = self._entries(training_id)
        root = merkle_root([entry.pack() for entry in entries])
        statement = TranscriptRoot(training=training_id, root=root, entries=len(entries))
        return transcript.write(entries, self._chain.signer().sign(statement))

    def _entries(self, training_id: uuid.UUID) -> list[Entry]:
        entries = [
            Entry(kind=kind, round=round_, content=entry.question)
            for kind, round_, entry in self._journal.all(training_id)
        ]
        return sorted(entries, key=lambda entry: transcript.position(entry.kind, entry.round))
