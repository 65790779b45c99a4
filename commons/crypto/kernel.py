"""Linear maps of encrypted vectors: the main cost of training.

Simultaneous multi-exponentiation after Straus (*Addition chains of vectors*, American Mathematical
Monthly 71, 1964): all bases of a product share its squarings, and all products over the same bases share the
tables of small powers.
"""

from __future__ import annotations

from collections.abc import Sequence

from gmpy2 import invert, mpz, powmod

from commons.crypto.paillier import PublicKey, Randomisers

Steps = list[list[int]]
"""For every bit, highest first, the table entries to multiply by after squaring."""


def _recode(exponents: Sequence[int], window: int) -> Steps:
    """Write signed exponents in width-`window` non-adjacent form, as indices into the tables of all bases."""
    half = 1 << window - 1
    entries = 1 << window - 1
    steps: dict[int, list[int]] = {}
    for base, exponent in enumerate(exponents):
        position = 0
        while exponent:
            if exponent & 1:
                digit = exponent & 2 * half - 1
                if digit >= half:
                    digit -= 2 * half
                exponent -= digit
                index = (abs(digit) >> 1) + (entries // 2 if digit < 0 else 0)
                steps.setdefault(position, []).append(base * entries + index)
            exponent >>= 1
            position += 1
    return [steps.get(position, []) for position in range(max(steps, default=-1), -1, -1)]


def _tables(bases: Sequence[mpz], window: int, modulus: mpz) -> list[mpz]:
    """Odd powers below 2^(window−1) of every base, then of its inverse, one base after the other."""
    entries = []
    for base in bases:
        for element in (base, invert(base, modulus)):
            square = element * element % modulus
            entries.append(element)
            for _ in range((1 << window - 2) - 1):
                entries.append(entries[-1] * square % modulus)
    return entries


def _multiply(table: list[mpz], steps: Steps, modulus: mpz) -> mpz:
    result = mpz(1)
    for indices in steps:
        result = result * result % modulus
        for index in indices:
            result = result * table[index] % modulus
    return result


class AffineMap:
    """An integer affine map w ↦ weight·(M w + c), prepared once and applied to encrypted vectors every round.

    Parameters
    ----------
    matrix : sequence of d sequences of d int
        M, at scale F in training.
    offset : sequence of d int
        c, at scale 2F in training.
    weight : int
        Positive factor of the whole result.
    """

    def __init__(self, matrix: Sequence[Sequence[int]], offset: Sequence[int], weight: int = 1) -> None:
        self._window = 5
        self._rows = [_recode(row, self._window) for row in matrix]
        self._offset = [weight * value for value in offset]
        self._weight = weight

    def apply(self, ciphertexts: Sequence[mpz], public_key: PublicKey, randomisers: Randomisers) -> list[mpz]:
        """Return fresh encryptions of weight·(M w + c).

        Parameters
        ----------
        ciphertexts : sequence of d mpz
            Encryptions of w.
        public_key : PublicKey
            The key they are encrypted under.
        randomisers : Randomisers
            Where the d randomisers come from that hide M, c and the weight from whoever compares.

        Returns
        -------
        list of d mpz
            Encryptions of weight·(M w + c) at scale 2F, if w and M are at scale F and c at scale 2F.
        """
        modulus = public_key.n_squared
        table = _tables(ciphertexts, self._window, modulus)
        results = []
        for steps, offset, randomiser in zip(
            self._rows, self._offset, randomisers.take(len(self._rows)), strict=True
        ):
            result = powmod(_multiply(table, steps, modulus), self._weight, modulus)
            results.append(result * public_key.encrypt(offset, randomiser) % modulus)
        return results


def linear_combination(
    ciphertexts: Sequence[mpz], coefficients: Sequence[int], constant: int, public_key: PublicKey
) -> mpz:
    """Return an encryption of Σ coefficient·plaintext + constant, by one multi-exponentiation.

    The result is not re-randomised.

    Parameters
    ----------
    ciphertexts : sequence of mpz
        Encrypted terms.
    coefficients : sequence of int
        One signed coefficient for each.
    constant : int
        What to add.
    public_key : PublicKey
        The key they are encrypted under.
    """
    modulus = public_key.n_squared
    steps = _recode(coefficients, 5)
    return (
        _multiply(_tables(ciphertexts, 5, modulus), steps, modulus) * public_key.trivial(constant) % modulus
    )
