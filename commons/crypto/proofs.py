"""What a party shows about its secrets without showing them.

An :class:`Opening` shows which number a ciphertext holds.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from gmpy2 import mpz, powmod

from commons.crypto.kernel import linear_combination
from commons.crypto.paillier import InvalidOpening, PublicKey


@dataclass(frozen=True)
class Opening:
    """A decrypted number, with what proves that it was in the ciphertext.

    Parameters
    ----------
    total : int
        The plaintext, signed: in (−n/2, n/2).
    randomiser : int
        r in [1, n) such that the ciphertext is (1 + n)^total · r^n mod n².
    """

    total: int
    randomiser: int


def verify_opening(ciphertext: mpz, opening: Opening, key: PublicKey) -> None:
    """Check that `ciphertext` = (1 + n)^total · r^n mod n².

    Raises
    ------
    InvalidOpening
        If it is another ciphertext, or a number is not reduced modulo n.
    """
    _require_reduced(opening, key)
    if _made(opening.total, mpz(opening.randomiser), key) != ciphertext:
        raise InvalidOpening(f"{opening.total} was claimed, and the ciphertext holds another number")


def verify_openings(ciphertexts: Sequence[mpz], openings: Sequence[Opening], key: PublicKey) -> None:
    """Check many openings at the price of one: :func:`verify_opening` of a random combination of them.

    With 128-bit exponents that the buyer does not know, a wrong total passes with probability 2^−128, as n has no
    factor that short (the small exponents test of Bellare, Garay and Rabin, *Fast batch verification for modular
    exponentiation and digital signatures*, EUROCRYPT 1998). A randomiser may be off by a factor of small order: it
    says nothing about a total.

    Raises
    ------
    InvalidOpening
        If a total is not the one in its ciphertext, or a number is not reduced modulo n.
    """
    exponents = [secrets.randbits(128) for _ in openings]
    root = mpz(1)
    for opening, exponent in zip(openings, exponents, strict=True):
        _require_reduced(opening, key)
        root = root * powmod(opening.randomiser, exponent, key.n) % key.n
    total = sum(opening.total * exponent for opening, exponent in zip(openings, exponents, strict=True))
    if _made(total, root, key) != linear_combination(ciphertexts, exponents, 0, key):
        raise InvalidOpening(f"{len(openings)} totals were claimed, and a ciphertext holds another number")


def _made(total: int, root: mpz, key: PublicKey) -> mpz:
    return key.encrypt(total, powmod(root, key.n, key.n_squared))


def _require_reduced(opening: Opening, key: PublicKey) -> None:
    if not (2 * abs(opening.total) < key.n and 0 < opening.randomiser < key.n):
        raise InvalidOpening("the opening of a ciphertext has a number that is not reduced modulo n")
