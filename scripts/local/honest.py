"""What a training comes to when everybody is honest, computed in plaintext, and what that pays."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from commons.chain.settlement import Split, result_of
from commons.chain.settlement import settle as split_escrow
from commons.learning.contributions import UNIT, coalition_points
from commons.learning.local_steps import federated_descent, local_model, relative_weights
from commons.learning.statistics import FloatArray, GramStatistics
from commons.protocol.messages import HyperParameters
from commons.protocol.outcome import Outcome, settle

NO_HASH = bytes(32)


def honest_outcome(
    training_id: uuid.UUID,
    trainers: Sequence[GramStatistics],
    validators: Sequence[GramStatistics],
    hyper: HyperParameters,
) -> Outcome:
    """Return what a training comes to when everybody answers everything truthfully.

    Its MSEs are those of the encrypted training up to noise and rounding (a relative 1e-9).

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
    return settle(
        training_id,
        mse(0 * own[0]),
        [mse(trained), averaged, *points],
        weights,
        [everybody] * rounds,
        everybody,
        len(validators),
        range(len(validators)),
    )


def payments(escrow: int, fixed_share: int, outcome: Outcome) -> Split:
    """Return what the contract pays for an outcome.

    Parameters
    ----------
    escrow : int
        Wei.
    fixed_share : int
        Part of the trainers' money that does not depend on improvement, in 1e-18 units.
    outcome : Outcome
    """
    result = result_of(outcome, NO_HASH, NO_HASH)
    return split_escrow(escrow, fixed_share, result)
