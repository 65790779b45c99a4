"""Comparing what a transcript says with what the chain says: the only part of an audit that asks somebody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from eth_utils.crypto import keccak

from commons.audit.findings import Check, Deviation, Party, Report, fields
from commons.chain.marketplace import ChainUnavailable, Marketplace, NoContract
from commons.chain.settlement import settle, trainer_count
from commons.chain.training import Outcome, Payment, PaymentKind, Result, Status, Training
from commons.errors import VerificationFailed
from commons.protocol.messages import TrainingRequest
from commons.protocol.transcript import Transcript

CHAIN = "the chain"

IDENTITY = "training on chain"
ROLES = "owners and their roles"
ERRORS = "errors on chain"
RESULT = "reported result"
RESOLUTION = "decision on the dispute"
PAYMENTS = "payments and credits"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the chain says about a training.

    Parameters
    ----------
    chain_id : int
        Of the chain.
    contract : str
        The marketplace's address.
    training : Training
        As the contract has it.
    accepted : tuple of (str, int)
        Owners and their rows, in the order that the shuffle started from.
    entropy : bytes
        Hash of the block that closed joining; empty if it did not close.
    history : tuple of (int, int)
        Saved rounds and MSEs.
    reported : Result or None
        What the aggregator reported.
    resolution : Outcome or None
        What an arbiter decided.
    payments : tuple of Payment
        What the training credited.
    ledgers : tuple of (str, int, int, int)
        Everybody who was paid: wei that it was ever credited with, and has withdrawn, and its credit.
    """

    chain_id: int
    contract: str
    training: Training
    accepted: tuple[tuple[str, int], ...]
    entropy: bytes
    history: tuple[tuple[int, int], ...]
    reported: Result | None
    resolution: Outcome | None
    payments: tuple[Payment, ...]
    ledgers: tuple[tuple[str, int, int, int], ...]


def facts(market: Marketplace, training_id: UUID) -> Facts:
    """Ask the chain about a training.

    Raises
    ------
    ChainUnavailable, NoContract
        The node does not answer, or there is no marketplace at that address.
    """
    market.verify()
    training = market.training(training_id)
    known = training.status != Status.NONE
    payments = tuple(market.payments(training_id)) if known else ()
    dispute = market.dispute(training_id) if known else None
    paid = sorted({payment.recipient for payment in payments})
    return Facts(
        chain_id=market.chain_id,
        contract=market.address,
        training=training,
        accepted=market.accepted(training_id) if known else (),
        entropy=market.block_hash(training.closed_block) if training.closed_block else b"",
        history=tuple(market.history(training_id)) if known else (),
        reported=market.reported(training_id) if known else None,
        resolution=dispute.outcome if dispute else None,
        payments=payments,
        ledgers=tuple((address, *market.ledger(address), market.credit(address)) for address in paid),
    )


def audit_with_chain(
    transcript: Transcript, report: Report, rpc_url: str, request_type: type[TrainingRequest] = TrainingRequest
) -> Report:
    """Add what the chain says to a report; if it cannot be asked, what therefore was not checked.

    Parameters
    ----------
    transcript : Transcript
        The transcript.
    report : Report
        From :func:`commons.audit.audit`.
    rpc_url : str
        A node of the chain that the transcript names.
    request_type : type
        As in :func:`commons.audit.audit`.
    """
    try:
        request = transcript.header.request.read(request_type)
    except VerificationFailed as error:
        return unchecked(report, str(error))
    market = Marketplace(rpc_url, request.contract)
    try:
        if market.chain_id != request.chain_id:
            reason = f"the transcript is of chain {request.chain_id}, and the node is on chain {market.chain_id}"
            return unchecked(report, reason)
        found = facts(market, request.training)
    except (ChainUnavailable, NoContract) as error:
        return unchecked(report, str(error))
    return compare(transcript, report, found, request_type)


def unchecked(report: Report, reason: str) -> Report:
    """Return the report with all checks that need the chain as not checked."""
    before = tuple(Check(name, not_checked=reason) for name in (IDENTITY, ROLES))
    return report.with_checks(before, tuple(Check(name, not_checked=reason) for name in (ERRORS, RESULT, PAYMENTS)))


def compare(
    transcript: Transcript, report: Report, found: Facts, request_type: type[TrainingRequest] = TrainingRequest
) -> Report:
    """Compare a transcript and what follows from it with what the chain says.

    Parameters
    ----------
    transcript : Transcript
        The transcript.
    report : Report
        From :func:`commons.audit.audit`.
    found : Facts
        What the chain says.
    request_type : type
        As in :func:`commons.audit.audit`.
    """
    try:
        request = transcript.header.request.read(request_type)
    except VerificationFailed as error:
        return unchecked(report, str(error))
    before = (_identity(transcript, request, found), _roles(transcript, found))
    if report.result is None:
        reason = "no result follows from the transcript"
        return report.with_checks(before, tuple(Check(name, not_checked=reason) for name in (ERRORS, RESULT, PAYMENTS)))
    after = [_errors(report, found), _reported(report.result, found)]
    if found.resolution is not None:
        after.append(_resolved(report.result, found))
    after.append(_payments(found))
    return report.with_checks(before, tuple(after))


class _Differences:
    """Collects the first difference of one check."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._items = 0
        self._deviation: Deviation | None = None

    def expect(self, party: Party, what: str, claimed: object, found: object) -> None:
        if claimed == found:
            self._items += 1
        elif self._deviation is None:
            self._deviation = Deviation(party, CHAIN, f"{what} = {_text(claimed)}", f"it is {_text(found)}")

    def check(self) -> Check:
        return Check(self._name, self._items, self._deviation)


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _aggregator(found: Facts) -> Party:
    return Party("aggregator", found.training.aggregator)


def _identity(transcript: Transcript, request: TrainingRequest, found: Facts) -> Check:
    header, training = transcript.header, found.training
    named = Party("aggregator", header.aggregator)
    seen = _Differences(IDENTITY)
    seen.expect(named, "chain", request.chain_id, found.chain_id)
    seen.expect(named, "contract", request.contract.lower(), found.contract.lower())
    seen.expect(named, "training is on chain", True, training.status != Status.NONE)
    seen.expect(named, "aggregator", header.aggregator.lower(), training.aggregator.lower())
    seen.expect(named, "buyer", request.buyer.lower(), training.buyer.lower())
    seen.expect(Party("buyer", training.buyer), "hash of the order", request.order.digest(), training.terms.order_hash)
    return seen.check()


def _roles(transcript: Transcript, found: Facts) -> Check:
    header, training, party = transcript.header, found.training, _aggregator(found)
    if not found.entropy:
        return Check(ROLES, not_checked="joining was never closed")
    rows = dict(found.accepted)
    drawn = shuffled([address for address, _ in found.accepted], found.entropy, training.id)
    trainers = trainer_count(len(drawn), training.terms.validator_share)
    contract = Party("contract", found.contract)
    seen = _Differences(ROLES)
    seen.expect(contract, "trainers of the contract", training.trainers, tuple(drawn[:trainers]))
    seen.expect(contract, "validators of the contract", training.validators, tuple(drawn[trainers:]))
    seen.expect(party, "trainers", _lower(header.trainers), _lower(drawn[:trainers]))
    seen.expect(party, "validators", _lower(header.validators), _lower(drawn[trainers:]))
    seen.expect(party, "rows", header.rows, tuple(rows[address] for address in drawn))
    return seen.check()


def _lower(addresses: Sequence[str]) -> tuple[str, ...]:
    return tuple(address.lower() for address in addresses)


def shuffled(owners: Sequence[str], entropy: bytes, training_id: UUID) -> list[str]:
    """Draw the order of the owners as ``Marketplace.startTraining`` does: the first of them train.

    Parameters
    ----------
    owners : sequence of str
        Addresses, in the order of acceptance.
    entropy : bytes
        Hash of the block that closed joining.
    training_id : UUID
        The training.
    """
    drawn, id_ = list(owners), training_id.bytes.ljust(32, b"\0")
    for i in range(len(drawn) - 1, 0, -1):
        j = int.from_bytes(keccak(entropy + id_ + i.to_bytes(32, "big")), "big") % (i + 1)
        drawn[i], drawn[j] = drawn[j], drawn[i]
    return drawn


def _errors(report: Report, found: Facts) -> Check:
    assert report.result is not None
    party = _aggregator(found)
    rounds = sorted({round_ for round_, _ in report.curve})
    seen = _Differences(ERRORS)
    seen.expect(party, "evaluated rounds", [round_ for round_, _ in found.history], rounds)
    for round_, mse in found.history:
        measured = [value for evaluated, value in report.curve if evaluated == round_]
        seen.expect(party, f"MSE after {round_} rounds", mse, mse if mse in measured else measured)
    return seen.check()


def _reported(result: Result, found: Facts) -> Check:
    if found.reported is None:
        return Check(RESULT, not_checked="nothing was reported")
    return _same_result(RESULT, _aggregator(found), found.reported, result)


def _same_result(name: str, party: Party, claimed: Result, result: Result) -> Check:
    seen = _Differences(name)
    recomputed = dict(fields(result))
    for field, value in fields(claimed):
        seen.expect(party, field, value, recomputed[field])
    return seen.check()


def _resolved(result: Result, found: Facts) -> Check:
    arbiter = Party("arbiter", found.training.arbiter)
    if found.resolution is Outcome.REFUND:
        return Check(RESOLUTION, not_checked="the arbiter refunded the buyer: what it was shown is not in a transcript")
    if found.training.result is None:
        return Check(RESOLUTION, not_checked="the chain has no result")
    return _same_result(RESOLUTION, arbiter, found.training.result, result)


def _payments(found: Facts) -> Check:
    training = found.training
    if training.status != Status.FINISHED:
        return Check(PAYMENTS, not_checked=f"the training is {training.status.name}: nothing was paid yet")
    contract = Party("contract", found.contract)
    seen = _Differences(PAYMENTS)
    paid = [payment for payment in found.payments if payment.kind != PaymentKind.BOND]
    seen.expect(contract, "payments", _sorted(paid), _sorted(expected_payments(found)))
    bonds = [payment.wei for payment in found.payments if payment.kind == PaymentKind.BOND]
    seen.expect(contract, "bonds", bonds, [training.bond] if training.disputer else [])
    for address, credited, withdrawn, credit in found.ledgers:
        seen.expect(contract, f"credit of {address}", credit, credited - withdrawn)
    return seen.check()


def _sorted(payments: Sequence[Payment]) -> list[tuple[str, str, int]]:
    return sorted((payment.kind.value, payment.recipient, payment.wei) for payment in payments)


def expected_payments(found: Facts) -> list[Payment]:
    """Return what a finished training has to have paid, bonds apart."""
    training = found.training
    if found.resolution is Outcome.REFUND or training.result is None:
        return [Payment(training.buyer, PaymentKind.BUYER_RETURN, training.escrow)]
    split = settle(training.escrow, training.terms.fixed_share, training.result)
    owners = [
        *(zip(training.trainers, split.trainers, training.result.trainers_answered, strict=True)),
        *(zip(training.validators, split.validators, training.result.validators_answered, strict=True)),
    ]
    kinds = [PaymentKind.CONTRIBUTION] * len(training.trainers) + [PaymentKind.VALIDATION] * len(training.validators)
    return [
        Payment(training.aggregator, PaymentKind.ORCHESTRATION, split.aggregator),
        *(Payment(who, kind, wei) for kind, (who, wei, answered) in zip(kinds, owners, strict=True) if answered),
        Payment(training.buyer, PaymentKind.BUYER_RETURN, split.buyer),
    ]
