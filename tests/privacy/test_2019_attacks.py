"""The attacks that took a 2019 training apart, on a 2019 training and on the record of one of ours.

Both trainings have the same rows, roles, rounds and evaluations. Each attack succeeds there; here it does no better
than a guess: it explains no more of the truth than a random direction would (`tests.privacy.chance`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pytest
from gmpy2 import mpz

from commons.crypto.packing import FRACTION_BITS, SLOT_BITS, VALUE_BITS, to_fixed
from commons.crypto.paillier import PrivateKey, ShortRandomisers
from commons.learning.contributions import UNIT
from commons.learning.local_steps import local_map
from commons.learning.statistics import FloatArray, GramStatistics
from commons.protocol import evaluation, wire
from commons.protocol.messages import MaskedModels, MaskedRound, ScoreQuestion
from tests.privacy import protocol_2019
from tests.privacy.attacks import affine_map, gradients_from_left_out, rows_from_residuals, sums_from_errors
from tests.privacy.chance import (
    distance_from_uniform,
    recovered,
    tolerated_distance,
    tolerated_excess,
    tolerated_share,
)
from tests.privacy.record import Record


@dataclass(frozen=True)
class Truth:
    """What the attacks are after, in units of the scaled target."""

    rows: FloatArray
    targets: FloatArray
    grams: list[FloatArray]
    moments: list[FloatArray]
    step: tuple[FloatArray, FloatArray]
    validators: GramStatistics


@pytest.fixture(scope="module")
def truth(record: Record) -> Truth:
    rows, targets = zip(*(rows_of(record, name) for name in record.validators), strict=True)
    trainers = [record.statistics(name) for name in record.trainers]
    validators = [record.statistics(name) for name in record.validators]
    maps = [local_map(stats, record.order.hyper_parameters.learning_rate, 0.0, 1) for stats in trainers]
    return Truth(
        rows=np.vstack(rows),
        targets=np.concatenate(targets),
        grams=[stats.gram / stats.rows for stats in trainers],
        moments=[stats.moment / stats.rows for stats in trainers],
        step=(np.mean([matrix for matrix, _ in maps], axis=0), np.mean([offset for _, offset in maps], axis=0)),
        validators=GramStatistics(
            rows=sum(stats.rows for stats in validators),
            gram=np.sum([stats.gram for stats in validators], axis=0),
            moment=np.sum([stats.moment for stats in validators], axis=0),
            target_square=sum(stats.target_square for stats in validators),
        ),
    )


def rows_of(record: Record, owner: str) -> protocol_2019.Rows:
    table = record.tables[owner]
    return np.column_stack([np.ones(len(table)), table[:, :-1]]), table[:, -1] / record.order.target_scale


@pytest.fixture(scope="module")
def then(record: Record) -> protocol_2019.View:
    """What the buyer saw in 2019."""
    hyper = record.order.hyper_parameters
    return protocol_2019.train(
        [rows_of(record, name) for name in record.trainers],
        [rows_of(record, name) for name in record.validators],
        hyper.iterations,
        hyper.learning_rate,
        hyper.evaluation_interval,
        np.random.default_rng(2019),
    )


@dataclass(frozen=True)
class Now:
    """What our buyer sees, as an attacker would write it down.

    Parameters
    ----------
    rounds : list of lists of int
        D of every round that is divided.
    evaluated : list of lists of int
        û of every evaluation on the way.
    settled : list of lists of int
        û of the settlement: of the trained model, the averaged one, the coalition points.
    scale : float
        What the trained models are multiplied by.
    """

    rounds: list[list[int]]
    evaluated: list[list[int]]
    settled: list[list[int]]
    scale: float

    def guess(self, seen: list[list[int]]) -> FloatArray:
        """Return the best guess at the models behind masks: what was seen without the masks' mean."""
        return np.array([[float(mpz(number - (1 << SLOT_BITS - 1))) / self.scale for number in row] for row in seen])


@pytest.fixture(scope="module")
def now(record: Record) -> Now:
    *on_the_way, settlement = (question for _, question in record.asked(MaskedModels))
    return Now(
        rounds=[record.packed(question) for _, question in record.asked(MaskedRound)],
        evaluated=[record.masked(question)[0] for question in on_the_way],
        settled=record.masked(settlement),
        scale=float(record.evaluations[-1].scales[0]),
    )


class TestRowsFromResiduals:
    """Two vectors of residuals and the models that they belong to tell a row's component along their difference."""

    def test_2019_gives_every_row_away(self, then: protocol_2019.View, truth: Truth) -> None:
        rows, targets = rows_from_residuals(then.models, then.shown - then.noise)
        np.testing.assert_allclose(rows, truth.rows, atol=1e-4)
        np.testing.assert_allclose(targets, truth.targets, atol=1e-4)

    def test_ours_gives_none(self, record: Record, now: Now, truth: Truth) -> None:
        """There are no residuals: the nearest to them is their root mean square, one number for all rows."""
        models = now.guess([*now.evaluated, now.settled[0]])
        sizes = np.sqrt([asked.mses[0] / UNIT for asked in record.evaluations[1:]])
        rows, targets = rows_from_residuals(models, np.repeat(sizes[:, None], truth.validators.rows, axis=1))
        mean = truth.rows.mean(axis=0)
        assert recovered(truth.rows, rows, mean) < tolerated_share(truth.rows[:, 1:].size)
        assert recovered(truth.targets, targets, truth.targets.mean()) < tolerated_share(len(targets))
        assert np.sqrt(np.mean((rows - truth.rows) ** 2)) > 0.5 * np.sqrt(np.mean((truth.rows - mean) ** 2))


class TestGramMatrices:
    """Gradients at known models are A w − b; successive models are M w + c."""

    def test_2019_gives_every_trainers_away(self, record: Record, then: protocol_2019.View, truth: Truth) -> None:
        rows, _ = rows_from_residuals(then.models, then.shown - then.noise)
        rate = record.order.hyper_parameters.learning_rate
        gradients = gradients_from_left_out(rows, then.shown[1:], then.left_out, rate)
        before = then.models[1:] + rate * gradients.mean(axis=1)
        for i, (gram, moment) in enumerate(zip(truth.grams, truth.moments, strict=True)):
            found, offset = affine_map(before, gradients[:, i])
            assert np.linalg.norm(found - gram) < 1e-2 * np.linalg.norm(gram)
            assert np.linalg.norm(-offset - moment) < 1e-2 * np.linalg.norm(moment)

    def test_2019_gives_the_common_step_away(self, record: Record, then: protocol_2019.View, truth: Truth) -> None:
        matrix, _ = affine_map(then.models[:-1], then.models[1:])
        steps = np.linalg.matrix_power(truth.step[0], record.order.hyper_parameters.evaluation_interval)
        assert np.linalg.norm(matrix - steps) < 1e-3 * np.linalg.norm(steps)

    def test_ours_gives_no_step(self, now: Now, truth: Truth) -> None:
        models = now.guess(now.rounds)
        matrix, _ = affine_map(models[:-1], models[1:])
        assert recovered(truth.step[0], matrix) < tolerated_share(matrix.size)
        changes, _ = affine_map(models[:-1], np.diff(models, axis=0))
        assert recovered(truth.step[0] - np.eye(len(matrix)), changes) < tolerated_share(matrix.size)

    def test_ours_gives_no_intermediate_model(self, record: Record, now: Now) -> None:
        behind = np.array([[value / now.scale for value in row] for row in record.sums[:-1]])
        seen = now.guess(now.rounds)
        assert recovered(behind, seen) < tolerated_share(behind.size)
        assert recovered(np.diff(behind, axis=0), np.diff(seen, axis=0)) < tolerated_share(behind.size)
        assert np.median(abs(seen - behind)) > 1e6 * np.max(abs(behind))

    def test_ours_gives_no_trainers_model(self, record: Record, now: Now) -> None:
        behind = np.array(record.reals(record.evaluations[-1]))
        assert recovered(behind, now.guess(now.settled)) < tolerated_share(behind.size)

    def test_masks_of_related_models_are_not_related(self, record: Record, now: Now) -> None:
        k = len(record.trainers)
        averaged, *points = (np.array(row, dtype=object) for row in now.settled[1:])
        single, double, pairs = points[:k], points[k : 2 * k], points[2 * k :]
        relations = [two - 2 * one for one, two in zip(single, double, strict=True)]
        relations += [both - sum(ones) for ones, both in zip(combinations(single, 2), pairs, strict=True)]
        relations.append(averaged - sum(single))
        left = np.concatenate(relations)  # of the models nothing: this is the masks' own
        assert min(abs(left)) > 1 << VALUE_BITS + 2
        assert distance_from_uniform([x % (1 << SLOT_BITS) / 2.0**SLOT_BITS for x in left]) < tolerated_distance(
            len(left)
        )


class TestErrors:
    """MSEs of known models are linear equations for the validators' sums of products."""

    def test_2019_has_enough_equations(self, record: Record, then: protocol_2019.View, truth: Truth) -> None:
        rate = record.order.hyper_parameters.learning_rate
        rows, _ = rows_from_residuals(then.models, then.shown - then.noise)
        gradients = gradients_from_left_out(rows, then.shown[1:], then.left_out, rate)
        others = then.models[1:, None, :] + rate * gradients / len(record.trainers)
        models = np.vstack([then.models, others.reshape(-1, record.order.length)])
        residuals = np.vstack([then.shown, then.left_out.reshape(-1, len(then.noise))]) - then.noise
        zero = truth.validators.target_square / truth.validators.rows
        sums, rank = sums_from_errors(models, np.mean(residuals**2, axis=1), zero, truth.validators.rows)
        assert rank > 60 and recovered(sums_of(truth.validators), sums) > 0.9

    def test_ours_has_one(self, record: Record, truth: Truth) -> None:
        """Only the delivered model is known, and that of zero, whose MSE is the targets' alone."""
        place = {"trained": 0, "averaged": 1}[record.delivered]
        mse = record.evaluations[-1].mses[place] / UNIT
        zero = record.evaluations[0].mses[0] / UNIT
        model = record.weights / record.order.target_scale
        sums, rank = sums_from_errors(model[None, :], [mse], zero, truth.validators.rows)
        assert rank == 1 and len(sums) == 76
        assert recovered(sums_of(truth.validators), sums) < tolerated_share(len(sums))


class TestNoise:
    """2019 hid everything behind one small vector, and then showed it. Here every vector has masks of its own."""

    def test_2019_noise_falls_out_of_differences(self, then: protocol_2019.View, truth: Truth) -> None:
        changes = np.diff(then.shown, axis=0)
        np.testing.assert_allclose(changes, np.diff(then.models, axis=0) @ truth.rows.T, atol=1e-12)

    def test_our_masks_do_not(self, now: Now) -> None:
        vectors = [*now.rounds, *now.evaluated, *now.settled]
        differences = [a - b for one, other in combinations(vectors, 2) for a, b in zip(one, other, strict=True)]
        # With one mask for two vectors the difference would be the models', of at most 121 bits.
        assert len(differences) > 30_000 and min(map(abs, differences)) > 1 << VALUE_BITS + 2

    def test_a_model_that_is_masked_twice_shows_nothing(self, record: Record, now: Now) -> None:
        """The sum of an evaluated round goes to the buyer for its products, and to be divided."""
        hyper = record.order.hyper_parameters
        twice = zip(now.rounds[hyper.evaluation_interval - 1 :: hyper.evaluation_interval], now.evaluated, strict=True)
        differences = [a - b for one, other in twice for a, b in zip(one, other, strict=True)]
        fractions = [difference % (1 << SLOT_BITS) / 2.0**SLOT_BITS for difference in differences]
        assert len(fractions) > 200 and distance_from_uniform(fractions) < tolerated_distance(len(fractions))


class TestDelivery:
    """The quotients that unmask the delivered model say nothing of what it was before it was divided."""

    def test_whole_masks_would_give_the_numbers_themselves_away(self, record: Record, now: Now) -> None:
        (question,) = {q.masks for _, q in record.asked(ScoreQuestion) if q.kind == "settlement"}
        masks = wire.decode_masks(question, sum(map(len, now.settled)))
        unmasked = [a - b for a, b in zip(wire.join(now.settled), masks, strict=True)]
        assert unmasked == wire.join([record.plain(model) for model in record.evaluations[-1].models])

    def test_quotients_leave_the_remainders_uniform(self, record: Record, now: Now) -> None:
        divisor = len(record.trainers) << FRACTION_BITS
        behind = wire.join([record.plain(model) for asked in record.evaluations[1:] for model in asked.models])
        seen = wire.join([*now.evaluated, *now.settled])
        truths, guesses = ([value % divisor / divisor for value in values] for values in (behind, seen))
        assert recovered(truths, guesses, 0.5) < tolerated_share(len(truths))
        remainders = [(a - b) % divisor / divisor for a, b in zip(seen, behind, strict=True)]
        assert distance_from_uniform(remainders) < tolerated_distance(len(remainders))


class TestLowDigits:
    """A total has some 200 bits, of which 2^−36 and more are an error, and the rest would tell of single entries."""

    def test_recorded_totals_end_in_nothing(self, record: Record) -> None:
        fractions = []
        for asked in record.evaluations:
            for total, scale in zip(asked.totals, asked.scales or [1 << FRACTION_BITS // 2], strict=True):
                width = 2 * (scale**2 << FRACTION_BITS >> evaluation.NOISE_BITS) + 1
                fractions.append(total % width / width)
        assert len(fractions) > 30 and distance_from_uniform(fractions) < tolerated_distance(len(fractions))

    def test_without_noise_a_total_tells_a_unit_of_one_entry(self, duel: Duel) -> None:
        assert duel.total(0, noise=False) == duel.total(0, noise=False) != duel.total(1, noise=False)

    def test_with_noise_it_does_not(self, duel: Duel) -> None:
        """To someone who knows the model exactly, and all of a validator's sums but for that unit of that entry."""
        low, high = sorted(duel.total(which, noise=False) for which in (0, 1))
        larger = int(duel.total(1, noise=False) == high)
        advantage = (high - low) / (2 * (1 << 4 * FRACTION_BITS + FRACTION_BITS - evaluation.NOISE_BITS))
        count, random = 1_000, np.random.default_rng(36)
        truths = random.integers(0, 2, count)
        guesses = [larger if 2 * duel.total(which, noise=True) > low + high else 1 - larger for which in truths]
        assert advantage < 0.1
        assert np.mean(np.array(guesses) == truths) < 0.5 + advantage / 2 + tolerated_excess(count) / count


class Duel:
    """One of two validators scores a model: their sums differ by one unit, 2^−40, of one entry."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        random = np.random.default_rng(7)
        features = np.column_stack([np.ones(50), random.uniform(-1, 1, (50, 2))])
        targets = random.uniform(-1, 1, 50)
        gram, unit = features.T @ features, np.zeros((3, 3))
        unit[1, 1] = 2.0**-FRACTION_BITS
        self._validators = [
            GramStatistics(50, matrix, features.T @ targets, float(targets @ targets)) for matrix in (gram, gram + unit)
        ]
        self._key = PrivateKey.generate(768)
        self._randomisers = ShortRandomisers(self._key.public_key)
        self._masks = [1 << VALUE_BITS] * 3
        opened = [
            to_fixed(w, evaluation.VECTOR_BITS) + mask for w, mask in zip((0.3, 0.7, -0.2), self._masks, strict=True)
        ]
        self._masked = self._key.encrypt(opened)
        (self._products,) = evaluation.products([opened], self._key)

    def total(self, which: int, *, noise: bool) -> int:
        with self._monkeypatch.context() as context:
            if not noise:
                context.setattr(evaluation, "_noise", lambda bound: 0)
            stats, public_key = self._validators[which], self._key.public_key
            score = evaluation.score(stats, 1, self._masked, self._products, self._masks, public_key, self._randomisers)
        return self._key.decrypt_signed(score)


@pytest.fixture
def duel(monkeypatch: pytest.MonkeyPatch) -> Duel:
    return Duel(monkeypatch)


def sums_of(stats: GramStatistics) -> FloatArray:
    """Return a validator's sums in the order of `tests.privacy.attacks.quadratic_terms`."""
    upper = np.triu_indices(len(stats.moment))
    return np.concatenate([stats.gram[upper][1:], stats.moment])
