"""Scoring encrypted models on the validators' rows, and having the buyer open the sums.

As in rounds, masks and totals are saved before anybody sees them.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from gmpy2 import mpz

from commons.crypto.paillier import InvalidOpening
from commons.crypto.proofs import Opening, verify_openings
from commons.errors import PeerUnavailable
from commons.journal import Entry, Journal
from commons.protocol import evaluation as protocol
from commons.protocol import wire
from commons.protocol.messages import EvaluationKind, MaskedModels, ScoreQuestion, Totals
from commons.protocol.outcome import factors
from federated_aggregator.course import Course, TooFewAnswered
from federated_aggregator.peers import Buyer, Owners

PHASE: dict[EvaluationKind, str] = {
    "zero": "evaluation",
    "iteration": "evaluation",
    "settlement": "contributions",
}


class Evaluations:
    """The aggregator's part in the secure MSE.

    Parameters
    ----------
    journal : Journal
        What was decided before.
    owners, buyer
        Calls to the others.
    """

    def __init__(self, journal: Journal, owners: Owners, buyer: Buyer) -> None:
        self._journal = journal
        self._owners = owners
        self._buyer = buyer

    def zero(
        self, course: Course, round_: int, validators: Sequence[int], all_of_them: bool
    ) -> tuple[int, tuple[int, ...]]:
        """Score the zero model.

        Parameters
        ----------
        course : Course
        round_ : int
            0 at the start, 1 at the end.
        validators : sequence of int
            Places of the validators to ask.
        all_of_them : bool
            Whether everybody has to answer.

        Returns
        -------
        mse : int
            In 1e-18 units.
        validators : tuple of int
            Places of those who answered.
        """
        question = ScoreQuestion(training=course.id, kind="zero", round=round_)
        totals, openings = self._total(course, question, 1, validators, all_of_them)
        return protocol.mse_of_zero_total(openings[0].total, _rows(course, totals)), totals.validators

    def models(
        self,
        course: Course,
        kind: EvaluationKind,
        round_: int,
        vectors: Sequence[list[mpz]],
        trainers: tuple[int, ...],
        contributors: tuple[int, ...],
        validators: Sequence[int],
    ) -> tuple[list[int], tuple[int, ...]]:
        """Score encrypted models, all over the same validators.

        Parameters
        ----------
        course : Course
        kind, round_
            Which evaluation it is, after how many rounds.
        vectors : sequence of lists of d ciphertexts
            The models, in the order of :func:`commons.protocol.outcome.factors`.
        trainers, contributors : tuple of int
            Whose models are in them.
        validators : sequence of int
            Places of the validators to ask.

        Returns
        -------
        mses : list of int
            In 1e-18 units, one per vector.
        validators : tuple of int
            Places of those who answered.

        Raises
        ------
        TooFewAnswered
            No validator answered.
        InvalidOpening
            The buyer opened a total to what is not in it.
        Diverged
            An MSE is out of bounds.
        """
        scales = factors(kind, course.weights, trainers, contributors)
        with course.meter.phase(PHASE[kind]) as count:
            masking = self._journal.find(course.id, f"mask-{kind}", round_) or self._mask(
                course, kind, round_, vectors, trainers, contributors
            )
            masks = wire.decode_masks(masking.answer, len(vectors) * course.order.length)
            products = self._buyer.multiply(course.buyer_url, course.id, masking.question, count)
            masked = protocol.apply_masks(wire.join(vectors), masks, course.key)
            question = ScoreQuestion(
                training=course.id,
                kind=kind,
                round=round_,
                trainers=trainers,
                contributors=contributors,
                masked=course.key.encode(masked),
                products=products,
                masks=masking.answer,
            )
        totals, openings = self._total(course, question, len(vectors), validators, all_of_them=False)
        rows = _rows(course, totals)
        mses = [protocol.mse_of_total(o.total, scale, rows) for o, scale in zip(openings, scales, strict=True)]
        return mses, totals.validators

    def delivery(self, training_id: uuid.UUID, round_: int, place: int, length: int, divisor: int) -> list[int]:
        """Return what unmasks one of the models of the settlement after that many rounds, by its place in it."""
        entry = self._journal.find(training_id, "mask-settlement", round_)
        assert entry is not None
        masks = wire.decode_masks(entry.answer, len(entry.answer) // wire.MASK_BYTES)
        return protocol.delivery(masks[place * length : (place + 1) * length], divisor)

    def _mask(
        self,
        course: Course,
        kind: EvaluationKind,
        round_: int,
        vectors: Sequence[list[mpz]],
        trainers: tuple[int, ...],
        contributors: tuple[int, ...],
    ) -> Entry:
        masked = protocol.mask_vectors(vectors, course.key, course.randomisers)
        question = MaskedModels(
            training=course.id,
            kind=kind,
            round=round_,
            trainers=trainers,
            contributors=contributors,
            packed=course.key.encode(masked.packed),
        )
        masks = wire.encode_masks(wire.join(masked.masks))
        return self._journal.keep(course.id, f"mask-{kind}", round_, question.pack(), masks)

    def _total(
        self, course: Course, question: ScoreQuestion, vectors: int, validators: Sequence[int], all_of_them: bool
    ) -> tuple[Totals, list[Opening]]:
        with course.meter.phase(PHASE[question.kind]) as count:
            name = (course.id, f"total-{question.kind}", question.round)
            entry = self._journal.find(*name)
            if entry is None:
                urls = {p: url for p, url in course.validator_urls.items() if p in validators}

                def vector(data: bytes) -> list[mpz]:
                    return course.key.decode(data, vectors)

                scores = self._owners.ask(urls, self._owners.score(question, vector, count), course.lost)
                if not scores:
                    raise TooFewAnswered(f"no validator answered the {question.kind} of round {question.round}")
                if all_of_them and len(scores) < len(validators):
                    raise PeerUnavailable("a validator of the settlement does not answer")
                columns = zip(*scores.values(), strict=True)
                sums = [protocol.combine(column, course.key, course.randomisers) for column in columns]
                asked = Totals(
                    training=course.id,
                    kind=question.kind,
                    round=question.round,
                    validators=tuple(sorted(scores)),
                    ciphertexts=course.key.encode(sums),
                )
                entry = self._journal.keep(*name, asked.pack(), b"")
            totals = Totals.unpack(entry.question)
            answer = self._buyer.open(course.buyer_url, course.id, entry.question, count)
            ciphertexts = course.key.decode(totals.ciphertexts, vectors)
            if not len(answer.totals) == len(answer.randomisers) == vectors:
                raise InvalidOpening(f"{len(answer.totals)} totals were opened instead of {vectors}")
            openings = [Opening(int(t, 16), int(r, 16)) for t, r in zip(answer.totals, answer.randomisers, strict=True)]
            verify_openings(ciphertexts, openings, course.key)
            return totals, openings


def _rows(course: Course, totals: Totals) -> int:
    return sum(course.validator_rows[place] for place in totals.validators)
