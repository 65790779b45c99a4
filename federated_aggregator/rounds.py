"""One round: collect encrypted updates, add them up, have the buyer divide the masked sum.

What a round decides (who answered with what, the masks) is in the transcript before the buyer sees any of it, so that
a restart asks the buyer the same question again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gmpy2 import mpz

from commons.crypto.packing import FRACTION_BITS
from commons.http.peer import Answered, Counter, Peers
from commons.protocol import round as protocol
from commons.protocol import transcript, wire
from commons.protocol.messages import LocalModelQuestion, MaskedRound, Reply, RoundQuestion, Vector
from commons.protocol.schedule import MINIMUM_SUMMED, least_contributors
from commons.protocol.signed import AnyMessage, Signed
from commons.protocol.transcript import Masking
from federated_aggregator.course import Course, TooFewAnswered
from federated_aggregator.peers import Buyer, Owners
from federated_aggregator.transcripts import Transcripts

PHASE = "rounds"


@dataclass(frozen=True)
class Sum:
    """Added encrypted updates of a round: the places of the trainers that are in it, and d ciphertexts."""

    round: int
    trainers: tuple[int, ...]
    ciphertexts: list[mpz]


class Rounds:
    """The aggregator's part in rounds.

    Parameters
    ----------
    transcripts : Transcripts
        What was decided before.
    peers : Peers
        Signs questions.
    owners, buyer
        Calls to the others.
    """

    def __init__(self, transcripts: Transcripts, peers: Peers, owners: Owners, buyer: Buyer) -> None:
        self._transcripts = transcripts
        self._peers = peers
        self._owners = owners
        self._buyer = buyer

    def last(self, course: Course) -> Sum | None:
        """Return the sum of the last round that was collected, if there was one."""
        round_ = self._transcripts.last(course.id, "round")
        return None if round_ is None else self.collected(course, round_)

    def collected(self, course: Course, round_: int) -> Sum:
        """Return the sum of a round that was collected."""
        return _sum(course, round_, self._record(course, round_))

    def trainers(self, course: Course, round_: int) -> tuple[int, ...]:
        """Return the places of the trainers that answered a round."""
        return tuple(reply.place for reply in self._record(course, round_).answers)

    def collect(self, course: Course, before: Sum | None) -> Sum:
        """Ask the trainers for their updates of the next model and add them up.

        Parameters
        ----------
        course : Course
        before : Sum or None
            The round before, whose sum the buyer is asked to divide; None for round 0, whose model is zero.

        Raises
        ------
        TooFewAnswered
            Fewer than two answered.
        """
        with course.meter.phase(PHASE) as count:
            round_ = 0 if before is None else before.round + 1
            refreshed, model = (None, b"") if before is None else self._refresh(course, before, count)
            included = () if before is None else before.trainers
            question = self._peers.sign(RoundQuestion(training=course.id, round=round_, included=included, model=model))
            answers = self._owners.ask(
                course, course.trainers, self._owners.update(course.id, question, course.vector, count)
            )
            require_enough(answers, f"round {round_}", MINIMUM_SUMMED)
            record = transcript.Round(refreshed=refreshed, question=question, answers=replies(answers))
            return _sum(course, round_, self._transcripts.keep(course.id, "round", round_, record))

    def local_models(self, course: Course) -> tuple[tuple[int, ...], list[list[mpz]]]:
        """Ask the trainers, once, for the models that their data alone give: who answered, and d ciphertexts each.

        It is done before the first round: a trainer that has seen the encrypted model could give it for its own.

        Raises
        ------
        TooFewAnswered
            Not more than half answered.
        """
        with course.meter.phase("contributions") as count:
            record = self._transcripts.find(course.id, "local", 0, transcript.LocalModels)
            if record is None:
                question = self._peers.sign(LocalModelQuestion(training=course.id))
                answers = self._owners.ask(
                    course, course.trainers, self._owners.local_model(course.id, question, course.vector, count)
                )
                require_enough(answers, "for their local models", least_contributors(len(course.weights)))
                record = transcript.LocalModels(question=question, answers=replies(answers))
                self._transcripts.keep(course.id, "local", 0, record)
            return tuple(reply.place for reply in record.answers), [vector(course, reply) for reply in record.answers]

    def _refresh(self, course: Course, total: Sum, count: Counter) -> tuple[Signed, bytes]:
        """Have a round's sum divided by the buyer, under masks: its answer, and the next encrypted model."""
        divisor = sum(course.weights[place] for place in total.trainers) << FRACTION_BITS
        masking = self._transcripts.find(course.id, "refresh", total.round, Masking) or self._mask(course, total)
        masks = wire.decode_masks(masking.masks, course.order.length)
        with course.blaming_buyer():
            answer = self._buyer.refresh(course.buyer, course.id, masking.question, count)
            divided = course.vector(answer.content.ciphertexts)
        return answer.signed, course.key.encode(protocol.unmask(divided, masks, divisor, course.key))

    def _mask(self, course: Course, total: Sum) -> Masking:
        masked = protocol.mask(total.ciphertexts, course.key, course.randomisers)
        question = MaskedRound(
            training=course.id, round=total.round, trainers=total.trainers, packed=course.key.encode(masked.packed)
        )
        record = Masking(
            question=self._peers.sign(question),
            masks=wire.encode_masks(masked.masks),
            randomisers=wire.encode_roots(masked.roots, course.key),
        )
        return self._transcripts.keep(course.id, "refresh", total.round, record)

    def _record(self, course: Course, round_: int) -> transcript.Round:
        record = self._transcripts.find(course.id, "round", round_, transcript.Round)
        assert record is not None
        return record


def _sum(course: Course, round_: int, record: transcript.Round) -> Sum:
    places = tuple(reply.place for reply in record.answers)
    return Sum(round_, places, protocol.aggregate([vector(course, reply) for reply in record.answers], course.key))


def vector(course: Course, reply: Reply) -> list[mpz]:
    """Return the encrypted model that somebody replied."""
    return course.vector(Vector.unpack(reply.content).ciphertexts)


def replies(answers: Mapping[int, Answered[AnyMessage]]) -> tuple[Reply, ...]:
    """Return answers as a transcript has them, by place."""
    return tuple(
        Reply(place=place, content=answer.signed.content, signature=answer.signed.signature)
        for place, answer in sorted(answers.items())
    )


def require_enough(answered: Mapping[int, object], what: str, least: int) -> None:
    """Raise TooFewAnswered unless at least that many trainers answered."""
    if len(answered) < least:
        raise TooFewAnswered(f"{len(answered)} trainers answered {what}: at least {least} are needed")
