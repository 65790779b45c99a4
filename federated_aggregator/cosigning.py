"""Sums that their owners vouch for: adding encrypted answers, and having the sums signed by all that are in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from commons.http.peer import Answered, Counter
from commons.protocol import totals, wire
from commons.protocol.messages import Cosignature, MomentsStatement, Reply, TotalStatement, Vector
from commons.protocol.signed import Signed
from federated_aggregator.course import Course, Party
from federated_aggregator.peers import Owners
from federated_aggregator.rounds import replies

Statement = TypeVar("Statement", bound=TotalStatement | MomentsStatement)


@dataclass(frozen=True)
class Proposal(Generic[Statement]):
    """What is to be signed about encrypted sums, and the question that shows what they are made of."""

    question: Signed
    statement: Statement
    ciphertexts: bytes


@dataclass(frozen=True)
class Cosignatures(Generic[Statement]):
    """What all signed whose answers are in the sums: their answers, and in these the signatures."""

    proposal: Proposal[Statement]
    answers: tuple[Reply, ...]
    signatures: tuple[bytes, ...]


def added(course: Course, answers: Sequence[Reply], length: int) -> tuple[bytes, bytes]:
    """Return the encrypted sums of owners' answers of that length, and what shows that they are that."""
    vectors = [course.key.decode(Vector.unpack(answer.content).ciphertexts, length) for answer in answers]
    sums = totals.add(vectors, course.key, course.randomisers)
    return course.key.encode(total for total, _ in sums), wire.encode_roots([root for _, root in sums], course.key)


def cosigned(
    owners: Owners,
    course: Course,
    parties: Mapping[int, Party],
    answers: Sequence[Reply],
    propose: Callable[[Sequence[Reply]], Proposal[Statement]],
    require: Callable[[Mapping[int, Answered[Cosignature]]], None],
    count: Counter,
) -> Cosignatures[Statement]:
    """Have sums signed by all whose answers are in them; whoever does not sign is not in them.

    Parameters
    ----------
    owners : Owners
        Calls to the owners.
    course : Course
    parties : mapping of int to Party
        Who answered, by place.
    answers : sequence of Reply
    propose : callable
        Returns what is to be signed about the sums of such answers.
    require : callable
        Raises TooFewAnswered if those who signed are too few to go on with.
    count : callable
        Counts bytes.
    """
    while True:
        proposal = propose(answers)
        call = owners.cosign(course.id, proposal.question, proposal.statement, course.domain, count)
        signed = owners.ask(course, {answer.place: parties[answer.place] for answer in answers}, call)
        if len(signed) == len(answers):
            break
        require(signed)
        answers = tuple(answer for answer in answers if answer.place in signed)
    signatures = tuple(signed[answer.place].content.signature for answer in answers)
    return Cosignatures(proposal, replies(signed), signatures)
