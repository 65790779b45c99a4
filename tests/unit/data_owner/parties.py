"""A training with two trainers and two validators: what the buyer and the aggregator say in it, made by hand."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from eth_account import Account
from eth_account.signers.local import LocalAccount
from gmpy2 import mpz

from commons.chain.connection import Connection
from commons.chain.marketplace import Result, Role, Terms
from commons.chain.marketplace import Status as ChainStatus
from commons.crypto.packing import FRACTION_BITS, to_fixed
from commons.crypto.paillier import PrivateKey, UniformRandomisers
from commons.crypto.proofs import prove_key, prove_products
from commons.database import Database
from commons.http.signatures import Question
from commons.journal import Journal
from commons.learning.statistics import TableStatistics
from commons.protocol import evaluation, totals, wire
from commons.protocol.messages import (
    Cosignature,
    CosignQuestion,
    DataRequirements,
    EvaluationKind,
    Features,
    HyperParameters,
    LocalModelQuestion,
    Message,
    Metric,
    Order,
    Participants,
    Reply,
    RoundQuestion,
    ScoreQuestion,
    Target,
    TrainingRequest,
    Vector,
)
from commons.protocol.outcome import factors, settlement_vectors
from commons.protocol.signed import Signed, Signer, proof_context
from data_owner.answering import Answering
from data_owner.app import MIGRATIONS
from data_owner.reviewing import Reviewing
from data_owner.storage import Dataset, Status, Storage, Training
from tests.unit.data_owner.chain import Chain, Market

TRAINING = uuid.UUID(int=7)
ROWS = 20
ITERATIONS, INTERVAL = 10, 5
COLUMNS = ("age", "bmi", "y")
URL = "http://127.0.0.1:9"

Content = TypeVar("Content", bound=Message)


def account(number: int) -> LocalAccount:
    made: LocalAccount = Account.from_key(number.to_bytes(32, "big"))
    return made


BUYER, AGGREGATOR, ARBITER, STRANGER = (account(number) for number in range(1, 5))
OWNERS = [account(number) for number in range(5, 9)]
TRAINERS, VALIDATORS = OWNERS[:2], OWNERS[2:]


def rows_of(number: int) -> TableStatistics:
    generator = np.random.default_rng(number)
    features = generator.uniform(-1, 1, (ROWS, 2))
    target = 2 + features @ [0.5, -0.25] + generator.normal(0, 0.1, ROWS)
    return TableStatistics.accumulate([np.column_stack([features, target])], COLUMNS)


@dataclass
class Owner:
    """A data owner's service, without HTTP."""

    chain: Chain
    database: Database
    storage: Storage
    journal: Journal
    answering: Answering
    reviewing: Reviewing

    def restarted(self) -> Reviewing:
        return Reviewing(self.storage, self.journal, cast(Connection, self.chain))


@dataclass(frozen=True)
class LocalModels:
    """A question for local models, the models as they are encrypted, and the trainers' signed answers."""

    question: Signed
    models: list[list[mpz]]
    replies: tuple[Reply, ...]


class Parties:
    """Everybody who talks to owners.

    Parameters
    ----------
    private_key : PrivateKey
        The buyer's.
    randomisers : UniformRandomisers
        The aggregator's.
    """

    def __init__(self, private_key: PrivateKey, randomisers: UniformRandomisers) -> None:
        self.private_key = private_key
        self.key = private_key.public_key
        self.randomisers = randomisers
        self.order = Order(
            model_type="LINEAR_REGRESSION",
            data_requirements=DataRequirements(
                features=Features(list=COLUMNS[:2], range=(-1, 1)), target=Target(name="y", range=(0, 4))
            ),
            hyper_parameters=HyperParameters(iterations=ITERATIONS, evaluation_interval=INTERVAL),
            participants=Participants(wanted=4),
            modulus=f"{int(self.key.n):x}",
        )
        self.market = Market(
            Terms(
                wanted_owners=4,
                minimum_owners=3,
                join_deadline=1000,
                training_deadline=2000,
                review_period=60,
                fixed_share=0,
                arbiter=ARBITER.address,
                order_hash=self.order.digest(),
            ),
            buyer=BUYER.address,
            aggregator=AGGREGATOR.address,
            status=ChainStatus.TRAINING,
            owners=[owner.address for owner in OWNERS],
            rows=[ROWS] * 4,
            trainer_count=2,
            roles={AGGREGATOR.address: Role.FEDERATED_AGGREGATOR},
        )
        self.domain = self.market.domain
        self.aggregator, self.buyer = Signer(AGGREGATOR, self.domain), Signer(BUYER, self.domain)
        self.addresses = [validator.address for validator in VALIDATORS]

    def owner(self, number: int, folder: Path) -> Owner:
        """Make the service of an owner who has accepted: 0 and 1 train, 2 and 3 validate."""
        on = Database(f"sqlite:///{folder / f'{number}.db'}")
        on.migrate(MIGRATIONS)
        chain, storage, journal = Chain(self.market, OWNERS[number]), Storage(on), Journal(on)
        connection, table = cast(Connection, chain), rows_of(number)
        rows = Dataset(id=uuid.UUID(int=1), name="rows.csv", rows=ROWS, statistics=table.to_bytes())
        storage.add_dataset(rows)
        columns = {"buyer": BUYER.address, "aggregator": AGGREGATOR.address, "aggregator_url": URL}
        storage.offer(
            Training(
                id=TRAINING, status=Status.IN_PROGRESS, order=self.order.canonical(), dataset_id=rows.id, **columns
            )
        )
        reviewing = Reviewing(storage, journal, connection)
        return Owner(chain, on, storage, journal, Answering(storage, journal, connection), reviewing)

    def request(self, **changed: object) -> TrainingRequest:
        """Return the buyer's request, with a proof of its key."""
        context = proof_context(self.domain, TRAINING, "key", 0, BUYER.address)
        fields: dict[str, object] = {
            "training": TRAINING,
            "chain_id": self.domain.chain_id,
            "contract": self.domain.contract,
            "buyer": BUYER.address,
            "buyer_url": URL,
            "aggregator_url": URL,
            "order": self.order,
            "key_proof": prove_key(self.private_key, context).to_bytes(),
        }
        return TrainingRequest.model_validate(fields | changed)

    def ask(self, content: Content, sender: Signer | None = None) -> Question[Content]:
        """Return a question as it comes in over HTTP."""
        signer = sender or self.aggregator
        return Question(content, signer.sign(content), signer.address)

    def encrypt(self, weights: Sequence[float], factor: int) -> list[mpz]:
        """Encrypt a model as trainers do, times its factor."""
        values = [to_fixed(weight, 2 * FRACTION_BITS) * factor for weight in weights]
        return [self.key.encrypt(v, r) for v, r in zip(values, self.randomisers.take(len(values)), strict=True)]

    def round(self, number: int) -> RoundQuestion:
        model = self.private_key.encrypt([to_fixed(0.1)] * 3) if number else []
        included = (0, 1) if number else ()
        return RoundQuestion(training=TRAINING, round=number, included=included, model=self.key.encode(model))

    def zero(self, round_: int = 0) -> ScoreQuestion:
        return ScoreQuestion(training=TRAINING, kind="zero", round=round_)

    def models(self, kind: EvaluationKind, round_: int, proven_as: tuple[str, int] | None = None) -> ScoreQuestion:
        """Return a question about masked models, with the buyer's products and their proof.

        ``proven_as`` makes the proof one for another kind and round.
        """
        contributors = (0, 1) if kind == "settlement" else ()
        scales = factors(kind, (1, 1), (0, 1), contributors)
        local = self.local_models() if kind == "settlement" else None
        vectors = [self.encrypt([0.6, 0.12, -0.06], 2)]  # of the settlement's two models, the averaged one is better
        if local is not None:
            vectors += settlement_vectors([], local.models, (1, 1), self.key)[1:]
        assert len(vectors) == len(scales)
        hidden = evaluation.mask_vectors(vectors, self.key, self.randomisers)
        opened = evaluation.open_masked(hidden.masked, self.private_key)
        products = evaluation.products(opened, self.private_key)
        what, when = proven_as or (kind, round_)
        context = proof_context(self.domain, TRAINING, f"products-{what}", when, BUYER.address)
        proof = prove_products(hidden.masked, products, opened, self.private_key, context)
        return ScoreQuestion(
            training=TRAINING,
            kind=kind,
            round=round_,
            trainers=(0, 1),
            contributors=contributors,
            masked=self.key.encode(wire.join(hidden.masked)),
            products=self.key.encode(wire.join(products)),
            proof=proof.to_bytes(self.key),
            masks=wire.encode_masks(wire.join(hidden.masks)),
            salts=secrets.token_bytes(64) if kind == "settlement" else b"",
            local_question=b"" if local is None else local.question.content,
            local_models=() if local is None else local.replies,
            randomisers=b"" if local is None else wire.encode_roots(wire.join(hidden.roots[1:]), self.key),
        )

    def local_models(self) -> LocalModels:
        """Return what two trainers answer when they are asked for their local models."""
        question = self.ask(LocalModelQuestion(training=TRAINING)).signed
        models = [self.encrypt([0.5, 0.12, -0.06], 1) for _ in TRAINERS]
        answers = [
            Signer(trainer, self.domain).sign(Vector(ciphertexts=self.key.encode(model)), question)
            for trainer, model in zip(TRAINERS, models, strict=True)
        ]
        replies = tuple(
            Reply(place=place, content=answer.content, signature=answer.signature)
            for place, answer in enumerate(answers)
        )
        return LocalModels(question, models, replies)

    def sums(self, question: ScoreQuestion, answers: dict[int, Signed]) -> CosignQuestion:
        """Add what validators answered, by their places."""
        vectors = len(factors(question.kind, (1, 1), question.trainers, question.contributors)) or 1
        scores = [self.key.decode(answer.read(Vector).ciphertexts, vectors) for answer in answers.values()]
        pairs = [evaluation.combine(column, self.key, self.randomisers) for column in zip(*scores, strict=True)]
        return CosignQuestion(
            training=TRAINING,
            kind=question.kind,
            round=question.round,
            answers=tuple(
                Reply(place=place, content=answer.content, signature=answer.signature)
                for place, answer in answers.items()
            ),
            totals=self.key.encode([total for total, _ in pairs]),
            randomisers=wire.encode_roots([root for _, root in pairs], self.key),
        )

    def metric(self, question: ScoreQuestion, validators: dict[int, Owner]) -> Metric:
        """Have an evaluation scored, co-signed and opened."""
        asked = self.ask(question)
        answers = {place: owner.answering.score(asked) for place, owner in validators.items()}
        cosign = self.sums(question, answers)
        signed = [owner.answering.cosign(self.ask(cosign)) for owner in validators.values()]
        scales = factors(question.kind, (1, 1), question.trainers, question.contributors)
        committed = totals.commitments(question, scales, 3)
        statement = totals.statement(asked.signed, question, tuple(validators), cosign.totals, committed)
        opened = totals.DELIVERABLE if question.kind == "settlement" else 1
        ciphertexts = self.key.decode(cosign.totals, len(scales) or 1)[:opened]
        openings = [evaluation.open_total(ciphertext, self.private_key) for ciphertext in ciphertexts]
        mse = totals.mse(question.kind, openings[0].total, (scales or (0,))[0], ROWS * len(validators))
        return Metric(
            training=TRAINING,
            iteration=0 if question.kind == "zero" else question.round,
            mse=str(mse),
            statement=statement.pack(),
            cosignatures=tuple(answer.read(Cosignature).signature for answer in signed),
            ciphertexts=cosign.totals,
            totals=tuple(f"{opening.total:x}" for opening in openings),
            randomisers=tuple(f"{opening.randomiser:x}" for opening in openings),
        )


def result(initial: int, final: int, **changed: object) -> Result:
    """Return a result of the training."""
    fields: dict[str, object] = {
        "iterations": ITERATIONS,
        "initial_mse": initial,
        "final_mse": final,
        "partial_mses": (1, 2),
        "contributions": (3, 4),
        "trainers_answered": (True, True),
        "validators_answered": (True, True),
        "transcript_root": bytes(32),
        "model_hash": bytes(32),
    }
    return Result(**(fields | changed))  # type: ignore[arg-type]
