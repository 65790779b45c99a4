"""A training of standardised features as the aggregator runs it, and what it does about owners that fail it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from commons.learning.contributions import UNIT
from commons.learning.local_steps import federated_descent
from commons.learning.standardisation import Scaling
from commons.learning.statistics import GramStatistics
from commons.protocol.messages import (
    Message,
    Moments,
    MomentsCosignQuestion,
    MomentsQuestion,
    MomentsTotals,
    Openings,
    RoundQuestion,
    Standardisation,
    Vector,
)
from commons.protocol.transcript import Cosigned
from federated_aggregator.course import Deviated, TooFewAnswered
from tests.unit.federated_aggregator.parties import TRAINERS, TRAINING, WEIGHTS, PowerCut, World
from tests.unit.federated_aggregator.test_training import ENTRIES, mse, read

STANDARD = (Standardisation(method="standard"),)
SUMMING = [("score-moments", 0), ("total-moments", 0), ("opening-moments", 0)]


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    made = make_world(pre_processing=STANDARD)
    for owner in (*made.trainers, *made.validators):  # features of other means and scales
        owner.table = Scaling((-0.5,), (0.5,)).standardise(owner.table)
    return made


def pooled(*owners: GramStatistics) -> Scaling:
    rows = sum(owner.rows for owner in owners)
    mean = sum(owner.gram[0, 1] for owner in owners) / rows
    return Scaling((mean,), ((sum(owner.gram[1, 1] for owner in owners) / rows - mean**2) ** 0.5,))


def require_trained_by(world: World, scaling: Scaling, trained_mse: int) -> None:
    tables = [owner.table for owner in world.trainers], [owner.table for owner in world.validators]
    trainers, validators = ([scaling.standardise(table) for table in owners] for owners in tables)
    model = federated_descent(trainers, list(WEIGHTS), 3, 0.5, 0.0, 1)
    assert trained_mse / UNIT == pytest.approx(mse(model, validators), rel=1e-6)


def test_training_is_that_of_features_standardised_by_what_all_trainers_have(world: World) -> None:
    outcome, _ = world.training.run(world.course)
    scaling = pooled(*(trainer.table for trainer in world.trainers))
    require_trained_by(world, scaling, outcome.trained_mse)
    for owner in (*world.trainers, *world.validators):
        assert owner.scaling is not None
        assert (*owner.scaling.means, *owner.scaling.scales) == pytest.approx((*scaling.means, *scaling.scales))
    assert list(read(world).records) == [ENTRIES[0], *SUMMING, *ENTRIES[1:]]


def test_nothing_of_it_is_asked_when_it_is_not_ordered(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.training.run(world.course)
    asked = {name[0] for speaker in (world.buyer, *world.trainers, *world.validators) for name in speaker.said}
    assert asked.isdisjoint({MomentsQuestion, MomentsCosignQuestion, MomentsTotals, Moments})


@pytest.mark.parametrize("what", [MomentsQuestion, MomentsCosignQuestion])
def test_training_ends_when_fewer_than_three_trainers_tell_or_sign(world: World, what: type[Message]) -> None:
    world.trainers[1].mute = lambda question: isinstance(question, what)
    with pytest.raises(TooFewAnswered, match="2 trainers answered .*: at least 3 are needed"):
        world.training.run(world.course)
    assert not world.buyer.said


def test_owner_that_was_away_is_told_before_the_next_round(world: World) -> None:
    silent = world.trainers[2]
    silent.mute = lambda question: (
        isinstance(question, Moments) or (isinstance(question, RoundQuestion) and question.round == 0)
    )
    world.standardisation.run(world.course)
    assert list(world.course.untold) == [silent.signer.address] and silent.scaling is None
    silent.mute = lambda question: isinstance(question, RoundQuestion) and question.round == 0
    outcome, _ = world.training.run(world.course)
    assert not world.course.untold and silent.scaling is not None
    assert outcome.trainers_answered == (True, True, False)


def test_buyer_that_opens_another_number_is_named(world: World) -> None:
    def more(question: Message, answer: Message) -> Message:
        if not isinstance(question, MomentsTotals):
            return answer
        first, *others = answer.totals  # type: ignore[attr-defined]
        return answer.model_copy(update={"totals": (f"{int(first, 16) + 1:x}", *others)})

    world.buyer.wrong = more
    with pytest.raises(Deviated, match=f"the model buyer {world.buyer.signer.address} deviated"):
        world.training.run(world.course)
    assert all(owner.scaling is None for owner in (*world.trainers, *world.validators))


def test_trainer_that_sends_no_moments_is_left_out_of_them(world: World) -> None:
    world.trainers[0].wrong = lambda question, answer: (
        Vector(ciphertexts=b"") if isinstance(question, MomentsQuestion) else answer
    )
    with pytest.raises(TooFewAnswered):
        world.training.run(world.course)


@pytest.mark.parametrize("moment", range(1, len(SUMMING) + 2))
def test_restart_goes_on_with_what_was_summed(world: World, moment: int) -> None:
    # Whoever is asked another question under the same name than before the restart fails the test.
    world.power.cut_at = moment
    with pytest.raises(PowerCut):
        world.training.run(world.course)
    world.restart()
    outcome, _ = world.training.run(world.course)
    require_trained_by(world, pooled(*(trainer.table for trainer in world.trainers)), outcome.trained_mse)
    assert list(read(world).records) == [ENTRIES[0], *SUMMING, *ENTRIES[1:]]


def test_buyer_is_asked_to_open_one_sum_of_all_that_signed_it(world: World) -> None:
    world.training.run(world.course)
    asked = world.record("total-moments", 0, Cosigned).totals.read(MomentsTotals)
    assert asked.training == TRAINING and asked.trainers == (0, 1, 2) and len(asked.cosignatures) == 3
    assert [name for name in world.buyer.said if name[0] is MomentsTotals] == [(MomentsTotals, None, None)]
    totals = [int(total, 16) for total in world.buyer.said[MomentsTotals, None, None][1].read(Openings).totals]
    assert totals[0] == sum(owner.rows for owner in TRAINERS)
    assert totals[1] / 2**128 == pytest.approx(sum(owner.table.gram[0, 1] for owner in world.trainers))
    assert not np.isclose(totals[1] / 2**128, sum(o.table.gram[0, 1] for o in (*world.trainers, *world.validators)))
