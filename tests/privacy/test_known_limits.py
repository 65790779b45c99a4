"""What is *not* hidden, as docs/threat-model.md says: a collusion with the key reads ciphertexts, orders add up."""

from __future__ import annotations

import numpy as np
import pytest
from gmpy2 import invert

from commons.crypto.packing import to_fixed
from commons.crypto.paillier import PrivateKey
from commons.learning.contributions import UNIT
from commons.learning.local_steps import federated_descent, local_map
from commons.learning.standardisation import MOMENT_BITS, moments, scaling_of
from commons.learning.statistics import FloatArray, TableStatistics
from commons.protocol import wire
from commons.protocol.evaluation import NOISE_BITS, mse_of_total
from commons.protocol.messages import (
    CosignQuestion,
    Moments,
    MomentsCosignQuestion,
    RoundQuestion,
    ScoreQuestion,
    Vector,
)
from commons.protocol.round import aggregate
from commons.protocol.transcript import Round
from scripts.local import diabetes
from tests.integration.conftest import Town
from tests.privacy.attacks import ComplexArray, affine_map, fit, learning_curve
from tests.privacy.chance import recovered
from tests.privacy.record import Record
from tests.transcripts import saved
from tests.unit.learning.tables import random_owner


def test_a_buyer_with_the_aggregator_takes_every_trainers_gram_matrix(record: Record) -> None:
    trainer, hyper = record.trainers[0], record.order.hyper_parameters
    answers = [record.vector(e.answer) for e, _ in record.asked(RoundQuestion) if e.called == trainer]
    updates = np.array([[value / 2**80 for value in record.plain(answer)] for answer in answers])
    scale = len(record.trainers) << 80
    models = np.array([[0.0] * record.order.length, *([v / scale for v in values] for values in record.sums[:-1])])
    found, _ = affine_map(models, updates)
    step, _ = local_map(record.statistics(trainer), hyper.learning_rate, hyper.ridge, hyper.local_steps)
    assert recovered(step, found, np.eye(len(step))) > 0.99


def test_a_buyer_with_a_validator_reads_every_evaluated_model(record: Record) -> None:
    questions = {q.round: q for _, q in record.asked(ScoreQuestion) if q.kind == "iteration"}
    for asked in record.evaluations[1:-1]:
        masks = wire.decode_masks(questions[asked.round].masks, record.order.length)
        masked = record.decrypt(questions[asked.round].masked)
        assert [a - b for a, b in zip(masked, masks, strict=True)] == record.plain(asked.models[0])


def test_a_buyer_with_a_validator_reads_every_validators_error(record: Record) -> None:
    """What all of them answered is shown to each, so that it signs no sum that one is missing from."""
    for exchange, question in record.asked(CosignQuestion):
        if exchange.called == record.validators[0] and question.kind == "iteration":
            (asked,) = (each for each in record.evaluations if (each.kind, each.round) == ("iteration", question.round))
            (model,) = record.reals(asked)
            for answer, name in zip(question.answers, record.validators, strict=True):
                owner = record.statistics(name)
                (total,) = record.decrypt(Vector.unpack(answer.content).ciphertexts)
                assert mse_of_total(total, len(record.trainers), owner.rows) / UNIT == pytest.approx(owner.mse(model))


def test_a_buyer_with_the_arbiter_takes_every_trainers_gram_matrix(recorded_town: Town, record: Record) -> None:
    """The transcript has every trainer's updates: it is for the arbiter of a dispute, who has to be trusted with it."""
    hyper = record.order.hyper_parameters
    transcript = saved(recorded_town.platform, str(record.training))
    rounds = [transcript.records["round", round_] for round_ in range(hyper.iterations)]
    scale = len(record.trainers) << 80
    models = np.array([[0.0] * record.order.length, *([v / scale for v in values] for values in record.sums[:-1])])
    for place, name in enumerate(record.trainers):
        vectors = [Vector.unpack(each.answers[place].content) for each in rounds if isinstance(each, Round)]
        updates = np.array([[value / 2**80 for value in record.plain(record.vector(each))] for each in vectors])
        found, _ = affine_map(models, updates)
        step, _ = local_map(record.statistics(name), hyper.learning_rate, hyper.ridge, hyper.local_steps)
        assert recovered(step, found, np.eye(len(step))) > 0.99


def test_a_buyer_with_a_trainer_reads_every_rounds_model(record: Record) -> None:
    _, question = record.asked(RoundQuestion)[-1]
    divisor = len(record.trainers) << 40
    read = record.decrypt(question.model)
    assert all(0 <= r - s // divisor <= 1 for r, s in zip(read, record.sums[question.round - 1], strict=True))


def test_a_buyer_with_a_trainer_reads_every_trainers_moments(standardised: Record) -> None:
    """What all of them answered is shown to each, so that it signs no sum that one is missing from."""
    last = standardised.trainers[-1]
    (question,) = (q for exchange, q in standardised.asked(MomentsCosignQuestion) if exchange.called == last)
    for answer, name in zip(question.answers, standardised.trainers, strict=True):
        table = standardised.tables[name][:, :-1]
        rows, *sums = standardised.decrypt(Vector.unpack(answer.content).ciphertexts)
        assert rows == len(table)
        assert [total / 2**MOMENT_BITS for total in sums[1::2]] == pytest.approx((table**2).sum(axis=0))


def test_an_aggregator_with_a_trainer_has_one_owners_moments_opened() -> None:
    """The trainer that is shown another's ciphertexts before it answers cancels them: what is left passes for a sum."""
    key = PrivateKey.generate(1024)
    victim, other, _ = (random_owner(rows, 3, seed=rows) for rows in (40, 50, 60))
    first, second = key.encrypt(moments(victim)), key.encrypt(moments(other))
    declared = key.encrypt([60])
    answer = declared + [invert(ciphertext, key.public_key.n_squared) for ciphertext in second[1:]]
    opened = [key.decrypt_signed(total) for total in aggregate([first, second, answer], key.public_key)]
    scaling_of(opened, 150, 10.0)  # as the buyer does before it shows them
    assert [value / 2**MOMENT_BITS for value in opened[1::2]] == pytest.approx(victim.gram[0, 1:], rel=1e-6)
    assert [value / 2**MOMENT_BITS for value in opened[2::2]] == pytest.approx(victim.gram.diagonal()[1:], rel=1e-6)


def test_a_trainer_of_three_subtracts_its_own_moments_and_two_of_them_the_others(standardised: Record) -> None:
    record = standardised
    (told,) = {q.totals for _, q in record.asked(Moments)}
    own = [sum(values) for values in zip(*(moments(record.statistics(n)) for n in record.trainers[:2]), strict=True)]
    left = [int(total, 16) - value for total, value in zip(told, own, strict=True)]
    third = record.statistics(record.trainers[2])
    assert left[0] == third.rows
    assert [value / 2**MOMENT_BITS for value in left[2::2]] == pytest.approx(third.gram.diagonal()[1:], rel=1e-8)


def test_orders_with_different_trainers_tell_the_difference_between_them(record: Record) -> None:
    """Five orders of a single round, each with another owner as validator: five sums of four owners' moments."""
    owners = [record.statistics(name) for name in record.tables]
    models = [
        federated_descent([owner for owner in owners if owner is not validator], [1] * 4, 1, 1.5, 0.0, 1)
        for validator in owners
    ]
    delivered = np.array([[to_fixed(weight) / 2**40 for weight in model] for model in models])
    moments = np.linalg.solve(1 - np.eye(5), delivered * 4 / 1.5)
    for owner, moment in zip(owners, moments, strict=True):
        np.testing.assert_allclose(moment, owner.moment / owner.rows, atol=1e-11)


@pytest.fixture(scope="module")
def one_feature(record: Record) -> tuple[FloatArray, FloatArray, float]:
    """The means of x, x², y and xy over four owners' rows and over the fifth's, and the latter's of y², for one x."""
    tables = [TableStatistics.accumulate([table], diabetes.COLUMNS) for table in record.tables.values()]
    *trainers, validator = (table.select(["bmi"], "target", record.order.target_scale) for table in tables)
    means = [np.array([s.gram[0, 1], s.gram[1, 1], *s.moment]) / s.rows for s in (*trainers, validator)]
    return np.mean(means[:-1], axis=0), means[-1], validator.target_square / validator.rows


def test_of_one_feature_a_buyer_takes_all_sums_from_the_learning_curve(
    one_feature: tuple[FloatArray, FloatArray, float],
) -> None:
    """From the 20 errors of an order of 100 rounds, and the model, if it is the trained one."""
    trainers, validator, targets = one_feature
    errors, model = (values.real for values in learning_curve(trainers, validator, targets, 1.5, 100))
    seen = errors[4::5] + np.random.default_rng(1).uniform(-1, 1, 20) * 2.0**-NOISE_BITS / 50

    def residuals(sums: ComplexArray) -> ComplexArray:
        curve, last = learning_curve(sums[:4], sums[4:], targets, 1.5, 100)
        return np.concatenate([curve[4::5] - seen, last - model])

    found = fit(residuals, np.tile([0, 0.1, model[0], 0.1 * model[1]], 2))
    np.testing.assert_allclose(found, [*trainers, *validator], atol=1e-5)


def test_of_one_feature_a_sole_validator_takes_the_model_from_the_learning_curve(
    one_feature: tuple[FloatArray, FloatArray, float],
) -> None:
    """From its own sums and 100 public errors: then it has the trainers' mean sums, too."""
    trainers, validator, targets = one_feature
    errors, model = (values.real for values in learning_curve(trainers, validator, targets, 1.5, 100))
    seen = errors + np.random.default_rng(2).uniform(-1, 1, 100) * 2.0**-NOISE_BITS / 50
    found = fit(lambda sums: learning_curve(sums, validator, targets, 1.5, 100)[0] - seen, validator)
    np.testing.assert_allclose(found, trainers, atol=1e-8)
    np.testing.assert_allclose(learning_curve(found, validator, targets, 1.5, 100)[1].real, model, atol=1e-8)


def test_one_error_of_a_known_model_tells_three_sums_of_few_values() -> None:
    """One feature of zeros and ones, one validator, whole targets: eleven digits are enough to try all sums."""
    random = np.random.default_rng(11)
    feature, target = random.integers(0, 2, 50), random.integers(25, 347, 50)
    model = np.array([to_fixed(weight) / 2**40 for weight in (0.2871, 0.1324)])
    scale = 512
    residuals = model[0] + model[1] * feature - target / scale
    total = float(residuals @ residuals) + random.uniform(-1, 1) * 2.0**-NOISE_BITS
    zero = float(target @ target) / scale**2
    ones, products = np.meshgrid(np.arange(51), np.arange(50 * 346), indexing="ij")
    rest = total - zero - model[0] ** 2 * 50 - ones * (2 * model[0] * model[1] + model[1] ** 2)
    sums = -(rest * scale / 2 + model[1] * products) / model[0]
    gap = abs(sums - np.round(sums))
    possible = (ones > 0) & (products <= 346 * ones) & (products >= 25 * ones) & (sums >= products) & (sums <= 50 * 346)
    best = np.unravel_index(np.argmin(np.where(possible, gap, 1)), gap.shape)
    assert (ones[best], round(sums[best]), products[best]) == (feature.sum(), target.sum(), feature @ target)
