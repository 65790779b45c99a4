"""From opened MSEs to the result that both sides put their name to.

The aggregator and the buyer call the same functions on the same integers, so that their results are equal or one of
them deviates (protocol: Contributions, Settlement).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gmpy2 import mpz

from commons.crypto.kernel import linear_combination
from commons.crypto.packing import SLOT_BITS, slots
from commons.crypto.paillier import PublicKey
from commons.learning.contributions import coalition_points, contributions
from commons.protocol.messages import EvaluationKind

ANSWERED_SHARE = (4, 5)
"""A trainer that answered less than this part of its rounds is not paid."""


def factors(
    kind: EvaluationKind, weights: Sequence[int], trainers: Sequence[int], contributors: Sequence[int]
) -> tuple[int, ...]:
    """Return the factor of every vector of an evaluation: what its model is multiplied by, besides 2^80.

    Parameters
    ----------
    kind : str
        ``zero`` has no vector, ``iteration`` one, ``settlement`` the trained model, the averaged one and the points.
    weights : sequence of int
        Averaging weight a_i of every trainer of the training.
    trainers, contributors : sequence of int
        Places of those in the trained model, and of those who sent a local model.
    """
    if kind == "zero":
        return ()
    trained = sum(weights[i] for i in trainers)
    if kind == "iteration":
        return (trained,)
    averaged = sum(weights[i] for i in contributors)
    return (trained, averaged, *(1 for _ in coalition_points(len(contributors))))


def settlement_vectors(
    trained: list[mpz], local_models: Sequence[list[mpz]], weights: Sequence[int], key: PublicKey
) -> list[list[mpz]]:
    """Return the encrypted models that are scored at the end.

    Parameters
    ----------
    trained : list of d ciphertexts
        The last round's aggregate, at scale 2F times its factor.
    local_models : sequence of lists of d ciphertexts
        Every contributor's local model, at scale 2F.
    weights : sequence of int
        Averaging weights a_i of the contributors.
    key : PublicKey

    Returns
    -------
    list
        The trained model, the weighted sum of the local ones, and their sums at every coalition point.
    """
    points = coalition_points(len(local_models))
    return [trained, *(averaged_model(local_models, coefficients, key) for coefficients in (weights, *points))]


def settlement_count(trainers: int) -> int:
    """Return how many models are scored at the end when that many trainers send one: :func:`settlement_vectors`."""
    return 2 + 2 * trainers + trainers * (trainers - 1) // 2


def settlement_bytes(length: int, trainers: int, key_bits: int) -> int:
    """Return the size of the largest message of a training: the settlement's models, as validators are asked.

    Parameters
    ----------
    length : int
        Length d of a model.
    trainers : int
        How many there are.
    key_bits : int
        Length of the Paillier modulus.
    """
    vectors = settlement_count(trainers)
    ciphertexts = length + length * (length + 1) // 2  # the masked model, and its products
    return vectors * (ciphertexts * 2 * key_bits // 8 + length * SLOT_BITS // 8)


def averaged_model(local_models: Sequence[Sequence[mpz]], coefficients: Sequence[int], key: PublicKey) -> list[mpz]:
    """Return the encrypted sum of local models, each times its coefficient: d ciphertexts."""
    chosen = [(model, c) for model, c in zip(local_models, coefficients, strict=True) if c]
    return [
        linear_combination([model[j] for model, _ in chosen], [c for _, c in chosen], 0, key)
        for j in range(len(local_models[0]))
    ]


@dataclass(frozen=True)
class Outcome:
    """What a training came to. MSEs and contributions are in 1e-18 units of the squared scaled target.

    Parameters
    ----------
    iterations : int
        Rounds that were run.
    initial_mse, trained_mse, averaged_mse : int
        Of the zero model, the trained one, and the weighted mean of the local ones.
    partial_mses, contributions : tuple of int
        Per trainer: the MSE without it, and its Shapley value floored at 0.
    trainers_answered, validators_answered : tuple of bool
        Who did enough to be paid: a trainer sent its local model, and updates in enough rounds.
    """

    iterations: int
    initial_mse: int
    trained_mse: int
    averaged_mse: int
    partial_mses: tuple[int, ...]
    contributions: tuple[int, ...]
    trainers_answered: tuple[bool, ...]
    validators_answered: tuple[bool, ...]

    @property
    def model(self) -> Literal["trained", "averaged"]:
        """Which of the two models nobody could bend is better: the one that is delivered and paid for."""
        return "trained" if self.trained_mse <= self.averaged_mse else "averaged"

    @property
    def final_mse(self) -> int:
        """The MSE of the delivered model."""
        return min(self.trained_mse, self.averaged_mse)


def settle(
    training: uuid.UUID,
    zero: int,
    measured: Sequence[int],
    weights: Sequence[int],
    rounds: Sequence[Sequence[int]],
    contributors: Sequence[int],
    validator_count: int,
    validators: Sequence[int],
) -> Outcome:
    """Compute a training's outcome.

    Parameters
    ----------
    training : UUID
        Seeds the sampling of coalitions beyond 16 trainers.
    zero : int
        MSE of the zero model over the validators of the settlement.
    measured : sequence of int
        MSEs of the settlement's vectors, in the order of :func:`settlement_vectors`.
    weights : sequence of int
        Averaging weights of all trainers.
    rounds : sequence of sequences of int
        Places of the trainers that answered, for every round.
    contributors, validators : sequence of int
        Places of those who sent a local model, and of those who scored.
    validator_count : int
        How many validators there are.
    """
    trained, averaged, *points = measured
    game = contributions(zero, points, [weights[i] for i in contributors], training.bytes)
    contribution = dict(zip(contributors, game.values, strict=True))
    partial = dict(zip(contributors, game.partial_mses, strict=True))
    part, whole = ANSWERED_SHARE
    answered = [sum(i in who for who in rounds) for i in range(len(weights))]
    return Outcome(
        iterations=len(rounds),
        initial_mse=zero,
        trained_mse=trained,
        averaged_mse=averaged,
        partial_mses=tuple(partial.get(i, averaged) for i in range(len(weights))),
        contributions=tuple(contribution.get(i, 0) for i in range(len(weights))),
        trainers_answered=tuple(
            i in contributors and count * whole >= len(rounds) * part for i, count in enumerate(answered)
        ),
        validators_answered=tuple(v in set(validators) for v in range(validator_count)),
    )


def packed_count(values: int, key: PublicKey) -> int:
    """Return how many ciphertexts that many values take in slots."""
    return -(-values // slots(key))
