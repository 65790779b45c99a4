"""Sums over validators: nobody can make one up, and nobody can lie about what was opened."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from gmpy2 import mpz

from commons.crypto.packing import FRACTION_BITS, draw_masks
from commons.crypto.paillier import InvalidCiphertext, InvalidOpening, PrivateKey, UniformRandomisers
from commons.crypto.signatures import InvalidSignature
from commons.errors import InvalidInput, VerificationFailed
from commons.learning.contributions import UNIT
from commons.protocol import evaluation, totals, wire
from commons.protocol.evaluation import Diverged
from commons.protocol.messages import (
    CosignQuestion,
    EvaluationKind,
    HyperParameters,
    MaskedModels,
    Metric,
    Reply,
    ScoreQuestion,
    Totals,
    TotalStatement,
    Vector,
)
from commons.protocol.outcome import factors
from commons.protocol.signed import Domain, Signed
from tests.unit.accounts import DOMAIN, signer

TRAINING = uuid.UUID(int=7)
HYPER = HyperParameters(iterations=10, evaluation_interval=5)
WEIGHTS = (3, 1, 2)
LENGTH = 2
AGGREGATOR = signer(1)
VALIDATORS = [signer(number) for number in (11, 12, 13)]
ADDRESSES = [validator.address for validator in VALIDATORS]
ROWS = (10, 20, 30)
SALTS = b"s" * 32 + b"t" * 32
ROUNDS: dict[EvaluationKind, int] = {"zero": 0, "iteration": 5, "settlement": 10}
KINDS = tuple(ROUNDS)


@dataclass(frozen=True)
class Evaluation:
    """What the parties of one evaluation said. The model at place v has an MSE of (v + 1)/8."""

    private_key: PrivateKey
    uniform: UniformRandomisers
    scales: tuple[int, ...]
    question: ScoreQuestion
    asked: Signed
    answers: tuple[Reply, ...]

    @property
    def vectors(self) -> int:
        return len(self.scales) or 1

    def sums(self, answers: Sequence[Reply]) -> tuple[bytes, bytes]:
        """Return the sums of answers, and the roots of their randomisers."""
        key = self.private_key.public_key
        scores = [key.decode(Vector.unpack(answer.content).ciphertexts, self.vectors) for answer in answers]
        sums = [evaluation.combine(column, key, self.uniform) for column in zip(*scores, strict=True)]
        return key.encode(total for total, _ in sums), wire.encode_roots([root for _, root in sums], key)

    def cosign(self, answers: Sequence[Reply] | None = None) -> CosignQuestion:
        """Return what the validators are asked to sign."""
        shown = self.answers if answers is None else tuple(answers)
        ciphertexts, roots = self.sums(shown)
        return CosignQuestion(
            training=TRAINING,
            kind=self.question.kind,
            round=self.question.round,
            answers=shown,
            totals=ciphertexts,
            randomisers=roots,
        )

    def require(self, cosign: CosignQuestion, asked: Signed | None = None, domain: Domain = DOMAIN) -> None:
        """Check the sums as a validator does."""
        key = self.private_key.public_key
        totals.require_sums(asked or self.asked, cosign, ADDRESSES, self.vectors, key, domain)

    def statement(self, cosign: CosignQuestion) -> TotalStatement:
        places = tuple(answer.place for answer in cosign.answers)
        committed = totals.commitments(self.question, self.scales, LENGTH)
        return totals.statement(self.asked, self.question, places, cosign.totals, committed)

    def metric(self, cosign: CosignQuestion, statement: TotalStatement | None = None) -> Metric:
        """Return the evidence of an MSE, the statement signed by all validators in it."""
        key, said = self.private_key.public_key, statement or self.statement(cosign)
        opened = [
            evaluation.open_total(ciphertext, self.private_key)
            for ciphertext in key.decode(cosign.totals, self.vectors)
        ][: 2 if self.question.kind == "settlement" else 1]
        return Metric(
            training=TRAINING,
            iteration=self.question.round,
            mse="0",
            statement=said.pack(),
            cosignatures=tuple(VALIDATORS[place].sign(said).signature for place in said.validators),
            ciphertexts=cosign.totals,
            totals=tuple(f"{opening.total:x}" for opening in opened),
            randomisers=tuple(f"{opening.randomiser:x}" for opening in opened),
        )

    def verify(self, metric: Metric, domain: Domain = DOMAIN) -> tuple[TotalStatement, list[int]]:
        key = self.private_key.public_key
        claimed = totals.read_metric(metric, HYPER, WEIGHTS, ADDRESSES, ROWS, key, domain)
        totals.verify_claims([claimed], key)
        return claimed.statement, claimed.mses


def answer(place: int, ciphertexts: Sequence[mpz], asked: Signed, key: PrivateKey) -> Reply:
    """Return a validator's signed scores."""
    signed = VALIDATORS[place].sign(Vector(ciphertexts=key.public_key.encode(ciphertexts)), asked)
    return Reply(place=place, content=signed.content, signature=signed.signature)


def evaluated(kind: EvaluationKind, private_key: PrivateKey, uniform: UniformRandomisers) -> Evaluation:
    models: dict[str, Any] = {}
    if kind != "zero":
        models = {"trainers": (0, 1, 2), "masked": b"masked", "products": b"products", "proof": b"proof"}
    if kind == "settlement":
        models |= {"contributors": (0, 1, 2), "salts": SALTS}
    scales = factors(kind, WEIGHTS, models.get("trainers", ()), models.get("contributors", ()))
    masks = wire.encode_masks(draw_masks(len(scales) * LENGTH))
    question = ScoreQuestion(training=TRAINING, kind=kind, round=ROUNDS[kind], masks=masks, **models)
    asked = AGGREGATOR.sign(question)
    units = [(scale << 80) ** 2 << FRACTION_BITS for scale in scales] or [1 << 80]
    scores = [[unit // 8 * (v + 1) * rows for v, unit in enumerate(units)] for rows in ROWS]
    answers = [answer(place, private_key.encrypt(own), asked, private_key) for place, own in enumerate(scores)]
    return Evaluation(private_key, uniform, scales, question, asked, tuple(answers))


@pytest.fixture(scope="module", params=KINDS)
def honest(request: pytest.FixtureRequest, private_key: PrivateKey, uniform: UniformRandomisers) -> Evaluation:
    return evaluated(request.param, private_key, uniform)


@pytest.fixture(scope="module")
def iteration(private_key: PrivateKey, uniform: UniformRandomisers) -> Evaluation:
    return evaluated("iteration", private_key, uniform)


@pytest.fixture(scope="module")
def settlement(private_key: PrivateKey, uniform: UniformRandomisers) -> Evaluation:
    return evaluated("settlement", private_key, uniform)


# Commitments


def test_settlement_commits_to_what_unmasks_the_trained_and_the_averaged_model(settlement: Evaluation) -> None:
    masks = wire.decode_masks(settlement.question.masks, 11 * LENGTH)
    assert len(settlement.scales) == 11
    committed = totals.commitments(settlement.question, settlement.scales, LENGTH)
    assert committed == tuple(
        hashlib.sha256(salt + b"".join((mask // (6 << 40)).to_bytes(21, "big") for mask in own)).digest()
        for salt, own in ((b"s" * 32, masks[:2]), (b"t" * 32, masks[2:4]))
    )


def test_commitments_hold_the_factor_of_each_model(settlement: Evaluation) -> None:
    one = totals.commitments(settlement.question, settlement.scales, LENGTH)
    trained, averaged, *points = settlement.scales
    other = totals.commitments(settlement.question, (trained, averaged + 1, *points), LENGTH)
    assert (one[0] == other[0], one[1] == other[1]) == (True, False)


def test_nothing_is_committed_to_before_the_settlement(iteration: Evaluation) -> None:
    assert totals.commitments(iteration.question, iteration.scales, LENGTH) == ()


@pytest.mark.parametrize("salts", [b"", SALTS[:-1], SALTS[:32], SALTS + b"x", SALTS + bytes(32)])
def test_other_than_two_salts_are_refused(settlement: Evaluation, salts: bytes) -> None:
    wrong = settlement.question.model_copy(update={"salts": salts})
    with pytest.raises(InvalidInput, match=f"salts: {len(salts)} bytes are not 2 salts of 32 bytes"):
        totals.commitments(wrong, settlement.scales, LENGTH)


def test_other_than_all_masks_are_refused(settlement: Evaluation) -> None:
    wrong = settlement.question.model_copy(update={"masks": settlement.question.masks[: 4 * 21]})
    with pytest.raises(InvalidInput, match="84 bytes are not 22 masks of 21 bytes"):
        totals.commitments(wrong, settlement.scales, LENGTH)


# Sums


def test_sums_of_all_answers_are_signed(honest: Evaluation) -> None:
    honest.require(honest.cosign())


def test_sums_of_those_that_are_left_are_signed(honest: Evaluation) -> None:
    for left in ((0, 2), (1,)):
        honest.require(honest.cosign([honest.answers[place] for place in left]))


def test_answers_to_another_question_are_not_summed(iteration: Evaluation) -> None:
    masks = wire.encode_masks(draw_masks(LENGTH))
    other = AGGREGATOR.sign(iteration.question.model_copy(update={"masks": masks}))
    with pytest.raises(InvalidSignature, match=f"a Vector of {ADDRESSES[0]} was claimed"):
        iteration.require(iteration.cosign(), other)
    late = answer(2, iteration.private_key.encrypt([1]), other, iteration.private_key)
    answers = (*iteration.answers[:2], late)
    with pytest.raises(InvalidSignature, match=f"a Vector of {ADDRESSES[2]} was claimed"):
        iteration.require(iteration.cosign(answers))


def test_answer_of_another_validator_is_not_summed_in_its_place(iteration: Evaluation) -> None:
    first, second, third = iteration.answers
    swapped = (first, third.model_copy(update={"place": 1}), second.model_copy(update={"place": 2}))
    with pytest.raises(InvalidSignature, match=f"{ADDRESSES[1]} was claimed, and its signature gives {ADDRESSES[2]}"):
        iteration.require(iteration.cosign(swapped))


def test_answer_that_is_counted_twice_is_refused(iteration: Evaluation) -> None:
    first, _, third = iteration.answers
    with pytest.raises(InvalidSignature, match=f"{ADDRESSES[1]} was claimed, and its signature gives {ADDRESSES[0]}"):
        iteration.require(iteration.cosign([first, first.model_copy(update={"place": 1}), third]))


def test_answer_that_somebody_made_up_is_refused(iteration: Evaluation) -> None:
    made_up = answer(0, iteration.private_key.encrypt([7]), iteration.asked, iteration.private_key)
    forged = iteration.answers[0].model_copy(update={"content": made_up.content})
    with pytest.raises(InvalidSignature, match=f"a Vector of {ADDRESSES[0]} was claimed"):
        iteration.require(iteration.cosign([forged, *iteration.answers[1:]]))


def test_answers_of_another_contract_are_not_summed(iteration: Evaluation) -> None:
    with pytest.raises(InvalidSignature):
        iteration.require(iteration.cosign(), domain=replace(DOMAIN, chain_id=1))


def test_answer_of_another_length_is_refused(iteration: Evaluation) -> None:
    longer = answer(2, iteration.private_key.encrypt([1, 2]), iteration.asked, iteration.private_key)
    cosign = iteration.cosign().model_copy(update={"answers": (*iteration.answers[:2], longer)})
    with pytest.raises(InvalidCiphertext):
        iteration.require(cosign)


def test_sum_without_an_answer_that_is_shown_is_refused(honest: Evaluation) -> None:
    sums, roots = honest.sums(honest.answers[:2])
    dropped = honest.cosign().model_copy(update={"totals": sums, "randomisers": roots})
    with pytest.raises(VerificationFailed, match="are not those of the validators' answers"):
        honest.require(dropped)


def test_sum_with_an_answer_that_is_not_shown_is_refused(honest: Evaluation) -> None:
    hidden = honest.cosign().model_copy(update={"answers": honest.answers[:2]})
    with pytest.raises(VerificationFailed, match="are not those of the validators' answers"):
        honest.require(hidden)


def test_changed_sum_is_refused(honest: Evaluation) -> None:
    key, cosign = honest.private_key.public_key, honest.cosign()
    *others, last = key.decode(cosign.totals, honest.vectors)
    kind, round_ = honest.question.kind, honest.question.round
    for changed in (key.add(last, 1), last**2 % key.n_squared, last * honest.uniform.take(1)[0] % key.n_squared):
        wrong = cosign.model_copy(update={"totals": key.encode([*others, changed])})
        with pytest.raises(VerificationFailed, match=f"the sums of {kind} {round_} are not those of the validators'"):
            honest.require(wrong)


def test_sums_in_another_order_are_refused(settlement: Evaluation) -> None:
    key, cosign = settlement.private_key.public_key, settlement.cosign()
    first, second, *others = key.decode(cosign.totals, settlement.vectors)
    wrong = cosign.model_copy(update={"totals": key.encode([second, first, *others])})
    with pytest.raises(VerificationFailed, match="are not those of the validators' answers"):
        settlement.require(wrong)


def test_other_randomisers_are_refused(iteration: Evaluation) -> None:
    _, roots = iteration.sums(iteration.answers)
    with pytest.raises(VerificationFailed, match="are not those of the validators' answers"):
        iteration.require(iteration.cosign().model_copy(update={"randomisers": roots}))
    with pytest.raises(InvalidInput, match="randomisers: 0 bytes are not 1 numbers"):
        iteration.require(iteration.cosign().model_copy(update={"randomisers": b""}))


@pytest.mark.parametrize("places", [(), (1, 0), (0, 0, 1), (2, 1, 0), (0, 1, 3), (-1, 0, 1)])
def test_answers_are_of_different_validators_in_their_order(iteration: Evaluation, places: tuple[int, ...]) -> None:
    shown = [iteration.answers[place % 3].model_copy(update={"place": place}) for place in places]
    wrong = iteration.cosign().model_copy(update={"answers": tuple(shown)})
    with pytest.raises(InvalidInput, match="answers: must be of different owners, in the contract's order"):
        iteration.require(wrong)


# The statement, and its signatures


def test_validators_and_the_buyer_come_to_the_same_statement(honest: Evaluation) -> None:
    said, cosign = honest.question, honest.cosign()
    statement = honest.statement(cosign)
    asked = Totals(
        training=TRAINING,
        kind=said.kind,
        round=said.round,
        validators=(0, 1, 2),
        ciphertexts=cosign.totals,
        question=honest.asked.digest,
        masks=hashlib.sha256(said.masks).digest(),
        commitments=totals.commitments(said, honest.scales, LENGTH),
        cosignatures=(),
    )
    models = MaskedModels(
        training=TRAINING,
        kind=said.kind,
        round=said.round,
        trainers=said.trainers,
        contributors=said.contributors,
        masked=said.masked,
    )
    multiplied = None if said.kind == "zero" else models
    assert totals.statement_of_totals(asked, multiplied, said.products) == statement
    if multiplied is not None:
        for other in (
            totals.statement_of_totals(asked, models.model_copy(update={"masked": b"other"}), said.products),
            totals.statement_of_totals(asked, models.model_copy(update={"trainers": (0, 1)}), said.products),
            totals.statement_of_totals(asked, models, b"other"),
        ):
            assert other != statement


def cosigned(statement: TotalStatement, who: Sequence[int] = (0, 1, 2)) -> list[bytes]:
    return [VALIDATORS[place].sign(statement).signature for place in who]


@pytest.fixture(scope="module")
def statement(iteration: Evaluation) -> TotalStatement:
    return iteration.statement(iteration.cosign())


def test_all_validators_that_answered_have_signed(statement: TotalStatement) -> None:
    totals.require_cosigned(statement.pack(), cosigned(statement), (0, 1, 2), ADDRESSES, DOMAIN)
    totals.require_cosigned(statement.pack(), cosigned(statement, (0, 2)), (0, 2), ADDRESSES, DOMAIN)


@pytest.mark.parametrize("who", [(), (0, 1), (0, 1, 2, 2)])
def test_missing_or_further_signature_is_refused(statement: TotalStatement, who: tuple[int, ...]) -> None:
    with pytest.raises(VerificationFailed, match=f"{len(who)} owners signed, and 3 are said to have answered"):
        totals.require_cosigned(statement.pack(), cosigned(statement, who), (0, 1, 2), ADDRESSES, DOMAIN)


def test_signature_of_another_validator_is_refused(statement: TotalStatement) -> None:
    with pytest.raises(InvalidSignature, match=f"a TotalStatement of {ADDRESSES[1]} was claimed"):
        totals.require_cosigned(statement.pack(), cosigned(statement, (0, 2, 1)), (0, 1, 2), ADDRESSES, DOMAIN)


def test_signature_of_nobody_who_validates_is_refused(statement: TotalStatement) -> None:
    signatures = [*cosigned(statement, (0, 1)), AGGREGATOR.sign(statement).signature]
    with pytest.raises(InvalidSignature, match=f"gives {AGGREGATOR.address}"):
        totals.require_cosigned(statement.pack(), signatures, (0, 1, 2), ADDRESSES, DOMAIN)


@pytest.mark.parametrize(
    "change",
    [
        {"round": 10},
        {"kind": "zero"},
        {"training": uuid.UUID(int=8)},
        {"validators": (0, 1)},
        {"trainers": (0, 1)},
        *({field: bytes(32)} for field in ("question", "masked", "products", "masks", "totals")),
        {"commitments": (bytes(32),)},
    ],
)
def test_signature_of_another_statement_is_refused(statement: TotalStatement, change: dict[str, Any]) -> None:
    signatures = [*cosigned(statement, (0, 1)), *cosigned(statement.model_copy(update=change), (2,))]
    with pytest.raises(InvalidSignature, match=f"a TotalStatement of {ADDRESSES[2]} was claimed"):
        totals.require_cosigned(statement.pack(), signatures, (0, 1, 2), ADDRESSES, DOMAIN)


def test_signature_for_another_contract_is_refused(statement: TotalStatement) -> None:
    with pytest.raises(InvalidSignature):
        totals.require_cosigned(
            statement.pack(), cosigned(statement), (0, 1, 2), ADDRESSES, replace(DOMAIN, contract=ADDRESSES[0])
        )


# Metrics


def test_metric_proves_the_errors_of_what_it_opens(honest: Evaluation) -> None:
    cosign = honest.cosign()
    shown = 2 if honest.question.kind == "settlement" else 1
    assert honest.verify(honest.metric(cosign)) == (
        honest.statement(cosign),
        [UNIT * (place + 1) // 8 for place in range(shown)],
    )


def test_error_is_over_the_rows_of_those_that_answered(honest: Evaluation) -> None:
    cosign = honest.cosign([honest.answers[0], honest.answers[2]])
    assert honest.verify(honest.metric(cosign))[1][0] == UNIT // 8


Lie = Callable[[Evaluation, CosignQuestion, Metric], Metric]


def lie(**change: Any) -> Lie:
    return lambda _evaluation, _cosign, metric: metric.model_copy(update=change)


def more(total: str) -> str:
    return f"{int(total, 16) + 1:x}"


def resigned(**change: Any) -> Lie:
    """Return a lie that all validators sign: what only all of them together could do."""
    return lambda it, cosign, _: it.metric(cosign, it.statement(cosign).model_copy(update=change))


def other_sums(it: Evaluation, _cosign: CosignQuestion, metric: Metric) -> Metric:
    """Open the sums of one validator, with the signatures of the sums of all."""
    alone = it.metric(it.cosign(it.answers[:1]))
    return metric.model_copy(
        update={"ciphertexts": alone.ciphertexts, "totals": alone.totals, "randomisers": alone.randomisers}
    )


LIES: dict[str, tuple[Lie, str]] = {
    "a higher total": (
        lambda _it, _cosign, m: m.model_copy(update={"totals": (more(m.totals[0]), *m.totals[1:])}),
        "[12] totals were claimed, and a ciphertext holds another number",
    ),
    "another randomiser": (
        lambda _it, _cosign, m: m.model_copy(update={"randomisers": (more(m.randomisers[0]), *m.randomisers[1:])}),
        "[12] totals were claimed, and a ciphertext holds another number",
    ),
    "other sums": (other_sums, "the sums of a metric are not those that its validators signed"),
    "another training": (lie(training=uuid.UUID(int=8)), "the sums of a metric are not those that its validators"),
    "no statement": (lie(statement=b"\xc1"), "what was signed is no TotalStatement"),
    "a missing signature": (
        lambda _it, _cosign, m: m.model_copy(update={"cosignatures": m.cosignatures[1:]}),
        "2 owners signed, and 3 are said to have answered",
    ),
    "signatures in another order": (
        lambda _it, _cosign, m: m.model_copy(update={"cosignatures": m.cosignatures[::-1]}),
        f"a TotalStatement of {ADDRESSES[0]} was claimed",
    ),
    "nothing opened": (lie(totals=(), randomisers=()), "0 sums of [12] are opened"),
    "a randomiser too few": (
        lambda _it, _cosign, m: m.model_copy(update={"randomisers": m.randomisers[1:]}),
        "sums of [12] are opened",
    ),
    "more opened": (
        lambda _it, _cosign, m: m.model_copy(
            update={"totals": (*m.totals, m.totals[0]), "randomisers": (*m.randomisers, m.randomisers[0])}
        ),
        "[23] sums of [12] are opened",
    ),
    "no validators": (resigned(validators=()), "validators: at least 1 are needed"),
}


@pytest.mark.parametrize("name", LIES)
def test_metric_that_lies_is_refused(honest: Evaluation, name: str) -> None:
    change, reason = LIES[name]
    cosign = honest.cosign()
    with pytest.raises((VerificationFailed, InvalidInput), match=reason):
        honest.verify(change(honest, cosign, honest.metric(cosign)))


@pytest.mark.parametrize("places", [(1, 0), (0, 0)])
def test_metric_of_unsorted_validators_is_refused(iteration: Evaluation, places: tuple[int, ...]) -> None:
    cosign = iteration.cosign()
    wrong = iteration.metric(cosign, iteration.statement(cosign).model_copy(update={"validators": places}))
    with pytest.raises(InvalidInput, match="validators: must be different places from 0 to 2 in ascending order"):
        iteration.verify(wrong)


def test_metric_of_validators_that_there_are_not_is_refused(iteration: Evaluation) -> None:
    cosign = iteration.cosign()
    metric = iteration.metric(cosign)
    statement = iteration.statement(cosign).model_copy(update={"validators": (0, 1, 3)})
    with pytest.raises(InvalidInput, match="validators: must be different places from 0 to 2"):
        iteration.verify(metric.model_copy(update={"statement": statement.pack()}))


@pytest.mark.parametrize("round_", [0, 4, 10])
def test_metric_of_an_evaluation_that_the_order_does_not_have_is_refused(iteration: Evaluation, round_: int) -> None:
    cosign = iteration.cosign()
    statement = iteration.statement(cosign).model_copy(update={"round": round_})
    with pytest.raises(InvalidInput, match="round"):
        iteration.verify(iteration.metric(cosign, statement))


def test_metric_of_another_contract_is_refused(honest: Evaluation) -> None:
    with pytest.raises(InvalidSignature):
        honest.verify(honest.metric(honest.cosign()), replace(DOMAIN, chain_id=1))


def test_sum_that_is_opened_in_place_of_another_is_refused(settlement: Evaluation) -> None:
    metric = settlement.metric(settlement.cosign())
    swapped = metric.model_copy(update={"totals": metric.totals[::-1], "randomisers": metric.randomisers[::-1]})
    with pytest.raises(InvalidOpening):
        settlement.verify(swapped)


def test_settlement_opens_the_trained_and_the_averaged_model(settlement: Evaluation) -> None:
    metric = settlement.metric(settlement.cosign())
    half = metric.model_copy(update={"totals": metric.totals[:1], "randomisers": metric.randomisers[:1]})
    with pytest.raises(VerificationFailed, match="1 sums of 2 are opened"):
        settlement.verify(half)


def test_error_that_no_converging_training_has_is_no_metric(iteration: Evaluation) -> None:
    (scale,) = iteration.scales
    total = ((scale << 80) ** 2 << 40) * (2**16 + 1) * 60
    far = (answer(0, iteration.private_key.encrypt([total]), iteration.asked, iteration.private_key),)
    with pytest.raises(Diverged):
        iteration.verify(iteration.metric(iteration.cosign(far)))
