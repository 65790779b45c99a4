"""What an arbiter decides, from a transcript, a claim and the copies that come with it. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from commons.audit.findings import Report
from commons.chain.training import Outcome, Result
from commons.crypto.paillier import PublicKey
from commons.errors import DeltaMLError
from commons.learning.local_steps import relative_weights
from commons.protocol.disputes import NOT_DELIVERED, Claim, Copy
from commons.protocol.messages import Delivery, Metric, RoundQuestion, ScoreQuestion, TrainingRequest, Vector
from commons.protocol.outcome import ANSWERED_SHARE
from commons.protocol.signed import Domain, Signed
from commons.protocol.totals import verify_metric
from commons.protocol.transcript import Header


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


@dataclass(frozen=True)
class Proven:
    """What a disputer's copies prove.

    Parameters
    ----------
    answered : frozenset of str
        Address of the owner, if it answered enough to be paid.
    lie : str or None
        An MSE that the aggregator signed, and that does not follow from the evidence which it gave with it.
    """

    answered: frozenset[str] = frozenset()
    lie: str | None = None


def decide(report: Report, reported: Result, claim: Claim | None, proven: Proven, header: Header) -> Decision:
    """Decide a dispute.

    Parameters
    ----------
    report : Report
        The audit of the aggregator's transcript.
    reported : Result
        What it reported.
    claim : Claim or None
        What the disputer claims; None if it showed nothing.
    proven : Proven
        What its copies prove (:func:`examine_copies`).
    header : Header
        Of the transcript: who is who.

    Returns
    -------
    Decision
        REFUND if no result follows from the transcript, or it is not the one whose hash was reported. CORRECTED if
        another result follows, or the model was not delivered, which the arbiter then does itself: whether it was, and
        whether an answer was lost or dropped, cannot be known, and this way neither lie pays. CORRECTED with the same
        result, too, if the aggregator deviated in what moves no money: who found it has its bond back. Else
        AS_REPORTED.
    """
    result = report.result
    if result is None:
        return Decision(Outcome.REFUND, None, None, f"no result follows from the transcript: {report.first}")
    if result.transcript_root != reported.transcript_root:
        return withheld(
            f"it showed one with the root {result.transcript_root.hex()}, and reported {reported.transcript_root.hex()}"
        )
    result = _with_answers(result, proven.answered, header)
    if result != reported:
        names = [name for name, value in vars(result).items() if value != getattr(reported, name)]
        reason = f"the reported {', '.join(names)} {'is' if len(names) == 1 else 'are'} not what follows"
        return Decision(Outcome.CORRECTED, result, report.delivery, reason)
    if claim is not None and NOT_DELIVERED in claim.claim:
        reason = "the result stands; the model is delivered by the arbiter, from the masks in the transcript"
        return Decision(Outcome.CORRECTED, result, report.delivery, reason)
    deviation = proven.lie or (None if report.first is None else str(report.first))
    if deviation is not None:
        return Decision(Outcome.CORRECTED, result, report.delivery, f"the result stands, but {deviation}")
    return Decision(Outcome.AS_REPORTED, None, report.delivery, "the reported result is the one that follows")


def examine_copies(
    copies: Sequence[Copy], owner: str, header: Header, request: TrainingRequest, iterations: int, key: PublicKey
) -> Proven:
    """Return what an owner's copies prove.

    An answer counts if the aggregator signed the question and the owner its answer. That it arrived, it does not prove:
    see :func:`decide`.

    Parameters
    ----------
    copies : sequence of Copy
        What the owner shows.
    owner : str
        Its address.
    header, request
        Of the transcript, and the buyer's request in it.
    iterations : int
        Rounds that were run.
    key : PublicKey
        The training's.
    """
    domain = Domain(request.chain_id, request.contract)
    rounds: set[int] = set()
    scored = False
    lie = None
    for copy in copies:
        try:
            asked = Signed.unpack(copy.question)
            answer = Signed.unpack(copy.answer)
            if owner in header.trainers and copy.kind == "update":
                update = asked.verified(RoundQuestion, domain, header.aggregator)
                key.decode(answer.verified(Vector, domain, owner, asked).ciphertexts, request.order.length)
                if update.training == request.training:
                    rounds.add(update.round)
            elif owner in header.validators and copy.kind == "score-settlement":
                question = asked.verified(ScoreQuestion, domain, header.aggregator)
                answer.verified(Vector, domain, owner, asked)
                scored |= (question.training, question.kind, question.round) == (
                    request.training,
                    "settlement",
                    iterations,
                )
            elif copy.kind.startswith("metric-"):
                metric = asked.verified(Metric, domain, header.aggregator)
                if metric.training == request.training:
                    lie = lie or _lie(metric, header, request, key, domain)
        except (DeltaMLError, ValidationError):  # it proves nothing
            continue
    part, whole = ANSWERED_SHARE
    enough = len([round_ for round_ in rounds if round_ < iterations]) * whole >= iterations * part
    answered = scored or (owner in header.trainers and enough)
    return Proven(frozenset({owner} if answered else ()), lie)


def _lie(metric: Metric, header: Header, request: TrainingRequest, key: PublicKey, domain: Domain) -> str | None:
    trainers = len(header.trainers)
    hyper = request.order.hyper_parameters
    weights = relative_weights(header.rows[:trainers], hyper.weighting)
    try:
        _, (mse, *_) = verify_metric(metric, hyper, weights, header.validators, header.rows[trainers:], key, domain)
    except (DeltaMLError, ValidationError) as error:
        return f"the aggregator told an MSE of iteration {metric.iteration} with evidence that does not hold: {error}"
    if mse != int(metric.mse):
        return f"the aggregator told an MSE of iteration {metric.iteration} that its evidence does not give"
    return None


def _with_answers(result: Result, answered: frozenset[str], header: Header) -> Result:
    return replace(
        result,
        trainers_answered=tuple(
            flag or address in answered for flag, address in zip(result.trainers_answered, header.trainers, strict=True)
        ),
        validators_answered=tuple(
            flag or address in answered
            for flag, address in zip(result.validators_answered, header.validators, strict=True)
        ),
    )
