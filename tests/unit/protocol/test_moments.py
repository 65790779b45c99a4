"""Sums of trainers' moments: of enough trainers, signed by all of them, and what the buyer opened."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from commons.crypto.paillier import InvalidOpening, PrivateKey, ShortRandomisers, UniformRandomisers
from commons.crypto.signatures import InvalidSignature
from commons.errors import InvalidInput, VerificationFailed
from commons.learning.standardisation import moments as moments_of
from commons.learning.standardisation import scaling_of
from commons.protocol import evaluation, totals, wire
from commons.protocol.messages import (
    DataRequirements,
    Features,
    HyperParameters,
    Moments,
    MomentsCosignQuestion,
    MomentsQuestion,
    MomentsStatement,
    MomentsTotals,
    Openings,
    Order,
    Participants,
    Reply,
    Standardisation,
    Target,
    Vector,
)
from commons.protocol.moments import Trainers, statement_of_totals, told
from commons.protocol.signed import Signed, Signer
from tests.unit.accounts import DOMAIN, signer
from tests.unit.learning.tables import random_owner

TRAINING = uuid.UUID(int=7)
AGGREGATOR, BUYER, STRANGER = signer(1), signer(2), signer(99)
TRAINERS = [signer(number) for number in (11, 12, 13, 14)]
ROWS = (10, 20, 30, 40)
OWNERS = [random_owner(rows, 3, seed=rows) for rows in ROWS]


@dataclass(frozen=True)
class Scene:
    """Four trainers' answers, and everybody's words about their sums."""

    private_key: PrivateKey
    uniform: UniformRandomisers
    trainers: Trainers
    values: list[list[int]]
    asked: Signed
    answers: tuple[Reply, ...]

    def cosign(self, *places: int, answers: Sequence[Reply] | None = None) -> MomentsCosignQuestion:
        shown = tuple(self.answers[place] for place in places) if answers is None else tuple(answers)
        key = self.trainers.key
        vectors = [key.decode(Vector.unpack(reply.content).ciphertexts, 5) for reply in shown]
        sums = totals.add(vectors, key, self.uniform)
        return MomentsCosignQuestion(
            training=TRAINING,
            answers=shown,
            totals=key.encode(total for total, _ in sums),
            randomisers=wire.encode_roots([root for _, root in sums], key),
        )

    def totals(self, *places: int) -> MomentsTotals:
        unsigned = MomentsTotals(
            training=TRAINING,
            question=self.asked.digest,
            trainers=places,
            ciphertexts=self.cosign(*places).totals,
            cosignatures=(),
        )
        statement = statement_of_totals(unsigned)
        return signed_by(unsigned, statement, places)

    def openings(self, totals: MomentsTotals) -> Openings:
        opened = [
            evaluation.open_total(total, self.private_key) for total in self.trainers.key.decode(totals.ciphertexts, 5)
        ]
        return Openings(
            totals=tuple(f"{opening.total:x}" for opening in opened),
            randomisers=tuple(f"{opening.randomiser:x}" for opening in opened),
        )

    def told(self, *places: int) -> Moments:
        totals = self.totals(*places)
        return told(totals, self.opened(totals))

    def opened(self, totals: MomentsTotals, by: Signer = BUYER) -> Signed:
        return by.sign(self.openings(totals), AGGREGATOR.sign(totals))


def signed_by(totals: MomentsTotals, statement: MomentsStatement, places: Sequence[int]) -> MomentsTotals:
    signatures = tuple(TRAINERS[place].sign(statement).signature for place in places)
    return totals.model_copy(update={"cosignatures": signatures})


@pytest.fixture(scope="module")
def scene(private_key: PrivateKey, short: ShortRandomisers, uniform: UniformRandomisers) -> Scene:
    key = private_key.public_key
    order = Order(
        model_type="LINEAR_REGRESSION",
        data_requirements=DataRequirements(
            features=Features(list=("a", "b"), range=(-9, 9), pre_processing=(Standardisation(method="standard"),)),
            target=Target(range=(-1, 1)),
        ),
        hyper_parameters=HyperParameters(),
        participants=Participants(),
        modulus=f"{int(key.n):x}",
    )
    asked = AGGREGATOR.sign(MomentsQuestion(training=TRAINING))
    values = [moments_of(owner) for owner in OWNERS]
    replies = []
    for place, own in enumerate(values):
        vector = Vector(ciphertexts=key.encode(key.encrypt(value, *short.take(1)) for value in own))
        said = TRAINERS[place].sign(vector, asked)
        replies.append(Reply(place=place, content=said.content, signature=said.signature))
    trainers = Trainers(order, [trainer.address for trainer in TRAINERS], ROWS, BUYER.address, key, DOMAIN)
    return Scene(private_key, uniform, trainers, values, asked, tuple(replies))


@pytest.mark.parametrize("places", [(0, 1, 2, 3), (0, 2, 3)])
def test_sums_of_three_trainers_or_more_are_what_everybody_standardises_by(
    scene: Scene, places: tuple[int, ...]
) -> None:
    scene.trainers.require_sums(scene.asked, scene.cosign(*places))
    summed = [sum(numbers) for numbers in zip(*(scene.values[place] for place in places), strict=True)]
    expected = scaling_of(summed, sum(ROWS[place] for place in places), 9.0)
    assert scene.trainers.told(scene.told(*places)) == expected
    totals = scene.totals(*places)
    assert scene.trainers.opened(totals, scene.openings(totals)) == expected


@pytest.mark.parametrize("places", [(), (0,), (0, 1)])
def test_sums_of_fewer_than_three_trainers_are_neither_signed_nor_opened_nor_used(
    scene: Scene, places: tuple[int, ...]
) -> None:
    cosign = scene.cosign(0, 1, 2).model_copy(update={"answers": tuple(scene.answers[place] for place in places)})
    with pytest.raises(InvalidInput, match="answers: at least 3 are needed"):
        scene.trainers.require_sums(scene.asked, cosign)
    totals = scene.totals(0, 1, 2).model_copy(update={"trainers": places})
    with pytest.raises(InvalidInput, match="trainers: at least 3 are needed"):
        scene.trainers.require_cosigned(totals)
    moments = scene.told(0, 1, 2)
    statement = MomentsStatement.unpack(moments.statement).model_copy(update={"trainers": places})
    with pytest.raises(InvalidInput, match="trainers: at least 3 are needed"):
        scene.trainers.told(moments.model_copy(update={"statement": statement.pack()}))


@pytest.mark.parametrize("places", [(0, 0, 1), (2, 1, 0), (0, 1, 4)])
def test_one_trainer_is_not_three(scene: Scene, places: tuple[int, ...]) -> None:
    answers = [scene.answers[place % 4].model_copy(update={"place": place}) for place in places]
    with pytest.raises(InvalidInput, match="answers: must be different places from 0 to 3"):
        scene.trainers.require_sums(scene.asked, scene.cosign(answers=answers))


def test_answer_to_another_question_or_of_somebody_else_is_not_signed_for(scene: Scene) -> None:
    with pytest.raises(InvalidSignature):
        scene.trainers.require_sums(STRANGER.sign(MomentsQuestion(training=uuid.UUID(int=8))), scene.cosign(0, 1, 2))
    said = STRANGER.sign(Vector.unpack(scene.answers[1].content), scene.asked)
    foreign = Reply(place=1, content=said.content, signature=said.signature)
    with pytest.raises(InvalidSignature):
        scene.trainers.require_sums(scene.asked, scene.cosign(answers=(scene.answers[0], foreign, scene.answers[2])))


def test_sums_of_other_answers_are_not_signed(scene: Scene) -> None:
    cosign = scene.cosign(0, 1, 2).model_copy(update={"totals": scene.cosign(0, 1, 3).totals})
    with pytest.raises(VerificationFailed, match="the sums of moments are not those of the trainers' answers"):
        scene.trainers.require_sums(scene.asked, cosign)


@pytest.mark.parametrize(
    "change",
    [
        {"trainers": (0, 1, 3)},
        {"question": bytes(32)},
        {"training": uuid.UUID(int=8)},
        {"ciphertexts": "other"},
        {"cosignatures": "fewer"},
        {"cosignatures": "stranger's"},
    ],
    ids=str,
)
def test_buyer_opens_nothing_that_its_trainers_have_not_signed(scene: Scene, change: dict[str, Any]) -> None:
    totals = scene.totals(0, 1, 2)
    scene.trainers.require_cosigned(totals)
    special: dict[Any, Any] = {
        "other": scene.cosign(0, 1, 2).totals,
        "fewer": totals.cosignatures[:2],
        "stranger's": (*totals.cosignatures[:2], STRANGER.sign(statement_of_totals(totals)).signature),
    }
    ((field, value),) = change.items()
    value = special.get(value, value) if isinstance(value, str) else value
    with pytest.raises(VerificationFailed):
        scene.trainers.require_cosigned(totals.model_copy(update={field: value}))


def opened_by(lie: Callable[[Openings], dict[str, Any]]) -> Callable[[Moments, Scene], dict[str, Any]]:
    """Return what is told when the buyer opens, and signs, something else."""

    def change(moments: Moments, scene: Scene) -> dict[str, Any]:
        totals = scene.totals(0, 1, 2)
        honest = scene.openings(totals)
        said = honest.model_copy(update=lie(honest))
        return dict(told(totals, BUYER.sign(said, AGGREGATOR.sign(totals))))

    return change


def more(said: Moments | Openings) -> dict[str, Any]:
    return {"totals": (f"{int(said.totals[0], 16) + 1:x}", *said.totals[1:])}


def signed_anew(by: Signer) -> Callable[[Moments, Scene], dict[str, Any]]:
    """Return what is told when three trainers sign sums that they open themselves, without the buyer."""

    def change(_: Moments, scene: Scene) -> dict[str, Any]:
        totals = scene.totals(0, 1, 2)
        return dict(told(totals, scene.opened(totals, by)))

    return change


LIES: dict[str, tuple[Callable[[Moments, Scene], dict[str, Any]], type[Exception]]] = {
    "another number": (lambda moments, _: more(moments), InvalidSignature),
    "another number that the buyer signed": (opened_by(more), InvalidOpening),
    "a number short": (opened_by(lambda said: {"totals": said.totals[1:]}), VerificationFailed),
    "other sums": (lambda _, scene: {"ciphertexts": scene.cosign(0, 1, 2).totals}, VerificationFailed),
    "opened by the trainers": (signed_anew(TRAINERS[0]), InvalidSignature),
    "of other sums than the buyer opened": (
        lambda moments, scene: {**scene.told(0, 1, 2).model_dump(), "signature": moments.signature},
        InvalidSignature,
    ),
    "of another training": (lambda *_: {"training": uuid.UUID(int=8)}, VerificationFailed),
    "a missing signature": (lambda moments, _: {"cosignatures": moments.cosignatures[1:]}, VerificationFailed),
    "signed by others": (lambda moments, _: {"cosignatures": moments.cosignatures[::-1]}, InvalidSignature),
}


@pytest.mark.parametrize("lie", LIES)
def test_owner_uses_no_moments_whose_evidence_does_not_hold(scene: Scene, lie: str) -> None:
    moments = scene.told(0, 1, 2)
    change, error = LIES[lie]
    with pytest.raises(error):
        scene.trainers.told(moments.model_copy(update=change(moments, scene)))


def test_sums_of_more_rows_than_were_declared_are_refused(scene: Scene) -> None:
    declared = replace(scene.trainers, rows=(10, 20, 29, 40))
    with pytest.raises(VerificationFailed, match="moments of 59 declared rows were claimed"):
        declared.told(scene.told(0, 1, 2))


def test_order_without_pre_processing_has_no_moments(scene: Scene) -> None:
    scene.trainers.require_ordered()
    requirements = scene.trainers.order.data_requirements
    features = requirements.features.model_copy(update={"pre_processing": ()})
    order = scene.trainers.order.model_copy(
        update={"data_requirements": requirements.model_copy(update={"features": features})}
    )
    with pytest.raises(InvalidInput, match="the order has no pre_processing"):
        replace(scene.trainers, order=order).require_ordered()


def test_statement_has_the_hash_of_what_is_opened(scene: Scene) -> None:
    totals = scene.totals(0, 1, 2)
    assert statement_of_totals(totals).totals == hashlib.sha256(totals.ciphertexts).digest()
