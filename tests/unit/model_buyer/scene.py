"""A buyer whose aggregator and data owners are played by the test: real keys, signatures and tables, no servers.

Three trainers and two validators, two rounds, an evaluation after the first: everything that a buyer is asked.
"""

from __future__ import annotations

import dataclasses
import secrets
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from eth_account import Account
from eth_account.signers.local import LocalAccount

from commons.chain.connection import Connection
from commons.chain.marketplace import Dispute, Outcome, Participant, Payment, PaymentKind, Result, Terms
from commons.chain.marketplace import Status as ChainStatus
from commons.chain.marketplace import Training as OnChain
from commons.crypto.packing import FRACTION_BITS, to_fixed
from commons.crypto.paillier import PrivateKey, ShortRandomisers, UniformRandomisers
from commons.crypto.proofs import Opening, verify_openings
from commons.database import Database
from commons.journal import Journal
from commons.protocol import evaluation, totals, wire
from commons.protocol import round as rounds
from commons.protocol.evaluation import MaskedVectors
from commons.protocol.messages import (
    DataRequirements,
    Delivery,
    EvaluationKind,
    Features,
    HyperParameters,
    MaskedModels,
    MaskedRound,
    Message,
    Openings,
    Order,
    Participants,
    Products,
    ScoreQuestion,
    Standardisation,
    Target,
    Totals,
)
from commons.protocol.outcome import Outcome as Computed
from commons.protocol.outcome import factors, settle, settlement_vectors
from commons.protocol.signed import Domain, Signed, Signer
from commons.users.storage import Users
from model_buyer.answering import Answering
from model_buyer.app import MIGRATIONS
from model_buyer.reviewing import Reviewing
from model_buyer.settlement import Settlement
from model_buyer.storage import Model, Status, Storage
from model_buyer.vault import Vault
from tests.unit.learning.tables import random_owner

DOMAIN = Domain(chain_id=31337, contract="0x" + "c0" * 20)
REVIEW_S = 100
REPORTED_AT = 10_000
ROWS = (20, 10, 10, 12, 8)
"""Of three trainers and two validators."""
TRAINERS, VALIDATORS = (0, 1, 2), (0, 1)
WEIGHTS = (2, 1, 1)


def account(number: int) -> LocalAccount:
    return cast(LocalAccount, Account.from_key(number.to_bytes(32, "big")))


BUYER, AGGREGATOR, ARBITER, STRANGER = (account(number) for number in range(1, 5))
OWNERS = tuple(account(number) for number in range(5, 10))


def signer(of: LocalAccount) -> Signer:
    return Signer(of, DOMAIN)


@dataclass
class Market:
    """The contract as far as a buyer sees it."""

    training_id: uuid.UUID
    order_hash: bytes = bytes(32)
    address: str = DOMAIN.contract
    chain_id: int = DOMAIN.chain_id
    status: ChainStatus = ChainStatus.TRAINING
    clock: int = REPORTED_AT
    result: Result | None = None
    disputed: Dispute | None = None
    bonds: list[int] = field(default_factory=list)
    finished: int = 0
    reason: str = ""
    paid: list[Payment] = field(default_factory=list)
    refusal: Exception | None = None

    def training(self, training_id: uuid.UUID) -> OnChain:
        assert training_id == self.training_id
        return OnChain(
            id=training_id,
            status=self.status,
            buyer=BUYER.address,
            aggregator=AGGREGATOR.address,
            escrow=100,
            bond=5,
            terms=Terms(
                wanted_owners=5,
                minimum_owners=5,
                join_deadline=1000,
                training_deadline=2**40,
                review_period=REVIEW_S,
                fixed_share=0,
                arbiter=ARBITER.address,
                order_hash=self.order_hash,
            ),
            owners=tuple(Participant(o.address, rows, 0, False) for o, rows in zip(OWNERS, ROWS, strict=True)),
            trainer_count=len(TRAINERS),
            evaluations=0,
            ordered_block=1,
            closed_block=2,
            startable=True,
            digest=bytes(32) if self.result is None else self.result.digest(),
            improvement=0,
            deadline=REPORTED_AT + REVIEW_S,
            disputer=None if self.disputed is None else self.disputed.disputer,
            result=self.result,
        )

    def now(self) -> int:
        return self.clock

    def dispute(self, training_id: uuid.UUID) -> Dispute | None:
        return self.disputed

    def failure(self, training_id: uuid.UUID) -> str:
        return self.reason

    def payments(self, training_id: uuid.UUID) -> list[Payment]:
        return self.paid

    def credit(self, address: str) -> int:
        return 0

    def finalize(self, training_id: uuid.UUID) -> None:
        raise AssertionError("no deadline has passed")

    cancel = expire = finalize

    def report(self, result: Result) -> None:
        self.status, self.result = ChainStatus.REPORTED, result

    def finish_model_training(self, training_id: uuid.UUID, digest: bytes) -> None:
        assert self.status == ChainStatus.REPORTED and self.result is not None and digest == self.result.digest()
        self.status = ChainStatus.FINISHED
        self.finished += 1

    def dispute_result(self, training_id: uuid.UUID, evidence_hash: bytes, value: int) -> None:
        assert self.status == ChainStatus.REPORTED
        if self.refusal is not None:
            raise self.refusal
        self.status, self.disputed = ChainStatus.DISPUTED, Dispute(BUYER.address, evidence_hash, None)
        self.bonds.append(value)

    def resolve(self, outcome: Outcome | None) -> None:
        """Settle a dispute as the arbiter decides, or, without a decision, as it was reported."""
        assert self.disputed is not None
        self.status, self.disputed = ChainStatus.FINISHED, dataclasses.replace(self.disputed, outcome=outcome)
        bond = ARBITER.address if outcome is Outcome.AS_REPORTED else self.disputed.disputer
        self.paid = [Payment(bond, PaymentKind.BOND, 5)]
        if outcome is not Outcome.REFUND:
            self.paid.append(Payment(AGGREGATOR.address, PaymentKind.ORCHESTRATION, 10))
        returned = 100 if outcome is Outcome.REFUND else 90
        self.paid.append(Payment(BUYER.address, PaymentKind.BUYER_RETURN, returned))


@dataclass
class Chain:
    """A service's way to the contract of the test."""

    account: LocalAccount
    market: Market

    @property
    def address(self) -> str:
        return str(self.account.address)

    def marketplace(self) -> Market:
        return self.market

    def signer(self) -> Signer:
        return signer(self.account)


@dataclass(frozen=True)
class Secrets:
    """A training's key, and randomisers under it, which take a while to make."""

    key: PrivateKey
    short: ShortRandomisers
    uniform: UniformRandomisers


class Scene:
    """One training, at which the aggregator's and the owners' parts are methods."""

    def __init__(self, folder: Path, own: Secrets, standardises: bool = False) -> None:
        self.secrets = own
        self.id = uuid.uuid4()
        self.order = Order(
            model_type="LINEAR_REGRESSION",
            data_requirements=DataRequirements(
                features=Features(
                    list=("x0", "x1"),
                    range=(-5, 5),
                    pre_processing=(Standardisation(method="standard"),) if standardises else (),
                ),
                target=Target(name="y", range=(-1, 1)),
            ),
            hyper_parameters=HyperParameters(iterations=2, evaluation_interval=1),
            participants=Participants(),
            modulus=f"{int(own.key.public_key.n):x}",
        )
        self.market = Market(self.id, self.order.digest())
        self.chain = cast(Connection, Chain(BUYER, self.market))
        self.database = Database(f"sqlite:///{folder / 'service.db'}")
        self.database.migrate(MIGRATIONS)
        self.storage = Storage(self.database)
        self.vault = Vault(folder / "secret.key")
        self.journal = Journal(self.database)
        self.storage.add(
            Model(
                id=self.id,
                user_id=Users(self.database).add("Ada", "ada@example.org").id,
                name="a model",
                status=Status.IN_PROGRESS,
                order=self.order.canonical(),
                sealed_key=self.vault.seal(own.key.to_bytes()),
                payment=100,
                terms={"aggregator": AGGREGATOR.address},
                announced=True,
            )
        )
        self.start()
        self.validators = [random_owner(rows, 3, seed=seed) for seed, rows in enumerate(ROWS[3:])]
        self.trained = [0.2, 0.1, -0.1]
        self.local = [[0.21, 0.12, -0.11], [0.18, 0.05, 0.0], [0.3, 0.0, 0.2]]
        self.hidden: dict[str, MaskedVectors] = {}
        self.salts = secrets.token_bytes(totals.DELIVERABLE * totals.SALT_BYTES)
        self.mses: dict[tuple[str, int], list[int]] = {}

    def start(self) -> None:
        """Start the service: again, if it was running."""
        self.answering = Answering(self.storage, self.vault, self.journal, self.chain)
        self.settlement = Settlement(self.storage, self.journal, self.answering, self.chain)
        self.reviewing = Reviewing(self.storage, self.journal, self.settlement, self.chain)

    def close(self) -> None:
        self.database.close()

    @property
    def model(self) -> Model:
        return self.storage.model(self.id)

    @property
    def key(self) -> Any:
        return self.secrets.key.public_key

    def sign(self, message: Message) -> Signed:
        return signer(AGGREGATOR).sign(message)

    def masked_round(self) -> MaskedRound:
        """Return the question after the first round."""
        aggregate = self._encrypted(self.trained, sum(WEIGHTS))
        hidden = rounds.mask(aggregate, self.key, self.secrets.uniform)
        return MaskedRound(training=self.id, round=0, trainers=TRAINERS, packed=self.key.encode(hidden.packed))

    def masked_models(self, kind: EvaluationKind) -> MaskedModels:
        """Mask the models of an evaluation: after round 1, or of the settlement after round 2."""
        vectors = [self._encrypted(self.trained, sum(WEIGHTS))]
        if kind == "settlement":
            local = [self._encrypted(weights, 1) for weights in self.local]
            vectors = settlement_vectors(vectors[0], local, WEIGHTS, self.key)
        self.hidden[kind] = evaluation.mask_vectors(vectors, self.key, self.secrets.uniform)
        return MaskedModels(
            training=self.id,
            kind=kind,
            round=2 if kind == "settlement" else 1,
            trainers=TRAINERS,
            contributors=TRAINERS if kind == "settlement" else (),
            masked=self.key.encode(wire.join(self.hidden[kind].masked)),
        )

    def multiply(self, models: MaskedModels) -> Products:
        """Ask the buyer for products."""
        return self.answering.multiply(models, self.sign(models)).read(Products)

    def totals(
        self,
        kind: EvaluationKind,
        models: MaskedModels | None = None,
        products: Products | None = None,
        validators: tuple[int, ...] = VALIDATORS,
        round_: int = 0,
    ) -> Totals:
        """Have the validators score and co-sign, and return what the buyer is asked to open."""
        hidden = self.hidden.get(kind) if models is not None else None
        question = ScoreQuestion(
            training=self.id,
            kind=kind,
            round=round_ if models is None else models.round,
            trainers=() if models is None else models.trainers,
            contributors=() if models is None else models.contributors,
            masked=b"" if models is None else models.masked,
            products=b"" if products is None else products.ciphertexts,
            proof=b"" if products is None else products.proof,
            masks=b"" if hidden is None else wire.encode_masks(wire.join(hidden.masks)),
            salts=self.salts if kind == "settlement" else b"",
        )
        asked = self.sign(question)
        scales = self.scales(kind)
        owners = [self.validators[place] for place in validators]
        if hidden is None:
            scores = [[evaluation.score_zero(o, self.key, self.secrets.short)] for o in owners]
        else:
            vectors = wire.questioned_vectors(question, len(scales), self.order.length, self.key)
            scores = [
                [
                    evaluation.score(o, scale, *vector, self.key, self.secrets.short)
                    for vector, scale in zip(vectors, scales, strict=True)
                ]
                for o in owners
            ]
        sums = [evaluation.combine(column, self.key, self.secrets.uniform)[0] for column in zip(*scores, strict=True)]
        ciphertexts = self.key.encode(sums)
        committed = totals.commitments(question, scales, self.order.length)
        statement = totals.statement(asked, question, validators, ciphertexts, committed)
        return Totals(
            training=self.id,
            kind=kind,
            round=question.round,
            validators=validators,
            ciphertexts=ciphertexts,
            question=asked.digest,
            masks=statement.masks,
            commitments=committed,
            cosignatures=tuple(signer(OWNERS[len(TRAINERS) + v]).sign(statement).signature for v in validators),
        )

    def open(self, question: Totals) -> list[int]:
        """Ask the buyer to open sums; check its openings and return the MSEs."""
        openings = self.answering.open(question, self.sign(question)).read(Openings)
        pairs = zip(openings.totals, openings.randomisers, strict=True)
        found = [Opening(int(total, 16), int(root, 16)) for total, root in pairs]
        scales = self.scales(question.kind) or (0,)
        verify_openings(self.key.decode(question.ciphertexts, len(scales)), found, self.key)
        rows = sum(ROWS[len(TRAINERS) + place] for place in question.validators)
        mses = [totals.mse(question.kind, o.total, scale, rows) for o, scale in zip(found, scales, strict=True)]
        self.mses[question.kind, question.round] = mses
        return mses

    def evaluate(self, kind: EvaluationKind, validators: tuple[int, ...] = VALIDATORS) -> list[int]:
        """Go through an evaluation."""
        if kind == "zero":
            return self.open(self.totals(kind, validators=validators))
        models = self.masked_models(kind)
        return self.open(self.totals(kind, models, self.multiply(models), validators))

    def run(self) -> Computed:
        """Go through the training up to the report, and return the outcome as the aggregator has it."""
        self.evaluate("zero")
        question = self.masked_round()
        self.answering.refresh(question, self.sign(question))
        self.evaluate("iteration")
        return self.outcome(self.evaluate("settlement"))

    def outcome(self, measured: list[int]) -> Computed:
        (zero,) = self.mses["zero", 0]
        return settle(self.id, zero, measured, WEIGHTS, [TRAINERS, TRAINERS], TRAINERS, len(VALIDATORS), VALIDATORS)

    def delivery(self, model: str) -> Delivery:
        """Return what unmasks one of the two models."""
        place = 0 if model == "trained" else 1
        divisor = self.scales("settlement")[place] << FRACTION_BITS
        quotients = evaluation.delivery(self.hidden["settlement"].masks[place], divisor)
        return Delivery(
            training=self.id,
            model=cast(Any, model),
            quotients=tuple(f"{quotient:x}" for quotient in quotients),
            salt=totals.split_salts(self.salts)[place],
        )

    def scales(self, kind: EvaluationKind) -> tuple[int, ...]:
        return factors(kind, WEIGHTS, TRAINERS, TRAINERS)

    def weights(self, model: str) -> list[float]:
        """Return what the buyer should find: the target scale is 1."""
        if model == "trained":
            return self.trained
        return [float(value) for value in np.average(self.local, axis=0, weights=WEIGHTS)]

    def _encrypted(self, weights: list[float], factor: int) -> list[Any]:
        return self.secrets.key.encrypt([to_fixed(weight, 2 * FRACTION_BITS) * factor for weight in weights])


def reported(outcome: Computed, **changes: Any) -> Result:
    """Return an outcome as the aggregator reports it, with changes."""
    result = Result(
        iterations=outcome.iterations,
        initial_mse=outcome.initial_mse,
        final_mse=outcome.final_mse,
        partial_mses=outcome.partial_mses,
        contributions=outcome.contributions,
        trainers_answered=outcome.trainers_answered,
        validators_answered=outcome.validators_answered,
        transcript_root=b"\x01" * 32,
        model_hash=b"\x02" * 32,
    )
    return dataclasses.replace(result, **changes)
