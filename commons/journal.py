"""What a service said, kept so that it is said once and repeated word for word.

Every exchange of a training is named by (training, kind, round). The first answer is saved before it leaves; the same
question gets the same answer again (after a crash, or a retry), and another question under the same name is refused.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, Integer, LargeBinary, String, Table, Uuid, bindparam, func, insert, select
from sqlalchemy.exc import IntegrityError

from commons.database import Base, Database, Moment, now
from commons.errors import Conflict

JOURNAL = Table(
    "journal",
    Base.metadata,
    Column("training_id", Uuid, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("question_digest", LargeBinary, nullable=False),
    Column("question", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("created", Moment(timezone=True), nullable=False),
)
"""Written and read once or twice in every exchange: as a plain table that takes a quarter of the time of the ORM."""

_INSERT = insert(JOURNAL)
_FIND = select(JOURNAL.c.question_digest, JOURNAL.c.question, JOURNAL.c.answer).where(
    JOURNAL.c.training_id == bindparam("training_id"),
    JOURNAL.c.kind == bindparam("kind"),
    JOURNAL.c.round == bindparam("round"),
)
_ALL = (
    select(JOURNAL.c.kind, JOURNAL.c.round, JOURNAL.c.question_digest, JOURNAL.c.question, JOURNAL.c.answer)
    .where(JOURNAL.c.training_id == bindparam("training_id"))
    .order_by(JOURNAL.c.created, JOURNAL.c.kind, JOURNAL.c.round)
)

_NAMES = (
    select(JOURNAL.c.kind, JOURNAL.c.round)
    .where(JOURNAL.c.training_id == bindparam("training_id"))
    .order_by(JOURNAL.c.created, JOURNAL.c.kind, JOURNAL.c.round)
)
_TIMES = (
    select(JOURNAL.c.round, JOURNAL.c.created)
    .where(
        JOURNAL.c.training_id == bindparam("training_id"),
        JOURNAL.c.kind == bindparam("kind"),
        JOURNAL.c.round >= bindparam("first"),
        JOURNAL.c.round <= bindparam("last"),
    )
    .order_by(JOURNAL.c.round)
)
_SIZE = select(func.count(), func.coalesce(func.sum(func.length(JOURNAL.c.question)), 0)).where(
    JOURNAL.c.training_id == bindparam("training_id")
)
_LAST = select(func.max(JOURNAL.c.round)).where(
    JOURNAL.c.training_id == bindparam("training_id"), JOURNAL.c.kind == bindparam("kind")
)


@dataclass(frozen=True)
class Entry:
    """One exchange: what was asked, its SHA-256, and what was answered."""

    question_digest: bytes
    question: bytes
    answer: bytes


class Journal:
    """The append-only record of a service's answers.

    Parameters
    ----------
    database : Database
        Where the entries are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, training_id: uuid.UUID, kind: str, round_: int) -> Entry | None:
        """Return the entry of that name, if there is one."""
        with self._database.engine.begin() as connection:
            row = connection.execute(_FIND, {"training_id": training_id, "kind": kind, "round": round_}).one_or_none()
        return None if row is None else Entry(*row)

    def all(self, training_id: uuid.UUID) -> list[tuple[str, int, Entry]]:
        """Return every exchange of a training: kind, round and content, in the order in which they were saved."""
        with self._database.engine.begin() as connection:
            rows = connection.execute(_ALL, {"training_id": training_id}).all()
        return [(kind, round_, Entry(*content)) for kind, round_, *content in rows]

    def names(self, training_id: uuid.UUID) -> list[tuple[str, int]]:
        """Return the kind and round of every exchange of a training, without their contents, in the order of `all`."""
        with self._database.engine.begin() as connection:
            rows = connection.execute(_NAMES, {"training_id": training_id}).all()
        return [(kind, round_) for kind, round_ in rows]

    def last(self, training_id: uuid.UUID, kind: str) -> int | None:
        """Return the highest round that has an entry of that kind."""
        with self._database.engine.begin() as connection:
            last: int | None = connection.execute(_LAST, {"training_id": training_id, "kind": kind}).scalar_one()
        return last

    def lasts(self, training_ids: Sequence[uuid.UUID], kind: str) -> dict[uuid.UUID, int]:
        """Return the highest round that has an entry of that kind, of those of the trainings that have one."""
        query = select(JOURNAL.c.training_id, func.max(JOURNAL.c.round)).group_by(JOURNAL.c.training_id)
        wanted = query.where(JOURNAL.c.training_id.in_(training_ids), JOURNAL.c.kind == kind)
        with self._database.engine.begin() as connection:
            return {training_id: round_ for training_id, round_ in connection.execute(wanted)}

    def times(self, training_id: uuid.UUID, kind: str, first: int, last: int) -> dict[int, datetime]:
        """Return when the entries of that kind from round `first` to `last` were saved, by round."""
        wanted = {"training_id": training_id, "kind": kind, "first": first, "last": last}
        with self._database.engine.begin() as connection:
            return {round_: created for round_, created in connection.execute(_TIMES, wanted)}

    def size(self, training_id: uuid.UUID) -> tuple[int, int]:
        """Return how many exchanges of a training were saved, and the bytes of their questions."""
        with self._database.engine.begin() as connection:
            count, length = connection.execute(_SIZE, {"training_id": training_id}).one()
        return count, int(length)

    def once(
        self, training_id: uuid.UUID, kind: str, round_: int, question: bytes, answer: Callable[[], bytes]
    ) -> bytes:
        """Answer a question, at most one per name.

        Parameters
        ----------
        training_id, kind, round_
            The name of the exchange.
        question : bytes
            What is asked, canonically encoded.
        answer : callable
            Computes the answer; called only if none was given yet, outside any transaction.

        Returns
        -------
        bytes
            The answer, already saved.

        Raises
        ------
        Conflict
            Another question was answered under this name.
        """
        entry = self.find(training_id, kind, round_) or self.keep(training_id, kind, round_, question, answer())
        if entry.question_digest != hashlib.sha256(question).digest():
            raise Conflict(f"training {training_id} has already been answered another {kind} {round_}")
        return entry.answer

    def keep(self, training_id: uuid.UUID, kind: str, round_: int, question: bytes, answer: bytes) -> Entry:
        """Save an exchange, and return what is now kept under its name: the first that was saved."""
        entry = Entry(hashlib.sha256(question).digest(), question, answer)
        values = {
            "training_id": training_id,
            "kind": kind,
            "round": round_,
            "question_digest": entry.question_digest,
            "question": question,
            "answer": answer,
            "created": now(),
        }
        try:
            with self._database.writer.begin() as connection:
                connection.execute(_INSERT, values)
        except IntegrityError:  # the same question came twice at once: the other answer was saved first
            saved = self.find(training_id, kind, round_)
            assert saved is not None
            return saved
        return entry
