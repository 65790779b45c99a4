"""The parties that an aggregator talks to, in one process: honest ones, and what each can do wrong.

They compute with the functions that the services use, sign with accounts, and remember what they were asked: whoever is
asked two different things under one name fails the test.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from gmpy2 import mpz

from commons.crypto.kernel import AffineMap
from commons.crypto.packing import FRACTION_BITS, to_fixed
from commons.crypto.paillier import PrivateKey, PublicKey, ShortRandomisers
from commons.crypto.proofs import Opening, prove_products
from commons.database import Database
from commons.errors import PeerUnavailable
from commons.http.peer import Peers
from commons.http.signatures import SIGNATURE_HEADER, decode_signature, encode_signature
from commons.journal import Journal
from commons.learning.local_steps import local_map, local_model, quantise_map, relative_weights
from commons.learning.standardisation import Scaling, moments
from commons.learning.statistics import GramStatistics
from commons.protocol import evaluation, totals, wire
from commons.protocol import round as rounds
from commons.protocol.messages import (
    Acknowledgement,
    Cosignature,
    CosignQuestion,
    DataRequirements,
    Features,
    HyperParameters,
    LocalModelQuestion,
    MaskedModels,
    MaskedRound,
    Message,
    Moments,
    MomentsCosignQuestion,
    MomentsQuestion,
    MomentsStatement,
    MomentsTotals,
    Openings,
    Order,
    Participants,
    Products,
    Reply,
    RoundQuestion,
    ScoreQuestion,
    Target,
    Totals,
    TrainingRequest,
    Vector,
)
from commons.protocol.moments import Trainers
from commons.protocol.outcome import factors, packed_count
from commons.protocol.signed import Signed, Signer, proof_context
from commons.protocol.transcript import Header, Record
from federated_aggregator.answer_times import AnswerTimes
from federated_aggregator.app import MIGRATIONS
from federated_aggregator.course import Course, Party
from federated_aggregator.evaluations import Evaluations
from federated_aggregator.peers import Buyer, Owners
from federated_aggregator.rounds import Rounds
from federated_aggregator.standardisation import Standardisation
from federated_aggregator.storage import Status, Storage
from federated_aggregator.storage import Training as Row
from federated_aggregator.training import Training
from federated_aggregator.transcripts import Transcripts
from tests.unit.accounts import DOMAIN, Offline, account, signer
from tests.unit.learning.tables import random_owner

TRAINING = uuid.UUID(int=7)
LENGTH = 2
TRAINERS = [random_owner(rows, LENGTH, seed=rows) for rows in (40, 50, 60)]
VALIDATORS = [random_owner(rows, LENGTH, seed=rows) for rows in (30, 45)]
WEIGHTS = relative_weights([owner.rows for owner in TRAINERS], "rows")
STRANGER = signer(99)


@dataclass
class Speaker:
    """Whoever answers questions, the same one always the same.

    ``wrong`` changes an answer before it is signed, ``mute`` says which questions get none, ``signs`` who signs.
    """

    signer: Signer
    url: str
    wrong: Callable[[Message, Message], Message] = lambda question, answer: answer
    mute: Callable[[Message], bool] = lambda question: False
    signs: Signer | None = None
    said: dict[tuple[Any, ...], tuple[Signed, Signed]] = field(default_factory=dict)

    @property
    def party(self) -> Party:
        return Party(self.url, self.signer.address)

    def hear(self, path: str, question: Signed) -> Signed:
        content = self.read(path, question)
        if self.mute(content):
            raise PeerUnavailable(f"{self.url} does not answer")
        name = (type(content), getattr(content, "kind", None), getattr(content, "round", None))
        if name not in self.said or isinstance(content, (CosignQuestion, MomentsCosignQuestion)):
            answer = self.wrong(content, self.answer(content, question))
            self.said[name] = question, (self.signs or self.signer).sign(answer, question)
        asked, answered = self.said[name]
        assert asked == question, f"{self.url} is asked another {name}"
        return answered

    def read(self, path: str, question: Signed) -> Message:
        raise NotImplementedError

    def answer(self, content: Message, question: Signed) -> Message:
        raise NotImplementedError


@dataclass
class Owner(Speaker):
    """A trainer or a validator."""

    table: GramStatistics = TRAINERS[0]
    scaling: Scaling | None = None
    weight: int = 1
    key: PublicKey = None  # type: ignore[assignment]
    order: Order = None  # type: ignore[assignment]
    short: ShortRandomisers = None  # type: ignore[assignment]

    def read(self, path: str, question: Signed) -> Message:
        models: dict[str, type[Message]] = {
            f"PUT /trainings/{TRAINING}": RoundQuestion,
            f"POST /trainings/{TRAINING}": LocalModelQuestion,
            f"POST /trainings/{TRAINING}/metrics": ScoreQuestion,
            f"POST /trainings/{TRAINING}/cosign": CosignQuestion,
            f"POST /trainings/{TRAINING}/moments": MomentsQuestion,
            f"PATCH /trainings/{TRAINING}/moments": MomentsCosignQuestion,
            f"PUT /trainings/{TRAINING}/moments": Moments,
        }
        return question.verified(models[path], DOMAIN, AGGREGATOR.address)

    def answer(self, content: Message, question: Signed) -> Message:
        match content:
            case RoundQuestion():
                return self.vector(self.update(content))
            case LocalModelQuestion():
                return self.vector(self.local_model())
            case ScoreQuestion():
                return self.vector(self.score(content))
            case CosignQuestion():
                return self.cosign(content)
            case MomentsQuestion():
                return self.vector([self.key.encrypt(value, *self.short.take(1)) for value in moments(self.table)])
            case MomentsCosignQuestion():
                return self.cosign_moments(content)
            case Moments():
                self.scaling = moments_of(self.order, self.key).told(content)
                return Acknowledgement()
        raise AssertionError(content)

    @property
    def statistics(self) -> GramStatistics:
        if not self.order.standardises:
            return self.table
        assert self.scaling is not None, f"{self.url} was not told by what to standardise"
        return self.scaling.standardise(self.table)

    def cosign_moments(self, question: MomentsCosignQuestion) -> Cosignature:
        asked, own = self.said[MomentsQuestion, None, None]
        moments_of(self.order, self.key).require_sums(asked, question)
        place = TRAINER_ADDRESSES.index(self.signer.address)
        assert Reply(place=place, content=own.content, signature=own.signature) in question.answers
        statement = MomentsStatement(
            training=TRAINING,
            question=asked.digest,
            trainers=tuple(answer.place for answer in question.answers),
            totals=hashlib.sha256(question.totals).digest(),
        )
        return Cosignature(signature=self.signer.sign(statement).signature)

    def vector(self, ciphertexts: list[mpz]) -> Vector:
        return Vector(ciphertexts=self.key.encode(ciphertexts))

    def update(self, question: RoundQuestion) -> list[mpz]:
        hyper = self.order.hyper_parameters
        step = quantise_map(*local_map(self.statistics, hyper.learning_rate, hyper.ridge, hyper.local_steps))
        model = self.key.decode(question.model, LENGTH) if question.round else [self.key.trivial(0)] * LENGTH
        return AffineMap(*step, self.weight).apply(model, self.key, self.short)

    def local_model(self) -> list[mpz]:
        hyper = self.order.hyper_parameters
        steps = hyper.iterations * hyper.local_steps
        values = local_model(self.statistics, hyper.learning_rate, hyper.ridge, steps)
        return [self.key.encrypt(to_fixed(value, 80), *self.short.take(1)) for value in values]

    def score(self, question: ScoreQuestion) -> list[mpz]:
        if question.kind == "zero":
            return [evaluation.score_zero(self.statistics, self.key, self.short)]
        scales = factors(question.kind, WEIGHTS, question.trainers, question.contributors)
        vectors = wire.questioned_vectors(question, len(scales), LENGTH, self.key)
        return [
            evaluation.score(self.statistics, scale, *vector, self.key, self.short)
            for scale, vector in zip(scales, vectors, strict=True)
        ]

    def cosign(self, question: CosignQuestion) -> Cosignature:
        asked, own = self.said[ScoreQuestion, question.kind, question.round]
        scored = asked.read(ScoreQuestion)
        scales = factors(scored.kind, WEIGHTS, scored.trainers, scored.contributors)
        totals.require_sums(asked, question, VALIDATOR_ADDRESSES, len(scales) or 1, self.key, DOMAIN)
        place = VALIDATOR_ADDRESSES.index(self.signer.address)
        assert Reply(place=place, content=own.content, signature=own.signature) in question.answers
        committed = totals.commitments(scored, scales, LENGTH)
        places = tuple(answer.place for answer in question.answers)
        statement = totals.statement(asked, scored, places, question.totals, committed)
        return Cosignature(signature=self.signer.sign(statement).signature)


@dataclass
class ModelBuyer(Speaker):
    """The buyer, who has the key."""

    private_key: PrivateKey = None  # type: ignore[assignment]
    order: Order = None  # type: ignore[assignment]

    def read(self, path: str, question: Signed) -> Message:
        models: dict[str, type[Message]] = {
            f"PATCH /models/{TRAINING}": MaskedRound,
            f"POST /models/{TRAINING}/mse": MaskedModels,
            f"PATCH /models/{TRAINING}/mse": Totals,
            f"PATCH /models/{TRAINING}/moments": MomentsTotals,
        }
        return question.verified(models[path], DOMAIN, AGGREGATOR.address)

    def answer(self, content: Message, question: Signed) -> Message:
        match content:
            case MaskedRound():
                return self.refresh(content)
            case MaskedModels():
                return self.multiply(content)
            case Totals():
                return self.open(content)
            case MomentsTotals():
                return self.open_moments(content)
        raise AssertionError(content)

    def open_moments(self, question: MomentsTotals) -> Openings:
        sums = moments_of(self.order, self.private_key.public_key).require_cosigned(question)
        return openings([evaluation.open_total(total, self.private_key) for total in sums])

    def refresh(self, question: MaskedRound) -> Vector:
        key = self.private_key.public_key
        divisor = sum(WEIGHTS[place] for place in question.trainers) << FRACTION_BITS
        packed = key.decode(question.packed, packed_count(LENGTH, key))
        return Vector(ciphertexts=key.encode(rounds.refresh(packed, LENGTH, divisor, self.private_key)))

    def multiply(self, question: MaskedModels) -> Products:
        key = self.private_key.public_key
        vectors = len(factors(question.kind, WEIGHTS, question.trainers, question.contributors))
        masked = wire.split(key.decode(question.masked, vectors * LENGTH), vectors)
        opened = evaluation.open_masked(masked, self.private_key)
        products = evaluation.products(opened, self.private_key)
        context = proof_context(DOMAIN, TRAINING, f"products-{question.kind}", question.round, self.signer.address)
        proof = prove_products(masked, products, opened, self.private_key, context)
        return Products(ciphertexts=key.encode(wire.join(products)), proof=proof.to_bytes(key))

    def open(self, question: Totals) -> Openings:
        key = self.private_key.public_key
        models, products = None, b""
        if question.kind != "zero":
            asked, answered = self.said[MaskedModels, question.kind, question.round]
            models, products = asked.read(MaskedModels), answered.read(Products).ciphertexts
        statement = totals.statement_of_totals(question, models, products)
        totals.require_cosigned(
            statement.pack(), question.cosignatures, question.validators, VALIDATOR_ADDRESSES, DOMAIN
        )
        vectors = 1 if models is None else len(factors(models.kind, WEIGHTS, models.trainers, models.contributors))
        opened = [evaluation.open_total(c, self.private_key) for c in key.decode(question.ciphertexts, vectors)]
        return openings(opened)


def openings(opened: list[Opening]) -> Openings:
    return Openings(
        totals=tuple(f"{opening.total:x}" for opening in opened),
        randomisers=tuple(f"{opening.randomiser:x}" for opening in opened),
    )


def moments_of(order: Order, key: PublicKey) -> Trainers:
    rows = [owner.rows for owner in TRAINERS]
    return Trainers(order, TRAINER_ADDRESSES, rows, BUYER.address, key, DOMAIN)


AGGREGATOR = signer(1)
BUYER = signer(2)
TRAINER_SIGNERS = [signer(number) for number in (11, 12, 13)]
VALIDATOR_SIGNERS = [signer(number) for number in (21, 22)]
TRAINER_ADDRESSES = [trainer.address for trainer in TRAINER_SIGNERS]
VALIDATOR_ADDRESSES = [validator.address for validator in VALIDATOR_SIGNERS]


class PowerCut(Exception):
    """The aggregator's process ended here."""


class Power:
    """Counts what the aggregator saves, and cuts the power at one of these moments."""

    def __init__(self) -> None:
        self.moments = 0
        self.cut_at: int | None = None
        self._lock = threading.Lock()

    @property
    def off(self) -> bool:
        return self.cut_at is not None and self.moments >= self.cut_at

    def moment(self) -> None:
        with self._lock:
            self.moments += 1
        self.require()

    def require(self) -> None:
        if self.off:
            raise PowerCut

    def restore(self) -> None:
        self.cut_at = None


class InProcess(Peers):
    """Peers that are in this process: what they say is verified as if it had come over HTTP."""

    def __init__(self, power: Power, speakers: list[Speaker]) -> None:
        super().__init__(Offline(account(1)))  # type: ignore[arg-type]
        self._power = power
        self._speakers = {speaker.url: speaker for speaker in speakers}

    def _patiently(self, method: str, url: str, data: Any, headers: Any, sender: Any, patience: Any, count: Any) -> Any:
        self._power.require()
        split = urlsplit(url)
        question = Signed(content=data, signature=decode_signature(headers[SIGNATURE_HEADER]))
        answer = self._speakers[f"http://{split.netloc}"].hear(f"{method} {split.path}", question)
        if count is not None:
            count(len(data) + len(answer.content))
        return SimpleNamespace(content=answer.content, headers={SIGNATURE_HEADER: encode_signature(answer.signature)})


class WatchedTranscripts(Transcripts):
    """Transcripts of a process whose power can be cut before everything that it writes: its answers are lost."""

    power: Power

    def keep(self, training_id: uuid.UUID, kind: str, round_: int, record: Any) -> Any:
        self.power.moment()
        return super().keep(training_id, kind, round_, record)


class WatchedStorage(Storage):
    """The same for the aggregator's own tables."""

    power: Power

    def move(self, *arguments: Any, **values: Any) -> Row:
        self.power.moment()
        return super().move(*arguments, **values)

    def add_metric(self, *arguments: Any) -> None:
        self.power.moment()
        super().add_metric(*arguments)


class World:
    """An aggregator and everybody that it talks to."""

    def __init__(
        self, url: str, private_key: PrivateKey, uniform: Any, pre_processing: tuple[Any, ...] = (), **hyper: Any
    ) -> None:
        key = private_key.public_key
        short = ShortRandomisers(key)
        self.key = key
        self.order = Order(
            model_type="LINEAR_REGRESSION",
            data_requirements=DataRequirements(
                features=Features(list=("x0",), range=(-9, 9), pre_processing=pre_processing),
                target=Target(range=(-1, 1)),
            ),
            hyper_parameters=HyperParameters(
                **{"iterations": 3, "evaluation_interval": 2, "learning_rate": 0.5, **hyper}
            ),
            participants=Participants(),
            modulus=f"{int(key.n):x}",
        )
        common = {"key": key, "order": self.order, "short": short}
        self.trainers = [
            Owner(who, f"http://trainer{i}", table=table, weight=weight, **common)
            for i, (who, table, weight) in enumerate(zip(TRAINER_SIGNERS, TRAINERS, WEIGHTS, strict=True))
        ]
        self.validators = [
            Owner(who, f"http://validator{i}", table=table, **common)
            for i, (who, table) in enumerate(zip(VALIDATOR_SIGNERS, VALIDATORS, strict=True))
        ]
        self.buyer = ModelBuyer(BUYER, "http://buyer", private_key=private_key, order=self.order)
        self.power = Power()
        self.peers = InProcess(self.power, [*self.trainers, *self.validators, self.buyer])
        self.times = AnswerTimes()
        self._owners = Owners(self.peers, 10, self.times)
        self._uniform = uniform
        self._url = url
        self.reported: list[list[int]] = []
        self._start()

    def _start(self) -> None:
        self.database = Database(self._url)
        self.database.migrate(MIGRATIONS)
        self.journal = Journal(self.database)
        self.storage = WatchedStorage(self.database)
        self.transcripts = WatchedTranscripts(self.journal, Offline(account(1)))  # type: ignore[arg-type]
        self.storage.power = self.transcripts.power = self.power
        buyer = Buyer(self.peers)
        self.rounds = Rounds(self.transcripts, self.peers, self._owners, buyer)
        self.evaluations = Evaluations(self.transcripts, self.peers, self._owners, buyer)
        self.standardisation = Standardisation(self.transcripts, self.peers, self._owners, buyer)
        self.training = Training(self.storage, self.standardisation, self.rounds, self.evaluations, self._report)
        self.course = Course(
            id=TRAINING,
            order=self.order,
            key=self.key,
            domain=DOMAIN,
            randomisers=self._uniform,
            buyer=self.buyer.party,
            trainers={place: trainer.party for place, trainer in enumerate(self.trainers)},
            trainer_addresses=[trainer.signer.address for trainer in self.trainers],
            trainer_rows=[owner.rows for owner in TRAINERS],
            weights=WEIGHTS,
            validators={place: validator.party for place, validator in enumerate(self.validators)},
            validator_addresses=VALIDATOR_ADDRESSES,
            validator_rows=[owner.rows for owner in VALIDATORS],
        )
        request = BUYER.sign(
            TrainingRequest(
                training=TRAINING,
                chain_id=DOMAIN.chain_id,
                contract=DOMAIN.contract,
                buyer=BUYER.address,
                buyer_url=self.buyer.url,
                aggregator_url="http://aggregator",
                order=self.order,
                key_proof=b"",
            )
        )
        self.storage.add(Row(id=TRAINING, status=Status.IN_PROGRESS, request=request.pack()))
        header = Header(
            request=request,
            aggregator=AGGREGATOR.address,
            trainers=tuple(trainer.signer.address for trainer in self.trainers),
            validators=tuple(VALIDATOR_ADDRESSES),
            rows=tuple(owner.rows for owner in (*TRAINERS, *VALIDATORS)),
        )
        Transcripts.keep(self.transcripts, TRAINING, "header", 0, header)

    def _report(self, course: Course) -> None:
        self.reported.append([metric.iteration for metric in self.storage.metrics(course.id)])

    def restart(self) -> None:
        """Begin again with what was saved, as a new process does."""
        self.database.close()
        self.power.restore()
        self._start()

    def record(self, kind: str, round_: int, model: type[Record]) -> Any:
        """Return a record that is in the transcript."""
        return self.transcripts.find(TRAINING, kind, round_, model)

    def names(self) -> set[tuple[str, int]]:
        """Return the entries that the transcript has so far."""
        return set(self.journal.names(TRAINING))

    def close(self) -> None:
        self.database.close()
        self._owners._executor.shutdown()
