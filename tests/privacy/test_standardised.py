"""What every service saw of a real training of standardised features, beside what it sees of every other."""

from __future__ import annotations

import numpy as np
import pytest

from commons.learning.standardisation import MOMENT_BITS
from commons.learning.statistics import FloatArray
from commons.protocol.messages import Moments, MomentsCosignQuestion, MomentsQuestion, MomentsTotals, Openings
from commons.protocol.round import aggregate
from tests.privacy.fields import FIELDS, moments_of
from tests.privacy.record import Record, int_of
from tests.privacy.test_who_learns_what import require_other_randomness


def features(record: Record, names: tuple[str, ...]) -> FloatArray:
    columns: FloatArray = np.vstack([record.tables[name][:, :-1] for name in names])
    return columns


def test_every_field_of_every_message_is_of_its_kind(standardised: Record) -> None:
    seen = set()
    for exchange in standardised.exchanges:
        for message in filter(None, (exchange.question, exchange.answer)):
            seen.add(type(message))
            for field, check in FIELDS[type(message)].items():
                check(standardised, exchange, getattr(message, field))
    assert seen > {MomentsQuestion, MomentsCosignQuestion, MomentsTotals, Moments}


def test_everybody_receives_of_moments_only_what_its_role_needs(standardised: Record) -> None:
    record = standardised
    for kind, receivers in (
        (MomentsQuestion, record.trainers),
        (MomentsCosignQuestion, record.trainers),
        (Moments, (*record.trainers, *record.validators)),
        (MomentsTotals, ("buyer",)),
    ):
        asked = record.asked(kind)
        assert sorted(e.called for e, _ in asked) == sorted(receivers)
        assert {e.caller for e, _ in asked} == {"aggregator"}


def test_buyer_opens_the_sums_over_all_trainers_and_no_single_ones(standardised: Record) -> None:
    record = standardised
    ((exchange, totals),) = record.asked(MomentsTotals)
    singles = [record.vector(e.answer) for e, _ in record.asked(MomentsQuestion)]
    opened = [e for e in record.uses_of_the_key() if e["endpoint"] == "trainings.open_moments"]
    summed = aggregate(singles, record.public_key)
    assert len(singles) == len(record.trainers) == 3
    assert [e["what"] for e in opened] == ["decrypted", "rooted", "opened"] * len(summed)
    looked_at = {int_of(e["ciphertext"]) for e in record.decryptions()}
    assert not looked_at & {int(c) for single in singles for c in single}
    assert isinstance(exchange.answer, Openings)
    assert [int(t, 16) for t in exchange.answer.totals] == [record.key.decrypt_signed(c) for c in summed]
    require_other_randomness(record, totals.ciphertexts, summed)


def test_opened_sums_are_those_of_the_trainers_rows_but_for_noise(standardised: Record) -> None:
    record = standardised
    ((exchange, totals),) = record.asked(MomentsTotals)
    rows = features(record, record.trainers)
    assert isinstance(exchange.answer, Openings)
    count, *sums = [int(total, 16) for total in exchange.answer.totals]
    exact = np.column_stack([rows.sum(axis=0), (rows**2).sum(axis=0)]).ravel()
    largest = np.column_stack([np.sqrt(len(rows) * (rows**2).sum(axis=0)), (rows**2).sum(axis=0)]).ravel()
    assert count == len(rows)
    distance = np.abs(np.array(sums) / 2.0**MOMENT_BITS - exact) / largest
    assert distance.max() < 2.0**-35
    scaling = moments_of(record).opened(totals, exchange.answer)
    assert scaling.means == pytest.approx(rows.mean(axis=0), abs=1e-9)
    assert scaling.scales == pytest.approx(rows.std(axis=0), rel=1e-7)


def test_model_that_the_user_gets_is_in_the_units_of_the_columns(standardised: Record) -> None:
    record = standardised
    rows = features(record, record.trainers)
    targets = np.concatenate([record.tables[name][:, -1] for name in record.trainers])
    predicted = rows @ record.weights[1:] + record.weights[0]
    # A few steps of 0.1 with centred features: (1 − 0.9^4) of the way to the mean, whatever the features.
    assert predicted.mean() == pytest.approx((1 - 0.9**4) * targets.mean(), rel=1e-6)
    assert np.corrcoef(predicted, targets)[0, 1] > 0.6
