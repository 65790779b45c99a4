"""What a service said, kept so that it is said once and repeated word for word.

Every exchange of a training is named by (training, kind, round). The first answer is saved before it leaves; the same
question gets the same answer again (after a crash, or a retry), and another question under the same name is refused.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from datetime import datetime

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from commons.database import Base, Database, now
from commons.errors import Conflict


class Entry(Base):
    """One exchange: the digest of what was asked and what was answered."""

    __tablename__ = "journal"

    training_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    question_digest: Mapped[bytes]
    question: Mapped[bytes]
    answer: Mapped[bytes]
    created: Mapped[datetime] = mapped_column(default=now)


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
        with self._database.read() as session:
            return session.get(Entry, (training_id, kind, round_))

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
        entry = Entry(
            training_id=training_id,
            kind=kind,
            round=round_,
            question_digest=hashlib.sha256(question).digest(),
            question=question,
            answer=answer,
        )
        try:
            with self._database.write() as session:
                session.add(entry)
        except IntegrityError:  # the same question came twice at once: the other answer was saved first
            saved = self.find(training_id, kind, round_)
            assert saved is not None
            return saved
        return entry
