"""A killed service loses nothing: whoever dies, whenever, the training goes on and everybody is paid once."""

from __future__ import annotations

import pytest

from commons.chain.marketplace import Status
from tests.integration.conftest import Town
from tests.integration.outages import Case, begin, freeze, frozen, thaw, until

LONG = {"iterations": 30, "learning_rate": 1.5, "evaluation_interval": 5}


@pytest.mark.parametrize("victim", ["aggregator", "buyer", "trainer-1", "validator-1"])
def test_killed_in_a_round_in_an_evaluation_and_before_the_settlement(town: Town, victim: str) -> None:
    case = begin(town, LONG)
    platform, dead = town.platform, case.roles[victim]
    aggregator = case.books("aggregator")

    thaw(platform, "buyer")
    until("three rounds", lambda: len(aggregator.rounds("sum")) >= 3)
    with frozen(platform, case.roles["trainer-2"]):  # no round ends without this trainer
        assert len(aggregator.rounds("sum")) < LONG["iterations"]
        platform.kill(dead)
        platform.restart(dead)
        freeze(platform, case.roles["validator-1"])  # no evaluation ends without the validator

    (evaluation,) = until("an evaluation", lambda: unfinished_evaluations(case))
    assert len(aggregator.rounds("sum")) == evaluation < LONG["iterations"]
    platform.kill(dead)
    thaw(platform, case.roles["validator-1"])
    platform.restart(dead)

    until("two more rounds", lambda: len(aggregator.rounds("sum")) >= evaluation + 2)
    platform.stop("chain")  # no result is reported without it
    assert len(aggregator.rounds("sum")) < LONG["iterations"]
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


def unfinished_evaluations(case: Case) -> set[int]:
    books = case.books("aggregator")
    return set(books.rounds("mask-iteration")) - set(books.rounds("total-iteration"))
