"""A killed service loses nothing: whoever dies, whenever, the training goes on and everybody is paid once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from commons.chain.marketplace import Status
from tests.integration.conftest import Town
from tests.integration.outages import Case, begin, freeze, frozen, mend, thaw, until

LONG = {"iterations": 30, "learning_rate": 1.5, "evaluation_interval": 5}


@pytest.fixture
def town(town: Town) -> Iterator[Town]:
    yield town
    mend(town.platform)


@pytest.mark.parametrize("victim", ["aggregator", "buyer", "trainer-1", "validator-1"])
def test_killed_in_a_round_in_an_evaluation_and_before_the_settlement(town: Town, victim: str) -> None:
    case = begin(town, LONG)
    platform, dead = town.platform, case.roles[victim]
    aggregator = case.books("aggregator")

    thaw(platform, "buyer")
    until("three rounds", lambda: len(aggregator.rounds("round")) >= 3)
    with frozen(platform, case.roles["trainer-2"]):  # no round ends without this trainer
        assert len(aggregator.rounds("round")) < LONG["iterations"]
        platform.kill(dead)
        platform.restart(dead)
        freeze(platform, case.roles["validator-1"])  # no evaluation ends without the validator

    (evaluation,) = until("an evaluation", lambda: unfinished_evaluations(case))
    rounds = len(aggregator.rounds("round"))
    assert evaluation <= rounds < LONG["iterations"]
    platform.kill(dead)
    thaw(platform, case.roles["validator-1"])
    platform.restart(dead)

    until("the evaluation", lambda: evaluation not in unfinished_evaluations(case))
    until("two more rounds", lambda: len(aggregator.rounds("round")) >= rounds + 2)
    platform.stop("chain")  # no result is reported without it
    assert len(aggregator.rounds("round")) < LONG["iterations"]
    until("all but the report", lambda: aggregator.value("trainings", "outcome"))
    with frozen(platform, "buyer"):  # no result is confirmed without the buyer
        platform.restart("chain")
        until("the report", lambda: case.on_chain.status == Status.REPORTED)
        platform.kill(dead)
    platform.restart(dead)

    model = case.expect_finished()
    case.expect_agreement(model)
    case.expect_nobody_left_out()
    case.expect_consistent_questions()
    case.expect_audited()


SAVED: list[tuple[str, str, int, list[str]]] = [
    ("buyer", "open-zero", 0, ["buyer", "aggregator"]),
    ("aggregator", "round", 2, ["aggregator", "trainer-1"]),
    ("validator-1", "score-iteration", 15, ["validator-1", "aggregator"]),
    ("aggregator", "total-iteration", 20, ["aggregator", "buyer"]),
    ("trainer-1", "local", 0, ["trainer-1", "aggregator"]),
    ("validator-1", "score-settlement", 0, ["validator-1", "buyer"]),
    ("aggregator", "total-settlement", 30, ["aggregator", "validator-1"]),
    ("buyer", "open-settlement", 0, ["buyer", "aggregator"]),
]
"""What a service saves in a training, in this order, and who dies as soon as it has."""


def test_killed_as_soon_as_something_is_saved(town: Town) -> None:
    case = begin(town, LONG)
    thaw(town.platform, "buyer")
    for role, kind, round_, victims in SAVED:
        books = case.books(role)
        until(f"{kind} {round_}", partial(books.entry, kind, round_), pause_s=0.0005)
        case.kill_and_restart(*victims)
    books = case.books("aggregator")
    until("the outcome", lambda: books.value("trainings", "outcome"), pause_s=0.0005)
    case.kill_and_restart("aggregator")
    until("the model", lambda: case.books("buyer").value("models", "weights"), pause_s=0.0005)
    case.kill_and_restart("buyer", "aggregator", "trainer-1")

    model = case.expect_finished()
    case.expect_agreement(model)
    case.expect_nobody_left_out()
    case.expect_consistent_questions()
    case.expect_audited()


SUMMED: list[tuple[str, str, int, list[str]]] = [
    ("trainer-1", "moments", 0, ["trainer-1", "aggregator"]),
    ("aggregator", "score-moments", 0, ["aggregator", "trainer-2"]),
    ("aggregator", "total-moments", 0, ["aggregator", "buyer"]),
    ("buyer", "open-moments", 0, ["buyer", "aggregator"]),
    ("validator-1", "standardisation", 0, ["validator-1", "aggregator"]),
    ("trainer-3", "standardisation", 0, ["trainer-3", "aggregator"]),
]
"""The same of what is saved before a training of standardised features."""


def test_killed_as_soon_as_something_is_saved_of_standardising(town: Town) -> None:
    case = begin(town, {"iterations": 10, "learning_rate": 0.1, "evaluation_interval": 5}, standardise=True, minimum=5)
    thaw(town.platform, "buyer")
    for role, kind, round_, victims in SUMMED:
        books = case.books(role)
        until(f"{kind} {round_}", partial(books.entry, kind, round_), pause_s=0.0005)
        case.kill_and_restart(*victims)

    model = case.expect_finished()
    assert model["metrics"]["trained_mse"] < model["metrics"]["initial_mse"] / 2
    case.expect_nobody_left_out()
    case.expect_consistent_questions()
    case.expect_audited()


def unfinished_evaluations(case: Case) -> set[int]:
    books = case.books("aggregator")
    return set(books.rounds("mask-iteration")) - set(books.rounds("total-iteration"))
