"""What an arbiter decides, from a transcript, a claim and the copies that come with it. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from commons.audit.findings import Deviation, Report
from commons.chain.training import Outcome, Result, Training
from commons.crypto.paillier import PublicKey
from commons.errors import VerificationFailed
from commons.learning.local_steps import relative_weights
from commons.protocol.disputes import NOT_DELIVERED, Claim, Copy
from commons.protocol.messages import (
    Delivery,
    HyperParameters,
    Metric,
    RoundQuestion,
    ScoreQuestion,
    TrainingRequest,
    Vector,
)
from commons.protocol.outcome import ANSWERED_SHARE
from commons.protocol.schedule import scales
from commons.protocol.signed import Domain, Signed
from commons.protocol.totals import read_metric, verify_claims
from commons.protocol.transcript import Transcript, TranscriptRoot


@dataclass(frozen=True)
class Decision:
    """How a dispute ends.

    Parameters
    ----------
    outcome : Outcome
        For the contract.
    corrected : Result or None
        What to pay by, with the outcome CORRECTED.
    delivery : Delivery or None
        What the arbiter hands to the buyer itself before it decides: a result is paid for once the model is there.
    reason : str
        In plain words.
    """

    outcome: Outcome
    corrected: Result | None
    delivery: Delivery | None
    reason: str


def withheld(why: str) -> Decision:
    """Return the decision when the aggregator does not show what it put the hash of on chain."""
    return Decision(Outcome.REFUND, None, None, f"the aggregator did not show its transcript: {why}")


def no_result(why: str) -> Decision:
    """Return the decision when the transcript is the one whose hash is on chain, and is worth nothing."""
    return Decision(Outcome.REFUND, None, None, f"no result follows from the transcript: {why}")


def require_same(shown: Transcript, on_chain: Training, domain: Domain) -> TrainingRequest:
    """Check that a transcript is of the training on chain, and the one whose root was reported.

    An audit says that what is in a transcript fits together. Anybody can make one up that does, with other parties.

    Parameters
    ----------
    shown : Transcript
    on_chain : Training
        With a result.
    domain : Domain
        The arbiter's chain and contract.

    Returns
    -------
    TrainingRequest
        The buyer's, with its signature verified.

    Raises
    ------
    VerificationFailed
        It is not; the text says in what.
    """
    header = shown.header
    assert on_chain.result is not None
    request = header.request.read(TrainingRequest)
    compared = (
        ("the root", TranscriptRoot.unpack(shown.root.content).root.hex(), on_chain.result.transcript_root.hex()),
        ("the chain", request.chain_id, domain.chain_id),
        ("the contract", request.contract.lower(), domain.contract.lower()),
        ("the training", request.training, on_chain.id),
        ("the buyer", request.buyer.lower(), on_chain.buyer.lower()),
        ("the hash of the order", request.order.digest().hex(), on_chain.terms.order_hash.hex()),
        ("the aggregator", header.aggregator.lower(), on_chain.aggregator.lower()),
        ("the trainers", _lower(header.trainers), _lower(on_chain.trainers)),
        ("the validators", _lower(header.validators), _lower(on_chain.validators)),
        ("the rows", list(header.rows), [owner.rows for owner in on_chain.owners]),
    )
    differing = [f"{what}: {said} is not {expected}" for what, said, expected in compared if said != expected]
    if differing:
        raise VerificationFailed(f"it is not that of the training on chain: {'; '.join(differing)}")
    return header.request.verified(TrainingRequest, domain, on_chain.buyer)


def _lower(addresses: Iterable[str]) -> list[str]:
    return [address.lower() for address in addresses]


@dataclass(frozen=True)
class Proven:
    """What somebody's copies prove.

    Parameters
    ----------
    answered : frozenset of str
        Addresses of the owners that answered enough to be paid.
    lie : str or None
        An MSE that the aggregator signed, and that does not follow from the evidence which it gave with it.
    """

    answered: frozenset[str] = frozenset()
    lie: str | None = None

    def __or__(self, other: Proven) -> Proven:
        """Put together what several prove."""
        return Proven(self.answered | other.answered, self.lie or other.lie)


def left_out(on_chain: Training, report: Report) -> tuple[str, ...]:
    """Return the owners that have not answered, by what was reported or by the transcript."""
    results = [result for result in (on_chain.result, report.result) if result is not None]
    flags = [(*result.trainers_answered, *result.validators_answered) for result in results]
    owners = (*on_chain.trainers, *on_chain.validators)
    return tuple(owner for owner, *answered in zip(owners, *flags, strict=True) if not all(answered))


def decide(report: Report, on_chain: Training, claim: Claim | None, proven: Proven) -> Decision:
    """Decide a dispute.

    Parameters
    ----------
    report : Report
        The audit of the aggregator's transcript, which is the one whose root was reported (:func:`require_same`).
    on_chain : Training
        With the result that was reported.
    claim : Claim or None
        What the disputer claims; None if it showed nothing.
    proven : Proven
        What the copies prove (:func:`examine_copies`), the disputer's and those of the owners that are left out.

    Returns
    -------
    Decision
        REFUND if no result follows from the transcript. CORRECTED if another result follows, or if the buyer claims
        that the model was not delivered, which the arbiter then does itself: whether it was, and whether an answer was
        lost or dropped, cannot be known, and this way neither lie pays. CORRECTED with the same result, too, if the
        aggregator deviated in what moves no money: who found it has its bond back. Else AS_REPORTED: what somebody else
        did that moves no money makes nobody's dispute right.

    Notes
    -----
    An owner that is left out and proves its answers counts as having answered: it gets its fixed part. What a trainer's
    local model is worth that is not in the transcript nobody can say any more: its contribution stays 0, so that a
    trainer gains nothing by keeping its local model back.
    """
    result, reported = report.result, on_chain.result
    assert reported is not None
    if result is None:
        return no_result(str(report.first))
    result = _with_answers(result, proven.answered, on_chain)
    if result != reported:
        names = [name for name, value in vars(result).items() if value != getattr(reported, name)]
        reason = f"the reported {', '.join(names)} {'is' if len(names) == 1 else 'are'} not what follows"
        return Decision(Outcome.CORRECTED, result, report.delivery, reason)
    if claim is not None and claim.disputer.lower() == on_chain.buyer.lower() and NOT_DELIVERED in claim.claim:
        reason = "the result stands; the model is delivered by the arbiter, from the masks in the transcript"
        return Decision(Outcome.CORRECTED, result, report.delivery, reason)
    deviation = proven.lie or _of_aggregator(report)
    if deviation is not None:
        return Decision(Outcome.CORRECTED, result, report.delivery, f"the result stands, but {deviation}")
    others = "" if report.first is None else f"; what moves no money is another's: {report.first}"
    reason = f"the reported result is the one that follows{others}"
    return Decision(Outcome.AS_REPORTED, None, report.delivery, reason)


def _of_aggregator(report: Report) -> Deviation | None:
    found = (check.deviation for check in report.checks if check.deviation is not None)
    return next((deviation for deviation in found if deviation.party.role == "aggregator"), None)


def _with_answers(result: Result, answered: frozenset[str], on_chain: Training) -> Result:
    return replace(
        result,
        trainers_answered=tuple(
            flag or address in answered
            for flag, address in zip(result.trainers_answered, on_chain.trainers, strict=True)
        ),
        validators_answered=tuple(
            flag or address in answered
            for flag, address in zip(result.validators_answered, on_chain.validators, strict=True)
        ),
    )


def examine_copies(
    copies: Iterable[Copy], owner: str, on_chain: Training, request: TrainingRequest, iterations: int
) -> Proven:
    """Return what somebody's copies prove.

    An answer counts if the aggregator signed the question, and the owner its answer, and it is one: as many ciphertexts
    as were asked for. That it arrived, it does not prove: see :func:`decide`. A trainer answered if it shows its
    updates in enough rounds, a validator if it shows what it answered at the settlement.

    Parameters
    ----------
    copies : iterable of Copy
        What the owner, or the buyer, shows.
    owner : str
        Its address, as the chain has it.
    on_chain : Training
    request : TrainingRequest
        From :func:`require_same`.
    iterations : int
        Rounds that were run.
    """
    copied = _Copied(owner, on_chain, request)
    for copy in copies:
        try:
            copied.look_at(copy)
        except Exception:  # whatever is in a copy, perhaps put there by the aggregator, it must not spoil the others
            continue
    return copied.proven(iterations)


class _Copied:
    def __init__(self, owner: str, on_chain: Training, request: TrainingRequest) -> None:
        order = request.order
        trainers = on_chain.trainer_count
        rows = [owner.rows for owner in on_chain.owners]
        self._owner = owner
        self._on_chain = on_chain
        self._training = request.training
        self._length = order.length
        self._hyper: HyperParameters = order.hyper_parameters
        self._domain = Domain(request.chain_id, request.contract)
        self._key = PublicKey.from_modulus(int(order.modulus, 16), self._hyper.key_bits)
        self._weights = relative_weights(rows[:trainers], self._hyper.weighting)
        self._validator_rows = rows[trainers:]
        self._updates: set[int] = set()
        self._settlements: set[int] = set()
        self._lie: str | None = None

    def look_at(self, copy: Copy) -> None:
        """Take note of what a copy proves; raises if it is nothing."""
        asked, answer = Signed.unpack(copy.question), Signed.unpack(copy.answer)
        aggregator = self._on_chain.aggregator
        if copy.kind.startswith("metric-"):
            metric = asked.verified(Metric, self._domain, aggregator)
            if metric.training == self._training:
                self._lie = self._lie or self._lie_in(metric)
        elif self._owner in self._on_chain.trainers and copy.kind == "update":
            update = asked.verified(RoundQuestion, self._domain, aggregator)
            if update.training == self._training and self._vector(asked, answer, self._length):
                self._updates.add(update.round)
        elif self._owner in self._on_chain.validators and copy.kind == "score-settlement":
            score = asked.verified(ScoreQuestion, self._domain, aggregator)
            models = len(scales(score, self._hyper, self._weights))
            if (score.training, score.kind) == (self._training, "settlement") and self._vector(asked, answer, models):
                self._settlements.add(score.round)

    def proven(self, iterations: int) -> Proven:
        """Return what all copies prove about a training of that many rounds."""
        part, whole = ANSWERED_SHARE
        rounds = sum(round_ < iterations for round_ in self._updates)
        answered = rounds * whole >= iterations * part or iterations in self._settlements
        return Proven(frozenset({self._owner} if answered else ()), self._lie)

    def _vector(self, asked: Signed, answer: Signed, count: int) -> bool:
        vector = answer.verified(Vector, self._domain, self._owner, asked)
        return len(self._key.decode(vector.ciphertexts, count)) == count

    def _lie_in(self, metric: Metric) -> str | None:
        told = f"the aggregator told an MSE of iteration {metric.iteration}"
        validators = self._on_chain.validators
        try:
            claimed = read_metric(
                metric, self._hyper, self._weights, validators, self._validator_rows, self._key, self._domain
            )
            verify_claims([claimed], self._key)
        except Exception as error:
            return f"{told} with evidence that does not hold: {error}"
        return None if claimed.mses[0] == int(metric.mse) else f"{told} that its evidence does not give"
