"""One round of training, as the aggregator and the buyer compute it on ciphertexts.

Trainers send encryptions of a_i·w′_i at scale 2F. Their product encrypts P = Σa_i w′_i; with the public
divisor K = 2^F·Σa_i the next model is P/K at scale F. Only the buyer can divide, and it must not see P: it is
shown D = P + R for masks R, and returns encryptions of ⌊D/K⌋, from which the aggregator takes ⌊R/K⌋. The
result is P/K within one unit of 2^−40, and unbiased, because R is uniform.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gmpy2 import mpz

from commons.crypto.packing import draw_masks, pack_masked, slots, unpack
from commons.crypto.paillier import PrivateKey, PublicKey, UniformRandomisers


@dataclass(frozen=True)
class MaskedVector:
    """An encrypted vector on its way to the buyer.

    Parameters
    ----------
    masks : list of int
        R, one for every entry. The aggregator's secret.
    packed : list of mpz
        Encryptions of P + R in slots, re-randomised. For the buyer.
    roots : list of mpz
        r of every randomiser r^n in ``packed``: what an auditor checks it with.
    """

    masks: list[int]
    packed: list[mpz]
    roots: list[mpz]


def aggregate(updates: Sequence[Sequence[mpz]], key: PublicKey) -> list[mpz]:
    """Add encrypted vectors.

    Parameters
    ----------
    updates : sequence of sequences of d mpz
        The vectors of the trainers that answered, at least one.
    key : PublicKey
        The key of the training.
    """
    modulus = key.n_squared
    total, *others = updates
    result = list(total)
    for update in others:
        result = [left * right % modulus for left, right in zip(result, update, strict=True)]
    return result


def mask(aggregate: Sequence[mpz], key: PublicKey, randomisers: UniformRandomisers) -> MaskedVector:
    """Pack an aggregate and hide it from the buyer.

    Parameters
    ----------
    aggregate : sequence of d mpz
        Encryptions of numbers between −2^120 and 2^120 (see `commons.crypto.packing` for why they are).
    key : PublicKey
        The key of the training.
    randomisers : UniformRandomisers
        Uniform ones: the buyer knows the factors.
    """
    masks = draw_masks(len(aggregate))
    plain = pack_masked(aggregate, masks, key)
    fresh = randomisers.take_with_roots(len(plain))
    packed = [ciphertext * power % key.n_squared for ciphertext, (power, _) in zip(plain, fresh, strict=True)]
    return MaskedVector(masks, packed, [root for _, root in fresh])


def refresh(packed: Sequence[mpz], count: int, divisor: int, private_key: PrivateKey) -> list[mpz]:
    """Decrypt masked numbers, divide each by K, and encrypt the quotients. What the buyer does in a round.

    Parameters
    ----------
    packed : sequence of mpz
        From :func:`mask`.
    count : int
        How many numbers are in it.
    divisor : int
        K = 2^F·Σa_i.
    private_key : PrivateKey
        The key of the training.

    Returns
    -------
    list of `count` mpz
        Encryptions of ⌊D_j/K⌋.
    """
    masked = unpack([private_key.decrypt(c) for c in packed], count, slots(private_key.public_key))
    return private_key.encrypt([value // divisor for value in masked])


def unmask(refreshed: Sequence[mpz], masks: Sequence[int], divisor: int, key: PublicKey) -> list[mpz]:
    """Take ⌊R_j/K⌋ from refreshed numbers: the model of the next round, at scale F.

    Parameters
    ----------
    refreshed : sequence of d mpz
        From :func:`refresh`.
    masks : sequence of d int
        R, from :func:`mask`.
    divisor : int
        K = 2^F·Σa_i.
    key : PublicKey
        The key of the training.
    """
    return [key.add(ciphertext, -(value // divisor)) for ciphertext, value in zip(refreshed, masks, strict=True)]
