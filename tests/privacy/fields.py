"""What every field of every message between services is. A new field is a new question: who may read it?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from commons.crypto.packing import FRACTION_BITS, SLOT_BITS, VALUE_BITS
from commons.crypto.proofs import Opening, verify_opening
from commons.protocol import messages, wire
from commons.protocol.messages import Message, Openings, Totals
from commons.protocol.outcome import packed_count
from tests.privacy.record import Exchange, Record

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
    assert value == 31337


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
    numbers = record.models_of(exchange.question) * record.order.length
    require_ciphertexts(record, value, packed_count(numbers, record.public_key))


def masks(record: Record, exchange: Exchange, value: Any) -> None:
    drawn = wire.decode_masks(value, record.models_of(exchange.question) * record.order.length)
    assert all(1 << VALUE_BITS <= mask < (1 << SLOT_BITS) - (1 << VALUE_BITS) for mask in drawn)


def openings(record: Record, exchange: Exchange, value: Any) -> None:
    asked, answer = exchange.question, exchange.answer
    assert isinstance(asked, Totals) and isinstance(answer, Openings)
    sums = record.public_key.decode(asked.ciphertexts, len(value))
    for ciphertext, total, randomiser in zip(sums, answer.totals, answer.randomisers, strict=True):
        opening = Opening(int(total, 16), int(randomiser, 16))
        verify_opening(ciphertext, opening, record.public_key)


def mse(record: Record, exchange: Exchange, value: Any) -> None:
    assert int(value) in {each.mses[0] for each in record.evaluations}


def model(record: Record, exchange: Exchange, value: Any) -> None:
    assert value == record.delivered


def quotients(record: Record, exchange: Exchange, value: Any) -> None:
    divisor = len(record.trainers) << FRACTION_BITS
    assert len(value) == record.order.length
    assert all(0 <= int(quotient, 16) <= (1 << SLOT_BITS) // divisor for quotient in value)


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
    },
    messages.Acceptance: ABOUT | {"address": address},
    messages.Notice: ABOUT | {"reason": nothing},
    messages.RoundQuestion: ABOUT | {"round": number_of_rounds, "model": model_of_round},
    messages.LocalModelQuestion: ABOUT,
    messages.Vector: {"version": version, "ciphertexts": answered},
    messages.MaskedRound: ABOUT | {"round": number_of_rounds, "trainers": trainers, "packed": packed},
    messages.MaskedModels: EVALUATION | {"trainers": trainers, "contributors": contributors, "packed": packed},
    messages.ScoreQuestion: EVALUATION
    | {
        "trainers": trainers,
        "contributors": contributors,
        "masked": ciphertexts(lambda d: d),
        "products": ciphertexts(wire.product_count),
        "masks": masks,
    },
    messages.Totals: EVALUATION | {"validators": validators, "ciphertexts": ciphertexts(lambda d: 1, at_least=1)},
    messages.Openings: {"version": version, "totals": openings, "randomisers": openings},
    messages.Metric: ABOUT | {"iteration": number_of_rounds, "mse": mse},
    messages.Delivery: ABOUT | {"model": model, "quotients": quotients},
}

ANSWERS: dict[type[Message] | type[None], Check] = {
    messages.RoundQuestion: ciphertexts(lambda d: d),
    messages.LocalModelQuestion: ciphertexts(lambda d: d),
    messages.MaskedRound: ciphertexts(lambda d: d),
    messages.MaskedModels: ciphertexts(wire.product_count),
    messages.ScoreQuestion: ciphertexts(lambda d: 1, at_least=1),
}
"""What the vector is that answers each question."""
