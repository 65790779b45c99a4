"""Scoring encrypted models on the validators' rows, having the sums co-signed, and having the buyer open them.

As in rounds, everything is in the transcript before anybody sees it.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from gmpy2 import mpz

from commons.crypto.proofs import Opening, ProductProof, verify_openings, verify_products
from commons.errors import InvalidInput, PeerUnavailable
from commons.http.peer import Counter, Peers
from commons.protocol import evaluation as protocol
from commons.protocol import totals, wire
from commons.protocol.messages import (
    CosignQuestion,
    EvaluationKind,
    MaskedModels,
    Metric,
    Openings,
    Products,
    Reply,
    ScoreQuestion,
    Totals,
    TotalStatement,
)
from commons.protocol.outcome import factors
from commons.protocol.signed import Signed, proof_context
from commons.protocol.transcript import Cosigned, LocalModels, Masking, Opened, Scores, name
from federated_aggregator.cosigning import Proposal, added, cosigned
from federated_aggregator.course import Course, TooFewAnswered
from federated_aggregator.peers import Buyer, Owners
from federated_aggregator.rounds import replies
from federated_aggregator.transcripts import Transcripts

PHASE: dict[EvaluationKind, str] = {
    "zero": "evaluation",
    "iteration": "evaluation",
    "settlement": "contributions",
}


class Evaluations:
    """The aggregator's part in the secure MSE.

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
        with course.meter.phase(PHASE["zero"]) as count:
            scores = self._transcripts.find(course.id, name("score", "zero"), round_, Scores)
            if scores is None:
                question = ScoreQuestion(training=course.id, kind="zero", round=round_)
                scores = self._score(course, question, None, validators, count)
                if all_of_them and len(scores.answers) < len(validators):
                    raise PeerUnavailable("a validator of the settlement does not answer")
                self._transcripts.keep(course.id, name("score", "zero"), round_, scores)
            mses, answered = self._opened(course, scores, (0,), count, all_of_them)
            return mses[0], answered

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

        At settlement the validators are also shown what all of them but the first are made of.

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
        Deviated
            The buyer's products are none, or it opened a total to what is not in it.
        Diverged
            An MSE is out of bounds.
        """
        scales = factors(kind, course.weights, trainers, contributors)
        with course.meter.phase(PHASE[kind]) as count:
            scores = self._transcripts.find(course.id, name("score", kind), round_, Scores)
            if scores is None:
                masking = self._transcripts.find(course.id, name("mask", kind), round_, Masking) or self._mask(
                    course, kind, round_, vectors, trainers, contributors
                )
                masked = masking.question.read(MaskedModels)
                products, proof = self._multiply(course, masked, masking.question, count)
                question = ScoreQuestion(
                    training=course.id,
                    kind=kind,
                    round=round_,
                    trainers=trainers,
                    contributors=contributors,
                    masked=masked.masked,
                    products=proof.ciphertexts,
                    proof=proof.proof,
                    masks=masking.masks,
                    salts=masking.salts,
                    **(self._provenance(course, masking) if kind == "settlement" else {}),
                )
                scores = self._score(course, question, products, validators, count)
                self._transcripts.keep(course.id, name("score", kind), round_, scores)
            return self._opened(course, scores, scales, count)

    def delivery(
        self, training_id: uuid.UUID, round_: int, place: int, length: int, divisor: int
    ) -> tuple[list[int], bytes]:
        """Return what unmasks one of the models of the settlement after that many rounds, by its place in it.

        Returns
        -------
        quotients : list of int
        salt : bytes
            Of the commitment to them.
        """
        masking = self._transcripts.find(training_id, name("mask", "settlement"), round_, Masking)
        assert masking is not None
        masks = wire.decode_masks(masking.masks, len(masking.masks) // wire.MASK_BYTES)
        quotients = protocol.delivery(masks[place * length : (place + 1) * length], divisor)
        return quotients, totals.split_salts(masking.salts)[place]

    def metric(self, course: Course, kind: EvaluationKind, round_: int) -> Metric:
        """Return the MSE of an evaluation that was opened, with its evidence, for the owners."""
        scores = self._transcripts.find(course.id, name("score", kind), round_, Scores)
        cosigned = self._transcripts.find(course.id, name("total", kind), round_, Cosigned)
        opened = self._transcripts.find(course.id, name("opening", kind), round_, Opened)
        assert scores is not None and cosigned is not None and opened is not None
        asked = cosigned.totals.read(Totals)
        openings = opened.openings.read(Openings)
        statement = _statement(course, scores, asked.validators, asked.ciphertexts)
        scales = factors(kind, course.weights, statement.trainers, statement.contributors) or (0,)
        shown = totals.DELIVERABLE if kind == "settlement" else 1
        mse = totals.mse(kind, int(openings.totals[0], 16), scales[0], _rows(course, asked.validators))
        return Metric(
            training=course.id,
            iteration=0 if kind == "zero" else round_,
            mse=str(mse),
            statement=statement.pack(),
            cosignatures=asked.cosignatures,
            ciphertexts=asked.ciphertexts,
            totals=openings.totals[:shown],
            randomisers=openings.randomisers[:shown],
        )

    def is_opened(self, training_id: uuid.UUID, kind: EvaluationKind, round_: int) -> bool:
        """Say whether an evaluation's sums were opened."""
        return self._transcripts.find(training_id, name("opening", kind), round_, Opened) is not None

    def _mask(
        self,
        course: Course,
        kind: EvaluationKind,
        round_: int,
        vectors: Sequence[list[mpz]],
        trainers: tuple[int, ...],
        contributors: tuple[int, ...],
    ) -> Masking:
        hidden = protocol.mask_vectors(vectors, course.key, course.randomisers)
        question = MaskedModels(
            training=course.id,
            kind=kind,
            round=round_,
            trainers=trainers,
            contributors=contributors,
            masked=course.key.encode(wire.join(hidden.masked)),
        )
        salts = totals.DELIVERABLE * totals.SALT_BYTES if kind == "settlement" else 0
        record = Masking(
            question=self._peers.sign(question),
            masks=wire.encode_masks(wire.join(hidden.masks)),
            randomisers=wire.encode_roots(wire.join(hidden.roots), course.key),
            salts=secrets.token_bytes(salts),
        )
        return self._transcripts.keep(course.id, name("mask", kind), round_, record)

    def _multiply(
        self, course: Course, models: MaskedModels, question: Signed, count: Counter
    ) -> tuple[Signed, Products]:
        """Have masked models multiplied with themselves, and check the proof that they were."""
        with course.blaming_buyer():
            answer = self._buyer.multiply(course.buyer, course.id, question, count)
            length = course.order.length
            vectors = len(factors(models.kind, course.weights, models.trainers, models.contributors))
            masked = wire.split(course.key.decode(models.masked, vectors * length), vectors)
            flat = course.key.decode(answer.content.ciphertexts, vectors * wire.product_count(length))
            proof = ProductProof.from_bytes(answer.content.proof, vectors, course.key)
            context = proof_context(
                course.domain, course.id, f"products-{models.kind}", models.round, course.buyer.address
            )
            verify_products(masked, wire.split(flat, vectors), proof, course.key, context)
        return answer.signed, answer.content

    def _provenance(self, course: Course, masking: Masking) -> dict[str, Any]:
        local = self._transcripts.find(course.id, "local", 0, LocalModels)
        assert local is not None
        trained = len(wire.encode_roots([mpz(1)], course.key)) * course.order.length
        return {
            "local_question": local.question.content,
            "local_models": local.answers,
            "randomisers": masking.randomisers[trained:],
        }

    def _score(
        self,
        course: Course,
        question: ScoreQuestion,
        products: Signed | None,
        validators: Sequence[int],
        count: Counter,
    ) -> Scores:
        asked = self._peers.sign(question)
        vectors = _vectors(course, question)

        def decode(data: bytes) -> list[mpz]:
            return course.key.decode(data, vectors)

        parties = {place: party for place, party in course.validators.items() if place in validators}
        answers = self._owners.ask(course, parties, self._owners.score(course.id, asked, decode, count))
        if not answers:
            raise TooFewAnswered(f"no validator answered the {question.kind} of round {question.round}")
        return Scores(products=products, question=asked, answers=replies(answers))

    def _opened(
        self, course: Course, scores: Scores, scales: Sequence[int], count: Counter, all_of_them: bool = False
    ) -> tuple[list[int], tuple[int, ...]]:
        question = scores.question.read(ScoreQuestion)
        kind, round_ = question.kind, question.round
        cosigned = self._transcripts.find(course.id, name("total", kind), round_, Cosigned)
        if cosigned is None:
            cosigned = self._cosigned(course, scores, question, count)
            if all_of_them and len(cosigned.answers) < len(scores.answers):
                raise PeerUnavailable("a validator of the settlement does not sign")
            self._transcripts.keep(course.id, name("total", kind), round_, cosigned)
        asked = cosigned.totals.read(Totals)
        opened = self._transcripts.find(course.id, name("opening", kind), round_, Opened)
        if opened is None:
            with course.blaming_buyer():
                answer = self._buyer.open(course.buyer, course.id, cosigned.totals, count)
                openings = _openings(answer.content, len(scales))
                ciphertexts = course.key.decode(asked.ciphertexts, len(scales))
                verify_openings(ciphertexts, openings, course.key)
                if len(openings) > totals.DELIVERABLE:
                    # The owners are shown these alone: what passes among many must pass there, too.
                    verify_openings(ciphertexts[: totals.DELIVERABLE], openings[: totals.DELIVERABLE], course.key)
            opened = self._transcripts.keep(course.id, name("opening", kind), round_, Opened(openings=answer.signed))
        openings = _openings(opened.openings.read(Openings), len(scales))
        rows = _rows(course, asked.validators)
        mses = [totals.mse(kind, o.total, scale, rows) for o, scale in zip(openings, scales, strict=True)]
        return mses, asked.validators

    def _cosigned(self, course: Course, scores: Scores, question: ScoreQuestion, count: Counter) -> Cosigned:
        def propose(answers: Sequence[Reply]) -> Proposal[TotalStatement]:
            ciphertexts, randomisers = added(course, answers, _vectors(course, question))
            asked = CosignQuestion(
                training=course.id,
                kind=question.kind,
                round=question.round,
                answers=tuple(answers),
                totals=ciphertexts,
                randomisers=randomisers,
            )
            statement = _statement(course, scores, tuple(answer.place for answer in answers), ciphertexts)
            return Proposal(self._peers.sign(asked), statement, ciphertexts)

        def require(signed: Mapping[int, object]) -> None:
            if not signed:
                raise TooFewAnswered(f"no validator signed the sums of {question.kind} {question.round}")

        agreed = cosigned(self._owners, course, course.validators, scores.answers, propose, require, count)
        statement = agreed.proposal.statement
        totals_ = Totals(
            training=course.id,
            kind=question.kind,
            round=question.round,
            validators=statement.validators,
            ciphertexts=agreed.proposal.ciphertexts,
            question=statement.question,
            masks=statement.masks,
            commitments=statement.commitments,
            cosignatures=agreed.signatures,
        )
        return Cosigned(question=agreed.proposal.question, answers=agreed.answers, totals=self._peers.sign(totals_))


def _vectors(course: Course, question: ScoreQuestion) -> int:
    return len(factors(question.kind, course.weights, question.trainers, question.contributors)) or 1


def _statement(course: Course, scores: Scores, validators: tuple[int, ...], ciphertexts: bytes) -> TotalStatement:
    question = scores.question.read(ScoreQuestion)
    scales = factors(question.kind, course.weights, question.trainers, question.contributors)
    committed = totals.commitments(question, scales, course.order.length)
    return totals.statement(scores.question, question, validators, ciphertexts, committed)


def _openings(answer: Openings, count: int) -> list[Opening]:
    if not len(answer.totals) == len(answer.randomisers) == count:
        raise InvalidInput(f"{len(answer.totals)} totals were opened instead of {count}", "totals")
    return wire.decode_openings(answer.totals, answer.randomisers)


def _rows(course: Course, validators: Sequence[int]) -> int:
    return sum(course.validator_rows[place] for place in validators)
