"""What every field of every message between services is. A new field is a new question: who may read it?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from commons.crypto.packing import FRACTION_BITS, SLOT_BITS, VALUE_BITS
from commons.crypto.proofs import KeyProof, Opening, ProductProof, verify_key, verify_opening, verify_products
from commons.protocol import disputes, messages, signed, totals, transcript, wire
from commons.protocol.messages import (
    Cosignature,
    CosignQuestion,
    Delivery,
    LocalModelQuestion,
    MaskedModels,
    Message,
    Metric,
    MomentsCosignQuestion,
    MomentsQuestion,
    MomentsStatement,
    MomentsTotals,
    Openings,
    Products,
    Reply,
    ScoreQuestion,
    Totals,
    TotalStatement,
)
from commons.protocol.messages import Record as Encoded
from commons.protocol.moments import Trainers, statement_of_totals
from commons.protocol.outcome import packed_count
from commons.protocol.provenance import require_local_models
from commons.protocol.schedule import scales
from commons.protocol.signed import Signed, proof_context
from tests.privacy.record import CHAIN_ID, Exchange, Record

Check = Callable[[Record, Exchange, Any], None]
"""Raises AssertionError if a field of a message is not what it must be."""


def version(record: Record, exchange: Exchange, value: Any) -> None:
    assert value == messages.PROTOCOL_VERSION


def training(record: Record, exchange: Exchange, value: Any) -> None:
    assert value == record.training


def address(record: Record, exchange: Exchange, value: Any) -> None:
    assert value in record.addresses


def url(record: Record, exchange: Exchange, value: Any) -> None:
    assert value in record.urls.values()


def chain_id(record: Record, exchange: Exchange, value: Any) -> None:
    assert value == CHAIN_ID


def order(record: Record, exchange: Exchange, value: Any) -> None:
    assert value == record.order


def nothing(record: Record, exchange: Exchange, value: Any) -> None:
    assert value is None


def number_of_rounds(record: Record, exchange: Exchange, value: Any) -> None:
    assert 0 <= value <= record.order.hyper_parameters.iterations


def kind(record: Record, exchange: Exchange, value: Any) -> None:
    assert value in ("zero", "iteration", "settlement")


def trainers(record: Record, exchange: Exchange, value: Any) -> None:
    everyone = tuple(range(len(record.trainers)))
    assert value == (() if getattr(exchange.question, "kind", "") == "zero" else everyone)


def contributors(record: Record, exchange: Exchange, value: Any) -> None:
    everyone = tuple(range(len(record.trainers)))
    assert value == (everyone if getattr(exchange.question, "kind", "") == "settlement" else ())


def validators(record: Record, exchange: Exchange, value: Any) -> None:
    assert value == tuple(range(len(record.validators)))


def ciphertexts(per_model: Callable[[int], int], at_least: int = 0) -> Check:
    """Return the check for ciphertexts of so many numbers for every model, given the length of one."""

    def check(record: Record, exchange: Exchange, value: Any) -> None:
        count = record.models_of(exchange.question) * per_model(record.order.length)
        require_ciphertexts(record, value, max(count, at_least))

    return check


def require_ciphertexts(record: Record, value: bytes, count: int) -> None:
    key = record.public_key
    # Modulo n a ciphertext is its randomness. Of 1 + n·m it is 1, and everybody reads m.
    residues = {c % key.n for c in key.decode(value, count)}
    assert len(residues) == count and all(key.bits - 64 < r.bit_length() for r in residues)


def answered(record: Record, exchange: Exchange, value: Any) -> None:
    ANSWERS[type(exchange.question)](record, exchange, value)


def model_of_round(record: Record, exchange: Exchange, value: Any) -> None:
    assert isinstance(exchange.question, messages.RoundQuestion)
    require_ciphertexts(record, value, record.order.length if exchange.question.round else 0)


def packed(record: Record, exchange: Exchange, value: Any) -> None:
    require_ciphertexts(record, value, packed_count(record.order.length, record.public_key))


def moments_asked(record: Record) -> Signed:
    """Return the question for the trainers' moments: the same for all."""
    asked, *others = [e.asked for e, _ in record.asked(MomentsQuestion)]
    assert asked is not None and others == [asked] * (len(record.trainers) - 1)
    return asked


def moments_of(record: Record) -> Trainers:
    rows = [len(record.tables[name]) for name in record.trainers]
    addresses = [record.accounts[name] for name in record.trainers]
    return Trainers(record.order, addresses, rows, record.accounts["buyer"], record.public_key, record.domain)


def moments(record: Record, exchange: Exchange, value: Any) -> None:
    """To the aggregator, the trainers (as sums) and the buyer (as sums): rows, and two numbers for every feature."""
    require_ciphertexts(record, value, 2 * record.order.length - 1)


def moments_replies(record: Record, exchange: Exchange, value: Any) -> None:
    """To a trainer: the other trainers' encrypted moments, which it cannot decrypt, and their signatures."""
    asked = {e.called: e for e, _ in record.asked(MomentsQuestion)}
    for place, (name, reply) in enumerate(zip(record.trainers, value, strict=True)):
        answer = asked[name].answered
        assert answer is not None
        assert reply == Reply(place=place, content=answer.content, signature=answer.signature)


def moments_randomisers(record: Record, exchange: Exchange, value: Any) -> None:
    """To a trainer: it tells which ciphertexts were added, which the trainer is shown anyway."""
    assert isinstance(exchange.question, MomentsCosignQuestion)
    moments_of(record).require_sums(moments_asked(record), exchange.question)


def moments_question(record: Record, exchange: Exchange, value: Any) -> None:
    assert value == moments_asked(record).digest


def every_trainer(record: Record, exchange: Exchange, value: Any) -> None:
    assert value == tuple(range(len(record.trainers)))


def moments_totals(record: Record, exchange: Exchange, value: Any) -> None:
    ((_, asked),) = record.asked(MomentsTotals)
    assert value == hashlib.sha256(asked.ciphertexts).digest()


def moments_cosignatures(record: Record, exchange: Exchange, value: Any) -> None:
    """To the buyer and the owners: the trainers' signatures, and nobody else's."""
    asked = {e.called: e.answer for e, _ in record.asked(MomentsCosignQuestion)}
    made = [asked[name] for name in record.trainers]
    assert list(value) == [answer.signature for answer in made if isinstance(answer, Cosignature)]
    assert len(value) == len(record.trainers)


def moments_statement(record: Record, exchange: Exchange, value: Any) -> None:
    """To the owners: what the trainers signed, in which every digest is of something that exists."""
    ((_, asked),) = record.asked(MomentsTotals)
    found = MomentsStatement.unpack(value)
    assert found == statement_of_totals(asked) and found.pack() == value
    for field, check in FIELDS[MomentsStatement].items():
        check(record, replace(exchange, question=found), getattr(found, field))


def moments_told(field: str) -> Check:
    """Return the check for what every owner standardises by: what the buyer opened, of all trainers together."""

    def check(record: Record, exchange: Exchange, value: Any) -> None:
        ((asked, question),) = record.asked(MomentsTotals)
        assert isinstance(asked.answer, Openings)
        assert value == (question.ciphertexts if field == "ciphertexts" else getattr(asked.answer, field))

    return check


def moments_opened(record: Record, exchange: Exchange, value: Any) -> None:
    """To the owners: the buyer's signature of what it opened."""
    ((asked, _),) = record.asked(MomentsTotals)
    assert asked.answered is not None and value == asked.answered.signature


def included(record: Record, exchange: Exchange, value: Any) -> None:
    """To a trainer: whose updates arrived, which it could count on chain at the end."""
    first = isinstance(exchange.question, messages.RoundQuestion) and exchange.question.round == 0
    assert value == (() if first else tuple(range(len(record.trainers))))


def key_proof(record: Record, exchange: Exchange, value: Any) -> None:
    """To everybody who encrypts under the key. It shows nothing else: the argument is in `prove_key`."""
    bits = record.public_key.bits
    context = proof_context(record.domain, record.training, "key", 0, record.accounts["buyer"])
    assert verify_key(int(record.public_key.n), KeyProof.from_bytes(value, bits), context, bits) == record.public_key


def product_proof(record: Record, exchange: Exchange, value: Any) -> None:
    """To the aggregator. It shows nothing but that the products are products: the argument is in `prove_products`."""
    question, answer, key = exchange.question, exchange.answer, record.public_key
    assert isinstance(question, MaskedModels) and isinstance(answer, Products)
    vectors, length = record.models_of(question), record.order.length
    context = proof_context(
        record.domain, record.training, f"products-{question.kind}", question.round, record.accounts["buyer"]
    )
    verify_products(
        wire.split(key.decode(question.masked, vectors * length), vectors),
        wire.split(key.decode(answer.ciphertexts, vectors * wire.product_count(length)), vectors),
        ProductProof.from_bytes(value, vectors, key),
        key,
        context,
    )


def of_the_buyer(field: str) -> Check:
    """Return the check for what validators are shown of the buyer's products: what the aggregator got, no more."""

    def check(record: Record, exchange: Exchange, value: Any) -> None:
        question = exchange.question
        assert isinstance(question, ScoreQuestion)
        if question.kind == "zero":
            assert value == b""
        else:
            ((asked, _),) = record.about(MaskedModels, question.kind, question.round)
            assert value == getattr(asked.answer, field)

    return check


def masked_of_the_buyer(record: Record, exchange: Exchange, value: Any) -> None:
    question = exchange.question
    assert isinstance(question, ScoreQuestion)
    asked = record.about(MaskedModels, question.kind, question.round)
    assert [value] == ([models.masked for _, models in asked] or [b""])


def salts(record: Record, exchange: Exchange, value: Any) -> None:
    """To validators, who have the masks that they hide from everybody else."""
    assert len(value) == (totals.DELIVERABLE * totals.SALT_BYTES if settles(exchange) else 0)
    if settles(exchange):
        assert len(set(value)) > totals.SALT_BYTES  # 64 uniform bytes: 57 different ones are expected


def local_question(record: Record, exchange: Exchange, value: Any) -> None:
    """To a validator, at the settlement alone: what the trainers were asked, which every owner may know."""
    asked = {e.asked.content for e, _ in record.asked(LocalModelQuestion) if e.asked is not None}
    assert {value} == (asked if settles(exchange) else {b""})


def local_models(record: Record, exchange: Exchange, value: Any) -> None:
    """To a validator: what each trainer's data alone give, encrypted; it has their masked sums and masks anyway."""
    answers = {e.called: e.answered for e, _ in record.asked(LocalModelQuestion)} if settles(exchange) else {}
    assert len(value) == len(answers)
    for place, reply in enumerate(value):
        answer = answers[record.trainers[place]]
        assert answer is not None
        assert reply == Reply(place=place, content=answer.content, signature=answer.signature)


def settlement_randomisers(record: Record, exchange: Exchange, value: Any) -> None:
    """To a validator: which ciphertexts were masked, and of the trained model's not even that."""
    question, key, length = exchange.question, record.public_key, record.order.length
    assert isinstance(question, ScoreQuestion)
    if not settles(exchange):
        assert value == b""
        return
    assert len(value) == key.bits // 8 * (record.models_of(question) - 1) * length
    addresses = [record.accounts[name] for name in record.trainers]
    require_local_models(question, addresses, [1] * len(addresses), length, key, record.domain)


def settles(exchange: Exchange) -> bool:
    return getattr(exchange.question, "kind", "") == "settlement"


def scored(record: Record, exchange: Exchange) -> tuple[Signed, ScoreQuestion]:
    """Return the question to the validators in the evaluation that a message is about: the same for all."""
    about: Any = exchange.question
    asked = {(e.asked, q) for e, q in record.about(ScoreQuestion, about.kind, about.round) if e.asked is not None}
    ((question, content),) = asked
    assert question is not None
    return question, content


def replies(record: Record, exchange: Exchange, value: Any) -> None:
    """To a validator: the other validators' encrypted scores, which it cannot decrypt, and their signatures."""
    about: Any = exchange.question
    asked = {e.called: e for e, _ in record.about(ScoreQuestion, about.kind, about.round)}
    for place, (name, reply) in enumerate(zip(record.validators, value, strict=True)):
        answer = asked[name].answered
        assert answer is not None
        assert reply == Reply(place=place, content=answer.content, signature=answer.signature)


def randomisers(record: Record, exchange: Exchange, value: Any) -> None:
    """To a validator: it tells which ciphertexts were added, which the validator is shown anyway."""
    asked, cosign = exchange.asked, exchange.question
    assert asked is not None and isinstance(cosign, CosignQuestion)
    addresses = [record.accounts[name] for name in record.validators]
    vectors = max(1, record.models_of(cosign))
    totals.require_sums(scored(record, exchange)[0], cosign, addresses, vectors, record.public_key, record.domain)


def digest_of(field: str) -> Check:
    """Return the check for the SHA-256 of what validators were asked, or of one thing in it."""

    def check(record: Record, exchange: Exchange, value: Any) -> None:
        asked, question = scored(record, exchange)
        content = asked.content if field == "question" else getattr(question, field)
        assert value == hashlib.sha256(content).digest()

    return check


def digest_of_totals(record: Record, exchange: Exchange, value: Any) -> None:
    about: Any = exchange.question
    ((_, asked),) = record.about(Totals, about.kind, about.round)
    assert value == hashlib.sha256(asked.ciphertexts).digest()


def commitments(record: Record, exchange: Exchange, value: Any) -> None:
    """To the buyer and the owners. They hide what they are to behind 32 random bytes each."""
    _, question = scored(record, exchange)
    factors = (
        () if question.kind == "zero" else scales(question, record.order.hyper_parameters, [1] * len(record.trainers))
    )
    assert value == totals.commitments(question, factors, record.order.length)
    assert len(value) == (totals.DELIVERABLE if question.kind == "settlement" else 0)


def cosignature(record: Record, exchange: Exchange, value: Any) -> None:
    about: Any = exchange.question
    if isinstance(about, MomentsCosignQuestion):
        ((_, asked),) = record.asked(MomentsTotals)
        signed_by = Signed(content=statement_of_totals(asked).pack(), signature=value)
        signed_by.verified(MomentsStatement, record.domain, record.accounts[exchange.called])
        return
    content = record.statement(about.kind, about.round).pack()
    address = record.accounts[exchange.called]
    Signed(content=content, signature=value).verified(TotalStatement, record.domain, address)


def cosignatures(record: Record, exchange: Exchange, value: Any) -> None:
    """To the buyer and the owners: the validators' signatures, and nobody else's."""
    about: Any = exchange.question
    if isinstance(about, Metric):
        about = statement_of(about)
    asked = {e.called: e.answer for e, _ in record.about(CosignQuestion, about.kind, about.round)}
    made = [asked[name] for name in record.validators]
    assert list(value) == [answer.signature for answer in made if isinstance(answer, Cosignature)]
    assert len(value) == len(record.validators)


def statement_of(metric: Metric) -> TotalStatement:
    return TotalStatement.unpack(metric.statement)


def statement(record: Record, exchange: Exchange, value: Any) -> None:
    """To the owners: what the validators signed, in which every digest is of something that exists."""
    found = TotalStatement.unpack(value)
    assert found == record.statement(found.kind, found.round) and found.pack() == value
    within = replace(exchange, question=found)
    for field, check in FIELDS[TotalStatement].items():
        check(record, within, getattr(found, field))


def opened_sums(record: Record, exchange: Exchange, value: Any) -> None:
    """To the owners: all encrypted sums of an evaluation, of which the buyer opened the first."""
    assert isinstance(exchange.question, Metric)
    found = statement_of(exchange.question)
    ((_, asked),) = record.about(Totals, found.kind, found.round)
    assert value == asked.ciphertexts


def first_openings(field: str) -> Check:
    """Return the check for what owners are shown of the openings: what is public on chain as an MSE, no more."""

    def check(record: Record, exchange: Exchange, value: Any) -> None:
        assert isinstance(exchange.question, Metric)
        found = statement_of(exchange.question)
        ((asked, _),) = record.about(Totals, found.kind, found.round)
        assert isinstance(asked.answer, Openings)
        assert value == getattr(asked.answer, field)[: 2 if found.kind == "settlement" else 1]

    return check


def masks(record: Record, exchange: Exchange, value: Any) -> None:
    drawn = wire.decode_masks(value, record.models_of(exchange.question) * record.order.length)
    assert all(1 << VALUE_BITS <= mask < (1 << SLOT_BITS) - (1 << VALUE_BITS) for mask in drawn)


def openings(record: Record, exchange: Exchange, value: Any) -> None:
    asked, answer = exchange.question, exchange.answer
    assert isinstance(asked, (Totals, MomentsTotals)) and isinstance(answer, Openings)
    sums = record.public_key.decode(asked.ciphertexts, len(value))
    for ciphertext, total, randomiser in zip(sums, answer.totals, answer.randomisers, strict=True):
        opening = Opening(int(total, 16), int(randomiser, 16))
        verify_opening(ciphertext, opening, record.public_key)


def mse(record: Record, exchange: Exchange, value: Any) -> None:
    assert isinstance(exchange.question, Metric)
    found = statement_of(exchange.question)
    (asked,) = (each for each in record.evaluations if (each.kind, each.round) == (found.kind, found.round))
    assert int(value) == asked.mses[0]


def model(record: Record, exchange: Exchange, value: Any) -> None:
    assert value == record.delivered


def quotients(record: Record, exchange: Exchange, value: Any) -> None:
    divisor = len(record.trainers) << FRACTION_BITS
    assert len(value) == record.order.length
    assert all(0 <= int(quotient, 16) <= (1 << SLOT_BITS) // divisor for quotient in value)


def salt(record: Record, exchange: Exchange, value: Any) -> None:
    """To the buyer, with the numbers that it hid: of the delivered model, and not of the other one."""
    delivery = exchange.question
    assert isinstance(delivery, Delivery)
    *_, (_, question) = record.asked(ScoreQuestion)
    if question.kind != "settlement":
        question = next(q for _, q in record.asked(ScoreQuestion) if q.kind == "settlement")
    assert value == totals.split_salts(question.salts)[("trained", "averaged").index(delivery.model)]


ABOUT: dict[str, Check] = {"version": version, "training": training}

EVALUATION: dict[str, Check] = ABOUT | {"kind": kind, "round": number_of_rounds}

FIELDS: dict[type[Message], dict[str, Check]] = {
    messages.Acknowledgement: {"version": version},
    messages.AggregatorDescription: {
        "version": version,
        "account": address,
        "contract": address,
        "chain_id": chain_id,
    },
    messages.OwnerRegistration: {"version": version, "address": address, "url": url},
    messages.TrainingRequest: ABOUT
    | {
        "chain_id": chain_id,
        "contract": address,
        "buyer": address,
        "buyer_url": url,
        "aggregator_url": url,
        "order": order,
        "key_proof": key_proof,
    },
    messages.Acceptance: ABOUT | {"address": address},
    messages.Notice: ABOUT | {"reason": nothing},
    messages.MomentsQuestion: ABOUT,
    messages.MomentsCosignQuestion: ABOUT
    | {"answers": moments_replies, "totals": moments, "randomisers": moments_randomisers},
    messages.MomentsStatement: ABOUT
    | {"question": moments_question, "trainers": every_trainer, "totals": moments_totals},
    messages.MomentsTotals: ABOUT
    | {
        "question": moments_question,
        "trainers": every_trainer,
        "ciphertexts": moments,
        "cosignatures": moments_cosignatures,
    },
    messages.Moments: ABOUT
    | {
        "statement": moments_statement,
        "cosignatures": moments_cosignatures,
        "ciphertexts": moments_told("ciphertexts"),
        "totals": moments_told("totals"),
        "randomisers": moments_told("randomisers"),
        "signature": moments_opened,
    },
    messages.RoundQuestion: ABOUT | {"round": number_of_rounds, "included": included, "model": model_of_round},
    messages.LocalModelQuestion: ABOUT,
    messages.Vector: {"version": version, "ciphertexts": answered},
    messages.MaskedRound: ABOUT | {"round": number_of_rounds, "trainers": trainers, "packed": packed},
    messages.MaskedModels: EVALUATION
    | {"trainers": trainers, "contributors": contributors, "masked": ciphertexts(lambda d: d)},
    messages.Products: {
        "version": version,
        "ciphertexts": ciphertexts(wire.product_count),
        "proof": product_proof,
    },
    messages.ScoreQuestion: EVALUATION
    | {
        "trainers": trainers,
        "contributors": contributors,
        "masked": masked_of_the_buyer,
        "products": of_the_buyer("ciphertexts"),
        "proof": of_the_buyer("proof"),
        "masks": masks,
        "salts": salts,
        "local_question": local_question,
        "local_models": local_models,
        "randomisers": settlement_randomisers,
    },
    messages.CosignQuestion: EVALUATION
    | {"answers": replies, "totals": ciphertexts(lambda d: 1, at_least=1), "randomisers": randomisers},
    messages.Cosignature: {"version": version, "signature": cosignature},
    messages.TotalStatement: EVALUATION
    | {
        "trainers": trainers,
        "contributors": contributors,
        "question": digest_of("question"),
        "masked": digest_of("masked"),
        "products": digest_of("products"),
        "masks": digest_of("masks"),
        "validators": validators,
        "totals": digest_of_totals,
        "commitments": commitments,
    },
    messages.Totals: EVALUATION
    | {
        "validators": validators,
        "ciphertexts": ciphertexts(lambda d: 1, at_least=1),
        "question": digest_of("question"),
        "masks": digest_of("masks"),
        "commitments": commitments,
        "cosignatures": cosignatures,
    },
    messages.Openings: {"version": version, "totals": openings, "randomisers": openings},
    messages.Metric: ABOUT
    | {
        "iteration": number_of_rounds,
        "mse": mse,
        "statement": statement,
        "cosignatures": cosignatures,
        "ciphertexts": opened_sums,
        "totals": first_openings("totals"),
        "randomisers": first_openings("randomisers"),
    },
    messages.Delivery: ABOUT | {"model": model, "quotients": quotients, "salt": salt},
}

PARTS: dict[type[Encoded], set[str]] = {
    messages.Reply: {"place", "content", "signature"},
    signed.Signed: {"content", "signature"},
}
"""What messages are made of: checked with them."""

FOR_THE_ARBITER: dict[type[Encoded], set[str]] = {
    transcript.Header: {"request", "aggregator", "trainers", "validators", "rows"},
    transcript.SummedMoments: {"question", "answers"},
    transcript.Round: {"refreshed", "question", "answers"},
    transcript.Masking: {"question", "masks", "randomisers", "salts"},
    transcript.LocalModels: {"question", "answers"},
    transcript.Scores: {"products", "question", "answers"},
    transcript.Cosigned: {"question", "answers", "totals"},
    transcript.Opened: {"openings"},
    transcript.Entry: {"kind", "round", "content"},
    transcript.TranscriptRoot: {"version", "training", "root", "entries"},
    disputes.Claim: {"version", "training", "disputer", "claim", "reported", "computed", "exchanges", "copies"},
    disputes.Copy: {"kind", "round", "question", "answer"},
}
"""What transcripts and evidence are made of, and no message between services: `test_transcript.py` has the values."""

ANSWERS: dict[type[Message] | type[None], Check] = {
    messages.MomentsQuestion: moments,
    messages.RoundQuestion: ciphertexts(lambda d: d),
    messages.LocalModelQuestion: ciphertexts(lambda d: d),
    messages.MaskedRound: ciphertexts(lambda d: d),
    messages.ScoreQuestion: ciphertexts(lambda d: 1, at_least=1),
}
"""What the vector is that answers each question."""
