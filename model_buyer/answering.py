"""Answering the aggregator with the private key: divide masked rounds, multiply masked models, open totals.

The service is no decryption oracle. Each question of a training is answered once (:mod:`commons.journal`), every
answer is ciphertexts, but for sums over validators, and those only for the evaluations that the order asks for.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from commons.chain.connection import Connection
from commons.chain.marketplace import Status as ChainStatus
from commons.chain.marketplace import Training
from commons.crypto.packing import FRACTION_BITS
from commons.crypto.paillier import PrivateKey
from commons.errors import Conflict, InvalidInput
from commons.journal import Journal
from commons.learning.local_steps import relative_weights
from commons.protocol import evaluation, wire
from commons.protocol.evaluation import Diverged
from commons.protocol.messages import (
    MaskedModels,
    MaskedRound,
    Message,
    Openings,
    Order,
    Totals,
    TrainingMessage,
    Vector,
)
from commons.protocol.outcome import packed_count
from commons.protocol.round import refresh
from commons.protocol.schedule import MINIMUM_SUMMED, require_places, require_zero_round
from commons.protocol.schedule import scales as evaluation_scales
from model_buyer.storage import Storage
from model_buyer.vault import Vault

SETTLEMENT: Final = "settlement"

ENDED_BY_SETTLEMENT = ("refresh", "products-iteration", "open-iteration")

RUNNING = (ChainStatus.TRAINING, ChainStatus.REPORTED, ChainStatus.DISPUTED, ChainStatus.FINISHED)
"""Where questions have answers; a settled training's model may still be delivered."""


@dataclass(frozen=True)
class Desk:
    """What answering one training's questions needs: its order, its key, and who is in it."""

    order: Order
    key: PrivateKey
    trainers: tuple[str, ...]
    weights: tuple[int, ...]
    validator_rows: tuple[int, ...]


class Answering:
    """The buyer's answers in running trainings.

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

    def refresh(self, question: MaskedRound) -> bytes:
        """Divide a masked aggregate: a :class:`Vector` of d ciphertexts at scale F."""
        desk = self.desk(question.training)
        if question.round > desk.order.hyper_parameters.iterations - 2:
            raise InvalidInput(f"no model follows round {question.round}", "round")
        divisor = _factor(desk, question.trainers) << FRACTION_BITS

        def answer() -> Message:
            packed = desk.key.public_key.decode(question.packed, packed_count(desk.order.length, desk.key.public_key))
            fresh = refresh(packed, desk.order.length, divisor, desk.key)
            return Vector(ciphertexts=desk.key.public_key.encode(fresh))

        return self._once("refresh", question.round, question, answer)

    def multiply(self, question: MaskedModels) -> bytes:
        """Multiply masked models with themselves: a :class:`Vector` of d(d + 1)/2 ciphertexts for each."""
        desk = self.desk(question.training)
        scales = evaluation_scales(question, desk.order.hyper_parameters, desk.weights)

        def answer() -> Message:
            opened = self.opened(desk, question, len(scales))
            products = evaluation.products(opened, desk.key)
            return Vector(ciphertexts=desk.key.public_key.encode(wire.join(products)))

        return self._once(f"products-{question.kind}", _name(question), question, answer)

    def open(self, question: Totals) -> bytes:
        """Open the sums over validators of one evaluation: :class:`Openings`, one for each model."""
        desk = self.desk(question.training)
        validators = require_places(question.validators, len(desk.validator_rows), "validators", 1)
        rows = sum(desk.validator_rows[place] for place in validators)
        if question.kind == "zero":
            self._require_zero(question)
            scales: tuple[int, ...] = (0,)
        else:
            masked = self.masked_models(question)
            scales = evaluation_scales(masked, desk.order.hyper_parameters, desk.weights)

        def answer() -> Message:
            totals = desk.key.public_key.decode(question.ciphertexts, len(scales))
            openings = [evaluation.open_total(total, desk.key) for total in totals]
            return Openings(
                totals=tuple(f"{opening.total:x}" for opening in openings),
                randomisers=tuple(f"{opening.randomiser:x}" for opening in openings),
            )

        content = self._once(f"open-{question.kind}", _name(question), question, answer)
        self._record(question, scales[0], rows, content)
        return content

    def _require_zero(self, question: Totals) -> None:
        require_zero_round(question.round)
        if question.round == 0:
            return
        # Two sums of the same over different validators tell what lies between: only if one was lost, and then once.
        first = self._journal.find(question.training, "open-zero", 0)
        settled = self._journal.find(question.training, f"open-{SETTLEMENT}", 0)
        if first is None or settled is None or Totals.unpack(settled.question).validators != question.validators:
            raise Conflict("the zero model is scored again by the validators of the settlement, after it")
        if Totals.unpack(first.question).validators == question.validators:
            raise Conflict("these validators have scored the zero model: it is not scored again")

    def masked_models(self, totals: Totals) -> MaskedModels:
        """Return the question that an evaluation's totals belong to; Conflict if it was not asked."""
        entry = self._journal.find(totals.training, f"products-{totals.kind}", _name(totals))
        if entry is None:
            raise Conflict(f"training {totals.training} has no {totals.kind} {totals.round} to open")
        return MaskedModels.unpack(entry.question)

    @staticmethod
    def opened(desk: Desk, question: MaskedModels, vectors: int) -> list[list[int]]:
        """Decrypt masked models: u + ρ, which says nothing of u."""
        count = packed_count(vectors * desk.order.length, desk.key.public_key)
        packed = desk.key.public_key.decode(question.packed, count)
        return evaluation.open_masked(packed, vectors, desk.order.length, desk.key)

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
            trainers=on_chain.trainers,
            weights=training_weights(on_chain, order),
            validator_rows=tuple(owner.rows for owner in on_chain.owners[on_chain.trainer_count :]),
        )

    def _once(self, kind: str, round_: int, question: TrainingMessage, answer: Callable[[], Message]) -> bytes:
        def first_answer() -> bytes:
            # Whatever the order has left: once the settlement is asked for, nothing is opened but what belongs to it.
            settling = self._journal.find(question.training, f"products-{SETTLEMENT}", 0) is not None
            if settling and kind in ENDED_BY_SETTLEMENT:
                raise Conflict(f"training {question.training} is being settled: it has no {kind} {round_} any more")
            return answer().pack()

        return self._journal.once(question.training, kind, round_, question.pack(), first_answer)

    def _record(self, question: Totals, factor: int, rows: int, content: bytes) -> None:
        total = int(Openings.unpack(content).totals[0], 16)
        try:
            if question.kind == "zero":
                mse = evaluation.mse_of_zero_total(total, rows)
            else:
                mse = evaluation.mse_of_total(total, factor, rows)
        except Diverged:  # the aggregator sees the same number, and aborts
            return
        self._storage.add_metric(question.training, 0 if question.kind == "zero" else question.round, mse)


def training_weights(on_chain: Training, order: Order) -> tuple[int, ...]:
    """Return the averaging weights of a training's trainers, in the contract's order."""
    rows = [owner.rows for owner in on_chain.owners[: on_chain.trainer_count]]
    return relative_weights(rows, order.hyper_parameters.weighting)


def _name(question: MaskedModels | Totals) -> int:
    # There is one settlement, whatever the number of rounds before it.
    return 0 if question.kind == SETTLEMENT else question.round


def _factor(desk: Desk, trainers: Sequence[int]) -> int:
    places = require_places(trainers, len(desk.weights), "trainers", MINIMUM_SUMMED)
    return sum(desk.weights[place] for place in places)
