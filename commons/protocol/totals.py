"""Sums over validators: who vouches for them, and what they say once they are open.

No validator's answer is ever opened alone, and none can be made up: the aggregator shows all of them, which are
ciphertexts, to every validator; each checks that all answered the question that it was asked, and that the sum is
theirs, and signs it; the buyer opens nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gmpy2 import invert, mpz

from commons.crypto.packing import FRACTION_BITS
from commons.crypto.paillier import InvalidOpening, PublicKey, UniformRandomisers
from commons.crypto.proofs import Opening, verify_openings
from commons.errors import InvalidInput, VerificationFailed
from commons.protocol import evaluation, wire
from commons.protocol.messages import (
    CosignQuestion,
    EvaluationKind,
    HyperParameters,
    MaskedModels,
    Message,
    Metric,
    MomentsCosignQuestion,
    ScoreQuestion,
    Totals,
    TotalStatement,
    Vector,
)
from commons.protocol.round import aggregate
from commons.protocol.schedule import require_places
from commons.protocol.schedule import scales as evaluation_scales
from commons.protocol.signed import Domain, Signed

SALT_BYTES = 32
DELIVERABLE = 2
"""Models of a settlement of which one is delivered: the trained and the averaged one come first."""


def add(answers: Sequence[Sequence[mpz]], key: PublicKey, randomisers: UniformRandomisers) -> list[tuple[mpz, mpz]]:
    """Add owners' encrypted answers, entry by entry, re-randomised for the buyer: (total, r) for each entry."""
    return [evaluation.combine(column, key, randomisers) for column in zip(*answers, strict=True)]


def commitments(question: ScoreQuestion, scales: Sequence[int], length: int) -> tuple[bytes, ...]:
    """Return the commitments to what would unmask the deliverable models of a question: none before the settlement.

    Parameters
    ----------
    question : ScoreQuestion
        With the masks and salts.
    scales : sequence of int
        Factor of every model, from :func:`commons.protocol.outcome.factors`.
    length : int
        Length d of a model.

    Raises
    ------
    InvalidInput
        There are not as many masks or salts as that takes.
    """
    if question.kind != "settlement":
        return ()
    salts = split_salts(question.salts)
    masks = wire.split(wire.decode_masks(question.masks, len(scales) * length), len(scales))
    return tuple(
        evaluation.commitment(salt, evaluation.delivery(values, scale << FRACTION_BITS))
        for salt, values, scale in zip(salts, masks, scales, strict=False)
    )


def split_salts(salts: bytes) -> tuple[bytes, ...]:
    """Cut the salts of a settlement; InvalidInput unless there is one for every deliverable model."""
    if len(salts) != DELIVERABLE * SALT_BYTES:
        raise InvalidInput(f"{len(salts)} bytes are not {DELIVERABLE} salts of {SALT_BYTES} bytes", "salts")
    return tuple(salts[i : i + SALT_BYTES] for i in range(0, len(salts), SALT_BYTES))


def statement(
    asked: Signed, question: ScoreQuestion, validators: tuple[int, ...], totals: bytes, committed: tuple[bytes, ...]
) -> TotalStatement:
    """Return what the validators sign of an evaluation.

    Parameters
    ----------
    asked : Signed
        Their question, as the aggregator signed it.
    question : ScoreQuestion
        The same, decoded.
    validators : tuple of int
        Places of those who answered, ascending.
    totals : bytes
        The encrypted sums, one per model.
    committed : tuple of bytes
        From :func:`commitments`.
    """
    return TotalStatement(
        training=question.training,
        kind=question.kind,
        round=question.round,
        trainers=question.trainers,
        contributors=question.contributors,
        question=asked.digest,
        masked=_sha256(question.masked),
        products=_sha256(question.products),
        masks=_sha256(question.masks),
        validators=validators,
        totals=_sha256(totals),
        commitments=committed,
    )


def statement_of_totals(totals: Totals, models: MaskedModels | None, products: bytes) -> TotalStatement:
    """Return what the validators must have signed for the buyer to open these sums.

    Parameters
    ----------
    totals : Totals
        What the aggregator asks the buyer to open.
    models : MaskedModels or None
        The masked models that the buyer multiplied for that evaluation; None for the zero model.
    products : bytes
        The products that it returned; empty for the zero model.
    """
    return TotalStatement(
        training=totals.training,
        kind=totals.kind,
        round=totals.round,
        trainers=() if models is None else models.trainers,
        contributors=() if models is None else models.contributors,
        question=totals.question,
        masked=_sha256(b"" if models is None else models.masked),
        products=_sha256(products),
        masks=totals.masks,
        validators=totals.validators,
        totals=_sha256(totals.ciphertexts),
        commitments=totals.commitments,
    )


def require_sums(
    asked: Signed,
    cosign: CosignQuestion | MomentsCosignQuestion,
    addresses: Sequence[str],
    count: int,
    key: PublicKey,
    domain: Domain,
) -> None:
    """Check that sums are those of owners' answers to one question. What an owner does before it signs.

    Parameters
    ----------
    asked : Signed
        The question, as whoever checks it was asked.
    cosign : CosignQuestion or MomentsCosignQuestion
        The answers, the sums and the randomisers.
    addresses : sequence of str
        All validators, or of moments all trainers, in the contract's order.
    count : int
        How many sums there are: one for every model that was scored, or every moment.
    key : PublicKey
    domain : Domain

    Raises
    ------
    InvalidInput
        The answers are not of different owners, in the contract's order.
    InvalidSignature
        An answer is not that owner's, or answers another question.
    VerificationFailed
        The sums are not those of the answers.
    """
    places = [answer.place for answer in cosign.answers]
    if not places or places != sorted(set(places)) or not all(0 <= place < len(addresses) for place in places):
        raise InvalidInput("must be of different owners, in the contract's order", "answers")
    scores = []
    for answer in cosign.answers:
        signed = Signed(content=answer.content, signature=answer.signature)
        vector = signed.verified(Vector, domain, addresses[answer.place], asked)
        scores.append(key.decode(vector.ciphertexts, count))
    roots = wire.decode_roots(cosign.randomisers, count, key)
    # What was added to the answers is an encryption of zero for each sum.
    added = [
        total * invert(own, key.n_squared) % key.n_squared
        for total, own in zip(key.decode(cosign.totals, count), aggregate(scores, key), strict=True)
    ]
    try:
        verify_openings(added, [Opening(0, int(root)) for root in roots], key)
    except InvalidOpening:
        if isinstance(cosign, CosignQuestion):
            what, whose = f"{cosign.kind} {cosign.round}", "validators"
        else:
            what, whose = "moments", "trainers"
        raise VerificationFailed(f"the sums of {what} are not those of the {whose}' answers") from None


def require_cosigned(
    signed_statement: bytes,
    cosignatures: Sequence[bytes],
    places: Sequence[int],
    addresses: Sequence[str],
    domain: Domain,
    kind: type[Message] = TotalStatement,
) -> None:
    """Check the signatures of a statement by all whose answers are in the sums.

    Parameters
    ----------
    signed_statement : bytes
        The statement, packed.
    cosignatures : sequence of bytes
        One for each of `places`.
    places : sequence of int
        Places of those who answered.
    addresses : sequence of str
        All validators, or of moments all trainers, in the contract's order.
    domain : Domain
    kind : type
        What was signed.

    Raises
    ------
    InvalidSignature
        A signature is missing, or somebody else's, or of another statement.
    """
    if len(cosignatures) != len(places):
        raise VerificationFailed(f"{len(cosignatures)} owners signed, and {len(places)} are said to have answered")
    for place, signature in zip(places, cosignatures, strict=True):
        Signed(content=signed_statement, signature=signature).verified(kind, domain, addresses[place])


@dataclass(frozen=True)
class Claimed:
    """What a metric claims: what its validators signed, and MSEs that hold if the openings do.

    Parameters
    ----------
    statement : TotalStatement
    mses : list of int
        In 1e-18 units: one, or of the trained and the averaged model.
    ciphertexts, openings
        Of the sums that the MSEs are made of: what is left to verify.
    """

    statement: TotalStatement
    mses: list[int]
    ciphertexts: list[mpz]
    openings: list[Opening]


def read_metric(
    metric: Metric,
    hyper: HyperParameters,
    weights: Sequence[int],
    validators: Sequence[str],
    rows: Sequence[int],
    key: PublicKey,
    domain: Domain,
) -> Claimed:
    """Check an MSE that the aggregator reports against what the validators signed, but for what the buyer opened.

    Parameters
    ----------
    metric : Metric
    hyper : HyperParameters
        The order's.
    weights : sequence of int
        Averaging weights of all trainers.
    validators : sequence of str
        Addresses of all validators, in the contract's order.
    rows : sequence of int
        Rows of each of them.
    key : PublicKey
    domain : Domain

    Returns
    -------
    Claimed
        To be verified by :func:`commons.protocol.totals.verify_claims`, with others at the price of one.

    Raises
    ------
    VerificationFailed, InvalidInput
        It does not follow from them.
    """
    signed = Signed(content=metric.statement, signature=b"").read(TotalStatement)
    if (signed.training, _sha256(metric.ciphertexts)) != (metric.training, signed.totals):
        raise VerificationFailed("the sums of a metric are not those that its validators signed")
    require_places(signed.validators, len(validators), "validators", 1)
    require_cosigned(metric.statement, metric.cosignatures, signed.validators, validators, domain)
    scales = () if signed.kind == "zero" else evaluation_scales(signed, hyper, weights)
    vectors = max(1, len(scales))
    opened = DELIVERABLE if signed.kind == "settlement" else 1
    if not len(metric.totals) == len(metric.randomisers) == opened:
        raise VerificationFailed(f"{len(metric.totals)} sums of {opened} are opened")
    ciphertexts = key.decode(metric.ciphertexts, vectors)[:opened]
    openings = wire.decode_openings(metric.totals, metric.randomisers)
    counted = sum(rows[place] for place in signed.validators)
    mses = [
        mse(signed.kind, opening.total, scale, counted)
        for opening, scale in zip(openings, scales or (0,), strict=False)
    ]
    return Claimed(signed, mses, ciphertexts, openings)


def verify_claims(claims: Iterable[Claimed], key: PublicKey) -> None:
    """Check that what metrics claim was opened is in the ciphertexts; raises InvalidOpening if one is not."""
    ciphertexts: list[mpz] = []
    openings: list[Opening] = []
    for claim in claims:
        ciphertexts += claim.ciphertexts
        openings += claim.openings
    verify_openings(ciphertexts, openings, key)


def mse(kind: EvaluationKind, total: int, scale: int, rows: int) -> int:
    """Return the MSE of an opened sum, in 1e-18 units; raises Diverged. ``scale`` does not count for the zero model."""
    if kind == "zero":
        return evaluation.mse_of_zero_total(total, rows)
    return evaluation.mse_of_total(total, scale, rows)


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
