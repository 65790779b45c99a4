"""Of trainers' moments the buyer opens one sum, which three or more signed; its model is in the columns' units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commons.chain.marketplace import Status as ChainStatus
from commons.errors import Conflict, InvalidInput, VerificationFailed
from commons.learning.standardisation import MOMENT_BITS, Scaling, moments, scaling_of
from commons.protocol.messages import MomentsTotals, Openings
from commons.protocol.moments import statement_of_totals
from commons.protocol.signed import Signed
from model_buyer.settlement import NotOpened
from tests.unit.learning.tables import random_owner
from tests.unit.model_buyer.scene import (
    AGGREGATOR,
    BUYER,
    DOMAIN,
    OWNERS,
    ROWS,
    TRAINERS,
    Scene,
    Secrets,
    reported,
    signer,
)


@pytest.fixture
def scene(tmp_path: Path, own_secrets: Secrets) -> Iterator[Scene]:
    made = Scene(tmp_path, own_secrets, standardises=True)
    yield made
    made.close()


TABLES = [random_owner(rows, 3, seed=rows + place) for place, rows in enumerate(ROWS[:3])]
VALUES = [sum(numbers) for numbers in zip(*map(moments, TABLES), strict=True)]
SCALING = scaling_of(VALUES, sum(ROWS[:3]), 5.0)


def totals(
    scene: Scene, values: Sequence[int] = VALUES, places: tuple[int, ...] = TRAINERS, **changed: Any
) -> MomentsTotals:
    unsigned = MomentsTotals(
        training=scene.id,
        question=bytes(32),
        trainers=places,
        ciphertexts=scene.key.encode(scene.secrets.key.encrypt(values)),
        cosignatures=(),
    )
    statement = statement_of_totals(unsigned)
    signatures = tuple(signer(OWNERS[place]).sign(statement).signature for place in places)
    return unsigned.model_copy(update={"cosignatures": signatures, **changed})


def ask(scene: Scene, question: MomentsTotals) -> Signed:
    return scene.answering.open_moments(question, scene.sign(question))


def test_signed_sums_are_opened_with_proof_and_the_same_again_after_a_restart(scene: Scene) -> None:
    question = totals(scene)
    asked: Signed = scene.sign(question)
    answer = scene.answering.open_moments(question, asked)
    said = answer.verified(Openings, DOMAIN, BUYER.address, asked)
    assert [int(total, 16) for total in said.totals] == VALUES
    assert scene.answering.desk(scene.id).moments.opened(question, said) == SCALING
    scene.start()
    assert scene.answering.open_moments(question, asked) == answer


def test_a_second_sum_is_not_opened(scene: Scene) -> None:
    ask(scene, totals(scene))
    with pytest.raises(Conflict, match="already been answered another open-moments 0"):
        ask(scene, totals(scene))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"places": (0, 1)}, "trainers: at least 3 are needed"),
        ({"places": (0, 1), "trainers": (0, 1, 1)}, "trainers: must be different places"),
        ({"cosignatures": ()}, "0 owners signed, and 3 are said to have answered"),
        ({"question": b"\x01" * 32}, "was claimed, and its signature gives"),
        ({"ciphertexts": b""}, "0 bytes instead of 5 ciphertexts"),
        ({"values": VALUES[:3]}, "instead of 5 ciphertexts"),
    ],
    ids=("two trainers", "a trainer twice", "unsigned", "another question", "no ciphertexts", "too few ciphertexts"),
)
def test_what_is_not_signed_by_three_trainers_stays_closed_and_another_may_follow(
    scene: Scene, changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises((InvalidInput, VerificationFailed), match=reason):
        ask(scene, totals(scene, **changed))
    ask(scene, totals(scene))


@pytest.mark.parametrize(
    "values",
    [
        [VALUES[0] + 1, *VALUES[1:]],
        [VALUES[0], 1 << MOMENT_BITS + 200, *VALUES[2:]],
        [*VALUES[:2], -1, *VALUES[3:]],
        [*VALUES[:4], 5 * 5 * 41 << MOMENT_BITS],
    ],
)
def test_sums_that_no_rows_have_stay_closed_and_nothing_else_is_looked_at_then(scene: Scene, values: list[int]) -> None:
    # A trainer could put into its answer whatever else the aggregator would like to have decrypted.
    with pytest.raises(VerificationFailed) as refusal:
        ask(scene, totals(scene, values))
    assert str(refusal.value).endswith("stay closed: no rows in the order's range have such sums")
    assert scene.model.reason == str(refusal.value)
    with pytest.raises(Conflict, match="was asked another open-moments 0 before"):
        ask(scene, totals(scene))


def test_nothing_is_opened_that_is_not_ordered(tmp_path: Path, own_secrets: Secrets) -> None:
    scene = Scene(tmp_path, own_secrets)
    with pytest.raises(InvalidInput, match="the order has no pre_processing"):
        ask(scene, totals(scene))
    scene.close()


def test_no_moments_are_opened_once_the_training_is_settled(scene: Scene) -> None:
    scene.evaluate("zero")
    scene.masked_round()
    models = scene.masked_models("settlement")
    scene.multiply(models)
    with pytest.raises(Conflict, match="is being settled"):
        ask(scene, totals(scene))


def test_delivered_model_is_in_the_units_of_the_columns(scene: Scene) -> None:
    ask(scene, totals(scene))
    outcome = scene.run()
    scene.market.report(reported(outcome))
    scene.settlement.receive(scene.delivery(outcome.model), AGGREGATOR.address)
    intercept, *coefficients = scene.weights(outcome.model)
    means, scales = np.array(SCALING.means), np.array(SCALING.scales)
    expected = np.array(coefficients) / scales
    assert scene.model.weights == pytest.approx([intercept - expected @ means, *expected], abs=1e-11)
    assert Scaling((0.0, 0.0), (1.0, 1.0)) != SCALING


def test_model_whose_moments_were_not_opened_is_not_taken(scene: Scene) -> None:
    outcome = scene.run()
    scene.market.report(reported(outcome))
    assert scene.market.status == ChainStatus.REPORTED
    with pytest.raises(NotOpened, match="has no open-moments 0 yet"):
        scene.settlement.receive(scene.delivery(outcome.model), AGGREGATOR.address)
    assert scene.model.weights is None
