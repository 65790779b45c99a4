"""Answering the aggregator's questions: encrypted local steps, the encrypted local model, encrypted scores.

Only the owner's statistics are touched, never rows. Every question is answered once (:mod:`commons.journal`).
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from gmpy2 import mpz

from commons.chain.connection import Connection
from commons.chain.marketplace import Status as ChainStatus
from commons.crypto.kernel import AffineMap
from commons.crypto.packing import FRACTION_BITS, to_fixed
from commons.crypto.paillier import PublicKey, ShortRandomisers
from commons.errors import Conflict, InvalidInput
from commons.journal import Journal
from commons.learning.local_steps import local_map, local_model, quantise_map, relative_weights
from commons.learning.statistics import GramStatistics
from commons.protocol import evaluation, wire
from commons.protocol.messages import (
    LocalModelQuestion,
    Order,
    RoundQuestion,
    ScoreQuestion,
    TrainingMessage,
    Vector,
)
from commons.protocol.schedule import require_zero_round, scales
from data_owner.participation import statistics_for
from data_owner.storage import Status, Storage


@dataclass(frozen=True)
class Seat:
    """An owner's place in a running training, with what every round needs computed once."""

    order: Order
    statistics: GramStatistics
    weights: tuple[int, ...]
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
    def step(self) -> AffineMap:
        """One round of local steps as an affine map of the model."""
        hyper = self.order.hyper_parameters
        matrix, offset = quantise_map(*local_map(self.statistics, hyper.learning_rate, hyper.ridge, hyper.local_steps))
        return AffineMap(matrix, offset, self.weights[self._trainer()])

    def _trainer(self) -> int:
        if self.place is None:
            raise Conflict("this owner validates this training: it does not train")
        return self.place

    def local_model(self, round_count: int) -> list[int]:
        """Return the model of this owner's data alone after that many rounds of steps, at scale 2F."""
        self._trainer()
        hyper = self.order.hyper_parameters
        model = local_model(self.statistics, hyper.learning_rate, hyper.ridge, hyper.local_steps * round_count)
        return [to_fixed(float(weight), 2 * FRACTION_BITS) for weight in model]

    def require_validator(self) -> None:
        """Raise Conflict if this owner trains."""
        if self.place is not None:
            raise Conflict("this owner trains in this training: it does not validate")


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
        if seat.place is not None:
            _ = seat.step

    def release(self, training_id: uuid.UUID) -> None:
        """Forget what was computed for a training that is over."""
        with self._lock:
            self._seats.pop(training_id, None)

    def update(self, question: RoundQuestion) -> bytes:
        """Run this owner's local steps on the encrypted model.

        Returns
        -------
        bytes
            A :class:`Vector` of d ciphertexts, the weighted new model at scale 2F.
        """
        seat = self._seat(question.training)
        self._check_round(question.round, seat.order.hyper_parameters.iterations - 1)
        if question.round == 0 and question.model:
            raise InvalidInput("the model of round 0 is zero: it is not sent", "model")

        def answer() -> list[mpz]:
            if question.round == 0:
                model = [seat.key.trivial(0)] * seat.order.length
            else:
                model = seat.key.decode(question.model, seat.order.length)
            return seat.step.apply(model, seat.key, seat.randomisers)

        return self._once("update", question.round, question, seat, answer)

    def local_model(self, question: LocalModelQuestion) -> bytes:
        """Encrypt the model that this owner's data alone give: a :class:`Vector` of d ciphertexts at scale 2F."""
        seat = self._seat(question.training)

        def answer() -> list[mpz]:
            values = seat.local_model(seat.order.hyper_parameters.iterations)
            fresh = seat.randomisers.take(len(values))
            return [seat.key.encrypt(value, r) for value, r in zip(values, fresh, strict=True)]

        return self._once("local", 0, question, seat, answer)

    def score(self, question: ScoreQuestion) -> bytes:
        """Score masked models: a :class:`Vector` with one ciphertext of rows × MSE for each."""
        seat = self._seat(question.training)
        seat.require_validator()
        if question.kind == "zero":
            require_zero_round(question.round)
            factors: tuple[int, ...] = ()
        else:
            factors = scales(question, seat.order.hyper_parameters, seat.weights)

        def answer() -> list[mpz]:
            if question.kind == "zero":
                return [evaluation.score_zero(seat.statistics, seat.key, seat.randomisers)]
            vectors = wire.questioned_vectors(question, len(factors), seat.order.length, seat.key)
            return [
                evaluation.score(seat.statistics, factor, *vector, seat.key, seat.randomisers)
                for factor, vector in zip(factors, vectors, strict=True)
            ]

        # There is one settlement, whatever the number of rounds before it.
        round_ = 0 if question.kind == "settlement" else question.round
        return self._once(f"score-{question.kind}", round_, question, seat, answer)

    def _once(
        self,
        kind: str,
        round_: int,
        question: TrainingMessage,
        seat: Seat,
        answer: Callable[[], list[mpz]],
    ) -> bytes:
        return self._journal.once(
            question.training,
            kind,
            round_,
            question.pack(),
            lambda: Vector(ciphertexts=seat.key.encode(answer())).pack(),
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
        rows = {owner.address: owner.rows for owner in on_chain.owners}
        return Seat(
            order=order,
            statistics=statistics_for(self._storage.dataset(training.dataset_id), order),
            weights=tuple(relative_weights([rows[a] for a in on_chain.trainers], order.hyper_parameters.weighting)),
            place=on_chain.trainers.index(own) if own in on_chain.trainers else None,
        )
