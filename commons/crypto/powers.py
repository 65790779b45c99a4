"""Ciphertexts that were re-randomised with a known r: many checked at the price of one n-th power."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from gmpy2 import mpz, powmod

from commons.crypto.kernel import linear_combination
from commons.crypto.paillier import PublicKey


@dataclass(frozen=True)
class Rerandomised:
    """The claim that ``ciphertext`` = ``plain`` · ``root``^n mod n², all coprime to n."""

    ciphertext: mpz
    plain: mpz
    root: mpz


def first_false(claims: Sequence[Rerandomised], key: PublicKey) -> int | None:
    """Return the place of the first claim that does not hold, or None.

    Claims are checked together, Π c_i^e_i = Π a_i^e_i · (Π r_i^e_i)^n, with 128-bit e_i from the hash of all of them
    (the small exponents test of Bellare, Garay and Rabin, *Fast batch verification for modular exponentiation and
    digital signatures*, EUROCRYPT 1998), so that everybody who checks comes to the same verdict. A ciphertext that
    holds another number than is claimed passes with probability 2^−128, as n has no factor that short (the key
    proof). A root may be off by an element of small order, such as −1: it says nothing about what is encrypted.
    If they do not hold together, halves are checked until the first false one is found.

    Parameters
    ----------
    claims : sequence of Rerandomised
    key : PublicKey
        With a proof that was verified.
    """
    if _hold(claims, key):
        return None
    if len(claims) == 1:
        return 0
    half = len(claims) // 2
    left = first_false(claims[:half], key)
    if left is not None:
        return left
    right = first_false(claims[half:], key)
    return None if right is None else half + right


def _hold(claims: Sequence[Rerandomised], key: PublicKey) -> bool:
    exponents = _exponents(claims, key)
    root = mpz(1)
    for claim, exponent in zip(claims, exponents, strict=True):
        root = root * powmod(claim.root, exponent, key.n) % key.n
    found = linear_combination([claim.ciphertext for claim in claims], exponents, 0, key)
    plain = linear_combination([claim.plain for claim in claims], exponents, 0, key)
    return bool(found == plain * powmod(root, key.n, key.n_squared) % key.n_squared)


def _exponents(claims: Sequence[Rerandomised], key: PublicKey) -> list[int]:
    seed = hashlib.sha256(b"DeltaML: re-randomised ciphertexts\n")
    seed.update(key.encode([key.n]))
    for claim in claims:
        seed.update(key.encode([claim.ciphertext, claim.plain, claim.root]))
    digest = seed.digest()
    return [
        int.from_bytes(hashlib.sha256(digest + index.to_bytes(8, "big")).digest()[:16], "big")
        for index in range(len(claims))
    ]
