"""Standardising before training: trainers' encrypted moments are added, co-signed, opened, and told to every owner.

As in evaluations, everything is in the transcript before anybody sees it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from commons.http.peer import Counter, Peers
from commons.protocol import moments as protocol
from commons.protocol import transcript
from commons.protocol.messages import MomentsCosignQuestion, MomentsQuestion, MomentsStatement, MomentsTotals, Reply
from commons.protocol.moments import MINIMUM_TRAINERS, Trainers
from commons.protocol.signed import Signed
from commons.protocol.transcript import MOMENTS, Cosigned, Opened, SummedMoments
from federated_aggregator.cosigning import Proposal, added, cosigned
from federated_aggregator.course import Course
from federated_aggregator.peers import Buyer, Owners
from federated_aggregator.rounds import PHASE, replies, require_enough
from federated_aggregator.transcripts import Transcripts

ANSWERS, TOTALS, OPENING = (transcript.name(step, MOMENTS) for step in ("score", "total", "opening"))


class Standardisation:
    """The aggregator's part in what comes before an order's first evaluation, if it has pre-processing.

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

    def run(self, course: Course) -> None:
        """Have the sums of moments opened, if the order standardises, and tell every owner.

        Raises
        ------
        TooFewAnswered
            Fewer than three trainers answered, or signed.
        Deviated
            The buyer opened a sum to what is not in it, or to what no rows have.
        """
        if not course.order.standardises:
            return
        with course.meter.phase(PHASE) as count:
            self._opened(course, count)
        course.untold.update({party.address: party for party in course.owners})
        self.tell(course)

    def tell(self, course: Course) -> None:
        """Tell the sums to those owners that have not confirmed them: some may have been away."""
        if not course.untold:
            return
        with course.meter.phase(PHASE) as count:
            moments = self._peers.sign(protocol.told(*self._opened(course, count)))
            parties = dict(enumerate(course.untold.values()))
            call = self._owners.standardise(course.id, moments, count)
            for place in self._owners.ask(course, parties, call):
                del course.untold[parties[place].address]

    def _answered(self, course: Course, count: Counter) -> SummedMoments:
        record = self._transcripts.find(course.id, ANSWERS, 0, SummedMoments)
        if record is None:
            question = self._peers.sign(MomentsQuestion(training=course.id))
            call = self._owners.moments(
                course.id, question, lambda data: course.key.decode(data, _trainers(course).count), count
            )
            answers = self._owners.ask(course, course.trainers, call)
            require_enough(answers, "for the moments of their features", MINIMUM_TRAINERS)
            record = SummedMoments(question=question, answers=replies(answers))
            self._transcripts.keep(course.id, ANSWERS, 0, record)
        return record

    def _cosigned(self, course: Course, count: Counter) -> Cosigned:
        record = self._transcripts.find(course.id, TOTALS, 0, Cosigned)
        if record is not None:
            return record
        answered = self._answered(course, count)

        def propose(answers: Sequence[Reply]) -> Proposal[MomentsStatement]:
            ciphertexts, randomisers = added(course, answers, _trainers(course).count)
            asked = MomentsCosignQuestion(
                training=course.id, answers=tuple(answers), totals=ciphertexts, randomisers=randomisers
            )
            return Proposal(self._peers.sign(asked), protocol.statement(answered.question, asked), ciphertexts)

        def require(signed: Mapping[int, object]) -> None:
            require_enough(signed, "when they were asked to sign the sums of moments", MINIMUM_TRAINERS)

        agreed = cosigned(self._owners, course, course.trainers, answered.answers, propose, require, count)
        totals = MomentsTotals(
            training=course.id,
            question=answered.question.digest,
            trainers=agreed.proposal.statement.trainers,
            ciphertexts=agreed.proposal.ciphertexts,
            cosignatures=agreed.signatures,
        )
        to_open = self._peers.sign(totals)
        record = Cosigned(question=agreed.proposal.question, answers=agreed.answers, totals=to_open)
        return self._transcripts.keep(course.id, TOTALS, 0, record)

    def _opened(self, course: Course, count: Counter) -> tuple[MomentsTotals, Signed]:
        cosigned = self._cosigned(course, count)
        totals = cosigned.totals.read(MomentsTotals)
        opened = self._transcripts.find(course.id, OPENING, 0, Opened)
        if opened is None:
            with course.blaming_buyer():
                answer = self._buyer.open_moments(course.buyer, course.id, cosigned.totals, count)
                _trainers(course).opened(totals, answer.content)
            opened = self._transcripts.keep(course.id, OPENING, 0, Opened(openings=answer.signed))
        return totals, opened.openings


def _trainers(course: Course) -> Trainers:
    addresses, rows = course.trainer_addresses, course.trainer_rows
    return Trainers(course.order, addresses, rows, course.buyer.address, course.key, course.domain)
