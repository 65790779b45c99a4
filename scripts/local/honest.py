"""What a training comes to when everybody is honest: the result in plaintext, and what it pays."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from commons.chain.training import Result
from commons.learning.contributions import UNIT, coalition_points
from commons.learning.local_steps import FloatArray, federated_descent, local_model, relative_weights
from commons.learning.statistics import GramStatistics
from commons.protocol.messages import HyperParameters
from commons.protocol.outcome import settle

NO_HASH = bytes(32)


def honest_result(
    training_id: uuid.UUID,
    trainers: Sequence[GramStatistics],
    validators: Sequence[GramStatistics],
    hyper: HyperParameters,
) -> Result:
    """Return the result that a training has when everybody answers everything truthfully.

    It has the same MSEs as the encrypted training, up to its rounding (relative 1e-9), and no hashes.

    Parameters
    ----------
    training_id : UUID
        Seeds the sampling of coalitions beyond 16 trainers.
    trainers, validators : sequence of GramStatistics
        In the contract's order, targets divided by the order's scale.
    hyper : HyperParameters
        The order's.
    """
    weights = relative_weights([each.rows for each in trainers], hyper.weighting)
    rounds = hyper.iterations
    trained = federated_descent(trainers, weights, rounds, hyper.learning_rate, hyper.ridge, hyper.local_steps)
    own = [local_model(each, hyper.learning_rate, hyper.ridge, rounds * hyper.local_steps) for each in trainers]

    def mse(model: FloatArray) -> int:
        total = sum(each.rows * each.mse(model) for each in validators)
        return round(total / sum(each.rows for each in validators) * UNIT)

    def combined(coefficients: Sequence[float]) -> FloatArray:
        return sum((c * model for c, model in zip(coefficients, own, strict=True)), start=0 * own[0])

    points = [mse(combined(point)) for point in coalition_points(len(own))]
    averaged = mse(combined([weight / sum(weights) for weight in weights]))
    everybody = range(len(trainers))
    outcome = settle(
        training_id,
        mse(0 * own[0]),
        [mse(trained), averaged, *points],
        weights,
        [everybody] * rounds,
        everybody,
        len(validators),
        range(len(validators)),
    )
    return Result(
        iterations=outcome.iterations,
        initial_mse=outcome.initial_mse,
        final_mse=outcome.final_mse,
        partial_mses=outcome.partial_mses,
        contributions=outcome.contributions,
        trainers_answered=outcome.trainers_answered,
        validators_answered=outcome.validators_answered,
        transcript_root=NO_HASH,
        model_hash=NO_HASH,
    )
