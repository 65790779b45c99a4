"""Disputes of a training that was told: what owners keep of it, what they claim, and the chain that has the dispute."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from commons.audit.onchain import Facts
from commons.chain.training import Dispute, Outcome, Payment, Result, Status, Training
from commons.protocol import disputes
from commons.protocol.disputes import Claim, Copy, Difference
from commons.protocol.messages import Record
from commons.protocol.signed import Signed, Signer
from commons.protocol.transcript import LocalModels, Round, Scores, Transcript, read
from tests.unit.audit.parties import BUYER, TRAINING, Story, owner

ANSWERED = Difference("whether this owner answered", "no", "yes")


def transcript_of(file: bytes) -> Transcript:
    return read(io.BytesIO(file))


def copies(shown: Transcript, place: int, trainers: int) -> list[Copy]:
    """Return what an owner keeps that answered everything, as everybody who does is in the transcript with it."""
    kept = []
    for (kind, round_), record in shown.records.items():
        match record, place < trainers:
            case ((Round() | LocalModels()), True):
                kept.append(copy("update" if isinstance(record, Round) else "local", round_, record, place))
            case Scores(), False if kind == "score-settlement":
                kept.append(copy(kind, 0, record, place - trainers))
    return kept


def copy(kind: str, round_: int, record: Record, place: int) -> Copy:
    said: Any = record
    (reply,) = [reply for reply in said.answers if reply.place == place]
    answer = Signed(content=reply.content, signature=reply.signature)
    return Copy(kind=kind, round=round_, question=said.question.pack(), answer=answer.pack())


def claim(story: Story, who: Any, kept: Sequence[Copy], difference: Difference = ANSWERED) -> Signed:
    claimed = disputes.claim(TRAINING, who.address, [difference], kept)
    return Signer(who, story.domain).sign(claimed)


def claimed(who: Any, difference: Difference) -> Claim:
    return disputes.claim(TRAINING, who.address, [difference], [])


def disputed(facts: Facts, reported: Result | None = None, disputer: str = BUYER.address) -> Training:
    """Return the training with a result that somebody disputes."""
    result = facts.reported if reported is None else reported
    return replace(facts.training, status=Status.DISPUTED, disputer=disputer, result=result)


def owners(story: Story) -> list[Any]:
    return [owner(place) for place in story.places]


@dataclass
class Market:
    """The contract as far as an arbiter sees it, with one training, which is disputed."""

    facts: Facts
    disputed: Training
    evidence_hash: bytes = bytes(32)
    resolved: list[tuple[Outcome, Result | None]] = field(default_factory=list)

    @property
    def chain_id(self) -> int:
        return self.facts.chain_id

    @property
    def address(self) -> str:
        return self.facts.contract

    def verify(self) -> None:
        pass

    def training(self, training_id: UUID) -> Training:
        assert training_id == TRAINING
        return self.disputed

    def dispute(self, training_id: UUID) -> Dispute:
        assert self.disputed.disputer is not None
        return Dispute(self.disputed.disputer, self.evidence_hash, None)

    def accepted(self, training_id: UUID) -> tuple[tuple[str, int], ...]:
        return self.facts.accepted

    def block_hash(self, number: int) -> bytes:
        return self.facts.entropy

    def history(self, training_id: UUID) -> tuple[tuple[int, int], ...]:
        return self.facts.history

    def reported(self, training_id: UUID) -> Result | None:
        return self.disputed.result

    def payments(self, training_id: UUID) -> list[Payment]:
        return []

    def resolve(self, training_id: UUID, outcome: Outcome, corrected: Result | None) -> None:
        self.resolved.append((outcome, corrected))
