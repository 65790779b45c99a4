"""Reviewing a reported result: confirm it on chain, or dispute it with the evidence, before the review is over."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from commons.chain.arbitration import require_arbiter
from commons.chain.connection import Connection
from commons.chain.marketplace import Marketplace, Result, Training
from commons.chain.marketplace import Status as ChainStatus
from commons.errors import NotFound
from commons.journal import Journal
from commons.protocol import disputes
from commons.protocol.disputes import NOT_DELIVERED, Claim, Copy, Difference
from commons.protocol.evaluation import Diverged
from commons.protocol.signed import Signed
from model_buyer.answering import ASKED
from model_buyer.settlement import NotOpened, Settlement
from model_buyer.storage import Model, Storage

PATIENCE = 2
"""The model has to be there when the review period is over by one part in this many: the rest is left to dispute."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Finding:
    """Why a result is not confirmed, in one sentence, and what is wrong with it one by one."""

    reason: str
    differences: tuple[Difference, ...]


class Reviewing:
    """The buyer's judgement of results.

    Parameters
    ----------
    storage, journal
        The buyer's tables, and its record of answers: its evidence.
    settlement : Settlement
        What it computes itself.
    chain : Connection
        The way to the contract.
    """

    def __init__(self, storage: Storage, journal: Journal, settlement: Settlement, chain: Connection) -> None:
        self._storage = storage
        self._journal = journal
        self._settlement = settlement
        self._chain = chain
        self._computed: dict[uuid.UUID, Result] = {}

    def review(self, model: Model) -> None:
        """Confirm a reported result if it is the one computed here and the model is there; else dispute it.

        A result that differs is disputed at once, a model that is missing when half of the review period is over.
        One that says that an owner did not answer is not confirmed, though it is the one computed here: confirming
        ends the review, and only that owner knows whether it did. The review period passes, and then anybody settles.
        """
        market = self._chain.marketplace()
        on_chain = market.training(model.id)
        if on_chain.status != ChainStatus.REPORTED or on_chain.result is None:
            self._computed.pop(model.id, None)
            return
        finding = self._finding(market, model, on_chain, on_chain.result)
        if finding is not None:
            # The claim is saved first: killed after the transaction, this service still has what it put on chain.
            claim = model.claim or self._claim(model, finding)
            market.dispute_result(model.id, disputes.evidence_hash(Signed.unpack(claim)), on_chain.bond)
        elif model.weights is not None and all(
            (*on_chain.result.trainers_answered, *on_chain.result.validators_answered)
        ):
            market.finish_model_training(model.id, self._computed[model.id].digest())

    def evidence(self, model_id: uuid.UUID, caller: str) -> Iterator[bytes]:
        """Return the pieces of the evidence file of this service's dispute.

        Parameters
        ----------
        model_id : UUID
        caller : str
            Who asks for it.

        Raises
        ------
        NotAuthorised
            Not the training's arbiter asks, or there is no dispute now.
        NotFound
            There is one, but somebody else's.
        """
        model = self._storage.model(model_id)
        require_arbiter(self._chain.marketplace(), model_id, caller)
        if model.claim is None:
            raise NotFound(f"the dispute of training {model_id} is somebody else's: this service claims nothing")
        signed = Signed.unpack(model.claim)
        return disputes.write(signed, self._copies(model_id, signed.read(Claim).exchanges))

    def _finding(self, market: Marketplace, model: Model, on_chain: Training, reported: Result) -> Finding | None:
        if model.id not in self._computed:
            try:
                self._computed[model.id] = self._settlement.result(model.id, reported)
            except (NotOpened, Diverged) as error:
                reason = f"a result was reported that follows from nothing that this service opened: {error}"
                return Finding(reason, (Difference("the whole result", str(reported), "none"),))
        differing = differences(reported, self._computed[model.id], on_chain.trainers, on_chain.validators)
        if differing:
            words = "; ".join(map(str, differing))
            return Finding(f"the reported result is not the one computed here: {words}", differing)
        if model.weights is None and market.now() >= on_chain.deadline - on_chain.terms.review_period // PATIENCE:
            came = model.reason or "nothing came"
            reason = f"the model was not delivered by half of the review period: {came}"
            return Finding(reason, (Difference(NOT_DELIVERED, "the result it belongs to", came),))
        return None

    def _claim(self, model: Model, finding: Finding) -> bytes:
        log.error("result disputed", training=str(model.id), reason=finding.reason)
        exchanges = [name for name in self._journal.names(model.id) if not name[0].startswith(ASKED)]
        copies = self._copies(model.id, exchanges)
        signer = self._chain.signer()
        signed = signer.sign(disputes.claim(model.id, signer.address, finding.differences, copies))
        dispute = {
            "disputer": None,
            "reason": finding.reason,
            "evidence_hash": disputes.evidence_hash(signed).hex(),
            "outcome": None,
        }
        packed = signed.pack()
        self._storage.move(model.id, claim=packed, dispute=dispute, reason=finding.reason)
        return packed

    def _copies(self, training_id: uuid.UUID, exchanges: Iterable[tuple[str, int]]) -> Iterator[Copy]:
        for kind, round_ in exchanges:
            entry = self._journal.find(training_id, kind, round_)
            if entry is not None:
                yield Copy(kind=kind, round=round_, question=entry.question, answer=entry.answer)


def differences(
    reported: Result, computed: Result, trainers: Sequence[str], validators: Sequence[str]
) -> tuple[Difference, ...]:
    """Return what one result has otherwise than another, in the words of the contract.

    Parameters
    ----------
    reported, computed : Result
        Of one training, MSEs and contributions in 1e-18 units.
    trainers, validators : sequence of str
        Their addresses, in the contract's order.
    """
    named: list[tuple[str, object, object]] = [
        ("number of rounds", reported.iterations, computed.iterations),
        ("initial MSE", reported.initial_mse, computed.initial_mse),
        ("final MSE", reported.final_mse, computed.final_mse),
    ]
    for what, owners, theirs, ours in (
        ("partial MSE", trainers, reported.partial_mses, computed.partial_mses),
        ("contribution", trainers, reported.contributions, computed.contributions),
        ("whether it answered", trainers, reported.trainers_answered, computed.trainers_answered),
        ("whether it answered", validators, reported.validators_answered, computed.validators_answered),
    ):
        for owner, said, found in zip(owners, theirs, ours, strict=True):
            named.append((f"{what} of {owner}", said, found))
    return tuple(Difference(what, str(left), str(right)) for what, left, right in named if left != right)
