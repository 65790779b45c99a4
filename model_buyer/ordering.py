"""Ordering a training: check, save, pay, announce; then follow the chain until everyone is paid."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from commons.chain import deadlines
from commons.chain.connection import Connection
from commons.chain.marketplace import (
    ChainUnavailable,
    Dispute,
    InsufficientFunds,
    Marketplace,
    Outcome,
    PaymentKind,
    Reverted,
    Role,
    Terms,
    Training,
)
from commons.chain.marketplace import Status as ChainStatus
from commons.chain.training import WHOLE
from commons.crypto.paillier import PrivateKey
from commons.crypto.proofs import prove_key
from commons.errors import Conflict, PeerRefused, PeerUnavailable, VerificationFailed
from commons.http.peer import Peers
from commons.protocol.messages import (
    DataRequirements,
    HyperParameters,
    ModelType,
    Order,
    Participants,
    TrainingRequest,
)
from commons.protocol.signed import Domain, proof_context
from model_buyer import peers as calls
from model_buyer.storage import Model, Status, Storage
from model_buyer.vault import Vault

OVER = {
    ChainStatus.CANCELLED: (
        Status.CANCELLED,
        "joining ended without enough data owners; the payment is refunded",
    ),
    ChainStatus.FAILED: (Status.FAILED, "the training failed; the payment is refunded"),
    ChainStatus.EXPIRED: (Status.FAILED, "the training's deadline passed; the payment is refunded"),
}

log = structlog.get_logger()


@dataclass(frozen=True)
class Periods:
    """How long the phases of a training may take, in seconds, and the trainers' fixed share (1e-18 units)."""

    join_seconds: int
    training_seconds: int
    review_seconds: int
    fixed_share: int


@dataclass(frozen=True)
class NewOrder:
    """What a user orders. ``payment`` is in wei."""

    user_id: uuid.UUID
    name: str
    model_type: ModelType
    payment: int
    data_requirements: DataRequirements
    hyper_parameters: HyperParameters
    participants: Participants
    periods: Periods


class Ordering:
    """The buyer's part in the lifecycle of trainings.

    Parameters
    ----------
    storage, vault
        The buyer's tables, and what seals private keys in them.
    chain : Connection
        The way to the contract, as the buyer's account.
    peers : Peers
        Connections to the other services.
    aggregator_url, own_url, arbiter : str
        Who runs the training, how it reaches this service, and who decides disputes.
    """

    def __init__(
        self,
        storage: Storage,
        vault: Vault,
        chain: Connection,
        peers: Peers,
        aggregator_url: str,
        own_url: str,
        arbiter: str,
    ) -> None:
        self._storage = storage
        self._vault = vault
        self._chain = chain
        self._peers = peers
        self._aggregator_url = aggregator_url
        self._own_url = own_url
        self._arbiter = arbiter
        self._lock = threading.RLock()  # an order is not followed while it is being paid for

    def order(self, new: NewOrder) -> Model:
        """Order and pay. Nothing is paid unless the aggregator answers and the money is there.

        Raises
        ------
        PeerUnavailable
            The aggregator or the chain does not answer.
        InsufficientFunds
            The service's account cannot pay.
        Conflict
            The account has another role, or the aggregator works on another contract.
        """
        market = self._chain.marketplace()
        aggregator = self._describe_aggregator(market)
        if market.balance(self._chain.address) < new.payment:
            raise InsufficientFunds(self._chain.address, new.payment)
        self._register(market)
        key = PrivateKey.generate(new.hyper_parameters.key_bits)
        order = Order(
            model_type=new.model_type,
            data_requirements=new.data_requirements,
            hyper_parameters=new.hyper_parameters,
            participants=new.participants,
            modulus=f"{int(key.public_key.n):x}",
        )
        model = Model(
            id=uuid.uuid4(),
            user_id=new.user_id,
            name=new.name,
            status=Status.PAYING,
            order=order.canonical(),
            sealed_key=self._vault.seal(key.to_bytes()),
            payment=new.payment,
            terms=asdict(new.periods) | {"aggregator": aggregator},
        )
        with self._lock:
            if self._chain.marketplace() is not market:
                raise Conflict("the service was moved to another contract meanwhile: order again")
            self._storage.add(model)
            try:
                return self._announce(self._pay(model))
            except ChainUnavailable as error:  # the payment may be on its way: the driver finds out, and goes on
                log.warning("order not paid yet", training=str(model.id), error=str(error))
                return model

    def cancel(self, model_id: uuid.UUID) -> Model:
        """Take an order back that nobody has accepted, and have its payment refunded; once, however often it is asked.

        An order that is still being paid for is paid first. A payment on its way cannot be called back, and one that
        is mined after its order was forgotten would be lost.

        Raises
        ------
        Conflict
            Data owners have accepted, or it has started, or is over: the text says what will become of it.
        ChainUnavailable
            The chain does not answer; to ask again is safe.
        """
        with self._lock:
            model = self._storage.model(model_id)
            if model.status == Status.PAYING:
                model = self._pay(model)
            if model.status != Status.INITIATED:
                return _cancelled(model)
            market = self._chain.marketplace()
            on_chain = market.training(model_id)
            if on_chain.status == ChainStatus.OPEN:
                try:
                    market.cancel(model_id)
                except Reverted:  # somebody was faster: an owner, or the aggregator
                    if (found := market.training(model_id)).status == ChainStatus.OPEN:
                        raise _not_yet(found) from None
            return _cancelled(self._read_chain(model))

    def remove(self, model_id: uuid.UUID) -> None:
        """Hide a model from its user; Conflict unless it is over.

        It is kept, with what this service said in its training: others may hold it to that, and a model that was not
        delivered yet may still be.
        """
        with self._lock:
            model = self._storage.model(model_id)
            if model.status not in (Status.FINISHED, Status.FAILED, Status.CANCELLED):
                raise Conflict(f"model {model_id} is {model.status}: it can be removed when it is over")
            self._storage.remove(model_id)

    @contextmanager
    def moving(self, to: Marketplace) -> Iterator[None]:
        """Let nothing be ordered while the service moves to another contract.

        On the other contract it registers when it orders.

        Raises
        ------
        Conflict
            An order is unfinished, or its model not delivered yet, which could not be signed for on the other one.
        """
        with self._lock:
            if unfinished := self.unfinished():
                raise Conflict(f"model {unfinished[0]} is unfinished: it ends on the contract that it was ordered on")
            finished = self._storage.models((Status.FINISHED,))
            if missing := [model.id for model in finished if model.weights is None and model.removed is None]:
                raise Conflict(f"model {missing[0]} is not delivered yet: wait for it, or remove it, to give it up")
            yield

    def follow(self, model_id: uuid.UUID) -> Model:
        """Bring an order to where the chain says it stands; pay or announce what was interrupted."""
        with self._lock:
            return self._follow(model_id)

    def _follow(self, model_id: uuid.UUID) -> Model:
        model = self._storage.model(model_id)
        if model.status == Status.PAYING:
            model = self._pay(model)
        if model.status == Status.INITIATED and not model.announced:
            model = self._announce(model)
        return self._read_chain(model) if model.status in (Status.INITIATED, Status.IN_PROGRESS) else model

    def _read_chain(self, model: Model) -> Model:
        model_id, market = model.id, self._chain.marketplace()
        on_chain = market.training(model_id)
        if deadlines.enforce(market, on_chain, deadlines.GRACE_S):
            on_chain = market.training(model_id)
        status = on_chain.status
        if status in OVER:
            to, reason = OVER[status]
            if deadlines.taken_back(market, on_chain):
                reason = "cancelled before any data owner accepted; the payment is refunded"
            why = market.failure(model_id)
            self._withdraw(market)
            return self._storage.move(model_id, to, reason=_joined(reason, why, model.reason))
        if status == ChainStatus.DISPUTED and (model.dispute is None or model.dispute["disputer"] is None):
            dispute = market.dispute(model_id)
            if dispute is not None:
                return self._storage.move(model_id, Status.IN_PROGRESS, dispute=self._document(model, dispute))
        if status in (ChainStatus.TRAINING, ChainStatus.REPORTED, ChainStatus.DISPUTED):
            return self._storage.move(model_id, Status.IN_PROGRESS)
        if status == ChainStatus.FINISHED:
            return self._finish(market, model, on_chain)
        return model

    def unfinished(self) -> list[uuid.UUID]:
        """Return the orders whose place on chain may still change."""
        open_ = (Status.PAYING, Status.INITIATED, Status.IN_PROGRESS)
        return [model.id for model in self._storage.models(open_)]

    def _describe_aggregator(self, market: Marketplace) -> str:
        found = calls.describe(self._peers, self._aggregator_url)
        if (found.contract.lower(), found.chain_id) != (market.address.lower(), market.chain_id):
            raise Conflict(
                f"the aggregator works on contract {found.contract} of chain {found.chain_id},"
                f" this service on {market.address} of chain {market.chain_id}"
            )
        return found.account

    def _register(self, market: Marketplace) -> None:
        with self._lock:  # two first orders at once register once
            role = market.role(self._chain.address)
            if role == Role.NONE:
                market.register(Role.MODEL_BUYER)
            elif role != Role.MODEL_BUYER:
                raise Conflict(f"account {self._chain.address} is registered as {role.name} already, for good")

    def _pay(self, model: Model) -> Model:
        market = self._chain.marketplace()
        under_way = market.unconfirmed(self._chain.address)
        if market.training(model.id).status == ChainStatus.NONE:
            if under_way:  # perhaps this payment, sent before a crash
                raise ChainUnavailable(f"transactions of {self._chain.address} are not mined yet")
            terms = dict(model.terms)
            aggregator = terms.pop("aggregator")
            periods = Periods(**terms)
            order = model.parsed_order
            joined_by = market.now() + periods.join_seconds
            try:
                market.new_model(
                    model.id,
                    order.model_type,
                    aggregator,
                    Terms(
                        wanted_owners=order.participants.wanted,
                        minimum_owners=order.participants.minimum,
                        join_deadline=joined_by,
                        training_deadline=joined_by + periods.training_seconds,
                        review_period=periods.review_seconds,
                        fixed_share=periods.fixed_share,
                        validator_share=round(order.participants.validator_share * WHOLE),
                        arbiter=self._arbiter,
                        order_hash=order.digest(),
                    ),
                    model.payment,
                )
            except (Reverted, InsufficientFunds) as error:
                self._storage.move(model.id, Status.FAILED, reason=str(error))
                raise
        return self._storage.move(model.id, Status.INITIATED)

    def _announce(self, model: Model) -> Model:
        domain = self._chain.signer().domain
        request = TrainingRequest(
            training=model.id,
            chain_id=domain.chain_id,
            contract=domain.contract,
            buyer=self._chain.address,
            buyer_url=self._own_url,
            aggregator_url=self._aggregator_url,
            order=model.parsed_order,
            key_proof=model.key_proof or self._prove(model, domain),
        )
        try:
            calls.announce(self._peers, self._aggregator_url, request, model.terms["aggregator"])
        except (PeerUnavailable, PeerRefused, VerificationFailed) as error:  # it is paid for: the driver tries again
            log.warning("order not announced yet", training=str(model.id), error=str(error))
            return model
        return self._storage.move(model.id, announced=True)

    def _prove(self, model: Model, domain: Domain) -> bytes:
        # Kept: it is made with fresh randomness, and whoever is told of the order twice should read the same.
        key = PrivateKey.from_bytes(self._vault.open(model.sealed_key))
        proof = prove_key(key, proof_context(domain, model.id, "key", 0, self._chain.address)).to_bytes()
        self._storage.move(model.id, key_proof=proof)
        return proof

    def _finish(self, market: Marketplace, model: Model, on_chain: Training) -> Model:
        self._withdraw(market)
        payments = market.payments(model.id)
        paid: dict[str, int] = {}
        for payment in payments:
            if payment.kind not in (PaymentKind.BUYER_RETURN, PaymentKind.BOND):
                paid[payment.recipient] = paid.get(payment.recipient, 0) + payment.wei
        to, reason = Status.FINISHED, model.reason
        dispute = None if on_chain.disputer is None else market.dispute(model.id)
        if dispute is not None and dispute.outcome is Outcome.REFUND:
            to, reason = Status.FAILED, _joined("the arbiter of a dispute refunded the payment", model.reason)
        return self._storage.move(
            model.id,
            to,
            reason=reason,
            spent=model.payment - sum(p.wei for p in payments if p.kind == PaymentKind.BUYER_RETURN),
            payments={address: str(wei) for address, wei in paid.items()},
            dispute=None if dispute is None else self._document(model, dispute),
        )

    def _document(self, model: Model, dispute: Dispute) -> dict[str, Any]:
        known = model.dispute if dispute.disputer == self._chain.address else None
        return {
            "disputer": dispute.disputer,
            "reason": known and known["reason"],
            "evidence_hash": dispute.evidence_hash.hex(),
            "outcome": dispute.outcome.name if dispute.outcome is not None else None,
        }

    def _withdraw(self, market: Marketplace) -> None:
        if market.credit(self._chain.address) > 0:
            market.withdraw()


def _cancelled(model: Model) -> Model:
    if model.status == Status.CANCELLED:
        return model
    if model.status == Status.FAILED:
        raise Conflict(f"model {model.id} is FAILED: its payment, if there was one, is refunded already")
    if model.status == Status.FINISHED:
        raise Conflict(f"model {model.id} is FINISHED: the owners who trained it are paid")
    raise Conflict(
        f"model {model.id} is {model.status}: what has started cannot be cancelled. It ends by itself: with a model, or"
        " with a refund at its training deadline at the latest"
    )


def _not_yet(on_chain: Training) -> Conflict:
    deadline = datetime.fromtimestamp(on_chain.terms.join_deadline, UTC).isoformat()
    return Conflict(
        f"{len(on_chain.owners)} data owners have accepted training {on_chain.id}: it can be cancelled before the first"
        f" does, or if fewer than {on_chain.terms.minimum_owners} have at {deadline}. Wait: it starts, or is refunded,"
        " by itself"
    )


def _joined(reason: str, *causes: str | None) -> str:
    return ": ".join((reason, *(cause for cause in causes if cause)))
