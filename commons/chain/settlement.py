"""How the escrow of one training is split: the mirror of ``contracts/Settlement.sol``, in integers.

Every division rounds down, and what is not paid out goes back to the buyer: so do the dust and the parts of
parties that did not answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from commons.chain.training import WHOLE, Result
from commons.protocol.outcome import Outcome


@dataclass(frozen=True)
class Split:
    """Wei per party; they add up to the escrow."""

    aggregator: int
    trainers: tuple[int, ...]
    validators: tuple[int, ...]
    buyer: int


def result_of(outcome: Outcome, transcript_root: bytes, model_hash: bytes) -> Result:
    """Return what a training came to as the contract records it.

    Parameters
    ----------
    outcome : Outcome
    transcript_root, model_hash : bytes
        32 bytes each.
    """
    return Result(
        iterations=outcome.iterations,
        initial_mse=outcome.initial_mse,
        final_mse=outcome.final_mse,
        partial_mses=outcome.partial_mses,
        contributions=outcome.contributions,
        trainers_answered=outcome.trainers_answered,
        validators_answered=outcome.validators_answered,
        transcript_root=transcript_root,
        model_hash=model_hash,
    )


def trainer_count(owners: int, validator_share: int) -> int:
    """Count the trainers among the owners: ⌊(1 − validator share)·owners + ½⌋.

    Parameters
    ----------
    owners : int
        At least 3.
    validator_share : int
        In 1e-18 units.

    Returns
    -------
    int
        At least 2, and at most all owners but one.
    """
    rounded = (owners * (WHOLE - validator_share) + WHOLE // 2) // WHOLE
    return min(max(rounded, 2), owners - 1)


def improvement(initial_mse: int, final_mse: int) -> int:
    """Compare two MSEs: max(0, (initial − final) / initial), and 0 when the zero model is perfect.

    Parameters
    ----------
    initial_mse, final_mse : int
        In the same unit.

    Returns
    -------
    int
        In 1e-18 units.
    """
    return (initial_mse - final_mse) * WHOLE // initial_mse if final_mse < initial_mse else 0


def contribution_shares(contributions: Sequence[int]) -> tuple[int, ...]:
    """Divide the reward among the trainers; equal parts when nobody contributed.

    Parameters
    ----------
    contributions : sequence of int
        Shapley values, floored at 0.

    Returns
    -------
    tuple of int
        In 1e-18 units, each rounded down.
    """
    total = sum(contributions)
    if total == 0:
        return (WHOLE // len(contributions),) * len(contributions)
    return tuple(value * WHOLE // total for value in contributions)


def trainer_part(escrow: int, fixed_share: int, trainers: int, improved: int, share: int) -> int:
    """Return what one of so many trainers gets if it answered, in wei.

    Parameters
    ----------
    escrow : int
        Wei.
    fixed_share, improved, share : int
        Of the order, of the result, and the trainer's of the reward, in 1e-18 units.
    trainers : int
        How many there are.
    """
    money = escrow * 70 // 100
    fixed = money * fixed_share // WHOLE
    reward = (money - fixed) * improved // WHOLE
    return fixed // trainers + reward * share // WHOLE


def validator_part(escrow: int, validators: int) -> int:
    """Return what one of so many validators gets if it answered, in wei."""
    return escrow * 20 // 100 // validators


def settle(escrow: int, fixed_share: int, result: Result) -> Split:
    """Split an escrow by a result.

    Parameters
    ----------
    escrow : int
        Wei.
    fixed_share : int
        Part of the trainers' money that does not depend on improvement, in 1e-18 units.
    result : Result
        Improvement, contributions, and who answered.

    Returns
    -------
    Split
        What the contract credits, to the wei.
    """
    improved = improvement(result.initial_mse, result.final_mse)
    shares = contribution_shares(result.contributions)
    trainers = tuple(
        trainer_part(escrow, fixed_share, len(shares), improved, share) if answered else 0
        for share, answered in zip(shares, result.trainers_answered, strict=True)
    )
    part = validator_part(escrow, len(result.validators_answered))
    validators = tuple(part if answered else 0 for answered in result.validators_answered)
    aggregator = escrow * 10 // 100
    return Split(aggregator, trainers, validators, escrow - aggregator - sum(trainers) - sum(validators))


@dataclass(frozen=True)
class Prospects:
    """The least and the most wei that one owner that answers can earn in a training, in each of the roles."""

    trainer: tuple[int, int]
    validator: tuple[int, int]


def prospects(escrow: int, fixed_share: int, validator_share: int, owners: tuple[int, int]) -> Prospects:
    """Say between which bounds :func:`settle` pays an owner that answers, before the roles are drawn.

    Parameters
    ----------
    escrow : int
        Wei.
    fixed_share, validator_share : int
        Of the order, in 1e-18 units.
    owners : tuple of int
        How few and how many may take part, the latter at least the former.

    Returns
    -------
    Prospects
        A trainer's least is its fixed part; its most is with the whole reward, for a perfect model that is due to it
        alone.
    """
    fewest, most = ((trainers := trainer_count(count, validator_share), count - trainers) for count in owners)
    return Prospects(
        trainer=(
            trainer_part(escrow, fixed_share, most[0], 0, 0),
            trainer_part(escrow, fixed_share, fewest[0], WHOLE, WHOLE),
        ),
        validator=(validator_part(escrow, most[1]), validator_part(escrow, fewest[1])),
    )
