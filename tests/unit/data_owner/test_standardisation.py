"""What an owner tells of its features before training, and by what it standardises them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from commons.crypto.paillier import PrivateKey, UniformRandomisers
from commons.crypto.signatures import InvalidSignature
from commons.errors import Conflict, InvalidInput, VerificationFailed
from commons.learning.local_steps import local_map
from commons.learning.statistics import GramStatistics, TableStatistics
from commons.protocol import evaluation, totals, wire
from commons.protocol.messages import (
    Acknowledgement,
    Cosignature,
    DataRequirements,
    Features,
    HyperParameters,
    LocalModelQuestion,
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
from commons.protocol.moments import told
from commons.protocol.signed import Signed
from data_owner.participation import statistics_for
from tests.unit.data_owner.parties import OWNERS, ROWS, TRAINING, Owner, Parties

ASK = MomentsQuestion(training=TRAINING)
COUNT = 5


class Standardising(Parties):
    """Three trainers and a validator, in a training that standardises. The aggregator's and the buyer's parts."""

    def __init__(self, private_key: PrivateKey, randomisers: UniformRandomisers, learning_rate: float = 0.1) -> None:
        super().__init__(private_key, randomisers)
        standard = (Standardisation(method="standard"),)
        self.order = Order(
            model_type="LINEAR_REGRESSION",
            data_requirements=DataRequirements(
                features=Features(list=("age", "bmi"), range=(-1, 1), pre_processing=standard),
                target=Target(name="y", range=(0, 4)),
            ),
            hyper_parameters=HyperParameters(iterations=10, learning_rate=learning_rate),
            participants=Participants(wanted=4, minimum=4),
            modulus=self.order.modulus,
        )
        self.market.trainer_count = 3

    def cosign(self, answers: dict[int, Signed]) -> MomentsCosignQuestion:
        vectors = [self.key.decode(answer.read(Vector).ciphertexts, COUNT) for answer in answers.values()]
        sums = totals.add(vectors, self.key, self.randomisers)
        return MomentsCosignQuestion(
            training=TRAINING,
            answers=tuple(
                Reply(place=place, content=answer.content, signature=answer.signature)
                for place, answer in answers.items()
            ),
            totals=self.key.encode(total for total, _ in sums),
            randomisers=wire.encode_roots([root for _, root in sums], self.key),
        )

    def moments(self, owners: list[Owner]) -> Moments:
        """Have the trainers' moments summed, co-signed and opened."""
        asked = self.ask(ASK)
        cosign = self.cosign({place: owner.answering.moments(asked) for place, owner in enumerate(owners[:3])})
        question = self.ask(cosign)
        signatures = [owner.answering.cosign_moments(question).read(Cosignature).signature for owner in owners[:3]]
        totals = MomentsTotals(
            training=TRAINING,
            question=asked.signed.digest,
            trainers=(0, 1, 2),
            ciphertexts=cosign.totals,
            cosignatures=tuple(signatures),
        )
        opened = [evaluation.open_total(total, self.private_key) for total in self.key.decode(cosign.totals, COUNT)]
        said = Openings(
            totals=tuple(f"{opening.total:x}" for opening in opened),
            randomisers=tuple(f"{opening.randomiser:x}" for opening in opened),
        )
        return told(totals, self.buyer.sign(said, self.ask(totals).signed))


@pytest.fixture
def parties(private_key: PrivateKey, randomisers: UniformRandomisers) -> Standardising:
    return Standardising(private_key, randomisers)


@pytest.fixture
def owners(parties: Standardising, tmp_path: Path) -> Iterator[list[Owner]]:
    made = [parties.owner(number, tmp_path) for number in range(4)]
    yield made
    for owner in made:
        owner.database.close()


def rows(owner: Owner) -> TableStatistics:
    return owner.storage.dataset(uuid.UUID(int=1)).table


def standardised(parties: Parties, owners: list[Owner], place: int) -> GramStatistics:
    pooled = sum(rows(owner).gram for owner in owners[:3]) / (3 * ROWS)
    means = pooled[0, 1:3]
    spreads = np.sqrt(np.diag(pooled)[1:3] - means**2)
    table = statistics_for(owners[place].storage.dataset(uuid.UUID(int=1)), parties.order)
    transform = np.diag([1, *1 / spreads])
    transform[0, 1:] = -means / spreads
    return GramStatistics(ROWS, transform.T @ table.gram @ transform, transform.T @ table.moment, table.target_square)


def test_trainer_tells_its_rows_and_the_sums_of_its_features(parties: Standardising, owners: list[Owner]) -> None:
    question = parties.ask(ASK)
    answer = owners[0].answering.moments(question).verified(Vector, parties.domain, OWNERS[0].address, question.signed)
    count, *sums = [parties.private_key.decrypt_signed(c) for c in parties.key.decode(answer.ciphertexts, COUNT)]
    gram = rows(owners[0]).gram
    assert count == ROWS
    expected = [gram[0, 1], gram[1, 1], gram[0, 2], gram[2, 2]]
    assert [value / 2**128 for value in sums] == pytest.approx(expected, rel=1e-8)
    assert owners[0].answering.moments(question).read(Vector) == answer


def test_validator_tells_no_moments_and_signs_none(parties: Standardising, owners: list[Owner]) -> None:
    with pytest.raises(Conflict, match="this owner validates"):
        owners[3].answering.moments(parties.ask(ASK))
    cosign = MomentsCosignQuestion(training=TRAINING, answers=(), totals=b"", randomisers=b"")
    with pytest.raises(Conflict, match="this owner validates"):
        owners[3].answering.cosign_moments(parties.ask(cosign))


def test_no_moments_are_told_where_none_are_ordered(
    private_key: PrivateKey, randomisers: UniformRandomisers, tmp_path: Path
) -> None:
    parties = Parties(private_key, randomisers)
    owner = parties.owner(0, tmp_path)
    with pytest.raises(InvalidInput, match="the order has no pre_processing"):
        owner.answering.moments(parties.ask(ASK))
    owner.database.close()


def test_sums_without_ones_own_answer_are_not_signed(parties: Standardising, owners: list[Owner]) -> None:
    parties.market.trainer_count = 4
    asked = parties.ask(ASK)
    answers = {place: owner.answering.moments(asked) for place, owner in enumerate(owners)}
    others = parties.cosign({place: answers[place] for place in (1, 2, 3)})
    with pytest.raises(
        VerificationFailed, match="trainer 0 is asked to sign sums of moments that its answer is not in"
    ):
        owners[0].answering.cosign_moments(parties.ask(others))
    owners[1].answering.cosign_moments(parties.ask(others))


def test_sums_of_too_few_or_of_others_answers_are_not_signed(parties: Standardising, owners: list[Owner]) -> None:
    asked = parties.ask(ASK)
    answers = {place: owner.answering.moments(asked) for place, owner in enumerate(owners[:3])}
    with pytest.raises(InvalidInput, match="at least 3 are needed"):
        owners[0].answering.cosign_moments(parties.ask(parties.cosign({0: answers[0], 1: answers[1]})))
    with pytest.raises(InvalidSignature):
        owners[0].answering.cosign_moments(parties.ask(parties.cosign({**answers, 2: answers[0]})))


def test_owner_that_told_nothing_signs_nothing(parties: Standardising, owners: list[Owner]) -> None:
    asked = parties.ask(ASK)
    answers = {place: owners[place].answering.moments(asked) for place in (0, 1)}
    with pytest.raises(Conflict, match="has not told its moments"):
        owners[2].answering.cosign_moments(parties.ask(parties.cosign(answers)))


def test_signature_is_of_the_sums_that_were_shown(parties: Standardising, owners: list[Owner]) -> None:
    moments = parties.moments(owners)
    statement = MomentsStatement.unpack(moments.statement)
    assert statement.trainers == (0, 1, 2)
    for owner, signature in zip(OWNERS, moments.cosignatures, strict=False):
        signed = Signed(content=moments.statement, signature=signature)
        assert signed.verified(MomentsStatement, parties.domain, owner.address) == statement


def test_nothing_is_trained_or_scored_before_the_moments_are_told(parties: Standardising, owners: list[Owner]) -> None:
    for question, ask in [
        (parties.round(0), owners[0].answering.update),
        (LocalModelQuestion(training=TRAINING), owners[0].answering.local_model),
        (parties.zero(), owners[3].answering.score),
    ]:
        with pytest.raises(Conflict, match="has not been told the moments"):
            ask(parties.ask(question))
    assert owners[0].journal.names(TRAINING) == [] == owners[3].journal.names(TRAINING)


@pytest.mark.parametrize("restarted", [False, True])
def test_owner_trains_on_what_is_standardised_by_all_trainers_rows(
    parties: Standardising, owners: list[Owner], restarted: bool
) -> None:
    asked = parties.ask(parties.moments(owners))
    answer = owners[1].answering.standardise(asked)
    answer.verified(Acknowledgement, parties.domain, OWNERS[1].address, asked.signed)
    if restarted:
        owners[1].answering.release(TRAINING)
    update = owners[1].answering.update(parties.ask(parties.round(0))).read(Vector)
    found = [parties.private_key.decrypt_signed(c) / 2**80 for c in parties.key.decode(update.ciphertexts, 3)]
    _, expected = local_map(standardised(parties, owners, 1), 0.1, 0.0, 1)
    assert found == pytest.approx(list(expected), abs=1e-8)


def test_validator_scores_on_what_is_standardised(parties: Standardising, owners: list[Owner]) -> None:
    owners[3].answering.standardise(parties.ask(parties.moments(owners)))
    seat = owners[3].answering._seat(TRAINING)
    np.testing.assert_allclose(seat.statistics.gram, standardised(parties, owners, 3).gram, atol=1e-6)


def test_moments_are_told_once(parties: Standardising, owners: list[Owner]) -> None:
    asked = parties.ask(parties.moments(owners))
    assert owners[0].answering.standardise(asked) == owners[0].answering.standardise(asked)
    cut = asked.content.model_copy(update={"cosignatures": asked.content.cosignatures[:2]})
    with pytest.raises(Conflict, match="already been answered another standardisation 0"):
        owners[0].answering.standardise(parties.ask(cut))


def test_moments_whose_evidence_does_not_hold_are_not_kept(parties: Standardising, owners: list[Owner]) -> None:
    moments = parties.moments(owners)
    first = f"{int(moments.totals[1], 16) + 1:x}"
    lie = moments.model_copy(update={"totals": (moments.totals[0], first, *moments.totals[2:])})
    with pytest.raises(VerificationFailed):
        owners[3].answering.standardise(parties.ask(lie))
    assert owners[3].journal.names(TRAINING) == []
    owners[3].answering.standardise(parties.ask(moments))


def test_step_that_diverges_on_ones_standardised_rows_is_not_taken_and_the_limit_not_told(
    private_key: PrivateKey, randomisers: UniformRandomisers, tmp_path: Path
) -> None:
    parties = Standardising(private_key, randomisers, learning_rate=1.9)
    owners = [parties.owner(number, tmp_path) for number in range(4)]
    asked = parties.ask(parties.moments(owners))
    largest = np.linalg.eigvalsh(standardised(parties, owners, 0).gram / ROWS)[-1]
    assert 1.9 * largest > 2
    owners[0].answering.standardise(asked)
    for question, ask in [
        (parties.round(0), owners[0].answering.update),
        (LocalModelQuestion(training=TRAINING), owners[0].answering.local_model),
    ]:
        with pytest.raises(Conflict, match="the order's learning rate diverges on this owner's standardised rows$"):
            ask(parties.ask(question))
    for owner in owners:
        owner.database.close()
