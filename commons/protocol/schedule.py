"""Which questions an order gives rise to: what the buyer and the validators answer, and no others.

Both check the same. A validator that scored whatever it is sent would answer without noise for a factor of 0, and
once more, with fresh noise, for every round that nobody evaluates; a buyer that opened the results would read them out.
"""

from __future__ import annotations

from collections.abc import Sequence

from commons.errors import InvalidInput
from commons.protocol.messages import HyperParameters, MaskedModels, ScoreQuestion, TotalStatement
from commons.protocol.outcome import factors

MINIMUM_SUMMED = 2
"""Models of fewer owners than this are not summed: a sum of one is that owner's."""


def require_places(places: Sequence[int], count: int, field: str, minimum: int) -> Sequence[int]:
    """Return `places`; InvalidInput unless they are at least `minimum` different ones below `count`, ascending."""
    if list(places) != sorted(set(places)) or not all(0 <= place < count for place in places):
        raise InvalidInput(f"must be different places from 0 to {count - 1} in ascending order", field)
    if len(places) < minimum:
        raise InvalidInput(f"at least {minimum} are needed", field)
    return places


def least_contributors(trainers: int) -> int:
    """Return how many local models a settlement needs: more than half, so that a few cannot share everything."""
    return max(MINIMUM_SUMMED, trainers // 2 + 1)


def require_zero_round(round_: int) -> None:
    """Raise InvalidInput unless the zero model is scored in that round: 0 for the start, 1 for the end."""
    if round_ > 1:
        raise InvalidInput("the zero model is scored at the start, and once more at the end", "round")


def has_converged(mses: Sequence[int], tolerance: float) -> bool:
    """Say whether training stops: the last two errors differ by less than the tolerance, relative to the one before.

    Parameters
    ----------
    mses : sequence of int
        Of the zero model and all evaluations so far, by rounds. Of these at least two are needed: one that is as bad as
        the zero model has not come to rest, it has not begun.
    tolerance : float
        The order's; 0 is never.
    """
    if not tolerance or len(mses) < 3:
        return False
    before, last = mses[-2:]
    return abs(before - last) < tolerance * before


def scales(
    question: MaskedModels | ScoreQuestion | TotalStatement, hyper: HyperParameters, weights: Sequence[int]
) -> tuple[int, ...]:
    """Return the factor of every vector that an evaluation of the order has.

    Parameters
    ----------
    question : MaskedModels or ScoreQuestion or TotalStatement
        About one model after some of the rounds, or about all models of the settlement.
    hyper : HyperParameters
        The order's.
    weights : sequence of int
        Averaging weight a_i of every trainer of the training.

    Raises
    ------
    InvalidInput
        The order has no such evaluation, or no such trainers.
    """
    settlement = question.kind == "settlement"
    if question.kind == "zero":
        raise InvalidInput("the zero model is not masked", "kind")
    if not 1 <= question.round <= hyper.iterations:
        raise InvalidInput(f"must be from 1 to {hyper.iterations}", "round")
    if not settlement and (question.round % hyper.evaluation_interval or question.round == hyper.iterations):
        raise InvalidInput(
            f"the order evaluates every {hyper.evaluation_interval} rounds, and the last one at the settlement", "round"
        )
    if settlement and question.round < hyper.iterations and not hyper.tolerance:
        raise InvalidInput(f"the order has no tolerance: it is settled after {hyper.iterations} rounds", "round")
    trainers = require_places(question.trainers, len(weights), "trainers", MINIMUM_SUMMED)
    contributors = require_places(
        question.contributors,
        len(weights) if settlement else 0,
        "contributors",
        least_contributors(len(weights)) if settlement else 0,
    )
    return factors(question.kind, weights, trainers, contributors)
