"""The sums by which owners standardise are replayed as everything else is: whatever is changed in them is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from commons.audit.replay import Subject
from commons.learning.contributions import UNIT
from commons.learning.local_steps import federated_descent
from commons.learning.standardisation import Scaling
from tests.unit.audit.parties import AGGREGATOR, BUYER, TRAINING, Change, Story, Telling, audited
from tests.unit.audit.test_changes import Leaf, leaves
from tests.unit.audit.test_replay import subject

MESSAGES = (
    "score-moments question",
    *(f"score-moments answer {place}" for place in range(3)),
    "total-moments question",
    *(f"total-moments answer {place}" for place in range(3)),
    "total-moments totals",
    "opening-moments answer",
)
RECORDS = ("score-moments 0", "total-moments 0", "opening-moments 0")


@pytest.fixture(scope="module")
def short() -> Story:
    return Story(iterations=1, features=2, standardises=True)


@pytest.fixture(scope="module")
def honest(short: Story) -> Telling:
    telling = Telling(short, None)
    telling.file()
    return telling


def test_honest_training_of_standardised_features_passes_and_comes_to_what_it_does_in_the_clear() -> None:
    story = Story(standardises=True)
    report = audited(story.tell())
    assert report.passed and report.first is None
    trainers, validators = story.statistics[:3], story.statistics[3:]
    pooled = sum(owner.gram for owner in trainers) / sum(owner.rows for owner in trainers)
    means = pooled[0, 1:]
    scaling = Scaling(tuple(means), tuple(np.sqrt(np.diag(pooled)[1:] - means**2)))
    model = federated_descent([scaling.standardise(owner) for owner in trainers], story.weights, 3, 0.3, 0.0, 1)
    rows = sum(owner.rows for owner in validators)
    mse = sum(owner.rows * scaling.standardise(owner).mse(model) for owner in validators) / rows
    assert report.curve[-1] == (3, pytest.approx(mse * UNIT, rel=1e-6))


def test_trainer_that_does_not_sign_is_not_in_the_sums() -> None:
    story = Story(iterations=1, features=1, trainers=4, standardises=True, silent=frozenset({"total-moments answer 2"}))
    assert audited(story.tell()).passed


def another(value: Any) -> Any:
    match value:
        case tuple():
            return value[:-1]
        case bytes():
            return value[:-1] + bytes([value[-1] ^ 1])
        case int():
            return value + 1
        case str():
            return f"{int(value, 16) + 1:x}"
    return type(TRAINING)(int=8)


def changes() -> list[tuple[str, Leaf]]:
    telling = Telling(Story(iterations=1, features=1, standardises=True), None)
    telling.file()
    messages = [(name, what) for name in MESSAGES for what, _ in leaves(telling.said[name][1])]
    return messages + [(name, what) for name in RECORDS for what, _ in leaves(telling.records[name])]


def roles(honest: Telling, name: str, what: Leaf) -> set[str]:
    if name in RECORDS or honest.said[name][0] == AGGREGATOR:
        return {"aggregator"}
    if honest.said[name][0] == BUYER:
        return {"buyer"}
    trainer = f"trainer {name.rpartition(' ')[2]}"
    return {"aggregator", trainer} if what == ("ciphertexts",) else {trainer}


@pytest.mark.parametrize(("name", "what"), changes(), ids=str)
def test_whatever_is_changed_is_found_and_named(short: Story, honest: Telling, name: str, what: Leaf) -> None:
    report = audited(short.tell(Change(name, what, another)))
    assert report.first is not None
    assert report.first.party.role in roles(honest, name, what)
    assert report.first.entry.partition(" ")[0] in ("score-moments", "total-moments", "opening-moments")
    assert report.result is None


def test_sums_of_two_trainers_are_the_aggregators_deviation() -> None:
    story = Story(iterations=1, features=1, trainers=3, standardises=True, silent=frozenset({"total-moments answer 2"}))
    report = audited(story.tell())
    assert report.first is not None
    assert (report.first.party.role, report.first.entry) == ("aggregator", "total-moments 0")
    assert report.first.found == "answers: at least 3 are needed"


def test_moments_are_summed_if_and_only_if_they_are_ordered() -> None:
    class Forgetful(Telling):
        def keep(self, kind: str, round_: int, record: Any) -> Any:
            return record if kind.endswith("-moments") else super().keep(kind, round_, record)

    report = audited(Forgetful(Story(iterations=1, features=1, standardises=True), None).file())
    assert report.first is not None
    assert (subject(report), report.first.party.role) == (Subject.SCHEDULE, "aggregator")
    assert report.first.claimed == "no sums of moments" and report.first.found == "the order standardises"
