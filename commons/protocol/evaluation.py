"""The error of encrypted models on the validators' rows, without residuals and without the models.

A vector u of d plaintexts at scale U = 2^80·factor (factor = the weights that were summed into it, 1 for a
bare local model) stands for the model u/U. The aggregator masks it, û = u + ρ; the buyer decrypts û and
returns encryptions of the products û_j·û_k with a proof; every validator, who is shown ρ and ciphertexts only, forms
one encryption of rows·MSE; the aggregator adds those, the validators sign the sum, and the buyer opens it alone.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from gmpy2 import mpz

from commons.crypto.kernel import linear_combination
from commons.crypto.packing import FRACTION_BITS, SLOT_BITS, draw_masks, to_fixed
from commons.crypto.paillier import PrivateKey, PublicKey, Randomisers, UniformRandomisers
from commons.crypto.proofs import Opening
from commons.errors import DeltaMLError, VerificationFailed
from commons.learning.contributions import UNIT
from commons.learning.statistics import GramStatistics
from commons.protocol.round import aggregate

VECTOR_BITS = 2 * FRACTION_BITS
"""A vector's scale is 2^VECTOR_BITS times its factor."""

ZERO_BITS = 2 * FRACTION_BITS
"""Scale, in bits, of the total of the zero model."""

NOISE_BITS = 36
"""Noise is uniform between −2^−NOISE_BITS and 2^−NOISE_BITS, in units of the scaled target squared."""

MSE_BOUND = 1 << 16
"""Largest MSE, in units of the scaled target squared, that a training which converges can have."""


class Diverged(DeltaMLError):
    """An opened error outside what a converging training can give."""


@dataclass(frozen=True)
class MaskedVectors:
    """Encrypted vectors of one evaluation on their way to the buyer and the validators.

    Parameters
    ----------
    masks : list of lists of int
        ρ of every vector. For the validators, never for the buyer.
    masked : list of lists of mpz
        Encryptions of û = u + ρ of every vector, re-randomised.
    roots : list of lists of mpz
        r of every randomiser r^n in ``masked``: what an auditor checks it with.
    """

    masks: list[list[int]]
    masked: list[list[mpz]]
    roots: list[list[mpz]]


def mask_vectors(vectors: Sequence[Sequence[mpz]], key: PublicKey, randomisers: UniformRandomisers) -> MaskedVectors:
    """Mask the vectors of one evaluation. What the aggregator does first.

    Parameters
    ----------
    vectors : sequence of sequences of d mpz
        Encryptions of u, entries between −2^120 and 2^120.
    key : PublicKey
        The key of the training.
    randomisers : UniformRandomisers
        Uniform ones: the buyer knows the factors.
    """
    masks = [draw_masks(len(vector)) for vector in vectors]
    fresh = [randomisers.take_with_roots(len(vector)) for vector in vectors]
    masked = [
        [
            key.add(ciphertext, mask) * power % key.n_squared
            for ciphertext, mask, (power, _) in zip(vector, values, pairs, strict=True)
        ]
        for vector, values, pairs in zip(vectors, masks, fresh, strict=True)
    ]
    return MaskedVectors(masks, masked, [[root for _, root in pairs] for pairs in fresh])


def open_masked(masked: Sequence[Sequence[mpz]], private_key: PrivateKey) -> list[list[int]]:
    """Decrypt the û of every vector, which are shorter than a prime. What the buyer does first.

    Of a longer number it returns another: :func:`commons.crypto.proofs.prove_products` finds that out before anything
    of it leaves.
    """
    return [[private_key.decrypt_short(ciphertext) for ciphertext in vector] for vector in masked]


def require_slots(opened: Sequence[Sequence[int]]) -> None:
    """Check that all û are numbers that masks can have made: longer ones hide nothing, or are fractions modulo n.

    A vector with 1/2 mod n in it has the errors of another model than the one that could be delivered.

    Raises
    ------
    VerificationFailed
        One is not below 2^SLOT_BITS.
    """
    if any(value >> SLOT_BITS for vector in opened for value in vector):
        raise VerificationFailed(
            f"a masked model has a number of more than {SLOT_BITS} bits: no model and mask make it"
        )


def products(opened: Sequence[Sequence[int]], private_key: PrivateKey) -> list[list[mpz]]:
    """Encrypt û_j·û_k for j ≤ k, row after row: d(d + 1)/2 ciphertexts for every vector."""
    return [
        private_key.encrypt([vector[j] * vector[k] for j in range(len(vector)) for k in range(j, len(vector))])
        for vector in opened
    ]


def score(
    stats: GramStatistics,
    factor: int,
    masked: Sequence[mpz],
    products: Sequence[mpz],
    masks: Sequence[int],
    key: PublicKey,
    randomisers: Randomisers,
) -> mpz:
    """Return one encryption of rows·MSE of a vector on a validator's rows, at scale (2^80·factor)²·2^40.

    With A = XᵀX, b = Xᵀy, c = yᵀy at scale F, u = û − ρ and U = 2^80·factor, it is
    ⟨A, ûûᵀ⟩ − 2⟨Aρ + U·b, û⟩ + ρᵀAρ + 2U·bᵀρ + U²·c, plus uniform noise below 2^−36: the digits beyond it,
    which would tell about single entries of A, are never opened.

    Parameters
    ----------
    stats : GramStatistics
        The validator's rows.
    factor : int
        The vector's factor.
    masked, products, masks : sequence
        Of this vector: encryptions of û (d) and of the products (d(d + 1)/2), and ρ (d).
    key : PublicKey
        The key of the training.
    randomisers : Randomisers
        Short ones suffice: the result goes to the aggregator.
    """
    coefficients, constant = quadratic_form(stats, factor, masks)
    noise = _noise((factor << VECTOR_BITS) ** 2 << FRACTION_BITS >> NOISE_BITS)
    total = linear_combination([*products, *masked], coefficients, constant + noise, key)
    return total * randomisers.take(1)[0] % key.n_squared


def quadratic_form(stats: GramStatistics, factor: int, masks: Sequence[int]) -> tuple[list[int], int]:
    """Return what :func:`score` computes before noise: the coefficients of ûûᵀ (j ≤ k) and û, and the constant."""
    d = len(masks)
    scale = factor << VECTOR_BITS
    gram = [[to_fixed(value) for value in row] for row in stats.gram.tolist()]
    moment = [to_fixed(value) * scale for value in stats.moment.tolist()]
    gram_masks = [sum(a * b for a, b in zip(row, masks, strict=True)) for row in gram]
    quadratic = [gram[j][k] * (1 if j == k else 2) for j in range(d) for k in range(j, d)]
    linear = [-2 * (left + right) for left, right in zip(gram_masks, moment, strict=True)]
    constant = (
        sum(value * (left + 2 * right) for value, left, right in zip(masks, gram_masks, moment, strict=True))
        + to_fixed(stats.target_square) * scale**2
    )
    return [*quadratic, *linear], constant


def _noise(bound: int) -> int:
    return secrets.randbelow(2 * bound + 1) - bound


def score_zero(stats: GramStatistics, key: PublicKey, randomisers: Randomisers) -> mpz:
    """Return an encryption of rows·MSE of the zero model, yᵀy, at scale 2^80, with noise as in `score`."""
    value = to_fixed(stats.target_square, ZERO_BITS) + _noise(1 << ZERO_BITS - NOISE_BITS)
    return key.encrypt(value, randomisers.take(1)[0])


def combine(scores: Sequence[mpz], key: PublicKey, randomisers: UniformRandomisers) -> tuple[mpz, mpz]:
    """Add the validators' scores and re-randomise the sum for the buyer.

    Returns
    -------
    total : mpz
        The product of the scores and r^n.
    root : mpz
        r, with which the validators check it.
    """
    total = aggregate([[score] for score in scores], key)[0]
    ((power, root),) = randomisers.take_with_roots(1)
    return total * power % key.n_squared, root


def open_total(ciphertext: mpz, private_key: PrivateKey) -> Opening:
    """Decrypt a sum of scores, and prove the result. What the buyer does last."""
    value, randomiser = private_key.opening(ciphertext)
    n = int(private_key.public_key.n)
    return Opening(value - n if value > n // 2 else value, randomiser)


def mse_of_total(total: int, factor: int, rows: int) -> int:
    """Return the MSE, in 1e-18 units, of an opened sum of :func:`score`.

    Parameters
    ----------
    total : int
        The opened sum.
    factor : int
        The vector's factor.
    rows : int
        Rows of all validators together.

    Raises
    ------
    Diverged
        If it is not in [0, MSE_BOUND].
    """
    return _mse(total, (factor << VECTOR_BITS) ** 2 << FRACTION_BITS, rows)


def mse_of_zero_total(total: int, rows: int) -> int:
    """Return the MSE, in 1e-18 units, of an opened sum of :func:`score_zero`; raises as `mse_of_total`."""
    return _mse(total, 1 << ZERO_BITS, rows)


def _mse(total: int, scale: int, rows: int) -> int:
    mse = (2 * total * UNIT + scale * rows) // (2 * scale * rows)
    # An exact fit, whose error is zero, comes out negative by no more than noise and rounding.
    if -UNIT >> NOISE_BITS - 6 <= mse < 0:
        return 0
    if not 0 <= mse <= MSE_BOUND * UNIT:
        about = f"2^{mse.bit_length() - UNIT.bit_length()}" if abs(mse) > MSE_BOUND * UNIT else "less than nothing"
        raise Diverged(f"an error of about {about} is outside 0 to {MSE_BOUND}: the training diverged")
    return mse


def delivery(masks: Sequence[int], divisor: int) -> list[int]:
    """Return ⌊ρ_j/K⌋: what the aggregator sends when the buyer may have the model, and no finer."""
    return [value // divisor for value in masks]


def deliver_model(opened: Sequence[int], delivery: Sequence[int], divisor: int) -> list[int]:
    """Return the model at scale F from the û of its evaluation and what the aggregator delivered.

    Parameters
    ----------
    opened : sequence of d int
        û of the delivered vector, from :func:`open_masked`.
    delivery : sequence of d int
        From :func:`delivery`.
    divisor : int
        K = 2^F·factor.
    """
    return [value // divisor - known for value, known in zip(opened, delivery, strict=True)]


def commitment(salt: bytes, quotients: Sequence[int]) -> bytes:
    """Return the SHA-256 that binds the aggregator to what it will deliver, before anybody knows what it is worth.

    Parameters
    ----------
    salt : bytes
        32 random bytes: without it, the numbers could be found by trying models.
    quotients : sequence of d int
        From :func:`delivery`.
    """
    return hashlib.sha256(salt + b"".join(quotient.to_bytes(SLOT_BITS // 8, "big") for quotient in quotients)).digest()
