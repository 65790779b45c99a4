"""Receiving the model and settling: the buyer's own computation of the result, confirmed on chain."""

from __future__ import annotations

import uuid
from typing import Any

import structlog

from commons.chain.connection import Connection
from commons.chain.marketplace import Result, Reverted
from commons.chain.marketplace import Status as ChainStatus
from commons.crypto.packing import FRACTION_BITS, from_fixed
from commons.errors import Conflict, InvalidInput, VerificationFailed
from commons.journal import Journal
from commons.learning.contributions import UNIT, shares
from commons.protocol import evaluation
from commons.protocol.messages import Delivery, MaskedModels, MaskedRound, Openings, Totals
from commons.protocol.outcome import Outcome, factors, settle
from model_buyer.answering import SETTLEMENT, Answering, Desk
from model_buyer.storage import Model, Storage

log = structlog.get_logger()


class Settlement:
    """The buyer's side of the end of a training.

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

    def receive(self, delivery: Delivery) -> None:
        """Unmask the delivered model, and keep it with the outcome that this service computed itself.

        Raises
        ------
        Conflict
            The result is not on chain yet.
        VerificationFailed
            Another model was delivered than the better one.
        """
        if self._storage.model(delivery.training).weights is not None:
            return
        status = self._chain.marketplace().training(delivery.training).status
        if status not in (ChainStatus.REPORTED, ChainStatus.DISPUTED, ChainStatus.FINISHED):
            raise Conflict(f"training {delivery.training} is {status.name} on chain: nothing to deliver now")
        desk = self._answering.desk(delivery.training)
        question, outcome = self._outcome(delivery.training, desk)
        if delivery.model != outcome.model:
            raise VerificationFailed(f"the {delivery.model} model was delivered, the {outcome.model} one is better")
        scales = factors(SETTLEMENT, desk.weights, question.trainers, question.contributors)
        place = 0 if delivery.model == "trained" else 1
        opened = self._answering.opened(desk, question, len(scales))[place]
        quotients = _quotients(delivery, len(opened))
        fixed = evaluation.deliver_model(opened, quotients, scales[place] << FRACTION_BITS)
        scale = desk.order.target_scale
        weights = [from_fixed(value) * scale for value in fixed]
        document = _document(outcome, desk)
        self._storage.move(delivery.training, weights=weights, outcome=document)

    def confirm(self, model: Model) -> None:
        """Confirm a reported result on chain, if it is the one that this service computed."""
        if model.weights is None:
            return
        market = self._chain.marketplace()
        on_chain = market.training(model.id)
        if on_chain.status != ChainStatus.REPORTED or on_chain.result is None:
            return
        _, outcome = self._outcome(model.id, self._answering.desk(model.id))
        result = Result(
            iterations=outcome.iterations,
            initial_mse=outcome.initial_mse,
            final_mse=outcome.final_mse,
            partial_mses=outcome.partial_mses,
            contributions=outcome.contributions,
            trainers_answered=outcome.trainers_answered,
            validators_answered=outcome.validators_answered,
            transcript_root=on_chain.result.transcript_root,
            model_hash=on_chain.result.model_hash,
        )
        try:
            market.finish_model_training(model.id, result.digest())
        except Reverted as error:
            if error.name != "DigestMismatch":  # it is settled, or is about to be
                raise
            reason = f"the reported result is not the one computed here: {error}"
            if model.reason != reason:
                log.error("result refused", training=str(model.id), reported=str(on_chain.result), computed=str(result))
                self._storage.move(model.id, reason=reason)

    def _outcome(self, training_id: uuid.UUID, desk: Desk) -> tuple[MaskedModels, Outcome]:
        question, openings, totals = self._evaluation(training_id)
        rows = sum(desk.validator_rows[place] for place in totals.validators)
        scales = factors(SETTLEMENT, desk.weights, question.trainers, question.contributors)
        measured = [
            evaluation.mse_of_total(int(total, 16), factor, rows)
            for total, factor in zip(openings.totals, scales, strict=True)
        ]
        rounds = [
            MaskedRound.unpack(self._entry(training_id, "refresh", round_).question).trainers
            for round_ in range(question.round - 1)
        ]
        return question, settle(
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
        entry = self._entry(training_id, f"open-{SETTLEMENT}", 0)
        masked = self._entry(training_id, f"products-{SETTLEMENT}", 0)
        return MaskedModels.unpack(masked.question), Openings.unpack(entry.answer), Totals.unpack(entry.question)

    def _zero(self, training_id: uuid.UUID, validators: tuple[int, ...], rows: int) -> int:
        for round_ in (1, 0):
            entry = self._journal.find(training_id, "open-zero", round_)
            if entry is not None and Totals.unpack(entry.question).validators == validators:
                return evaluation.mse_of_zero_total(int(Openings.unpack(entry.answer).totals[0], 16), rows)
        raise Conflict(f"training {training_id}: the zero model was not scored by the validators of the settlement")

    def _entry(self, training_id: uuid.UUID, kind: str, round_: int) -> Any:
        entry = self._journal.find(training_id, kind, round_)
        if entry is None:
            raise Conflict(f"training {training_id} has no {kind} {round_} yet")
        return entry


def _quotients(delivery: Delivery, count: int) -> list[int]:
    if len(delivery.quotients) != count:
        raise InvalidInput(f"{len(delivery.quotients)} numbers instead of {count}", "quotients")
    return [int(quotient, 16) for quotient in delivery.quotients]


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
