"""What an arbiter decides, from a transcript, a claim and the copies that come with it. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from commons.audit.findings import Report
from commons.chain.training import Outcome, Result
from commons.crypto.paillier import PublicKey
from commons.errors import InvalidInput, VerificationFailed
from commons.protocol.disputes import NOT_DELIVERED, Claim, Copy
from commons.protocol.messages import Delivery, Message, RoundQuestion, ScoreQuestion, TrainingRequest, Vector
from commons.protocol.outcome import ANSWERED_SHARE
from commons.protocol.signed import AnyMessage, Domain, Signed
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


def decide(report: Report, reported: Result, claim: Claim | None, answered: frozenset[str], header: Header) -> Decision:
    """Decide a dispute.

    Parameters
    ----------
    report : Report
        The audit of the aggregator's transcript.
    reported : Result
        What it reported.
    claim : Claim or None
        What the disputer claims; None if it showed nothing.
    answered : frozenset of str
        Addresses of the owners that have shown that they answered enough to be paid (:func:`proven_answers`).
    header : Header
        Of the transcript: who is who.

    Returns
    -------
    Decision
        REFUND if no result follows from the transcript, or it is not the one whose hash was reported. CORRECTED if
        another result follows, or the model was not delivered, which the arbiter then does itself: whether it was, and
        whether an answer was lost or dropped, cannot be known, and this way neither lie pays. Else AS_REPORTED.
    """
    result = report.result
    if result is None:
        return Decision(Outcome.REFUND, None, None, f"no result follows from the transcript: {report.first}")
    if result.transcript_root != reported.transcript_root:
        return withheld(
            f"it showed one with the root {result.transcript_root.hex()}, and reported {reported.transcript_root.hex()}"
        )
    result = _with_answers(result, answered, header)
    if result != reported:
        names = [name for name, value in vars(result).items() if value != getattr(reported, name)]
        reason = f"the reported {', '.join(names)} {'is' if len(names) == 1 else 'are'} not what follows"
        return Decision(Outcome.CORRECTED, result, report.delivery, reason)
    if claim is not None and NOT_DELIVERED in claim.claim:
        reason = "the result stands; the model is delivered by the arbiter, from the masks in the transcript"
        return Decision(Outcome.CORRECTED, result, report.delivery, reason)
    return Decision(Outcome.AS_REPORTED, None, report.delivery, "the reported result is the one that follows")


def proven_answers(
    copies: Sequence[Copy], owner: str, header: Header, request: TrainingRequest, iterations: int, key: PublicKey
) -> frozenset[str]:
    """Return the owner's address, alone in a set, if its copies prove that it answered enough to be paid.

    A copy counts if the aggregator signed the question and the owner its answer. That the answer arrived, it does not
    prove: see :func:`decide`.

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
    length = request.order.length
    rounds: set[int] = set()
    for copy in copies:
        try:
            if owner in header.trainers and copy.kind == "update":
                question = _asked(copy, RoundQuestion, Vector, header.aggregator, owner, domain)
                if question.training == request.training:
                    key.decode(_answer(copy).ciphertexts, length)
                    rounds.add(question.round)
            elif owner in header.validators and copy.kind.startswith("score-settlement"):
                scored = _asked(copy, ScoreQuestion, Vector, header.aggregator, owner, domain)
                if (scored.training, scored.kind, scored.round) == (request.training, "settlement", iterations):
                    return frozenset({owner})
        except (VerificationFailed, InvalidInput):  # it proves nothing
            continue
    part, whole = ANSWERED_SHARE
    enough = len({round_ for round_ in rounds if round_ < iterations}) * whole >= iterations * part
    return frozenset({owner}) if owner in header.trainers and enough else frozenset()


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


def _asked(
    copy: Copy, question: type[AnyMessage], answer: type[Message], aggregator: str, owner: str, domain: Domain
) -> AnyMessage:
    asked = Signed.unpack(copy.question)
    Signed.unpack(copy.answer).verified(answer, domain, owner, asked)
    return asked.verified(question, domain, aggregator)


def _answer(copy: Copy) -> Vector:
    return Signed.unpack(copy.answer).read(Vector)
