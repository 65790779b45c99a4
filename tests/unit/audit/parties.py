"""A real training of three rounds with a short key, by honest parties in one process, and what a cheat would change.

Everything random is drawn once and kept, so that the same story can be told again with one thing in it changed, and
signed again by whoever said it: what the others then say is what they said, as answers to what they were asked.
"""

from __future__ import annotations

import io
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from gmpy2 import mpz, powmod

from commons.audit import Report, audit
from commons.crypto.kernel import AffineMap
from commons.crypto.packing import FRACTION_BITS, to_fixed
from commons.crypto.paillier import MINIMUM_BITS, PrivateKey, PublicKey
from commons.crypto.proofs import prove_key, prove_products
from commons.errors import InvalidInput
from commons.learning.local_steps import local_map, local_model, quantise_map, relative_weights
from commons.learning.standardisation import Scaling, moments
from commons.learning.statistics import GramStatistics
from commons.protocol import evaluation, messages, totals, wire
from commons.protocol import round as rounds
from commons.protocol.messages import (
    Cosignature,
    CosignQuestion,
    DataRequirements,
    EvaluationKind,
    Features,
    HyperParameters,
    LocalModelQuestion,
    MaskedModels,
    MaskedRound,
    Message,
    MomentsCosignQuestion,
    MomentsQuestion,
    MomentsTotals,
    Openings,
    Participants,
    Products,
    Record,
    Reply,
    RoundQuestion,
    ScoreQuestion,
    Standardisation,
    Target,
    Totals,
    Vector,
)
from commons.protocol.moments import Trainers, statement_of_totals
from commons.protocol.outcome import factors, settlement_vectors
from commons.protocol.signed import Domain, Signed, Signer, proof_context
from commons.protocol.transcript import (
    Cosigned,
    Entry,
    Header,
    LocalModels,
    Masking,
    Opened,
    Round,
    Scores,
    SummedMoments,
    TranscriptRoot,
    merkle_root,
    read,
    write,
)
from tests.unit.learning.tables import random_owner

KEY = PrivateKey(
    0xF5B94A6F66C19F96FFEF190A123D5735C9AE4ECB5F45A8BCBA197B0F18621077,
    0xFC14D9C89A7FD55D9311A88DC5ECD48118E2E0A58850699379286E3528B758F3,
)
"""512 bits: too short for anything but tests."""
BITS = 512
DOMAIN = Domain(31337, "0x5FbDB2315678afecb367f032d93F642f64180aa3")
TRAINING = uuid.UUID("6f1c2d0e-0a50-4a3c-9d35-3a8f2c1e7b90")


class SmallHyperParameters(HyperParameters):
    key_bits: Literal[512] = 512  # type: ignore[assignment]


class SmallOrder(messages.Order):
    hyper_parameters: SmallHyperParameters
    modulus: str


class TrainingRequest(messages.TrainingRequest):
    """Signed under the name of the class: it must be the same."""

    order: SmallOrder


def account(name: str) -> LocalAccount:
    made: LocalAccount = Account.from_key(keccak(text=name))
    return made


BUYER, AGGREGATOR = account("buyer"), account("aggregator")


def rows_of(number: int) -> int:
    return 20 + 10 * (number * 3 % 5)


def owner(number: int) -> LocalAccount:
    return account(f"owner {number}")


def audited(file: bytes) -> Report:
    """Audit a transcript file of a training with a short key."""
    return audit(read(io.BytesIO(file)), minimum_bits=BITS, request_type=TrainingRequest)


@dataclass(frozen=True)
class Change:
    """Something that is said otherwise: `what` of the record or message of that name becomes `into` of what it was."""

    name: str
    what: tuple[str | int, ...]
    into: Callable[[Any], Any]

    def __call__(self, value: Any) -> Any:
        return changed(value, self.what, self.into)


def changed(value: Any, what: Sequence[str | int], into: Callable[[Any], Any]) -> Any:
    """Return a copy of nested models and tuples in which one thing is different. Nothing is validated."""
    if not what:
        return into(value)
    first, *rest = what
    if isinstance(first, int):
        return (*value[:first], changed(value[first], rest, into), *value[first + 1 :])
    fields = dict(value)
    return type(value).model_construct(**{**fields, first: changed(fields[first], rest, into)})


@dataclass(frozen=True)
class Powers:
    """Randomisers r^n, computed when they are asked for."""

    key: PublicKey

    def take(self, count: int) -> list[mpz]:
        return [power for power, _ in self.take_with_roots(count)]

    def take_with_roots(self, count: int) -> list[tuple[mpz, mpz]]:
        roots = [mpz(secrets.randbelow(int(self.key.n) - 1) + 1) for _ in range(count)]
        return [(powmod(root, self.key.n, self.key.n_squared), root) for root in roots]


@dataclass
class Story:
    """A training, as told once or many times: trainers are `places` of the owners, then validators."""

    iterations: int = 3
    features: int = 3
    evaluation_interval: int = 1
    tolerance: float = 0.0
    weighting: Literal["rows", "equal"] = "rows"
    standardises: bool = False
    trainers: int = 3
    places: tuple[int, ...] = (0, 1, 2, 3, 4)
    key: PrivateKey = KEY
    domain: Domain = DOMAIN
    ordered: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters of the order that the aggregator does not keep to."""
    silent: frozenset[str] = frozenset()
    """Answers that never came, by name."""
    memory: dict[str, Any] = field(default_factory=dict)
    _signatures: dict[tuple[str, bytes, bytes], Signed] = field(default_factory=dict)

    @cached_property
    def order(self) -> messages.Order:
        bits = self.key.public_key.bits
        small = bits < MINIMUM_BITS
        hyper = (SmallHyperParameters if small else HyperParameters).model_validate(
            {
                "iterations": self.iterations,
                "learning_rate": 0.3,
                "evaluation_interval": self.evaluation_interval,
                "tolerance": self.tolerance,
                "weighting": self.weighting,
                "key_bits": bits,
                **self.ordered,
            }
        )
        return (SmallOrder if small else messages.Order)(
            model_type="LINEAR_REGRESSION",
            data_requirements=DataRequirements(
                features=Features(
                    list=tuple(f"x{i}" for i in range(self.features)),
                    range=(-10.0, 10.0),
                    pre_processing=(Standardisation(method="standard"),) if self.standardises else (),
                ),
                target=Target(range=(-1.0, 1.0)),
            ),
            hyper_parameters=hyper,
            participants=Participants(wanted=5, minimum=3, validator_share=0.4),
            modulus=f"{self.key.public_key.n:x}",
        )

    @cached_property
    def request_type(self) -> type[messages.TrainingRequest]:
        return TrainingRequest if isinstance(self.order, SmallOrder) else messages.TrainingRequest

    @cached_property
    def fresh(self) -> Powers:
        return Powers(self.key.public_key)

    @cached_property
    def owners(self) -> tuple[LocalAccount, ...]:
        return tuple(owner(place) for place in self.places)

    @cached_property
    def rows(self) -> tuple[int, ...]:
        return tuple(rows_of(place) for place in self.places)

    @cached_property
    def statistics(self) -> tuple[GramStatistics, ...]:
        return tuple(random_owner(rows_of(place), self.features + 1, place) for place in self.places)

    @cached_property
    def weights(self) -> tuple[int, ...]:
        return tuple(relative_weights(self.rows[: self.trainers], self.weighting))

    def tell(self, change: Change | None = None) -> bytes:
        """Return the transcript file."""
        return Telling(self, change).file()

    def remembered(self, name: str, draw: Callable[[], Any]) -> Any:
        if name not in self.memory:
            self.memory[name] = draw()
        return self.memory[name]

    def signed(self, who: LocalAccount, message: Message, question: Signed | None) -> Signed:
        name = (who.address, type(message).__name__.encode() + message.pack(), question.digest if question else b"")
        if name not in self._signatures:
            self._signatures[name] = Signer(who, self.domain).sign(message, question)
        return self._signatures[name]


class Telling:
    """One telling of a story."""

    def __init__(self, story: Story, change: Change | None) -> None:
        self.story = story
        self.change = change
        self.private_key = story.key
        self.fresh: Any = story.fresh
        self.short: Any = story.fresh
        self.key = story.key.public_key
        self.length = story.features + 1
        self.statistics = story.statistics
        self.domain = story.domain
        self.entries: list[Entry] = []
        self.remaining: tuple[int, ...] = tuple(range(len(story.places) - story.trainers))
        self.said: dict[str, tuple[LocalAccount, Message]] = {}
        self.records: dict[str, Record] = {}

    def file(self) -> bytes:
        self._play()
        root = TranscriptRoot(
            training=TRAINING, root=merkle_root([entry.pack() for entry in self.entries]), entries=len(self.entries)
        )
        return b"".join(write(self.entries, self.say("root", AGGREGATOR, root)))

    def say(self, name: str, who: LocalAccount, message: Message, question: Signed | None = None) -> Signed:
        if self.change is not None and self.change.name == name:
            message = self.change(message)
        self.said[name] = who, message
        return self.story.signed(who, message, question)

    def keep(self, kind: str, round_: int, record: Record) -> Any:
        name = f"{kind} {round_}"
        self.records[name] = record
        if self.change is not None and self.change.name == name:
            record = self.change(record)
        self.entries.append(Entry(kind=kind, round=round_, content=record.pack()))
        return record

    def replies(
        self,
        name: str,
        owners: Sequence[LocalAccount],
        places: Sequence[int],
        question: Signed,
        answer: Callable[[int], Message],
    ) -> tuple[Reply, ...]:
        answers = []
        for place in places:
            if (whole := f"{name} answer {place}") not in self.story.silent:
                signed = self.say(whole, owners[place], answer(place), question)
                answers.append(Reply(place=place, content=signed.content, signature=signed.signature))
        return tuple(answers)

    def vector(self, name: str, draw: Callable[[], Sequence[mpz]]) -> Vector:
        return Vector(ciphertexts=self.story.remembered(name, lambda: self.key.encode(draw())))

    def _play(self) -> None:
        story = self.story
        context = proof_context(self.domain, TRAINING, "key", 0, BUYER.address)
        request = story.request_type(
            training=TRAINING,
            chain_id=self.domain.chain_id,
            contract=self.domain.contract,
            buyer=BUYER.address,
            buyer_url="http://buyer",
            aggregator_url="http://aggregator",
            order=story.order,
            key_proof=story.remembered("key proof", lambda: prove_key(self.private_key, context).to_bytes()),
        )
        addresses = tuple(owner.address for owner in story.owners)
        self.keep(
            "header",
            0,
            Header(
                request=self.say("request", BUYER, request),
                aggregator=AGGREGATOR.address,
                trainers=addresses[: story.trainers],
                validators=addresses[story.trainers :],
                rows=story.rows,
            ),
        )
        if story.standardises:
            scaling = self._moments()
            self.statistics = tuple(scaling.standardise(table) for table in story.statistics)
        first = self._evaluate("zero", 0, [], (), ())
        places, models = self._local_models()
        total, trainers = self._round(0, None, b"", ())
        for round_ in range(1, self.story.iterations):
            if round_ % story.evaluation_interval == 0:
                self._evaluate("iteration", round_, [total], trainers, ())
                if story.tolerance and round_ >= 2 * story.evaluation_interval:
                    break
            refreshed, model = self._refresh(round_ - 1, total, trainers)
            total, trainers = self._round(round_, refreshed, model, trainers)
        else:
            round_ = self.story.iterations
        vectors = settlement_vectors(total, models, [story.weights[i] for i in places], self.key)
        settled = self._evaluate("settlement", round_, vectors, trainers, places)
        if first != settled:
            self._evaluate("zero", 1, [], (), ())

    def _moments(self) -> Scaling:
        story, owners = self.story, self.story.owners[: self.story.trainers]
        addresses, rows = [owner.address for owner in owners], story.rows[: len(owners)]
        trainers = Trainers(story.order, addresses, rows, BUYER.address, self.key, self.domain)
        question = self.say("score-moments question", AGGREGATOR, MomentsQuestion(training=TRAINING))

        def answer(place: int) -> Vector:
            return self.vector(f"moments {place}", lambda: self.private_key.encrypt(moments(story.statistics[place])))

        answers = self.replies("score-moments", owners, range(len(owners)), question, answer)
        self.keep("score-moments", 0, SummedMoments(question=question, answers=answers))
        answers = tuple(reply for reply in answers if f"total-moments answer {reply.place}" not in story.silent)
        places = tuple(reply.place for reply in answers)

        def draw() -> list[tuple[mpz, mpz]]:
            vectors = [self.key.decode(Vector.unpack(reply.content).ciphertexts, trainers.count) for reply in answers]
            return totals.add(vectors, self.key, self.fresh)

        pairs = story.remembered("total moments", draw)
        cosign = MomentsCosignQuestion(
            training=TRAINING,
            answers=answers,
            totals=self.key.encode(total for total, _ in pairs),
            randomisers=wire.encode_roots([root for _, root in pairs], self.key),
        )
        cosign_asked = self.say("total-moments question", AGGREGATOR, cosign)
        told: Any = self.said["total-moments question"][1]
        unsigned = MomentsTotals(
            training=TRAINING, question=question.digest, trainers=places, ciphertexts=told.totals, cosignatures=()
        )
        statement = statement_of_totals(unsigned)

        def cosignature(place: int) -> Cosignature:
            return Cosignature(signature=Signer(owners[place], self.domain).sign(statement).signature)

        signed = self.replies("total-moments", owners, places, cosign_asked, cosignature)
        signatures = tuple(cosignature(place).signature for place in places)
        signed_totals = unsigned.model_copy(update={"cosignatures": signatures})
        to_open = self.say("total-moments totals", AGGREGATOR, signed_totals)
        self.keep("total-moments", 0, Cosigned(question=cosign_asked, answers=signed, totals=to_open))
        opened = story.remembered(
            "opening moments", lambda: [evaluation.open_total(total, self.private_key) for total, _ in pairs]
        )
        said = Openings(
            totals=tuple(f"{opening.total:x}" for opening in opened),
            randomisers=tuple(f"{opening.randomiser:x}" for opening in opened),
        )
        self.keep("opening-moments", 0, Opened(openings=self.say("opening-moments answer", BUYER, said, to_open)))
        return trainers.scaling([opening.total for opening in opened], places)

    def _round(
        self, round_: int, refreshed: Signed | None, model: bytes, included: tuple[int, ...]
    ) -> tuple[list[mpz], tuple[int, ...]]:
        name = f"round {round_}"
        hyper = self.story.order.hyper_parameters
        question = self.say(
            f"{name} question",
            AGGREGATOR,
            RoundQuestion(training=TRAINING, round=round_, included=included, model=model),
        )

        def update(place: int) -> Vector:
            start = self.key.decode(model, self.length) if model else [self.key.trivial(0)] * self.length
            step = quantise_map(*local_map(self.statistics[place], hyper.learning_rate, hyper.ridge, 1))
            move = AffineMap(*step, self.story.weights[place])
            return self.vector(f"{name} {place}", lambda: move.apply(start, self.key, self.short))

        answers = self.replies(name, self.story.owners, range(self.story.trainers), question, update)
        self.keep("round", round_, Round(refreshed=refreshed, question=question, answers=answers))
        places = tuple(reply.place for reply in answers)
        sums = [self.key.decode(update(place).ciphertexts, self.length) for place in places]
        return rounds.aggregate(sums, self.key), places

    def _refresh(self, round_: int, total: list[mpz], trainers: tuple[int, ...]) -> tuple[Signed, bytes]:
        name = f"refresh {round_}"
        divisor = sum(self.story.weights[place] for place in trainers) << FRACTION_BITS
        hidden = self.story.remembered(name, lambda: rounds.mask(total, self.key, self.fresh))
        question = self.say(
            f"{name} question",
            AGGREGATOR,
            MaskedRound(training=TRAINING, round=round_, trainers=trainers, packed=self.key.encode(hidden.packed)),
        )
        self.keep(
            "refresh",
            round_,
            Masking(
                question=question,
                masks=wire.encode_masks(hidden.masks),
                randomisers=wire.encode_roots(hidden.roots, self.key),
            ),
        )
        vector = self.vector(
            f"{name} answer", lambda: rounds.refresh(hidden.packed, self.length, divisor, self.private_key)
        )
        model = rounds.unmask(self.key.decode(vector.ciphertexts, self.length), hidden.masks, divisor, self.key)
        return self.say(f"{name} answer", BUYER, vector, question), self.key.encode(model)

    def _local_models(self) -> tuple[tuple[int, ...], list[list[mpz]]]:
        question = self.say("local question", AGGREGATOR, LocalModelQuestion(training=TRAINING))
        hyper = self.story.order.hyper_parameters

        def answer(place: int) -> Vector:
            def draw() -> list[mpz]:
                model = local_model(self.statistics[place], hyper.learning_rate, hyper.ridge, self.story.iterations)
                return self.private_key.encrypt(to_fixed(float(weight), 2 * FRACTION_BITS) for weight in model)

            return self.vector(f"local {place}", draw)

        answers = self.replies("local", self.story.owners, range(self.story.trainers), question, answer)
        self.local = self.keep("local", 0, LocalModels(question=question, answers=answers))
        places = tuple(reply.place for reply in answers)
        return places, [self.key.decode(answer(place).ciphertexts, self.length) for place in places]

    def _evaluate(
        self,
        kind: EvaluationKind,
        round_: int,
        vectors: Sequence[Sequence[mpz]],
        trainers: tuple[int, ...],
        contributors: tuple[int, ...],
    ) -> tuple[int, ...]:
        story, name = self.story, f"{kind} {round_}"
        scales = factors(kind, story.weights, trainers, contributors) or (0,)
        question = ScoreQuestion(training=TRAINING, kind=kind, round=round_)
        products = None
        if kind != "zero":
            hidden = story.remembered(f"mask {name}", lambda: evaluation.mask_vectors(vectors, self.key, self.fresh))
            salts = b"salt" * (2 * totals.SALT_BYTES // 4) if kind == "settlement" else b""
            models = MaskedModels(
                training=TRAINING,
                kind=kind,
                round=round_,
                trainers=trainers,
                contributors=contributors,
                masked=self.key.encode(wire.join(hidden.masked)),
            )
            asked = self.say(f"mask-{name} question", AGGREGATOR, models)
            masks = wire.encode_masks(wire.join(hidden.masks))
            roots = wire.encode_roots(wire.join(hidden.roots), self.key)
            self.keep(f"mask-{kind}", round_, Masking(question=asked, masks=masks, randomisers=roots, salts=salts))
            multiplied = story.remembered(f"products {name}", lambda: self._products(kind, round_, hidden.masked))
            products = self.say(f"mask-{name} answer", BUYER, multiplied, asked)
            question = ScoreQuestion(
                training=TRAINING,
                kind=kind,
                round=round_,
                trainers=trainers,
                contributors=contributors,
                masked=models.masked,
                products=multiplied.ciphertexts,
                proof=multiplied.proof,
                masks=masks,
                salts=salts,
                **(self._provenance(roots) if kind == "settlement" else {}),
            )
        asked = self.say(f"score-{name} question", AGGREGATOR, question)
        validators = self.story.owners[self.story.trainers :]
        statistics = self.statistics[self.story.trainers :]

        def score(place: int) -> Vector:
            def draw() -> list[mpz]:
                own = statistics[place]
                if kind == "zero":
                    return [evaluation.score_zero(own, self.key, self.short)]
                parts = wire.questioned_vectors(question, len(scales), self.length, self.key)
                return [
                    evaluation.score(own, scale, *part, self.key, self.short)
                    for scale, part in zip(scales, parts, strict=True)
                ]

            return self.vector(f"score {name} {place}", draw)

        answers = self.replies(f"score-{name}", validators, self.remaining, asked, score)
        self.keep(f"score-{kind}", round_, Scores(products=products, question=asked, answers=answers))
        return self._total(kind, round_, asked, answers, scales)

    def _provenance(self, roots: bytes) -> dict[str, Any]:
        each = len(wire.encode_roots([mpz(1)], self.key))
        return {
            "local_question": self.local.question.content,
            "local_models": self.local.answers,
            "randomisers": roots[each * self.length :],
        }

    def _products(self, kind: str, round_: int, masked: list[list[mpz]]) -> Products:
        opened = evaluation.open_masked(masked, self.private_key)
        flat = evaluation.products(opened, self.private_key)
        context = proof_context(self.domain, TRAINING, f"products-{kind}", round_, BUYER.address)
        proof = prove_products(masked, flat, opened, self.private_key, context)
        return Products(ciphertexts=self.key.encode(wire.join(flat)), proof=proof.to_bytes(self.key))

    def _total(
        self,
        kind: EvaluationKind,
        round_: int,
        asked: Signed,
        answers: tuple[Reply, ...],
        scales: tuple[int, ...],
    ) -> tuple[int, ...]:
        story, name = self.story, f"{kind} {round_}"
        validators = self.story.owners[self.story.trainers :]
        answers = tuple(reply for reply in answers if f"total-{name} answer {reply.place}" not in story.silent)
        places = tuple(reply.place for reply in answers)

        def draw() -> list[tuple[mpz, mpz]]:
            vectors = [self.key.decode(Vector.unpack(reply.content).ciphertexts, len(scales)) for reply in answers]
            return [evaluation.combine(column, self.key, self.fresh) for column in zip(*vectors, strict=True)]

        pairs = story.remembered(f"total {name}", draw)
        cosign = CosignQuestion(
            training=TRAINING,
            kind=kind,
            round=round_,
            answers=answers,
            totals=self.key.encode(total for total, _ in pairs),
            randomisers=wire.encode_roots([root for _, root in pairs], self.key),
        )
        cosign_asked = self.say(f"total-{name} question", AGGREGATOR, cosign)
        told: Any = self.said[f"total-{name} question"][1]
        shown: Any = self.said[f"score-{name} question"][1]
        try:
            committed = totals.commitments(shown, scales, self.length)
        except InvalidInput:  # what nobody honest would sign
            committed = ()
        statement = totals.statement(asked, shown, places, told.totals, committed)

        def cosignature(place: int) -> Cosignature:
            return Cosignature(signature=Signer(validators[place], self.domain).sign(statement).signature)

        signed = self.replies(f"total-{name}", validators, places, cosign_asked, cosignature)
        to_open = self.say(
            f"total-{name} totals",
            AGGREGATOR,
            Totals(
                training=TRAINING,
                kind=kind,
                round=round_,
                validators=places,
                ciphertexts=told.totals,
                question=statement.question,
                masks=statement.masks,
                commitments=statement.commitments,
                cosignatures=tuple(cosignature(place).signature for place in places),
            ),
        )
        self.keep(f"total-{kind}", round_, Cosigned(question=cosign_asked, answers=signed, totals=to_open))
        openings = story.remembered(
            f"opening {name}", lambda: [evaluation.open_total(total, self.private_key) for total, _ in pairs]
        )
        said = Openings(
            totals=tuple(f"{opening.total:x}" for opening in openings),
            randomisers=tuple(f"{opening.randomiser:x}" for opening in openings),
        )
        self.keep(f"opening-{kind}", round_, Opened(openings=self.say(f"opening-{name} answer", BUYER, said, to_open)))
        self.remaining = places
        return places
