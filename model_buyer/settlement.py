"""The end of a training: the buyer's own computation of the result, and the model, which it unmasks."""

from __future__ import annotations

import uuid
from typing import Any

from commons.chain.connection import Connection
from commons.chain.marketplace import Result, Training
from commons.chain.marketplace import Status as ChainStatus
from commons.chain.settlement import result_of
from commons.crypto.packing import FRACTION_BITS, SLOT_BITS, from_fixed
from commons.errors import Conflict, NotAuthorised, VerificationFailed
from commons.journal import Entry, Journal
from commons.learning.contributions import UNIT, shares
from commons.protocol import evaluation
from commons.protocol.messages import Delivery, MaskedModels, MaskedRound, MomentsTotals, Openings, Totals
from commons.protocol.outcome import Outcome, factors, settle
from commons.protocol.signed import Signed
from model_buyer.answering import MOMENTS, SETTLEMENT, Answering, Desk, masked_vectors
from model_buyer.storage import Storage


class NotOpened(Conflict):
    """The result follows from something that this service was never asked."""


class Settlement:
    """What a training came to, from this service's own record of it.

    Parameters
    ----------
    storage, journal
        The buyer's tables, and its record of answers.
    answering : Answering
        What it answered with.
    chain : Connection
        The way to the contract.
    """

    def __init__(self, storage: Storage, journal: Journal, answering: Answering, chain: Connection) -> None:
        self._storage = storage
        self._journal = journal
        self._answering = answering
        self._chain = chain

    def deliverers(self, training_id: uuid.UUID) -> list[str]:
        """Return the addresses of who may deliver: the training's aggregator, and its arbiter during a dispute."""
        on_chain = self._chain.marketplace().training(training_id)
        arbiters = [on_chain.arbiter] if on_chain.status == ChainStatus.DISPUTED else []
        return [on_chain.aggregator, *arbiters]

    def receive(self, delivery: Delivery, sender: str) -> None:
        """Unmask the delivered model, and keep it with the outcome that this service computed itself.

        Parameters
        ----------
        delivery : Delivery
        sender : str
            Who signed it: one of :meth:`deliverers`.

        Raises
        ------
        NotAuthorised
            Somebody else signed it.
        Conflict
            The result is not on chain yet.
        VerificationFailed
            Another model was delivered than the better one, or not what the validators have signed a commitment to.
        """
        on_chain = self._chain.marketplace().training(delivery.training)
        by = _deliverer(on_chain, sender)
        if self._storage.model(delivery.training).weights is not None:
            return
        if on_chain.status not in (ChainStatus.REPORTED, ChainStatus.DISPUTED, ChainStatus.FINISHED):
            raise Conflict(f"training {delivery.training} is {on_chain.status.name} on chain: nothing to deliver now")
        desk = self._answering.desk(delivery.training)
        outcome = self._outcome(delivery.training, desk)
        try:
            weights = self._unmask(delivery, outcome, desk)
        except VerificationFailed as error:
            reason = f"{by} did not deliver what it is bound to: {error}"
            self._storage.move(delivery.training, reason=reason)
            raise VerificationFailed(reason) from None
        self._storage.move(delivery.training, weights=weights, outcome=_document(outcome, desk))

    def result(self, training_id: uuid.UUID, reported: Result) -> Result:
        """Return the result as this service computes it, with the hashes that were reported.

        Raises
        ------
        NotOpened
            It follows from sums that this service has not opened.
        Diverged
            It opened them, and they are no errors of a model.
        """
        outcome = self._outcome(training_id, self._answering.desk(training_id))
        return result_of(outcome, reported.transcript_root, reported.model_hash)

    def _unmask(self, delivery: Delivery, outcome: Outcome, desk: Desk) -> list[float]:
        if delivery.model != outcome.model:
            raise VerificationFailed(f"the {delivery.model} model was delivered, the {outcome.model} one is better")
        question, _, totals = self._evaluation(delivery.training)
        place = 0 if delivery.model == "trained" else 1
        quotients = [int(quotient, 16) for quotient in delivery.quotients]
        if not all(0 <= quotient < 1 << SLOT_BITS for quotient in quotients):
            raise VerificationFailed("a delivered number is longer than any mask")
        found, signed = evaluation.commitment(delivery.salt, quotients), totals.commitments[place]
        if found != signed:
            raise VerificationFailed(
                f"what was delivered has the commitment {found.hex()}, and the validators signed {signed.hex()}"
            )
        scales = factors(SETTLEMENT, desk.weights, question.trainers, question.contributors)
        masked = masked_vectors(desk, question, len(scales))[place]
        (opened,) = evaluation.open_masked([masked], desk.key)
        fixed = evaluation.deliver_model(opened, quotients, scales[place] << FRACTION_BITS)
        weights = [from_fixed(value) * desk.order.target_scale for value in fixed]
        return self._in_units_of_the_columns(delivery.training, weights, desk)

    def _in_units_of_the_columns(self, training_id: uuid.UUID, weights: list[float], desk: Desk) -> list[float]:
        if not desk.order.standardises:
            return weights
        entry = self._entry(training_id, MOMENTS, 0)
        totals, said = Signed.unpack(entry.question).read(MomentsTotals), Signed.unpack(entry.answer).read(Openings)
        return desk.moments.scaling([int(total, 16) for total in said.totals], totals.trainers).fold(weights)

    def _outcome(self, training_id: uuid.UUID, desk: Desk) -> Outcome:
        question, openings, totals = self._evaluation(training_id)
        rows = sum(desk.validator_rows[place] for place in totals.validators)
        scales = factors(SETTLEMENT, desk.weights, question.trainers, question.contributors)
        measured = [
            evaluation.mse_of_total(int(total, 16), factor, rows)
            for total, factor in zip(openings.totals, scales, strict=True)
        ]
        rounds = [
            Signed.unpack(self._entry(training_id, "refresh", round_).question).read(MaskedRound).trainers
            for round_ in range(question.round - 1)
        ]
        return settle(
            training_id,
            self._zero(training_id, totals.validators, rows),
            measured,
            desk.weights,
            [*rounds, question.trainers],
            question.contributors,
            len(desk.validator_rows),
            totals.validators,
        )

    def _evaluation(self, training_id: uuid.UUID) -> tuple[MaskedModels, Openings, Totals]:
        masked = self._entry(training_id, f"products-{SETTLEMENT}", 0)
        opened = self._entry(training_id, f"open-{SETTLEMENT}", 0)
        return (
            Signed.unpack(masked.question).read(MaskedModels),
            Signed.unpack(opened.answer).read(Openings),
            Signed.unpack(opened.question).read(Totals),
        )

    def _zero(self, training_id: uuid.UUID, validators: tuple[int, ...], rows: int) -> int:
        for round_ in (1, 0):
            entry = self._journal.find(training_id, "open-zero", round_)
            if entry is not None and Signed.unpack(entry.question).read(Totals).validators == validators:
                openings = Signed.unpack(entry.answer).read(Openings)
                return evaluation.mse_of_zero_total(int(openings.totals[0], 16), rows)
        raise NotOpened(f"training {training_id}: the zero model was not scored by the validators of the settlement")

    def _entry(self, training_id: uuid.UUID, kind: str, round_: int) -> Entry:
        entry = self._journal.find(training_id, kind, round_)
        if entry is None:
            raise NotOpened(f"training {training_id} has no {kind} {round_} yet")
        return entry


def _deliverer(on_chain: Training, sender: str) -> str:
    if sender.lower() == on_chain.aggregator.lower():
        return f"the aggregator {sender}"
    if sender.lower() == on_chain.arbiter.lower() and on_chain.status == ChainStatus.DISPUTED:
        return f"the arbiter {sender}"
    raise NotAuthorised(
        f"signed by {sender}: the aggregator delivers the model, or, while there is a dispute, the arbiter"
    )


def _document(outcome: Outcome, desk: Desk) -> dict[str, Any]:
    scale = desk.order.target_scale**2 / UNIT
    return {
        "model": outcome.model,
        "iterations": outcome.iterations,
        "initial_mse": outcome.initial_mse * scale,
        "trained_mse": outcome.trained_mse * scale,
        "averaged_mse": outcome.averaged_mse * scale,
        "mse": outcome.final_mse * scale,
        "trainers": [
            {"data_owner": address, "partial_MSE": partial * scale, "contributions": share / UNIT}
            for address, partial, share in zip(
                desk.trainers, outcome.partial_mses, shares(outcome.contributions), strict=True
            )
        ],
    }
