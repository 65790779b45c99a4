"""The walk through a transcript: every step is done again from what was said before it.

What a party says is judged by the rules that the others apply when they are told it, and by no stricter ones: whoever
could get a training of others found wrong by a harmless oddity of its own would get its money back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NoReturn, cast
from uuid import UUID

from gmpy2 import mpz

from commons.audit.findings import Check, Deviation, Party, Report
from commons.chain.settlement import result_of
from commons.chain.training import Result
from commons.crypto.packing import FRACTION_BITS, SLOT_BITS, VALUE_BITS, pack_masked
from commons.crypto.paillier import MINIMUM_BITS, InvalidKey, InvalidOpening, PublicKey
from commons.crypto.powers import Rerandomised, first_false
from commons.crypto.proofs import KeyProof, ProductProof, verify_key, verify_openings, verify_products
from commons.crypto.signatures import InvalidSignature
from commons.errors import DeltaMLError
from commons.learning.local_steps import relative_weights
from commons.protocol import evaluation, totals, wire
from commons.protocol.messages import (
    Cosignature,
    CosignQuestion,
    Delivery,
    EvaluationKind,
    LocalModelQuestion,
    MaskedModels,
    MaskedRound,
    MomentsCosignQuestion,
    MomentsQuestion,
    MomentsStatement,
    MomentsTotals,
    Openings,
    Products,
    Record,
    Reply,
    RoundQuestion,
    ScoreQuestion,
    Totals,
    TotalStatement,
    TrainingRequest,
    Vector,
)
from commons.protocol.moments import MINIMUM_TRAINERS, Trainers, statement_of_totals
from commons.protocol.outcome import Outcome, packed_count, settle, settlement_vectors
from commons.protocol.round import aggregate, unmask
from commons.protocol.schedule import MINIMUM_SUMMED, has_converged, least_contributors, require_places, scales
from commons.protocol.signed import AnyMessage, Domain, Signed, proof_context
from commons.protocol.transcript import (
    MOMENTS,
    Cosigned,
    Header,
    LocalModels,
    Masking,
    Opened,
    Round,
    Scores,
    SummedMoments,
    Transcript,
    TranscriptRoot,
)

Progress = Callable[[int, int], None]
"""Told how many of how many steps are done."""

SETTLEMENT: EvaluationKind = "settlement"
MODELS = ("trained", "averaged")
"""Which model comes first and which second in a settlement."""

REQUEST_ITEMS = 2
"""The parties, and the key."""


class Subject(StrEnum):
    """What is checked, in the order in which it is reported."""

    REQUEST = "request, parties and key"
    SIGNATURES = "signatures"
    SCHEDULE = "rounds and evaluations of the order"
    QUESTIONS = "questions"
    UPDATES = "trainers' answers"
    MODELS = "unmasked models"
    MASKS = "sums, masks and packing"
    PRODUCTS = "product proofs"
    SCORES = "validators' answers"
    SUMS = "sums over owners"
    COSIGNATURES = "co-signatures and commitments"
    OPENINGS = "openings"
    ERRORS = "errors and contributions"


class _Stop(Exception):
    """A deviation on which what follows rests."""

    def __init__(self, subject: Subject, deviation: Deviation) -> None:
        super().__init__(str(deviation))
        self.subject = subject
        self.deviation = deviation


def audit(
    transcript: Transcript,
    progress: Progress = lambda done, total: None,
    minimum_bits: int = MINIMUM_BITS,
    request_type: type[TrainingRequest] = TrainingRequest,
) -> Report:
    """Replay a transcript, without any secret key, and say whether every step was right.

    Parameters
    ----------
    transcript : Transcript
        From :func:`commons.protocol.transcript.read`.
    progress : callable
        Told how far it is.
    minimum_bits : int
        Shortest modulus to accept. Only tests lower it.
    request_type : type
        What the buyer's request has to be. Only tests, whose orders have a shorter key, give another.

    Returns
    -------
    Report
        With the checks that need no chain; :mod:`commons.audit.onchain` has the others.
    """
    return _Replay(transcript, minimum_bits, request_type).run(progress)


@dataclass(frozen=True)
class _Parties:
    """Who is in the training, and what all of them know of it."""

    request: TrainingRequest
    domain: Domain
    key: PublicKey
    buyer: Party
    trainers: tuple[Party, ...]
    trainer_rows: tuple[int, ...]
    validators: tuple[Party, ...]
    weights: tuple[int, ...]
    validator_rows: tuple[int, ...]

    @property
    def length(self) -> int:
        return self.request.order.length

    @property
    def moments(self) -> Trainers:
        addresses = [trainer.address for trainer in self.trainers]
        return Trainers(self.request.order, addresses, self.trainer_rows, self.buyer.address, self.key, self.domain)


@dataclass
class _Sum:
    """The updates of one round, added up."""

    trainers: tuple[int, ...]
    ciphertexts: list[mpz]
    masking: Masking | None = None

    def divisor(self, weights: Sequence[int]) -> int:
        return sum(weights[place] for place in self.trainers) << FRACTION_BITS


@dataclass
class _Evaluation:
    """What was said so far in one evaluation."""

    kind: EvaluationKind
    round: int
    scales: tuple[int, ...] = (0,)
    masking: Masking | None = None
    models: MaskedModels | None = None
    scores: Scores | None = None
    question: ScoreQuestion | None = None
    totals: Totals | None = None
    asked: Signed | None = None
    mses: list[int] = field(default_factory=list)


@dataclass
class _Moments:
    """What was said so far about the sums by which owners standardise."""

    answers: SummedMoments
    totals: MomentsTotals | None = None
    asked: Signed | None = None


@dataclass(frozen=True)
class _Power:
    """A re-randomised ciphertext that is checked at the end, together with the others."""

    step: int
    at: str
    claim: Rerandomised


class _Replay:
    def __init__(self, transcript: Transcript, minimum_bits: int, request_type: type[TrainingRequest]) -> None:
        self._transcript = transcript
        self._minimum_bits = minimum_bits
        self._request_type = request_type
        self._step, self._at = 0, "header 0"
        self._items = dict.fromkeys(Subject, 0)
        self._found: dict[Subject, tuple[int, Deviation]] = {}
        self._powers: list[_Power] = []
        self._aggregator = Party("aggregator", transcript.header.aggregator)
        self._moments: _Moments | None = None
        self._sums: list[_Sum] = []
        self._contributors: tuple[int, ...] = ()
        self._local_models: list[list[mpz]] = []
        self._local_answers: LocalModels | None = None
        self._deliverable: list[list[mpz]] = []
        self._evaluations: dict[tuple[EvaluationKind, int], _Evaluation] = {}
        self._scored: dict[mpz, tuple[Party, str]] = {}
        self._remaining: tuple[int, ...] = ()
        self._curve: dict[int, int] = {}

    def run(self, progress: Progress) -> Report:
        training = TranscriptRoot.unpack(self._transcript.root.content).training
        steps = len(self._transcript.records) + 1
        stop: tuple[int, _Stop] | None = None
        outcome: Outcome | None = None
        try:
            for (kind, round_), record in self._transcript.records.items():
                progress(self._step, steps)
                self._at = f"{kind} {round_}"
                self._replay(kind, round_, record)
                self._step += 1
            self._at = "root"
            progress(self._step, steps)
            outcome = self._finish()
        except _Stop as error:
            stop = self._step, error
        stop = self._settle_powers() or stop
        progress(steps, steps)
        if stop is None:
            return self._report(training, None, outcome)
        step, found = stop
        self._found[found.subject] = step, found.deviation
        return self._report(training, f"not beyond {found.deviation.entry}, on which the rest depends", None)

    def _report(self, training: UUID, unchecked: str | None, outcome: Outcome | None) -> Report:
        checks = []
        for subject in Subject:
            deviation = self._found[subject][1] if subject in self._found else None
            complete = deviation is not None or unchecked is None
            complete = complete or (subject == Subject.REQUEST and self._items[subject] == REQUEST_ITEMS)
            checks.append(Check(subject, self._items[subject], deviation, None if complete else unchecked))
        first = min(self._found.values(), key=lambda each: each[0])[1] if self._found else None
        curve = tuple(
            (0 if own.kind == "zero" else own.round, own.mses[0])
            for own in self._evaluations.values()
            if own.mses and (own.kind, own.round) != ("zero", 1)
        )
        if outcome is None:
            return Report(training, tuple(checks), first, curve, None, None)
        result, delivery = self._result(outcome), self._delivery(outcome)
        return Report(training, tuple(checks), first, curve, result, delivery, self._contributors)

    # What is said about what is found

    def _deviates(self, subject: Subject, party: Party, claimed: str, found: str) -> NoReturn:
        raise _Stop(subject, Deviation(party, self._at, claimed, found))

    def _count(self, subject: Subject, items: int = 1) -> None:
        self._items[subject] += items

    @contextmanager
    def _judging(self, subject: Subject, party: Party, claimed: str) -> Iterator[None]:
        """Name the party when something in the block does not hold, and count it when it does."""
        try:
            yield
        except DeltaMLError as error:
            self._deviates(subject, party, claimed, str(error))
        self._count(subject)

    def _require(self, subject: Subject, party: Party, claimed: str, holds: bool, found: str) -> None:
        if not holds:
            self._deviates(subject, party, claimed, found)
        self._count(subject)

    def _expect(self, party: Party, message: Record, **fields: object) -> None:
        """Check what a message says, field by field."""
        for name, expected in fields.items():
            found = getattr(message, name)
            if found != expected:
                self._deviates(
                    Subject.QUESTIONS,
                    party,
                    f"{name} = {_short(found)} in a {type(message).__name__}",
                    f"{_short(expected)} follows from what was said before",
                )
        self._count(Subject.QUESTIONS)

    def _said(
        self, model: type[AnyMessage], signed: Signed, sender: Party, question: Signed | None = None
    ) -> AnyMessage:
        """Return a message after checking who signed it, as what, and which question it answers.

        A signature that is none is the aggregator's deviation, which put the message into what it signs; a message
        that makes no sense is that of whoever signed it.
        """
        claimed = f"a {model.__name__} of the {sender}"
        with self._judging(Subject.SIGNATURES, self._aggregator, claimed):
            found = signed.sender(model, self._parties.domain, question)
            if found.lower() != sender.address.lower():
                raise InvalidSignature(f"the signature is of {found}, or of another message or question")
        with self._judging(Subject.QUESTIONS, sender, claimed):
            return signed.read(model)

    def _replies(
        self, replies: Sequence[Reply], parties: Sequence[Party], question: Signed, model: type[AnyMessage], least: int
    ) -> dict[int, AnyMessage]:
        places = [reply.place for reply in replies]
        with self._judging(Subject.QUESTIONS, self._aggregator, f"answers from places {places}"):
            require_places(places, len(parties), "answers", least)
        return {
            reply.place: self._said(
                model, Signed(content=reply.content, signature=reply.signature), parties[reply.place], question
            )
            for reply in replies
        }

    def _vectors(
        self,
        replies: Sequence[Reply],
        parties: Sequence[Party],
        question: Signed,
        subject: Subject,
        count: int,
        least: int,
    ) -> dict[int, list[mpz]]:
        """Return the ciphertexts that everybody answered."""
        vectors = {}
        for place, vector in self._replies(replies, parties, question, Vector, least).items():
            with self._judging(subject, parties[place], f"a vector of {count} ciphertexts"):
                vectors[place] = self._parties.key.decode(vector.ciphertexts, count)
        return vectors

    # The records

    def _replay(self, kind: str, round_: int, record: Record) -> None:
        evaluated = cast(EvaluationKind, kind.partition("-")[2])
        match record:
            case Header():
                self._header(record)
            case Round():
                self._round(round_, record)
            case Masking() if not evaluated:
                self._refresh(round_, record)
            case LocalModels():
                self._local(record)
            case Masking():
                self._mask(evaluated, round_, record)
            case SummedMoments():
                self._moment_answers(record)
            case Cosigned() if self._moments is not None and kind.endswith(f"-{MOMENTS}"):
                self._moment_totals(self._moments, record)
            case Opened() if self._moments is not None and kind.endswith(f"-{MOMENTS}"):
                self._moment_openings(self._moments, record)
            case Scores():
                self._score(evaluated, round_, record)
            case Cosigned():
                self._total(self._evaluations[evaluated, round_], record)
            case Opened():
                self._opening(self._evaluations[evaluated, round_], record)

    def _header(self, header: Header) -> None:
        with self._judging(Subject.SIGNATURES, self._aggregator, "a TrainingRequest of the buyer"):
            request = header.request.read(self._request_type)
            domain = Domain(request.chain_id, request.contract)
            found = header.request.sender(self._request_type, domain)
            if found.lower() != request.buyer.lower():
                raise InvalidSignature(f"it names {request.buyer} as the buyer, and its signature gives {found}")
        buyer = Party("buyer", request.buyer)
        owners = [address.lower() for address in (*header.trainers, *header.validators)]
        self._require(
            Subject.REQUEST,
            self._aggregator,
            f"{len(header.trainers)} trainers, {len(header.validators)} validators, {len(header.rows)} numbers of rows",
            len(header.trainers) >= MINIMUM_SUMMED
            and len(header.validators) >= 1
            and len(set(owners)) == len(owners) == len(header.rows)
            and all(rows > 0 for rows in header.rows),
            "at least two trainers and a validator are needed, all different, each with its number of rows",
        )
        order = request.order
        bits = order.hyper_parameters.key_bits
        with self._judging(Subject.REQUEST, buyer, f"a modulus of {bits} bits with its proof"):
            modulus = int(order.modulus, 16)
            if modulus.bit_length() != bits:
                raise InvalidKey(f"the modulus has {modulus.bit_length()} bits")
            context = proof_context(domain, request.training, "key", 0, request.buyer)
            key = verify_key(modulus, KeyProof.from_bytes(request.key_proof, bits), context, self._minimum_bits)
        trainers = len(header.trainers)
        self._parties = _Parties(
            request=request,
            domain=domain,
            key=key,
            buyer=buyer,
            trainers=tuple(Party(f"trainer {place}", a) for place, a in enumerate(header.trainers)),
            validators=tuple(Party(f"validator {place}", a) for place, a in enumerate(header.validators)),
            trainer_rows=header.rows[:trainers],
            weights=relative_weights(header.rows[:trainers], order.hyper_parameters.weighting),
            validator_rows=header.rows[trainers:],
        )
        self._remaining = tuple(range(len(header.validators)))
        summed = any(isinstance(record, SummedMoments) for record in self._transcript.records.values())
        self._require(
            Subject.SCHEDULE,
            self._aggregator,
            f"{'sums' if summed else 'no sums'} of moments",
            summed == order.standardises,
            f"the order {'standardises' if order.standardises else 'does not standardise'}",
        )

    def _moment_answers(self, record: SummedMoments) -> None:
        parties = self._parties
        question = self._said(MomentsQuestion, record.question, self._aggregator)
        self._expect(self._aggregator, question, training=parties.request.training)
        count = parties.moments.count
        self._vectors(record.answers, parties.trainers, record.question, Subject.UPDATES, count, MINIMUM_TRAINERS)
        self._moments = _Moments(record)

    def _moment_totals(self, own: _Moments, record: Cosigned) -> None:
        parties = self._parties
        asked = self._said(MomentsCosignQuestion, record.question, self._aggregator)
        self._expect(self._aggregator, asked, training=parties.request.training)
        self._require(
            Subject.SUMS,
            self._aggregator,
            "the trainers' moments",
            all(answer in own.answers.answers for answer in asked.answers),
            "one is not among those that were given",
        )
        with self._judging(Subject.SUMS, self._aggregator, f"sums of the moments of {len(asked.answers)} trainers"):
            parties.moments.require_sums(own.answers.question, asked)
        places = tuple(answer.place for answer in asked.answers)
        signed = self._replies(record.answers, parties.trainers, record.question, Cosignature, MINIMUM_TRAINERS)
        self._require(
            Subject.COSIGNATURES,
            self._aggregator,
            f"signatures of the trainers {list(signed)}",
            tuple(signed) == places,
            f"the answers of {list(places)} are in the sums",
        )
        expected = MomentsTotals(
            training=parties.request.training,
            question=own.answers.question.digest,
            trainers=places,
            ciphertexts=asked.totals,
            cosignatures=tuple(cosignature.signature for cosignature in signed.values()),
        )
        statement = statement_of_totals(expected).pack()
        for place, cosignature in signed.items():
            trainer = parties.trainers[place]
            with self._judging(Subject.COSIGNATURES, trainer, "a signature of the sums of moments"):
                content = Signed(content=statement, signature=cosignature.signature)
                content.verified(MomentsStatement, parties.domain, trainer.address)
        opened = self._said(MomentsTotals, record.totals, self._aggregator)
        self._expect(self._aggregator, opened, **dict(expected))
        own.totals, own.asked = opened, record.totals

    def _moment_openings(self, own: _Moments, record: Opened) -> None:
        assert own.totals is not None
        said = self._said(Openings, record.openings, self._parties.buyer, own.asked)
        with self._judging(Subject.OPENINGS, self._parties.buyer, "the openings of the sums of moments"):
            self._parties.moments.opened(own.totals, said)

    def _round(self, round_: int, record: Round) -> None:
        parties, hyper = self._parties, self._parties.request.order.hyper_parameters
        before = self._sums[-1] if self._sums else None
        self._require_evaluated(round_)
        self._require(
            Subject.SCHEDULE,
            self._aggregator,
            f"a round {round_}",
            round_ < hyper.iterations and not self._converged(round_),
            f"the training was over after {min(round_, hyper.iterations)} rounds",
        )
        model = b"" if before is None else self._next_model(before, record.refreshed)
        self._require(
            Subject.QUESTIONS,
            self._aggregator,
            "a refreshed model" if record.refreshed else "no refreshed model",
            (before is None) == (record.refreshed is None),
            "round 0 has none, and every other round has one",
        )
        question = self._said(RoundQuestion, record.question, self._aggregator)
        included = () if before is None else before.trainers
        self._expect(self._aggregator, question, training=parties.request.training, round=round_, included=included)
        self._require(
            Subject.MODELS,
            self._aggregator,
            f"the model {_short(question.model)}",
            question.model == model,
            f"the sum of the round before, divided and unmasked, is {_short(model)}",
        )
        updates = self._vectors(
            record.answers, parties.trainers, record.question, Subject.UPDATES, parties.length, MINIMUM_SUMMED
        )
        self._sums.append(_Sum(tuple(updates), aggregate(list(updates.values()), parties.key)))

    def _next_model(self, before: _Sum, refreshed: Signed | None) -> bytes:
        parties, masking = self._parties, before.masking
        if refreshed is None or masking is None:
            return b""
        vector = self._said(Vector, refreshed, parties.buyer, masking.question)
        with self._judging(Subject.MODELS, parties.buyer, f"a vector of {parties.length} ciphertexts"):
            divided = parties.key.decode(vector.ciphertexts, parties.length)
        masks = wire.decode_masks(masking.masks, parties.length)
        return parties.key.encode(unmask(divided, masks, before.divisor(parties.weights), parties.key))

    def _refresh(self, round_: int, record: Masking) -> None:
        parties, total = self._parties, self._sums[round_]
        question = self._said(MaskedRound, record.question, self._aggregator)
        self._expect(
            self._aggregator, question, training=parties.request.training, round=round_, trainers=total.trainers
        )
        packed = packed_count(parties.length, parties.key)
        masks, roots = self._masking(record, parties.length, packed, 0)
        with self._judging(Subject.MASKS, self._aggregator, f"{packed} ciphertexts in slots"):
            found = parties.key.decode(question.packed, packed)
        self._claim(found, pack_masked(total.ciphertexts, masks, parties.key), roots)
        total.masking = record

    def _masking(self, record: Masking, values: int, ciphertexts: int, salts: int) -> tuple[list[int], list[mpz]]:
        self._require(
            Subject.MASKS,
            self._aggregator,
            f"{len(record.salts)} bytes of salts",
            len(record.salts) == salts,
            f"there have to be {salts}",
        )
        low = 1 << VALUE_BITS
        with self._judging(Subject.MASKS, self._aggregator, f"{values} masks and {ciphertexts} randomisers"):
            masks = wire.decode_masks(record.masks, values)
            roots = wire.decode_roots(record.randomisers, ciphertexts, self._parties.key)
        self._require(
            Subject.MASKS,
            self._aggregator,
            f"{values} masks that hide and stay in their slots",
            all(low <= mask < (1 << SLOT_BITS) - low for mask in masks),
            "one is out of range",
        )
        return masks, roots

    def _claim(self, found: Sequence[mpz], plain: Sequence[mpz], roots: Sequence[mpz]) -> None:
        for ciphertext, expected, root in zip(found, plain, roots, strict=True):
            self._powers.append(_Power(self._step, self._at, Rerandomised(ciphertext, expected, root)))

    def _local(self, record: LocalModels) -> None:
        parties = self._parties
        question = self._said(LocalModelQuestion, record.question, self._aggregator)
        self._expect(self._aggregator, question, training=parties.request.training)
        least = least_contributors(len(parties.trainers))
        models = self._vectors(
            record.answers, parties.trainers, record.question, Subject.UPDATES, parties.length, least
        )
        self._contributors, self._local_models, self._local_answers = tuple(models), list(models.values()), record

    def _require_evaluated(self, rounds: int) -> None:
        hyper = self._parties.request.order.hyper_parameters
        due = rounds > 0 and rounds % hyper.evaluation_interval == 0 and rounds != hyper.iterations
        self._require(
            Subject.SCHEDULE,
            self._aggregator,
            f"no evaluation after {rounds} rounds",
            not due or rounds in self._curve,
            f"the order evaluates every {hyper.evaluation_interval} rounds",
        )

    def _converged(self, rounds: int) -> bool:
        mses = [self._curve[evaluated] for evaluated in sorted(self._curve) if evaluated <= rounds]
        return rounds in self._curve and has_converged(mses, self._parties.request.order.hyper_parameters.tolerance)

    def _require_end(self, rounds: int) -> None:
        iterations = self._parties.request.order.hyper_parameters.iterations
        self._require_evaluated(rounds)
        self._require(
            Subject.SCHEDULE,
            self._aggregator,
            f"the end of training after {rounds} rounds",
            rounds == iterations or self._converged(rounds),
            f"{iterations} rounds were ordered, and it had not converged",
        )

    def _mask(self, kind: EvaluationKind, round_: int, record: Masking) -> None:
        parties = self._parties
        self._require(
            Subject.SCHEDULE,
            self._aggregator,
            f"an evaluation after {round_} rounds",
            round_ == len(self._sums) > 0,
            f"{len(self._sums)} rounds were run",
        )
        if kind == SETTLEMENT:
            self._require_end(round_)
        total = self._sums[-1]
        question = self._said(MaskedModels, record.question, self._aggregator)
        self._expect(
            self._aggregator,
            question,
            training=parties.request.training,
            kind=kind,
            round=round_,
            trainers=total.trainers,
            contributors=self._contributors if kind == SETTLEMENT else (),
        )
        with self._judging(Subject.SCHEDULE, self._aggregator, f"an evaluation after {round_} rounds"):
            factors = scales(question, parties.request.order.hyper_parameters, parties.weights)
        vectors = [total.ciphertexts]
        if kind == SETTLEMENT:
            weights = [parties.weights[place] for place in self._contributors]
            vectors = settlement_vectors(total.ciphertexts, self._local_models, weights, parties.key)
            self._deliverable = vectors[: totals.DELIVERABLE]
        plain = wire.join(vectors)
        salts = totals.DELIVERABLE * totals.SALT_BYTES if kind == SETTLEMENT else 0
        masks, roots = self._masking(record, len(plain), len(plain), salts)
        with self._judging(Subject.MASKS, self._aggregator, f"{len(plain)} masked ciphertexts"):
            found = parties.key.decode(question.masked, len(plain))
        self._claim(found, [parties.key.add(c, mask) for c, mask in zip(plain, masks, strict=True)], roots)
        self._evaluations[kind, round_] = _Evaluation(kind, round_, factors, record, question)

    def _score(self, kind: EvaluationKind, round_: int, record: Scores) -> None:
        if kind == "zero":
            self._require_zero(round_)
            self._evaluations[kind, round_] = _Evaluation(kind, round_)
        parties, own = self._parties, self._evaluations[kind, round_]
        self._require(
            Subject.QUESTIONS,
            self._aggregator,
            "products" if record.products else "no products",
            (own.models is None) == (record.products is None),
            "masked models are multiplied by the buyer, and the zero model is not",
        )
        said = None if record.products is None else self._products(own, record.products)
        question = self._said(ScoreQuestion, record.question, self._aggregator)
        expected = ScoreQuestion(training=parties.request.training, kind=kind, round=round_)
        if own.models is not None and own.masking is not None and said is not None:
            expected = ScoreQuestion(
                training=parties.request.training,
                kind=kind,
                round=round_,
                trainers=own.models.trainers,
                contributors=own.models.contributors,
                masked=own.models.masked,
                products=said.ciphertexts,
                proof=said.proof,
                masks=own.masking.masks,
                salts=own.masking.salts,
            )
            if kind == SETTLEMENT and self._local_answers is not None:
                local, roots = self._local_answers, own.masking.randomisers
                made_of = {"local_question": local.question.content, "local_models": local.answers}
                # The trained model comes first, and validators are not shown what it is made of.
                expected = expected.model_copy(
                    update={**made_of, "randomisers": roots[len(roots) // len(own.scales) :]}
                )
        self._expect(self._aggregator, question, **dict(expected))
        answers = self._vectors(record.answers, parties.validators, record.question, Subject.SCORES, len(own.scales), 1)
        self._require(
            Subject.QUESTIONS,
            self._aggregator,
            f"answers of the validators {sorted(answers)}",
            set(answers) <= set(self._remaining),
            f"only {list(self._remaining)} were left",
        )
        for place, vector in answers.items():
            self._require_fresh(parties.validators[place], vector)
        own.scores, own.question = record, question

    def _require_zero(self, round_: int) -> None:
        first = self._evaluations.get(("zero", 0))
        if round_ and first is not None and first.totals is not None:
            self._require(
                Subject.SCHEDULE,
                self._aggregator,
                "another evaluation of the zero model",
                first.totals.validators != self._remaining,
                "the validators of the settlement had scored it",
            )

    def _products(self, own: _Evaluation, signed: Signed) -> Products:
        parties = self._parties
        assert own.masking is not None and own.models is not None
        said = self._said(Products, signed, parties.buyer, own.masking.question)
        vectors, each = len(own.scales), wire.product_count(parties.length)
        with self._judging(Subject.PRODUCTS, parties.buyer, f"the products of {vectors} masked models"):
            masked = wire.split(parties.key.decode(own.models.masked, vectors * parties.length), vectors)
            flat = parties.key.decode(said.ciphertexts, vectors * each)
            context = proof_context(
                parties.domain, parties.request.training, f"products-{own.kind}", own.round, parties.buyer.address
            )
            proof = ProductProof.from_bytes(said.proof, vectors, parties.key)
            verify_products(masked, wire.split(flat, vectors), proof, parties.key, context)
        return said

    def _require_fresh(self, validator: Party, vector: Sequence[mpz]) -> None:
        """Note an answer that was given before. What follows does not rest on it: it is only not what was asked.

        Both answers are named: of two validators, either may have copied the other's.
        """
        for ciphertext in vector:
            if ciphertext in self._scored:
                other, where = self._scored[ciphertext]
                found = f"it holds a ciphertext of the answer of {other} in {where}"
                self._found.setdefault(
                    Subject.SCORES, (self._step, Deviation(validator, self._at, "a fresh answer", found))
                )
            self._scored.setdefault(ciphertext, (validator, self._at))

    def _total(self, own: _Evaluation, record: Cosigned) -> None:
        parties = self._parties
        assert own.scores is not None and own.question is not None
        asked = self._said(CosignQuestion, record.question, self._aggregator)
        self._expect(self._aggregator, asked, training=parties.request.training, kind=own.kind, round=own.round)
        self._require(
            Subject.SUMS,
            self._aggregator,
            "the validators' answers",
            all(answer in own.scores.answers for answer in asked.answers),
            "one is not among those that were given",
        )
        with self._judging(Subject.SUMS, self._aggregator, f"{len(own.scales)} sums of {len(asked.answers)} answers"):
            addresses = [validator.address for validator in parties.validators]
            totals.require_sums(own.scores.question, asked, addresses, len(own.scales), parties.key, parties.domain)
        places = tuple(answer.place for answer in asked.answers)
        signed = self._replies(record.answers, parties.validators, record.question, Cosignature, 1)
        self._require(
            Subject.COSIGNATURES,
            self._aggregator,
            f"signatures of the validators {list(signed)}",
            tuple(signed) == places,
            f"the answers of {list(places)} are in the sums",
        )
        committed = totals.commitments(own.question, own.scales, parties.length)
        statement = totals.statement(own.scores.question, own.question, places, asked.totals, committed)
        for place, cosignature in signed.items():
            validator = parties.validators[place]
            with self._judging(Subject.COSIGNATURES, validator, "a signature of the sums"):
                content = Signed(content=statement.pack(), signature=cosignature.signature)
                content.verified(TotalStatement, parties.domain, validator.address)
        opened = self._said(Totals, record.totals, self._aggregator)
        self._expect(
            self._aggregator,
            opened,
            training=parties.request.training,
            kind=own.kind,
            round=own.round,
            validators=places,
            ciphertexts=asked.totals,
            question=statement.question,
            masks=statement.masks,
            commitments=committed,
            cosignatures=tuple(cosignature.signature for cosignature in signed.values()),
        )
        if own.kind == "zero" and own.round:
            self._expect(self._aggregator, opened, validators=self._remaining)
        self._remaining = places
        own.totals, own.asked = opened, record.totals

    def _opening(self, own: _Evaluation, record: Opened) -> None:
        parties = self._parties
        assert own.totals is not None
        said = self._said(Openings, record.openings, parties.buyer, own.asked)
        count = len(own.scales)
        with self._judging(Subject.OPENINGS, parties.buyer, f"the openings of {count} sums"):
            if not len(said.totals) == len(said.randomisers) == count:
                raise InvalidOpening(f"{len(said.totals)} totals and {len(said.randomisers)} randomisers were shown")
            openings = wire.decode_openings(said.totals, said.randomisers)
            verify_openings(parties.key.decode(own.totals.ciphertexts, count), openings, parties.key)
        rows = sum(parties.validator_rows[place] for place in own.totals.validators)
        with self._judging(Subject.ERRORS, self._aggregator, "errors of a training that did not diverge"):
            own.mses = [
                totals.mse(own.kind, opening.total, scale, rows)
                for opening, scale in zip(openings, own.scales, strict=True)
            ]
        if own.kind != "zero" or own.round == 0:
            self._curve.setdefault(0 if own.kind == "zero" else own.round, own.mses[0])

    # The end

    def _finish(self) -> Outcome:
        parties = self._parties
        root = self._said(TranscriptRoot, self._transcript.root, self._aggregator)
        self._expect(self._aggregator, root, training=parties.request.training)
        first = self._evaluations["zero", 0]
        settled = self._evaluations[SETTLEMENT, len(self._sums)]
        again = self._evaluations.get(("zero", 1))
        assert first.totals is not None and settled.totals is not None
        self._require(
            Subject.SCHEDULE,
            self._aggregator,
            "one evaluation of the zero model",
            again is not None or first.totals.validators == settled.totals.validators,
            "a validator was lost since: those of the settlement have to score it again",
        )
        self._count(Subject.ERRORS)
        return settle(
            parties.request.training,
            (again or first).mses[0],
            settled.mses,
            parties.weights,
            [total.trainers for total in self._sums],
            self._contributors,
            len(parties.validators),
            settled.totals.validators,
        )

    def _settle_powers(self) -> tuple[int, _Stop] | None:
        """Check all re-randomised ciphertexts at once. They were claimed before whatever ended the walk."""
        if not self._powers:
            return None
        place = first_false([power.claim for power in self._powers], self._parties.key)
        if place is None:
            self._count(Subject.MASKS, len(self._powers))
            return None
        power = self._powers[place]
        claimed = "a sum of the owners' vectors, plus a mask, times r^n"
        found = "its ciphertext is another"
        return power.step, _Stop(Subject.MASKS, Deviation(self._aggregator, power.at, claimed, found))

    def _result(self, outcome: Outcome) -> Result:
        root = TranscriptRoot.unpack(self._transcript.root.content).root
        model = self._parties.key.encode(self._deliverable[MODELS.index(outcome.model)])
        return result_of(outcome, root, hashlib.sha256(model).digest())

    def _delivery(self, outcome: Outcome) -> Delivery:
        settled, place = self._evaluations[SETTLEMENT, outcome.iterations], MODELS.index(outcome.model)
        assert settled.masking is not None
        masks = wire.split(
            wire.decode_masks(settled.masking.masks, len(settled.scales) * self._parties.length), len(settled.scales)
        )
        quotients = evaluation.delivery(masks[place], settled.scales[place] << FRACTION_BITS)
        return Delivery(
            training=self._parties.request.training,
            model=outcome.model,
            quotients=tuple(f"{quotient:x}" for quotient in quotients),
            salt=totals.split_salts(settled.masking.salts)[place],
        )


def _short(value: object) -> str:
    """Show a value of a message in a few words."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes with SHA-256 {hashlib.sha256(value).hexdigest()[:16]}…"
    if isinstance(value, tuple) and any(isinstance(item, bytes) for item in value):
        return f"[{', '.join(_short(item) for item in value)}]"
    return str(value)
