"""Whether a training with a cheat went as designed is a judgement that has to be able to fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from commons.chain.settlement import settle
from commons.chain.training import WHOLE, Dispute, Outcome, Participant, Payment, PaymentKind, Result, Status, Terms
from commons.chain.training import Training as OnChain
from commons.errors import InvalidInput
from commons.learning.contributions import UNIT
from commons.learning.local_steps import federated_average_of_local_models, federated_descent
from commons.learning.statistics import GramStatistics, TableStatistics
from commons.protocol.messages import HyperParameters
from scripts.local import cheats, diabetes, honest
from scripts.local.cheats import FEATURES, HYPER_PARAMETERS, TARGET_SCALE, Ended

ID = UUID(int=1)
BUYER, AGGREGATOR, ARBITER, *OWNERS = [f"0x{place:040x}" for place in range(1, 9)]
ESCROW, BOND = 5 * 10**18, 25 * 10**16
HYPER = HyperParameters(**HYPER_PARAMETERS)
HASH = bytes(32)


@pytest.fixture(scope="module")
def statistics() -> list[GramStatistics]:
    tables = [TableStatistics.accumulate([rows], diabetes.COLUMNS) for rows in diabetes.split()]
    return [table.select(FEATURES, diabetes.TARGET, TARGET_SCALE) for table in tables]


@pytest.fixture
def corrected(statistics: list[GramStatistics]) -> Ended:
    """An aggregator reported half of the MSE, the buyer disputed, and the arbiter corrected it."""
    outcome = honest.honest_outcome(ID, statistics[:3], statistics[3:], HYPER)
    descent = federated_descent(statistics[:3], [1] * 3, HYPER.iterations, HYPER.learning_rate, HYPER.ridge, 1)
    average = federated_average_of_local_models(statistics[:3], [1] * 3, 1.5, 0, HYPER.iterations)
    result = Result(
        iterations=outcome.iterations,
        initial_mse=outcome.initial_mse,
        final_mse=outcome.final_mse,
        partial_mses=outcome.partial_mses,
        contributions=outcome.contributions,
        trainers_answered=outcome.trainers_answered,
        validators_answered=outcome.validators_answered,
        transcript_root=HASH,
        model_hash=HASH,
    )
    split = settle(ESCROW, WHOLE // 10, result)
    shares = zip(OWNERS, (*split.trainers, *split.validators), strict=True)
    finished = {"status": "FINISHED", "reason": None}
    differing = {"status": "FINISHED", "reason": "final MSE: reported 1, computed 2"}
    return Ended(
        cheat=cheats.find("aggregator=reports-mse"),
        chain=OnChain(
            id=ID,
            status=Status.FINISHED,
            buyer=BUYER,
            aggregator=AGGREGATOR,
            escrow=ESCROW,
            bond=BOND,
            terms=Terms(
                wanted_owners=5,
                minimum_owners=3,
                join_deadline=1,
                training_deadline=2,
                review_period=3,
                fixed_share=WHOLE // 10,
                arbiter=ARBITER,
                order_hash=HASH,
            ),
            owners=tuple(Participant(owner, 50, 0, True) for owner in OWNERS),
            trainer_count=3,
            evaluations=7,
            ordered_block=1,
            closed_block=2,
            startable=False,
            digest=HASH,
            improvement=0,
            deadline=0,
            disputer=BUYER,
            result=result,
        ),
        reported=replace(result, final_mse=result.final_mse // 2),
        failure="",
        dispute=Dispute(BUYER, HASH, Outcome.CORRECTED),
        payments=(
            Payment(AGGREGATOR, PaymentKind.ORCHESTRATION, split.aggregator),
            *(Payment(owner, PaymentKind.CONTRIBUTION, wei) for owner, wei in shares),
            Payment(BUYER, PaymentKind.BUYER_RETURN, split.buyer),
            Payment(BUYER, PaymentKind.BOND, BOND),
        ),
        records={"buyer": differing, "aggregator": finished, **dict.fromkeys(OWNERS, finished)},
        weights=list((descent if outcome.model == "trained" else average) * TARGET_SCALE),
        validators=statistics[3:],
        honest=outcome,
    )


def test_a_corrected_result_is_as_designed(corrected: Ended) -> None:
    assert corrected.problems() == []
    assert corrected.honestly(AGGREGATOR) == corrected.received(AGGREGATOR) == ESCROW // 10


def paid(ended: Ended, place: int, wei: int) -> Ended:
    payments = list(ended.payments)
    payments[place] = replace(payments[place], wei=payments[place].wei + wei)
    return replace(ended, payments=tuple(payments))


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda e: replace(e, chain=replace(e.chain, status=Status.FAILED)), "ended FAILED, not FINISHED"),
        (lambda e: replace(e, dispute=None), "nobody disputed"),
        (lambda e: replace(e, dispute=replace(e.dispute, outcome=Outcome.AS_REPORTED)), "the arbiter decided"),
        (lambda e: replace(e, dispute=replace(e.dispute, disputer=OWNERS[0])), "bond did not go back to the disputer"),
        (lambda e: replace(e, records=e.records | {"buyer": {"status": "FAILED", "reason": "x"}}), "buyer has the"),
        (lambda e: replace(e, records=e.records | {"buyer": e.records[OWNERS[0]]}), "nobody's reason says"),
        (lambda e: replace(e, weights=None), "no model of a training that it paid for"),
        (lambda e: replace(e, weights=list(2 * np.array(e.weights))), "paid for an MSE of"),
        (lambda e: paid(e, 0, 1), "wei were credited"),
        (lambda e: paid(paid(e, 1, 1), 2, -1), f"owner {OWNERS[0]} received"),
        (lambda e: paid(paid(e, 0, 10**15), 6, -(10**15)), "the cheater received"),
        (lambda e: paid(paid(e, 7, -1), 6, 1), "bond did not go back"),
        (
            lambda e: replace(e, dispute=replace(e.dispute, outcome=Outcome.REFUND)),
            "the buyer did not get back all that it had paid",
        ),
    ],
)
def test_what_did_not_go_as_designed_is_said(corrected: Ended, spoil: Callable[[Ended], Ended], problem: str) -> None:
    assert any(problem in said for said in spoil(corrected).problems())


def test_what_honesty_pays_is_the_whole_escrow(corrected: Ended) -> None:
    parties = (BUYER, AGGREGATOR, *OWNERS)
    assert sum(corrected.honestly(party) for party in parties) == ESCROW


def test_an_honest_outcome_has_the_errors_of_plaintext_training(statistics: list[GramStatistics]) -> None:
    outcome = honest.honest_outcome(ID, statistics[:3], statistics[3:], HYPER)
    descent = federated_descent(statistics[:3], [1] * 3, HYPER.iterations, HYPER.learning_rate, HYPER.ridge, 1)
    mse = sum(each.mse(descent) for each in statistics[3:]) / 2
    assert outcome.trained_mse == pytest.approx(mse * UNIT)
    assert sum(outcome.contributions) == pytest.approx(outcome.initial_mse - outcome.averaged_mse)
    assert all(outcome.trainers_answered) and all(outcome.validators_answered)


def test_an_unknown_cheat_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(InvalidInput, match="buyer=false-product, .*validator=replays-answer"):
        cheats.find("buyer=runs-away")
