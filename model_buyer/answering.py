"""Answering the aggregator with the private key: divide masked rounds, multiply masked models, open totals.

The service is no decryption oracle. Of each name one question is looked at with the key, whatever comes of it: that it
is refused says something, too, and many refusals would say everything. Every answer is ciphertexts, but for sums over
validators, and those only for the evaluations that the order asks for, co-signed by those who answered.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gmpy2 import mpz

from commons.chain.connection import Connection
from commons.chain.marketplace import Status as ChainStatus
from commons.chain.marketplace import Training
from commons.crypto.packing import FRACTION_BITS
from commons.crypto.paillier import PrivateKey
from commons.crypto.proofs import Opening, prove_products
from commons.errors import Conflict, InvalidInput, VerificationFailed
from commons.journal import Journal
from commons.learning.local_steps import relative_weights
from commons.protocol import evaluation, totals, wire
from commons.protocol.evaluation import Diverged
from commons.protocol.messages import (
    HyperParameters,
    MaskedModels,
    MaskedRound,
    Message,
    MomentsTotals,
    Openings,
    Order,
    Products,
    Totals,
    TrainingMessage,
    Vector,
)
from commons.protocol.moments import Trainers
from commons.protocol.outcome import packed_count
from commons.protocol.round import refresh
from commons.protocol.schedule import MINIMUM_SUMMED, has_converged, require_places, require_zero_round
from commons.protocol.schedule import scales as evaluation_scales
from commons.protocol.signed import Signed, Signer, proof_context
from model_buyer.storage import Storage
from model_buyer.vault import Vault

SETTLEMENT: Final = "settlement"

ASKED: Final = "asked-"
"""Begins the name under which the digest of the one question is kept that is looked at with the key."""

MOMENTS: Final = "open-moments"

ENDED_BY_SETTLEMENT = (MOMENTS, "refresh", "products-iteration", "open-iteration")

RUNNING = (ChainStatus.TRAINING, ChainStatus.REPORTED, ChainStatus.DISPUTED, ChainStatus.FINISHED)
"""Where questions have answers; a settled training's model may still be delivered."""


@dataclass(frozen=True)
class Desk:
    """What answering one training's questions needs: its order, its key, who is in it, and this service's signature."""

    order: Order
    key: PrivateKey
    signer: Signer
    trainers: tuple[str, ...]
    trainer_rows: tuple[int, ...]
    weights: tuple[int, ...]
    validators: tuple[str, ...]
    validator_rows: tuple[int, ...]

    @property
    def moments(self) -> Trainers:
        """What the sums of the trainers' moments are checked with."""
        key, domain = self.key.public_key, self.signer.domain
        return Trainers(self.order, self.trainers, self.trainer_rows, self.signer.address, key, domain)


class Answering:
    """The buyer's answers in running trainings. Every question comes with itself as the aggregator signed it.

    Parameters
    ----------
    storage, vault, journal
        The buyer's tables, what opens private keys in them, and the record of answers.
    chain : Connection
        The way to the contract: it says who is in a training.
    """

    def __init__(self, storage: Storage, vault: Vault, journal: Journal, chain: Connection) -> None:
        self._storage = storage
        self._vault = vault
        self._journal = journal
        self._chain = chain
        self._desks: dict[uuid.UUID, Desk] = {}
        self._lock = threading.Lock()

    def refresh(self, question: MaskedRound, asked: Signed) -> Signed:
        """Divide a masked aggregate: a :class:`Vector` of d ciphertexts at scale F."""
        desk = self.desk(question.training)
        if question.round > desk.order.hyper_parameters.iterations - 2:
            raise InvalidInput(f"no model follows round {question.round}", "round")
        divisor = _factor(desk, question.trainers) << FRACTION_BITS

        packed = desk.key.public_key.decode(question.packed, packed_count(desk.order.length, desk.key.public_key))

        def answer() -> Message:
            fresh = refresh(packed, desk.order.length, divisor, desk.key)
            return Vector(ciphertexts=desk.key.public_key.encode(fresh))

        return self._once(desk, "refresh", question.round, question, asked, answer)

    def multiply(self, question: MaskedModels, asked: Signed) -> Signed:
        """Multiply masked models with themselves: :class:`Products`, d(d + 1)/2 ciphertexts for each, and a proof."""
        desk = self.desk(question.training)
        scales = evaluation_scales(question, desk.order.hyper_parameters, desk.weights)
        masked = masked_vectors(desk, question, len(scales))

        def admit() -> None:
            if question.kind == SETTLEMENT and question.round < desk.order.hyper_parameters.iterations:
                self._require_converged(question.training, desk.order.hyper_parameters, question.round)

        def answer() -> Message:
            opened = evaluation.open_masked(masked, desk.key)
            evaluation.require_slots(opened)
            products = evaluation.products(opened, desk.key)
            domain, prover = desk.signer.domain, desk.signer.address
            context = proof_context(domain, question.training, f"products-{question.kind}", question.round, prover)
            proof = prove_products(masked, products, opened, desk.key, context)
            key = desk.key.public_key
            return Products(ciphertexts=key.encode(wire.join(products)), proof=proof.to_bytes(key))

        return self._once(desk, f"products-{question.kind}", _name(question), question, asked, answer, admit)

    def open(self, question: Totals, asked: Signed) -> Signed:
        """Open the sums over validators of one evaluation: :class:`Openings`, one for each model.

        Raises
        ------
        VerificationFailed
            These validators did not sign these sums, of this evaluation and of what was answered in it, or one of
            them was left out of an evaluation before.
        Diverged
            A sum is no error that a converging training can have: its digits are not told.
        """
        desk = self.desk(question.training)
        validators = require_places(question.validators, len(desk.validators), "validators", 1)
        rows = sum(desk.validator_rows[place] for place in validators)
        models: MaskedModels | None = None
        products = b""
        scales: tuple[int, ...] = (0,)
        if question.kind == "zero":
            self._require_zero(question)
        else:
            models, products = self.multiplied(question)
            scales = evaluation_scales(models, desk.order.hyper_parameters, desk.weights)

        sums = desk.key.public_key.decode(question.ciphertexts, len(scales))

        def admit() -> None:
            self._require_cosigned(desk, question, models, products)
            self._storage.narrow(question.training, validators)

        def answer() -> Message:
            openings = [evaluation.open_total(total, desk.key) for total in sums]
            for opening, scale in zip(openings, scales, strict=True):
                totals.mse(question.kind, opening.total, scale, rows)  # what is no error of a model stays closed
            return _openings(openings)

        try:
            signed = self._once(desk, f"open-{question.kind}", _name(question), question, asked, answer, admit)
        except Diverged as error:
            self._storage.move(question.training, reason=str(error))
            raise Diverged("the training diverged: sums that are no errors of a model stay closed") from None
        except VerificationFailed as error:
            reason = f"the aggregator asked to open sums of {question.kind} {question.round} that stay closed: {error}"
            self._storage.move(question.training, reason=reason)
            raise VerificationFailed(reason) from None
        self._record(question, scales[0], rows, signed.read(Openings))
        return signed

    def open_moments(self, question: MomentsTotals, asked: Signed) -> Signed:
        """Open the sums of the trainers' moments: :class:`Openings`, one for each.

        Raises
        ------
        InvalidInput
            The order has no pre-processing, or the sums are of fewer than three trainers.
        VerificationFailed
            These trainers did not sign these sums, or no rows have them: their digits are not told.
        """
        desk = self.desk(question.training)
        trainers = desk.moments
        trainers.require_ordered()
        sums: list[mpz] = []

        def admit() -> None:
            sums.extend(trainers.require_cosigned(question))

        def answer() -> Message:
            openings = [evaluation.open_total(total, desk.key) for total in sums]
            try:
                trainers.scaling([opening.total for opening in openings], question.trainers)
            except VerificationFailed:  # which of them it is could be chosen to say something
                raise VerificationFailed("no rows in the order's range have such sums") from None
            return _openings(openings)

        try:
            return self._once(desk, MOMENTS, 0, question, asked, answer, admit)
        except VerificationFailed as error:
            reason = f"the aggregator asked to open sums of moments that stay closed: {error}"
            self._storage.move(question.training, reason=reason)
            raise VerificationFailed(reason) from None

    def _require_converged(self, training_id: uuid.UUID, hyper: HyperParameters, rounds: int) -> None:
        """Raise Conflict unless the order has a tolerance, and the errors opened so far have come to rest by it."""
        mses = [metric.mse for metric in self._storage.metrics(training_id) if metric.iteration <= rounds]
        if not has_converged(mses, hyper.tolerance):
            raise Conflict(
                f"training {training_id} has not converged after {rounds} rounds:"
                f" it is settled after {hyper.iterations}"
            )

    def _require_zero(self, question: Totals) -> None:
        require_zero_round(question.round)
        if question.round == 0:
            return
        # Two sums of the same over different validators tell what lies between: only if one was lost, and then once.
        first = self._opened(question.training, "zero")
        settled = self._opened(question.training, SETTLEMENT)
        if first is None or settled is None or settled.validators != question.validators:
            raise Conflict("the zero model is scored again by the validators of the settlement, after it")
        if first.validators == question.validators:
            raise Conflict("these validators have scored the zero model: it is not scored again")

    def _opened(self, training_id: uuid.UUID, kind: str) -> Totals | None:
        entry = self._journal.find(training_id, f"open-{kind}", 0)
        return None if entry is None else Signed.unpack(entry.question).read(Totals)

    @staticmethod
    def _require_cosigned(desk: Desk, question: Totals, models: MaskedModels | None, products: bytes) -> None:
        committed = totals.DELIVERABLE if question.kind == SETTLEMENT else 0
        if len(question.commitments) != committed:
            raise VerificationFailed(f"{len(question.commitments)} commitments instead of {committed}")
        statement = totals.statement_of_totals(question, models, products).pack()
        signatures, domain = question.cosignatures, desk.signer.domain
        try:
            totals.require_cosigned(statement, signatures, question.validators, desk.validators, domain)
        except VerificationFailed as error:
            raise VerificationFailed(f"its validators did not co-sign them: {error}") from None

    def multiplied(self, question: Totals) -> tuple[MaskedModels, bytes]:
        """Return the masked models that an evaluation's totals belong to, and the products that were answered.

        Raises
        ------
        Conflict
            This service was not asked to multiply them.
        """
        entry = self._journal.find(question.training, f"products-{question.kind}", _name(question))
        if entry is None:
            raise Conflict(f"training {question.training} has no {question.kind} {question.round} to open")
        models = Signed.unpack(entry.question).read(MaskedModels)
        if models.round != question.round:
            raise Conflict(f"the {question.kind} that was multiplied is of round {models.round}, not {question.round}")
        return models, Signed.unpack(entry.answer).read(Products).ciphertexts

    def desk(self, training_id: uuid.UUID) -> Desk:
        """Return what a training's answers need; Conflict unless it is running."""
        with self._lock:
            if training_id not in self._desks:
                self._desks[training_id] = self._open_desk(training_id)
            return self._desks[training_id]

    def release(self, training_id: uuid.UUID) -> None:
        """Forget the key of a training that is over."""
        with self._lock:
            self._desks.pop(training_id, None)

    def _open_desk(self, training_id: uuid.UUID) -> Desk:
        model = self._storage.model(training_id)
        on_chain = self._chain.marketplace().training(training_id)
        if on_chain.status not in RUNNING:
            raise Conflict(f"training {training_id} is {on_chain.status.name} on chain")
        order = model.parsed_order
        return Desk(
            order=order,
            key=PrivateKey.from_bytes(self._vault.open(model.sealed_key)),
            signer=self._chain.signer(),
            trainers=on_chain.trainers,
            trainer_rows=tuple(owner.rows for owner in on_chain.owners[: on_chain.trainer_count]),
            weights=training_weights(on_chain, order),
            validators=on_chain.validators,
            validator_rows=tuple(owner.rows for owner in on_chain.owners[on_chain.trainer_count :]),
        )

    def _once(
        self,
        desk: Desk,
        kind: str,
        round_: int,
        question: TrainingMessage,
        asked: Signed,
        answer: Callable[[], Message],
        admit: Callable[[], None] | None = None,
    ) -> Signed:
        def first_answer() -> bytes:
            # Whatever the order has left: once the settlement is asked for, nothing is opened but what belongs to it.
            settling = self._journal.find(question.training, f"products-{SETTLEMENT}", 0) is not None
            if settling and kind in ENDED_BY_SETTLEMENT:
                raise Conflict(f"training {question.training} is being settled: it has no {kind} {round_} any more")
            if admit is not None:
                admit()
                # From here on a refusal depends on the key: one that was refused is not followed by another.
                if (
                    self._journal.keep(question.training, ASKED + kind, round_, asked.digest, b"").question
                    != asked.digest
                ):
                    raise Conflict(f"training {question.training} was asked another {kind} {round_} before")
            return desk.signer.sign(answer(), asked).pack()

        return Signed.unpack(self._journal.once(question.training, kind, round_, asked.pack(), first_answer))

    def _record(self, question: Totals, factor: int, rows: int, openings: Openings) -> None:
        mse = totals.mse(question.kind, int(openings.totals[0], 16), factor, rows)
        self._storage.add_metric(question.training, 0 if question.kind == "zero" else question.round, mse)


def masked_vectors(desk: Desk, question: MaskedModels, vectors: int) -> list[list[mpz]]:
    """Decode the encryptions of û of that many masked models: d ciphertexts each."""
    return wire.split(desk.key.public_key.decode(question.masked, vectors * desk.order.length), vectors)


def training_weights(on_chain: Training, order: Order) -> tuple[int, ...]:
    """Return the averaging weights of a training's trainers, in the contract's order."""
    rows = [owner.rows for owner in on_chain.owners[: on_chain.trainer_count]]
    return relative_weights(rows, order.hyper_parameters.weighting)


def _openings(openings: Sequence[Opening]) -> Openings:
    return Openings(
        totals=tuple(f"{opening.total:x}" for opening in openings),
        randomisers=tuple(f"{opening.randomiser:x}" for opening in openings),
    )


def _name(question: MaskedModels | Totals) -> int:
    # There is one settlement, whatever the number of rounds before it.
    return 0 if question.kind == SETTLEMENT else question.round


def _factor(desk: Desk, trainers: Sequence[int]) -> int:
    places = require_places(trainers, len(desk.weights), "trainers", MINIMUM_SUMMED)
    return sum(desk.weights[place] for place in places)
