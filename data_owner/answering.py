"""Answering the aggregator's questions: moments, encrypted local steps, the encrypted local model, scores, sums.

Only the owner's statistics are touched, never rows. Every question is answered once (:mod:`commons.journal`), and the
journal has both as they were signed: what this owner can show in a dispute.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import structlog
from gmpy2 import mpz

from commons.chain.connection import Connection
from commons.chain.marketplace import Status as ChainStatus
from commons.crypto.kernel import AffineMap
from commons.crypto.packing import FRACTION_BITS, to_fixed
from commons.crypto.paillier import PublicKey, ShortRandomisers
from commons.crypto.proofs import ProductProof, verify_products
from commons.errors import Conflict, InvalidInput, VerificationFailed
from commons.http.signatures import Question
from commons.journal import Journal
from commons.learning.local_steps import (
    DivergingStep,
    local_map,
    local_model,
    quantise_map,
    relative_weights,
    require_stable,
)
from commons.learning.standardisation import Scaling, moments
from commons.learning.statistics import GramStatistics
from commons.protocol import evaluation, totals, wire
from commons.protocol.messages import (
    Acknowledgement,
    Cosignature,
    CosignQuestion,
    LocalModelQuestion,
    Moments,
    MomentsCosignQuestion,
    MomentsQuestion,
    Order,
    Reply,
    RoundQuestion,
    ScoreQuestion,
    Vector,
)
from commons.protocol.moments import Trainers, statement
from commons.protocol.provenance import require_local_models
from commons.protocol.schedule import MINIMUM_SUMMED, require_places, require_zero_round, scales
from commons.protocol.signed import Domain, Signed, proof_context
from data_owner.exchanges import LOCAL_MODEL, MOMENTS, STANDARDISATION, UPDATE, score_name
from data_owner.participation import statistics_for
from data_owner.storage import Status, Storage

log = structlog.get_logger()


@dataclass(frozen=True)
class Seat:
    """An owner's place in a running training, with what every round needs computed once.

    ``table`` are its columns' statistics as they are, ``scaling`` is by what they are standardised, once it is known.
    """

    order: Order
    buyer: str
    table: GramStatistics
    scaling: Scaling | None
    trainers: tuple[str, ...]
    rows: tuple[int, ...]  # of the trainers
    weights: tuple[int, ...]
    validators: tuple[str, ...]
    place: int | None  # among the trainers; None for a validator

    @cached_property
    def key(self) -> PublicKey:
        """The training's public key, checked."""
        return PublicKey.from_modulus(int(self.order.modulus, 16), self.order.hyper_parameters.key_bits)

    @cached_property
    def randomisers(self) -> ShortRandomisers:
        """Fresh randomness for what leaves this owner."""
        return ShortRandomisers(self.key)

    @cached_property
    def statistics(self) -> GramStatistics:
        """What models are trained and scored on.

        Raises
        ------
        Conflict
            The order standardises, and this owner has not been told by what; or its step would diverge on the
            standardised rows of this owner, which trains. By how much is for the owner's own log.
        """
        if not self.order.standardises:
            return self.table
        if self.scaling is None:
            raise Conflict("this owner has not been told the moments that its features are standardised by")
        standardised = self.scaling.standardise(self.table)
        hyper = self.order.hyper_parameters
        try:
            if self.place is not None:
                require_stable(standardised, hyper.learning_rate, hyper.ridge)
        except DivergingStep as error:
            log.warning("standardised rows not trained on", buyer=self.buyer, error=str(error))
            raise Conflict("the order's learning rate diverges on this owner's standardised rows") from None
        return standardised

    @cached_property
    def step(self) -> AffineMap:
        """One round of local steps as an affine map of the model."""
        hyper = self.order.hyper_parameters
        matrix, offset = quantise_map(*local_map(self.statistics, hyper.learning_rate, hyper.ridge, hyper.local_steps))
        return AffineMap(matrix, offset, self.weights[self.require_trainer()])

    def require_trainer(self) -> int:
        """Return this owner's place among the trainers; Conflict if it validates."""
        if self.place is None:
            raise Conflict("this owner validates this training: it does not train")
        return self.place

    def local_model(self, round_count: int) -> list[int]:
        """Return the model of this owner's data alone after that many rounds of steps, at scale 2F."""
        self.require_trainer()
        hyper = self.order.hyper_parameters
        model = local_model(self.statistics, hyper.learning_rate, hyper.ridge, hyper.local_steps * round_count)
        return [to_fixed(float(weight), 2 * FRACTION_BITS) for weight in model]

    def require_validator(self) -> None:
        """Raise Conflict if this owner trains."""
        if self.place is not None:
            raise Conflict("this owner trains in this training: it does not validate")

    def scales(self, question: ScoreQuestion) -> tuple[int, ...]:
        """Return the factor of every model that is scored: none for the zero model, which is one without vectors.

        Raises
        ------
        InvalidInput
            The order has no such evaluation.
        """
        if question.kind == "zero":
            require_zero_round(question.round)
            return ()
        return scales(question, self.order.hyper_parameters, self.weights)

    def require_included(self, places: tuple[int, ...]) -> None:
        """Raise InvalidInput unless places can be those of the trainers that a round summed."""
        require_places(places, len(self.weights), "included", MINIMUM_SUMMED)


class Answering:
    """The owner's answers in running trainings.

    Parameters
    ----------
    storage, journal
        The owner's tables, and its record of answers.
    chain : Connection
        The way to the contract: it says who is in which role.
    """

    def __init__(self, storage: Storage, journal: Journal, chain: Connection) -> None:
        self._storage = storage
        self._journal = journal
        self._chain = chain
        self._seats: dict[uuid.UUID, Seat] = {}
        self._lock = threading.Lock()

    def prepare(self, training_id: uuid.UUID) -> None:
        """Compute what the first round needs, before it is asked for."""
        seat = self._seat(training_id)
        seat.randomisers.take(1)
        if seat.place is not None and not seat.order.standardises:
            _ = seat.step

    def release(self, training_id: uuid.UUID) -> None:
        """Forget what was computed for a training that is over."""
        with self._lock:
            self._seats.pop(training_id, None)

    def moments(self, question: Question[MomentsQuestion]) -> Signed:
        """Encrypt the moments of this owner's features: a :class:`Vector` of 2d − 1 ciphertexts.

        Raises
        ------
        InvalidInput
            The order has no pre-processing.
        Conflict
            This owner validates.
        """
        seat = self._seat(question.content.training)
        seat.require_trainer()
        self._trainers(seat).require_ordered()

        def answer() -> list[mpz]:
            values = moments(seat.table)
            fresh = seat.randomisers.take(len(values))
            return [seat.key.encrypt(value, r) for value, r in zip(values, fresh, strict=True)]

        return self._once(MOMENTS, 0, question, seat, answer)

    def cosign_moments(self, question: Question[MomentsCosignQuestion]) -> Signed:
        """Sign the sums of trainers' moments, once they are seen to be that: a :class:`Cosignature`.

        Nothing is kept, as in :meth:`cosign`: of whatever is signed, the buyer opens one sum.

        Raises
        ------
        Conflict
            This owner did not tell its moments.
        InvalidInput, InvalidSignature
            There are fewer than three trainers' answers, or one is not that trainer's.
        VerificationFailed
            The sums are not those of the answers, or this owner's is not among them.
        """
        asked = question.content
        seat = self._seat(asked.training)
        place = seat.require_trainer()
        entry = self._journal.find(asked.training, MOMENTS, 0)
        if entry is None:
            raise Conflict(f"this owner has not told its moments to training {asked.training}")
        told, own = Signed.unpack(entry.question), Signed.unpack(entry.answer)
        self._trainers(seat).require_sums(told, asked)
        if Reply(place=place, content=own.content, signature=own.signature) not in asked.answers:
            raise VerificationFailed(f"trainer {place} is asked to sign sums of moments that its answer is not in")
        signer = self._chain.signer()
        return signer.sign(Cosignature(signature=signer.sign(statement(told, asked)).signature), question.signed)

    def standardise(self, question: Question[Moments]) -> Signed:
        """Take note of the opened sums, once their evidence is seen to hold: features are standardised by them.

        Returns
        -------
        Signed
            An :class:`Acknowledgement`.

        Raises
        ------
        VerificationFailed, InvalidInput
            Fewer than three trainers signed these sums, or the buyer did not open and sign them to this.
        Conflict
            The aggregator has told others.
        """
        told = question.content
        seat = self._seat(told.training)
        trainers = self._trainers(seat)
        trainers.require_ordered()

        def acknowledge() -> bytes:
            trainers.told(told)
            return self._chain.signer().sign(Acknowledgement(), question.signed).pack()

        answer = self._journal.once(told.training, STANDARDISATION, 0, question.signed.pack(), acknowledge)
        if seat.scaling is None:
            self.release(told.training)  # and take the seat again, with what was told
        return Signed.unpack(answer)

    def update(self, question: Question[RoundQuestion]) -> Signed:
        """Run this owner's local steps on the encrypted model.

        Returns
        -------
        Signed
            A :class:`Vector` of d ciphertexts, the weighted new model at scale 2F.
        """
        asked = question.content
        seat = self._seat(asked.training)
        self._check_round(asked.round, seat.order.hyper_parameters.iterations - 1)
        if asked.round == 0 and (asked.model or asked.included):
            raise InvalidInput("the model of round 0 is zero: it is not sent, and sums nobody's updates", "model")
        if asked.round > 0:
            seat.require_included(asked.included)

        def answer() -> list[mpz]:
            if asked.round == 0:
                model = [seat.key.trivial(0)] * seat.order.length
            else:
                model = seat.key.decode(asked.model, seat.order.length)
            return seat.step.apply(model, seat.key, seat.randomisers)

        return self._once(UPDATE, asked.round, question, seat, answer)

    def local_model(self, question: Question[LocalModelQuestion]) -> Signed:
        """Encrypt the model that this owner's data alone give: a :class:`Vector` of d ciphertexts at scale 2F."""
        seat = self._seat(question.content.training)

        def answer() -> list[mpz]:
            values = seat.local_model(seat.order.hyper_parameters.iterations)
            fresh = seat.randomisers.take(len(values))
            return [seat.key.encrypt(value, r) for value, r in zip(values, fresh, strict=True)]

        return self._once(LOCAL_MODEL, 0, question, seat, answer)

    def score(self, question: Question[ScoreQuestion]) -> Signed:
        """Score masked models: a :class:`Vector` with one ciphertext of rows × MSE for each.

        Raises
        ------
        InvalidProof
            The products are not those of the masked models, or nobody has shown that they are.
        """
        asked = question.content
        seat = self._seat(asked.training)
        seat.require_validator()
        factors = seat.scales(asked)
        if asked.kind == "settlement":
            totals.split_salts(asked.salts)

        def answer() -> list[mpz]:
            if asked.kind == "zero":
                return [evaluation.score_zero(seat.statistics, seat.key, seat.randomisers)]
            vectors = wire.questioned_vectors(asked, len(factors), seat.order.length, seat.key)
            domain = self._chain.signer().domain
            _require_products(asked, vectors, seat, domain)
            if asked.kind == "settlement":
                require_local_models(asked, seat.trainers, seat.weights, seat.order.length, seat.key, domain)
            return [
                evaluation.score(seat.statistics, factor, *vector, seat.key, seat.randomisers)
                for factor, vector in zip(factors, vectors, strict=True)
            ]

        return self._once(*score_name(asked.kind, asked.round), question, seat, answer)

    def cosign(self, question: Question[CosignQuestion]) -> Signed:
        """Sign the sums of an evaluation's scores, once they are seen to be that: a :class:`Cosignature`.

        Nothing is kept: what is signed follows from the evaluation that this owner answered, and the same question
        gets the same signature.

        Raises
        ------
        Conflict
            This owner did not answer that evaluation.
        InvalidSignature
            An answer is not that validator's, or answers another question.
        VerificationFailed
            The sums are not those of the answers, or this owner's is not among them.
        """
        asked = question.content
        seat = self._seat(asked.training)
        seat.require_validator()
        scored, evaluated, own = self._scored(asked)
        signer, factors = self._chain.signer(), seat.scales(evaluated)
        totals.require_sums(scored, asked, seat.validators, len(factors) or 1, seat.key, signer.domain)
        place = seat.validators.index(signer.address)
        if Reply(place=place, content=own.content, signature=own.signature) not in asked.answers:
            raise VerificationFailed(
                f"validator {place} is asked to sign sums of {asked.kind} {asked.round} that its answer is not in"
            )
        statement = totals.statement(
            scored,
            evaluated,
            tuple(answer.place for answer in asked.answers),
            asked.totals,
            totals.commitments(evaluated, factors, seat.order.length),
        )
        return signer.sign(Cosignature(signature=signer.sign(statement).signature), question.signed)

    def _scored(self, asked: CosignQuestion) -> tuple[Signed, ScoreQuestion, Signed]:
        """Return the question of an evaluation that this owner answered, the same decoded, and its answer."""
        entry = self._journal.find(asked.training, *score_name(asked.kind, asked.round))
        if entry is not None:
            scored = Signed.unpack(entry.question)
            evaluated = scored.read(ScoreQuestion)
            if evaluated.round == asked.round:
                return scored, evaluated, Signed.unpack(entry.answer)
        raise Conflict(f"this owner has not answered {asked.kind} {asked.round} of training {asked.training}")

    def _once(
        self,
        kind: str,
        round_: int,
        question: Question[MomentsQuestion]
        | Question[RoundQuestion]
        | Question[LocalModelQuestion]
        | Question[ScoreQuestion],
        seat: Seat,
        answer: Callable[[], list[mpz]],
    ) -> Signed:
        def signed() -> bytes:
            content = Vector(ciphertexts=seat.key.encode(answer()))
            return self._chain.signer().sign(content, question.signed).pack()

        return Signed.unpack(
            self._journal.once(question.content.training, kind, round_, question.signed.pack(), signed)
        )

    @staticmethod
    def _check_round(round_: int, last: int) -> None:
        if round_ > last:
            raise InvalidInput(f"the order ends at {last}", "round")

    def _seat(self, training_id: uuid.UUID) -> Seat:
        with self._lock:
            if training_id not in self._seats:
                self._seats[training_id] = self._take_seat(training_id)
            return self._seats[training_id]

    def _take_seat(self, training_id: uuid.UUID) -> Seat:
        training = self._storage.training(training_id)
        # Not necessarily INITIATED or further: the chain, asked below, may be ahead of what was saved here.
        if training.status in (Status.FINISHED, Status.FAILED) or training.dataset_id is None:
            raise Conflict(f"training {training_id} is {training.status} at this owner")
        own = self._chain.address
        on_chain = self._chain.marketplace().training(training_id)
        if on_chain.status != ChainStatus.TRAINING:
            raise Conflict(f"training {training_id} is {on_chain.status.name} on chain")
        if own not in (*on_chain.trainers, *on_chain.validators):
            raise Conflict(f"{own} has no role in training {training_id}")
        order = training.parsed_order
        rows = tuple(owner.rows for owner in on_chain.owners[: on_chain.trainer_count])
        seat = Seat(
            order=order,
            buyer=training.buyer,
            table=statistics_for(self._storage.dataset(training.dataset_id), order),
            scaling=None,
            trainers=on_chain.trainers,
            rows=rows,
            weights=tuple(relative_weights(rows, order.hyper_parameters.weighting)),
            validators=on_chain.validators,
            place=on_chain.trainers.index(own) if own in on_chain.trainers else None,
        )
        entry = self._journal.find(training_id, STANDARDISATION, 0)
        if entry is None:
            return seat
        told = Signed.unpack(entry.question).read(Moments)
        return replace(seat, scaling=self._trainers(seat).told(told))

    def _trainers(self, seat: Seat) -> Trainers:
        return Trainers(seat.order, seat.trainers, seat.rows, seat.buyer, seat.key, self._chain.signer().domain)


def _require_products(
    question: ScoreQuestion, vectors: list[tuple[list[mpz], list[mpz], list[int]]], seat: Seat, domain: Domain
) -> None:
    context = proof_context(domain, question.training, f"products-{question.kind}", question.round, seat.buyer)
    proof = ProductProof.from_bytes(question.proof, len(vectors), seat.key)
    masked, products, _ = zip(*vectors, strict=True)
    verify_products(masked, products, proof, seat.key, context)
