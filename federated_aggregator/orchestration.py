"""Trainings from the order to the payment: the chain says where each stands, this does what is next."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog

from commons.chain import deadlines
from commons.chain.connection import Connection
from commons.chain.marketplace import Marketplace, Result, Role
from commons.chain.marketplace import Outcome as ArbiterOutcome
from commons.chain.marketplace import Status as ChainStatus
from commons.chain.marketplace import Training as OnChain
from commons.crypto.packing import FRACTION_BITS
from commons.crypto.paillier import PublicKey
from commons.crypto.proofs import KeyProof, verify_key
from commons.database import now
from commons.errors import Conflict, InvalidInput, PeerRefused, PeerUnavailable, VerificationFailed
from commons.learning.local_steps import relative_weights
from commons.protocol.evaluation import Diverged
from commons.protocol.messages import Delivery, Notice, TrainingRequest
from commons.protocol.outcome import Outcome, averaged_model
from commons.protocol.signed import Signed, proof_context
from commons.protocol.transcript import Header
from federated_aggregator.course import Course, Deviated, Meter, Party, TooFewAnswered
from federated_aggregator.evaluations import Evaluations
from federated_aggregator.peers import Buyer, Owners
from federated_aggregator.preparation import Preparations
from federated_aggregator.recorder import Recorder
from federated_aggregator.rounds import Sum
from federated_aggregator.storage import Status, Storage, Training
from federated_aggregator.training import Training as TrainingRun
from federated_aggregator.transcripts import Transcripts

OVER = {
    ChainStatus.CANCELLED: (Status.CANCELLED, "joining ended without enough data owners"),
    ChainStatus.FAILED: (Status.FAILED, "the training was aborted"),
    ChainStatus.EXPIRED: (Status.FAILED, "the training's deadline passed"),
}

FATAL = (TooFewAnswered, Diverged, VerificationFailed, PeerRefused, InvalidInput)
"""What ends a training: trying again would not help."""

PUBLIC = (TooFewAnswered, Diverged, Deviated)
"""Of these the text goes on chain; others may quote a peer's URL or words, and stay between the parties."""

log = structlog.get_logger()


class Orchestration:
    """The aggregator's part in the lifecycle of trainings.

    Parameters
    ----------
    storage : Storage
        The aggregator's tables.
    transcripts : Transcripts
        What was said in trainings.
    run : TrainingRun
        Trains.
    recorder : Recorder
        Puts metrics on chain.
    evaluations : Evaluations
        Has what unmasks the delivered model.
    owners, buyer
        Calls to the others.
    chain : Connection
        The way to the contract, as the aggregator's account.
    """

    def __init__(
        self,
        storage: Storage,
        transcripts: Transcripts,
        run: TrainingRun,
        recorder: Recorder,
        evaluations: Evaluations,
        owners: Owners,
        buyer: Buyer,
        chain: Connection,
    ) -> None:
        self._storage = storage
        self._transcripts = transcripts
        self._run = run
        self._recorder = recorder
        self._evaluations = evaluations
        self._owners = owners
        self._buyer = buyer
        self._chain = chain
        self._preparations = Preparations()
        self._lock = threading.Lock()  # no order is taken while the contract changes

    def register(self) -> None:
        """Register the aggregator's account on chain, once."""
        self._register(self._chain.marketplace())

    def _register(self, market: Marketplace) -> None:
        role = market.role(self._chain.address)
        if role == Role.NONE:
            market.register(Role.FEDERATED_AGGREGATOR)
        elif role != Role.FEDERATED_AGGREGATOR:
            raise Conflict(f"account {self._chain.address} is registered as {role.name} already, for good")

    def take_order(self, signed: Signed, request: TrainingRequest) -> None:
        """Take note of a paid order, after checking it against the chain and the proof of its key.

        Parameters
        ----------
        signed, request
            The buyer's request, as it signed it, and decoded.

        Raises
        ------
        VerificationFailed
            The chain has no such order, or another one, or one for another aggregator; or the key is not a sound one.
        """
        market = self._chain.marketplace()
        on_chain = market.training(request.training)
        if on_chain.status == ChainStatus.NONE:
            raise VerificationFailed(f"training {request.training} is not on chain")
        found = (on_chain.buyer, on_chain.aggregator, on_chain.terms.order_hash.hex(), market.address, market.chain_id)
        claimed = (
            request.buyer,
            self._chain.address,
            request.order.digest().hex(),
            request.contract,
            request.chain_id,
        )
        if found != claimed:
            raise VerificationFailed(f"the order claims {claimed}, the chain says {found}")
        bits = request.order.hyper_parameters.key_bits
        context = proof_context(self._chain.signer().domain, request.training, "key", 0, request.buyer)
        verify_key(int(request.order.modulus, 16), KeyProof.from_bytes(request.key_proof, bits), context, bits)
        with self._lock:
            if self._chain.marketplace() is not market:
                raise Conflict(f"this service was moved to contract {self._chain.marketplace().address} meanwhile")
            self._storage.add(Training(id=request.training, status=Status.INITIATED, request=signed.pack()))

    @contextmanager
    def moving(self, to: Marketplace) -> Iterator[None]:
        """Take no orders while the service moves to another contract, after registering there.

        Raises
        ------
        Conflict
            A training is unfinished, or the account has another role on the other contract.
        """
        with self._lock:
            if unfinished := self.unfinished():
                raise Conflict(
                    f"training {unfinished[0]} is unfinished: it ends on the contract that it was ordered on"
                )
            self._register(to)
            yield

    def unfinished(self) -> list[uuid.UUID]:
        """Return the trainings that may have something to do."""
        return [training.id for training in self._storage.trainings((Status.INITIATED, Status.IN_PROGRESS))]

    def advance(self, training_id: uuid.UUID) -> None:
        """Do what is next for one training."""
        market = self._chain.marketplace()
        on_chain = market.training(training_id)
        if on_chain.status == ChainStatus.OPEN:
            self._close(market, on_chain)
            on_chain = market.training(training_id)
        if deadlines.enforce(market, on_chain):
            on_chain = market.training(training_id)
        if on_chain.status == ChainStatus.OPEN:
            self._preparations.randomisers(training_id, self._storage.training(training_id).parsed_request.order)
            self._offer(training_id)
        if on_chain.status == ChainStatus.CLOSED:
            if on_chain.startable:
                market.start_training(training_id)
            else:
                market.close_joining(training_id)
            on_chain = market.training(training_id)
        if on_chain.status == ChainStatus.TRAINING:
            self._train(market, on_chain)
            on_chain = market.training(training_id)
        refunded = on_chain.status == ChainStatus.FINISHED and _refunded(market, training_id)
        if on_chain.status in (ChainStatus.REPORTED, ChainStatus.DISPUTED, ChainStatus.FINISHED) and not refunded:
            self._deliver(training_id)
        if on_chain.status == ChainStatus.FINISHED:
            self._withdraw(market)
            if refunded:
                self._storage.move(training_id, Status.FAILED, reason="the arbiter refunded the buyer")
                self._tell(on_chain, "the arbiter refunded the buyer")
            elif self._storage.training(training_id).delivered:  # else the buyer gets its model when it is back
                self._storage.move(training_id, Status.FINISHED, reason=None)
                self._tell(on_chain, None)
        if on_chain.status in OVER:
            status, reason = OVER[on_chain.status]
            if deadlines.taken_back(market, on_chain):
                reason = "the buyer cancelled it before any data owner accepted"
            self._preparations.drop(training_id)
            known = self._storage.training(training_id).reason
            self._storage.move(training_id, status, reason=known or reason)
            self._tell(on_chain, known or reason)

    def _offer(self, training_id: uuid.UUID) -> None:
        told = self._storage.offered(training_id)
        request = self._storage.training(training_id).signed_request
        untold = [party for party in self._registered().values() if party.address not in told]
        for address in self._owners.offer(untold, request, training_id):
            self._storage.add_offer(training_id, address)

    def _close(self, market: Marketplace, on_chain: OnChain) -> None:
        terms = on_chain.terms
        late = market.now() > terms.join_deadline
        if len(on_chain.owners) >= (terms.minimum_owners if late else terms.wanted_owners):
            market.close_joining(on_chain.id)

    def _train(self, market: Marketplace, on_chain: OnChain) -> None:
        training = self._storage.training(on_chain.id)
        if training.status == Status.INITIATED:
            joining = (now() - training.created).total_seconds()
            self._storage.add_phases(on_chain.id, {"joining": (joining, 0)})
        self._storage.move(on_chain.id, Status.IN_PROGRESS)
        course = self._course(on_chain)
        self._begin(course, on_chain)
        self._recorder.announce(course)
        try:
            outcome = self._storage.training(on_chain.id).outcome
            if outcome is None:
                outcome = self._conclude(course, *self._run.run(course))
            with course.meter.phase("settlement"):
                self._recorder.record(course)
                self._recorder.settled(course, outcome["iterations"])
                self._report(market, on_chain.id, _result(outcome))
            self._storage.add_phases(on_chain.id, course.meter.take())
        except FATAL as error:
            reason = f"{type(error).__name__}: {error}"[:500]
            log.error("training aborted", training=str(on_chain.id), reason=reason)
            self._storage.move(on_chain.id, reason=reason)
            market.abort_training(on_chain.id, reason if isinstance(error, PUBLIC) else _unquoted(error, on_chain))
        finally:
            self._preparations.drop(on_chain.id)

    def _report(self, market: Marketplace, training_id: uuid.UUID, result: Result) -> None:
        market.report_result(training_id, result)

    def _course(self, on_chain: OnChain) -> Course:
        request = self._storage.training(on_chain.id).parsed_request
        order = request.order
        key = PublicKey.from_modulus(int(order.modulus, 16), order.hyper_parameters.key_bits)
        parties = self._registered()
        trainers = on_chain.owners[: on_chain.trainer_count]
        validators = on_chain.owners[on_chain.trainer_count :]
        return Course(
            id=on_chain.id,
            order=order,
            key=key,
            domain=self._chain.signer().domain,
            randomisers=self._preparations.randomisers(on_chain.id, order),
            buyer=Party(request.buyer_url, on_chain.buyer),
            trainers={i: parties[owner.address] for i, owner in enumerate(trainers) if owner.address in parties},
            trainer_addresses=on_chain.trainers,
            trainer_rows=[owner.rows for owner in trainers],
            weights=relative_weights([owner.rows for owner in trainers], order.hyper_parameters.weighting),
            validators={i: parties[owner.address] for i, owner in enumerate(validators) if owner.address in parties},
            validator_addresses=on_chain.validators,
            validator_rows=[owner.rows for owner in validators],
        )

    def _begin(self, course: Course, on_chain: OnChain) -> None:
        header = Header(
            request=self._storage.training(course.id).signed_request,
            aggregator=self._chain.address,
            trainers=on_chain.trainers,
            validators=on_chain.validators,
            rows=tuple(owner.rows for owner in on_chain.owners),
        )
        self._transcripts.keep(course.id, "header", 0, header)

    def _registered(self) -> dict[str, Party]:
        return {owner.address: Party(owner.url, owner.address) for owner in self._storage.data_owners()}

    def _conclude(self, course: Course, outcome: Outcome, trained: Sum) -> dict[str, Any]:
        contributors, models = self._run.local_models(course)
        if outcome.model == "trained":
            place, factor, ciphertexts = 0, sum(course.weights[i] for i in trained.trainers), trained.ciphertexts
        else:
            weights = [course.weights[i] for i in contributors]
            place, factor, ciphertexts = 1, sum(weights), averaged_model(models, weights, course.key)
        document = {
            "model": outcome.model,
            "place": place,
            "divisor": str(factor << FRACTION_BITS),
            "iterations": outcome.iterations,
            "initial_mse": str(outcome.initial_mse),
            "final_mse": str(outcome.final_mse),
            "partial_mses": [str(value) for value in outcome.partial_mses],
            "contributions": [str(value) for value in outcome.contributions],
            "trainers_answered": outcome.trainers_answered,
            "validators_answered": outcome.validators_answered,
            "transcript_root": self._transcripts.root(course.id).hex(),
            "model_hash": hashlib.sha256(course.key.encode(ciphertexts)).hexdigest(),
        }
        self._storage.move(course.id, outcome=document)
        return document

    def _deliver(self, training_id: uuid.UUID) -> None:
        training = self._storage.training(training_id)
        if training.delivered or training.outcome is None:
            return
        outcome = training.outcome
        request = training.parsed_request
        quotients, salt = self._evaluations.delivery(
            training_id, outcome["iterations"], outcome["place"], request.order.length, int(outcome["divisor"])
        )
        delivery = Delivery(
            training=training_id,
            model=outcome["model"],
            quotients=tuple(f"{value:x}" for value in quotients),
            salt=salt,
        )
        meter = Meter()
        try:
            with meter.phase("settlement") as count:
                self._buyer.deliver(Party(request.buyer_url, request.buyer), delivery, count)
        except (PeerUnavailable, PeerRefused, VerificationFailed) as error:  # the owners need not wait for the buyer
            log.warning("model not delivered yet", training=str(training_id), error=str(error))
            return
        self._storage.add_phases(training_id, meter.take())
        self._storage.move(training_id, delivered=True)

    def _tell(self, on_chain: OnChain, reason: str | None) -> None:
        request = self._storage.training(on_chain.id).parsed_request
        self._buyer.tell(Party(request.buyer_url, request.buyer), on_chain.id)
        parties = self._registered()
        for owner in on_chain.owners:
            if owner.address in parties:
                self._owners.tell(parties[owner.address], Notice(training=on_chain.id, reason=reason))

    def _withdraw(self, market: Marketplace) -> None:
        if market.credit(self._chain.address) > 0:
            market.withdraw()


def _unquoted(error: Exception, on_chain: OnChain) -> str:
    name = type(error).__name__
    # Owners that refuse are left out: it takes the buyer to end a training by refusing.
    return (
        f"{name}: the model buyer {on_chain.buyer} answered {error.status}" if isinstance(error, PeerRefused) else name
    )


def _refunded(market: Marketplace, training_id: uuid.UUID) -> bool:
    dispute = market.dispute(training_id)
    return dispute is not None and dispute.outcome == ArbiterOutcome.REFUND


def _result(outcome: Mapping[str, Any]) -> Result:
    return Result(
        iterations=outcome["iterations"],
        initial_mse=int(outcome["initial_mse"]),
        final_mse=int(outcome["final_mse"]),
        partial_mses=tuple(int(value) for value in outcome["partial_mses"]),
        contributions=tuple(int(value) for value in outcome["contributions"]),
        trainers_answered=tuple(outcome["trainers_answered"]),
        validators_answered=tuple(outcome["validators_answered"]),
        transcript_root=bytes.fromhex(outcome["transcript_root"]),
        model_hash=bytes.fromhex(outcome["model_hash"]),
    )
