"""What a training left on the tapes of its services, with the means to tell what was true."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

import numpy as np
from gmpy2 import mpz

from commons.crypto.packing import VALUE_BITS, pack, slots, unpack
from commons.crypto.paillier import PrivateKey, PublicKey
from commons.http.signatures import decode_signature
from commons.learning.contributions import coalition_points
from commons.learning.statistics import FloatArray, GramStatistics, TableStatistics
from commons.protocol import evaluation, totals, wire
from commons.protocol.messages import (
    Acceptance,
    Acknowledgement,
    AggregatorDescription,
    Cosignature,
    CosignQuestion,
    Delivery,
    LocalModelQuestion,
    MaskedModels,
    MaskedRound,
    Message,
    Metric,
    Moments,
    MomentsCosignQuestion,
    MomentsQuestion,
    MomentsTotals,
    Notice,
    Openings,
    Order,
    OwnerRegistration,
    Products,
    RoundQuestion,
    ScoreQuestion,
    Totals,
    TotalStatement,
    TrainingRequest,
    Vector,
)
from commons.protocol.outcome import factors, packed_count, settlement_vectors
from commons.protocol.round import aggregate
from commons.protocol.signed import Domain, Signed
from scripts.local.diabetes import Table
from tests.privacy.recording import Entry, Tape

Question = TypeVar("Question", bound=Message)

ID = "[0-9a-f-]{36}"
CHAIN_ID = 31337

EXCHANGES: dict[tuple[str, str, str], tuple[type[Message] | None, type[Message]]] = {
    ("aggregator", "GET", "/federated-aggregator"): (None, AggregatorDescription),
    ("aggregator", "POST", "/dataowner"): (OwnerRegistration, Acknowledgement),
    ("aggregator", "POST", "/model"): (TrainingRequest, Acknowledgement),
    ("aggregator", "POST", f"/model/{ID}/accept"): (Acceptance, Acknowledgement),
    ("owner", "POST", "/trainings"): (TrainingRequest, Acknowledgement),
    ("owner", "PATCH", f"/trainings/{ID}"): (Notice, Acknowledgement),
    ("owner", "POST", f"/trainings/{ID}/moments"): (MomentsQuestion, Vector),
    ("owner", "PATCH", f"/trainings/{ID}/moments"): (MomentsCosignQuestion, Cosignature),
    ("owner", "PUT", f"/trainings/{ID}/moments"): (Moments, Acknowledgement),
    ("owner", "PUT", f"/trainings/{ID}"): (RoundQuestion, Vector),
    ("owner", "POST", f"/trainings/{ID}"): (LocalModelQuestion, Vector),
    ("owner", "POST", f"/trainings/{ID}/metrics"): (ScoreQuestion, Vector),
    ("owner", "POST", f"/trainings/{ID}/cosign"): (CosignQuestion, Cosignature),
    ("owner", "PUT", f"/trainings/{ID}/metrics"): (Metric, Acknowledgement),
    ("buyer", "PATCH", f"/models/{ID}/moments"): (MomentsTotals, Openings),
    ("buyer", "PATCH", f"/models/{ID}"): (MaskedRound, Vector),
    ("buyer", "POST", f"/models/{ID}/mse"): (MaskedModels, Products),
    ("buyer", "PATCH", f"/models/{ID}/mse"): (Totals, Openings),
    ("buyer", "PUT", f"/models/{ID}"): (Delivery, Acknowledgement),
    ("buyer", "POST", f"/models/{ID}/notice"): (Notice, Acknowledgement),
}
"""Every call between services: who is called, how, with what, and what is answered."""


@dataclass(frozen=True)
class Exchange:
    """A call from one service to another. Owners are named ``owner-1``, ``owner-2``, ….

    ``asked`` and ``answered`` are the question and the answer as they were signed: None if they were not.
    """

    time: int
    caller: str
    called: str
    question: Message | None
    answer: Message
    asked: Signed | None
    answered: Signed | None


@dataclass(frozen=True)
class Evaluation:
    """What was evaluated, and what came out.

    Parameters
    ----------
    kind, round
        As in the messages.
    models : list of lists of d ciphertexts
        The models behind the masks, as the aggregator had them; none for the zero model.
    scales : list of int
        What each model is multiplied by.
    totals, mses : list of int
        What the buyer opened, and the MSEs in 1e-18 units.
    """

    kind: str
    round: int
    models: list[list[mpz]]
    scales: list[int]
    totals: list[int]
    mses: list[int]


@dataclass(frozen=True)
class Record:
    """One training.

    ``tables`` are the owners' rows, ``trainers`` and ``validators`` the owners' names in the contract's order,
    ``weights`` the model that the buyer's user got, ``urls`` where the services listen, ``accounts`` the addresses of
    the services.
    """

    training: uuid.UUID
    directory: Path
    urls: dict[str, str]
    accounts: dict[str, str]
    contract: str
    order: Order
    tables: dict[str, Table]
    trainers: tuple[str, ...]
    validators: tuple[str, ...]
    weights: FloatArray
    delivered: str
    delivered_at: int
    tapes: dict[str, list[Entry]]

    @cached_property
    def key(self) -> PrivateKey:
        """The training's private key: the tests may know what the services may not."""
        keys = (PrivateKey(*map(int_of, e["primes"])) for e in self.tapes["buyer"] if e["what"] == "key")
        return next(key for key in keys if key.public_key.n == int(self.order.modulus, 16))

    @property
    def public_key(self) -> PublicKey:
        return self.key.public_key

    @property
    def domain(self) -> Domain:
        return Domain(CHAIN_ID, self.contract)

    @property
    def addresses(self) -> set[str]:
        return {self.contract, *self.accounts.values()}

    def statistics(self, owner: str) -> GramStatistics:
        features = self.order.data_requirements.features.list
        columns = (*features, "target")
        table = TableStatistics.accumulate([self.tables[owner]], columns)
        return table.select(features, "target", self.order.target_scale)

    @cached_property
    def exchanges(self) -> list[Exchange]:
        """Every answered call between services, in time, decoded. A call that is not in EXCHANGES is an error."""
        found = [exchange for caller in self.tapes for exchange in self._calls(caller)]
        return sorted(found, key=lambda exchange: exchange.time)

    def _calls(self, caller: str) -> Iterator[Exchange]:
        for entry in self.tapes[caller]:
            if entry["what"] != "sent":
                continue
            called, path = self.addressee(entry["url"])
            if called == "chain":
                continue
            question, answer = exchange_types(called, entry["method"], path)
            if entry["status"] != HTTPStatus.OK:  # no answer in time, or a problem document; it was tried again
                continue
            yield Exchange(
                time=entry["time"],
                caller=caller,
                called=called,
                question=None if question is None else question.unpack(entry["request"]),
                answer=answer.unpack(entry["answer"]),
                asked=_signed(entry["request"], entry["signature"]),
                answered=_signed(entry["answer"], entry["answer_signature"]),
            )

    def addressee(self, url: str) -> tuple[str, str]:
        """Return who listens at a URL, and the path there."""
        return next((name, url.removeprefix(base)) for name, base in self.urls.items() if url.startswith(base + "/"))

    def asked(self, question: type[Question]) -> list[tuple[Exchange, Question]]:
        """Return the exchanges that began with a question of that type, in time."""
        return [(e, e.question) for e in self.exchanges if isinstance(e.question, question)]

    def about(self, question: type[Question], kind: str, round_: int) -> list[tuple[Exchange, Question]]:
        """Return those of :meth:`asked` that belong to one evaluation."""
        found = [
            (e, q)
            for e, q in self.asked(question)
            if (getattr(q, "kind", None), getattr(q, "round", None)) == (kind, round_)
        ]
        return found

    def statement(self, kind: str, round_: int) -> TotalStatement:
        """Return what the validators have to have signed of an evaluation, made from what the buyer knows."""
        ((_, asked),) = self.about(Totals, kind, round_)
        if kind == "zero":
            return totals.statement_of_totals(asked, None, b"")
        ((exchange, models),) = self.about(MaskedModels, kind, round_)
        assert isinstance(exchange.answer, Products)
        return totals.statement_of_totals(asked, models, exchange.answer.ciphertexts)

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """Every evaluation, in time: the zero model, those on the way, the settlement."""
        masked = {(q.kind, q.round): q for _, q in self.asked(MaskedModels)}
        found = {}
        for exchange, asked in self.asked(Totals):
            assert isinstance(exchange.answer, Openings)
            name = (asked.kind, asked.round)
            found[name] = self._evaluation(masked.get(name), [int(total, 16) for total in exchange.answer.totals])
        return list(found.values())

    def models_of(self, question: Message | None) -> int:
        """Return how many encrypted models a question is about: none of the zero model."""
        kind = getattr(question, "kind", "round")
        return {"zero": 0, "settlement": 2 + len(coalition_points(len(self.trainers)))}.get(kind, 1)

    def _evaluation(self, question: MaskedModels | None, opened: list[int]) -> Evaluation:
        rows = sum(len(self.tables[name]) for name in self.validators)
        if question is None:
            return Evaluation("zero", 0, [], [], opened, [evaluation.mse_of_zero_total(opened[0], rows)])
        scales = factors(question.kind, [1] * len(self.trainers), question.trainers, question.contributors)
        return Evaluation(
            kind=question.kind,
            round=question.round,
            models=self._models_behind(question),
            scales=[scale << evaluation.VECTOR_BITS for scale in scales],
            totals=opened,
            mses=[evaluation.mse_of_total(t, scale, rows) for t, scale in zip(opened, scales, strict=True)],
        )

    def reals(self, asked: Evaluation) -> list[FloatArray]:
        """Return the models of an evaluation in the clear, in units of the scaled target."""
        pairs = zip(asked.models, asked.scales, strict=True)
        return [np.array([value / scale for value in self.plain(model)]) for model, scale in pairs]

    def _models_behind(self, question: MaskedModels) -> list[list[mpz]]:
        trained = self._aggregate(question.round - 1)
        if question.kind == "iteration":
            return [trained]
        models = {e.called: self.vector(e.answer) for e, _ in self.asked(LocalModelQuestion)}
        ordered = [models[trainer] for trainer in self.trainers]
        return settlement_vectors(trained, ordered, [1] * len(ordered), self.public_key)

    def decryptions(self) -> list[Entry]:
        """Return every ciphertext that the training's private key was used on, in time, with its plaintext."""
        return [e for e in self.uses_of_the_key() if e["what"] in ("decrypted", "opened")]

    def uses_of_the_key(self) -> list[Entry]:
        """Return every plaintext and root that the training's private key gave, in time."""
        modulus = self.public_key.n
        entries = (e for e in self.tapes["buyer"] if "modulus" in e)
        return [e for e in entries if int_of(e["modulus"]) == modulus]

    def decrypt(self, ciphertexts: bytes) -> list[int]:
        """Decrypt a vector, for the truth."""
        count = len(ciphertexts) // self.public_key.ciphertext_bytes
        return [self.key.decrypt_signed(c) for c in self.public_key.decode(ciphertexts, count)]

    @cached_property
    def sums(self) -> list[list[int]]:
        """The plaintext sum of every round, which nobody may see: Σw_i at scale 2F."""
        return [self.plain(self._aggregate(round_)) for round_ in range(self.order.hyper_parameters.iterations)]

    def _aggregate(self, round_: int) -> list[mpz]:
        updates = [self.vector(e.answer) for e, q in self.asked(RoundQuestion) if q.round == round_]
        return aggregate(updates, self.public_key)

    def vector(self, answer: Message) -> list[mpz]:
        """Return the ciphertexts of an answer."""
        assert isinstance(answer, Vector)
        return self.public_key.decode(answer.ciphertexts, len(answer.ciphertexts) // self.public_key.ciphertext_bytes)

    def plain(self, vector: Sequence[mpz]) -> list[int]:
        """Decrypt numbers between −2^120 and 2^120, many at once."""
        key, shift = self.public_key, 1 << VALUE_BITS
        shifted = [key.add(ciphertext, shift) for ciphertext in vector]
        plaintexts = [self.key.decrypt(ciphertext) for ciphertext in pack(shifted, key)]
        return [value - shift for value in unpack(plaintexts, len(shifted), slots(key))]

    def packed(self, question: MaskedRound) -> list[int]:
        """Return the masked numbers that the buyer sees in a round."""
        length, key = self.order.length, self.public_key
        plaintexts = [self.key.decrypt(c) for c in key.decode(question.packed, packed_count(length, key))]
        return unpack(plaintexts, length, slots(key))

    def masked(self, question: MaskedModels) -> list[list[int]]:
        """Return the masked models that the buyer sees in an evaluation."""
        return wire.split(self.decrypt(question.masked), self.models_of(question))


def _signed(content: bytes, signature: str | None) -> Signed | None:
    return None if signature is None else Signed(content=content, signature=decode_signature(signature))


def exchange_types(called: str, method: str, path: str) -> tuple[type[Message] | None, type[Message]]:
    role = called.partition("-")[0]
    for (who, how, where), types in EXCHANGES.items():
        if who == role and how == method and re.fullmatch(where, path):
            return types
    raise AssertionError(f"no known exchange: {method} {path} at the {role}")


def int_of(content: bytes) -> int:
    return int.from_bytes(content, "big")


def read_tape(path: Path) -> list[Entry]:
    return list(Tape(path).read())
