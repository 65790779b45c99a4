"""Taking part: from the request, over the acceptance on chain, to the earnings."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence

import structlog

from commons.chain import deadlines
from commons.chain.connection import Connection
from commons.chain.marketplace import Marketplace, Outcome, PaymentKind, Role
from commons.chain.marketplace import Status as ChainStatus
from commons.crypto.proofs import KeyProof, verify_key
from commons.errors import Conflict, NotAuthorised, PeerRefused, PeerUnavailable, VerificationFailed
from commons.http.peer import Peers
from commons.learning.local_steps import require_stable
from commons.learning.statistics import GramStatistics
from commons.protocol.messages import Order, TrainingRequest
from commons.protocol.signed import proof_context
from data_owner import datasets
from data_owner import peers as calls
from data_owner.datasets import Comparison
from data_owner.reviewing import Reviewing
from data_owner.seen import Seen
from data_owner.storage import Dataset, Outline, Status, Storage, Training

OVER = {
    ChainStatus.CANCELLED: "the order was cancelled",
    ChainStatus.FAILED: "the training failed",
    ChainStatus.EXPIRED: "the training's deadline passed",
}

REFUNDED = "the arbiter of a dispute refunded the payment"

log = structlog.get_logger()


class Participation:
    """The owner's part in the lifecycle of trainings. The chain says where a training stands; this follows it.

    Parameters
    ----------
    storage : Storage
        The owner's tables.
    chain : Connection
        The way to the contract, as the owner's account.
    peers : Peers
        Connections to the other services.
    reviewing : Reviewing
        Checks reported results.
    """

    def __init__(self, storage: Storage, chain: Connection, peers: Peers, reviewing: Reviewing) -> None:
        self._storage = storage
        self._chain = chain
        self._peers = peers
        self._reviewing = reviewing
        self._lock = threading.RLock()  # nobody follows a training while it is being accepted

    def register(self, aggregator_url: str, own_url: str) -> None:
        """Register the owner's account on chain, once, and the owner at the aggregator."""
        market = self._chain.marketplace()
        role = market.role(self._chain.address)
        if role == Role.NONE:
            market.register(Role.DATA_OWNER)
        elif role != Role.DATA_OWNER:
            raise Conflict(f"account {self._chain.address} is registered as {role.name} already, for good")
        calls.register(self._peers, market, aggregator_url, self._chain.address, own_url)
        self._storage.note_registration(aggregator_url, own_url)

    def offer(self, request: TrainingRequest, sender: str) -> None:
        """Take note of a request to take part, after checking it against the chain, and its key's proof.

        Parameters
        ----------
        request : TrainingRequest
            The buyer's.
        sender : str
            Who passes it on.

        Raises
        ------
        NotAuthorised
            That is not the training's aggregator.
        VerificationFailed
            The chain has no such order, or another one.
        InvalidKey, InvalidProof
            Its modulus is none that an owner could encrypt under, or its proof does not show that it is.
        """
        market = self._chain.marketplace()
        on_chain = market.training(request.training)
        found = {
            "contract": market.address.lower(),
            "chain": market.chain_id,
            "buyer": on_chain.buyer.lower(),
            "order": on_chain.terms.order_hash.hex(),
        }
        claimed = {
            "contract": request.contract.lower(),
            "chain": request.chain_id,
            "buyer": request.buyer.lower(),
            "order": request.order.digest().hex(),
        }
        if on_chain.status == ChainStatus.NONE:
            raise VerificationFailed(f"training {request.training} is not on chain")
        if found != claimed:
            raise VerificationFailed(f"the request claims {claimed}, the chain says {found}")
        if sender.lower() != on_chain.aggregator.lower():
            raise NotAuthorised(f"signed by {sender}: this training is for {on_chain.aggregator} to offer")
        bits = request.order.hyper_parameters.key_bits
        context = proof_context(self._chain.signer().domain, request.training, "key", 0, on_chain.buyer)
        verify_key(int(request.order.modulus, 16), KeyProof.from_bytes(request.key_proof, bits), context, bits)
        self._storage.offer(
            Training(
                id=request.training,
                status=Status.OFFERED,
                order=request.order.canonical(),
                buyer=on_chain.buyer,
                aggregator=on_chain.aggregator,
                aggregator_url=request.aggregator_url,
                seen=Seen.of(on_chain, self._chain.address).model_dump(mode="json"),
            )
        )

    def fitting_dataset(self, order: Order) -> Outline | None:
        """Return the newest dataset that has what an order asks for, if there is one."""
        return fitting(self.compare(order))

    def compare(self, order: Order) -> list[Comparison]:
        """Return every dataset, the newest first, with why it does not fit an order."""
        return _compare(self._storage.outlines(), order)

    def on_offer(self) -> dict[uuid.UUID, list[Comparison]]:
        """Return how the datasets fit each training on offer."""
        trainings = self._storage.trainings((Status.OFFERED,))
        outlines = self._storage.outlines() if trainings else []
        return {training.id: _compare(outlines, training.parsed_order) for training in trainings}

    def accept(self, training_id: uuid.UUID) -> Training:
        """Accept a training: on chain, with the newest dataset that fits.

        Raises
        ------
        Conflict
            It is not on offer (any more), or no dataset fits.
        DivergingStep
            Gradient descent with the order's learning rate would diverge on this owner's rows.
        """
        with self._lock:
            return self._accept(training_id)

    def _accept(self, training_id: uuid.UUID) -> Training:
        training = self._storage.training(training_id)
        if training.status != Status.OFFERED:
            raise Conflict(f"training {training_id} is {training.status}: it cannot be accepted (again)")
        order = training.parsed_order
        dataset = self.fitting_dataset(order)
        if dataset is None:
            raise Conflict(f"training {training_id} is WAITING, no dataset fits: {self.what_is_missing(order)}")
        hyper = order.hyper_parameters
        if not order.standardises:  # else by what is known only when everybody has accepted
            require_stable(statistics_for(self._storage.dataset(dataset.id), order), hyper.learning_rate, hyper.ridge)
        market = self._chain.marketplace()
        status = market.training(training_id).status
        if status != ChainStatus.OPEN:
            raise Conflict(f"training {training_id} is {status.name} on chain: joining is over")
        self._storage.claim(training_id, dataset.id)
        try:
            market.accept_training(training_id, dataset.rows)
        finally:
            training = self.follow(training_id)
        return training

    def what_is_missing(self, order: Order) -> str | None:
        """Say in plain words why no dataset fits an order; None if one does."""
        return missing(self.compare(order))

    def follow(self, training_id: uuid.UUID) -> Training:
        """Bring a training to where the chain says it stands, and withdraw what it earned."""
        with self._lock:
            return self._follow(training_id)

    def _follow(self, training_id: uuid.UUID) -> Training:
        training = self._storage.training(training_id)
        status = Status(training.status)
        if status in (Status.FINISHED, Status.FAILED):
            return training
        market = self._chain.marketplace()
        own = self._chain.address
        under_way = market.unconfirmed(own) if status == Status.ACCEPTING else 0
        on_chain = market.training(training_id)
        takes_part = own in {owner.address for owner in on_chain.owners}
        unpaid = takes_part and on_chain.status in (ChainStatus.REPORTED, ChainStatus.DISPUTED)
        if unpaid and deadlines.enforce(market, on_chain, deadlines.GRACE_S):
            on_chain = market.training(training_id)
        if (seen := Seen.of(on_chain, own)) != training.parsed_seen:
            self._storage.see(training_id, seen)
        if takes_part and on_chain.status in (ChainStatus.FINISHED, *OVER):
            for iteration, mse in market.history(training_id):  # it may have been away when the aggregator told it
                self._storage.add_metric(training_id, iteration, mse)
        if on_chain.status in OVER:
            reason, why = OVER[on_chain.status], market.failure(training_id)
            return self._storage.move(training_id, Status.FAILED, reason=f"{reason}: {why}" if why else reason)
        if not takes_part:
            if on_chain.status != ChainStatus.OPEN:
                reason = "joining was over before this owner had accepted"
                return self._storage.move(training_id, Status.FAILED, reason=reason)
            if status != Status.ACCEPTING or under_way:  # perhaps the acceptance, sent before a crash
                return training
            return self._storage.move(training_id, Status.OFFERED)
        if status in (Status.OFFERED, Status.ACCEPTING):  # OFFERED: it was mined after it had been given up
            training = self._storage.move(training_id, Status.INITIATED)
            self._announce(training, own)
        if on_chain.trainer_count:
            role = "TRAINER" if own in on_chain.trainers else "VALIDATOR"
            training = self._storage.move(training_id, Status.IN_PROGRESS, role=role)
        if on_chain.result is not None:
            training = self._reviewing.review(training, on_chain)
        return self._finish(market, training) if on_chain.status == ChainStatus.FINISHED else training

    def _finish(self, market: Marketplace, training: Training) -> Training:
        own = self._chain.address
        payments = [p for p in market.payments(training.id) if p.recipient == own and p.kind != PaymentKind.BOND]
        if market.credit(own) > 0:
            market.withdraw()
        to, reason = Status.FINISHED, training.reason
        if training.dispute is not None and training.dispute["outcome"] == Outcome.REFUND.name:
            to, reason = Status.FAILED, ": ".join(filter(None, (REFUNDED, training.reason)))
        return self._storage.move(training.id, to, earned=sum(payment.wei for payment in payments), reason=reason)

    def unfinished(self) -> list[uuid.UUID]:
        """Return the trainings whose place on chain may still change."""
        open_ = (Status.OFFERED, Status.ACCEPTING, Status.INITIATED, Status.IN_PROGRESS)
        return [training.id for training in self._storage.trainings(open_)]

    def _announce(self, training: Training, own: str) -> None:
        try:
            calls.announce_acceptance(self._peers, training.aggregator_url, training.aggregator, training.id, own)
        except (PeerUnavailable, PeerRefused, VerificationFailed) as error:  # it reads the chain anyway, a little later
            log.warning("acceptance not announced", training=str(training.id), error=str(error))


def fitting(comparisons: Sequence[Comparison]) -> Outline | None:
    """Return the first dataset that fits, if there is one."""
    return next((each.dataset for each in comparisons if not each.mismatches), None)


def missing(comparisons: Sequence[Comparison]) -> str | None:
    """Say in plain words why no dataset fits; None if one does."""
    if fitting(comparisons) is not None:
        return None
    said = " / ".join(f"{each.dataset.name}: {'; '.join(map(str, each.mismatches))}" for each in comparisons)
    return said or "upload a dataset with the order's columns"


def _compare(outlines: Sequence[Outline], order: Order) -> list[Comparison]:
    requirements = order.data_requirements
    return [Comparison(dataset, tuple(datasets.mismatches(dataset, requirements))) for dataset in outlines]


def statistics_for(dataset: Dataset, order: Order) -> GramStatistics:
    """Return a dataset's statistics of the columns of an order, its targets divided by the order's scale."""
    requirements, table = order.data_requirements, dataset.table
    named = {column.casefold(): column for column in table.columns}  # "Age" is the order's "age"
    features = [named[name.casefold()] for name in requirements.features.list]
    return table.select(features, named[requirements.target.name.casefold()], order.target_scale)
