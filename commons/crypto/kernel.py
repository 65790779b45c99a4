"""Linear maps of encrypted vectors: the main cost of training.

Simultaneous multi-exponentiation after Straus (*Addition chains of vectors*, American Mathematical Monthly 71,
1964): all bases of a product share its squarings, and all products over the same bases share the tables of
small powers. Exponents are recoded once into signed digits (width-w non-adjacent form, Handbook of Applied
Cryptography, section 14.7), with the width that makes tables and look-ups of each base cheapest together.
Tables are in the split form of `commons.crypto.residues`: half-length factors, inverses almost for free.
"""

from __future__ import annotations

from collections.abc import Sequence

from gmpy2 import mpz, powmod

from commons.crypto import residues
from commons.crypto.paillier import PublicKey, Randomisers

_ENTRY_COST = 2.4
"""Time to compute a table entry and its inverse, in multiplications by an entry (measured at 2048 bits)."""

_WIDEST = 10


def _width(exponent_bits: int) -> int:
    """Return the best digit width for a base whose exponents in all products have so many bits together.

    Width w has tables of 2^(w−2) odd powers and as many inverses, and one digit in w + 1 bits is not 0.
    """
    return min(
        range(2, _WIDEST + 1),
        key=lambda width: _ENTRY_COST * (1 << width - 2) + exponent_bits / (width + 1),
    )


def _signed_digits(exponent: int, width: int) -> list[tuple[int, int]]:
    """Return (position, odd digit) pairs with |digit| < 2^(width−1), lowest first."""
    digits = []
    position = 0
    rest = mpz(exponent)
    while rest:
        zeros = rest.bit_scan1()
        rest >>= zeros
        position += zeros
        digit = int(rest & (1 << width) - 1)
        if digit >> width - 1:
            digit -= 1 << width
        rest -= digit
        digits.append((position, digit))
    return digits


class Products:
    """Several products of powers of the same bases, recoded once for any bases.

    Parameters
    ----------
    exponents : sequence of sequences of int
        For each product the signed exponent of every base.
    """

    def __init__(self, exponents: Sequence[Sequence[int]]) -> None:
        bits = [sum(exponent.bit_length() for exponent in column) for column in zip(*exponents, strict=True)]
        # Half of each base's table: odd powers, followed by as many inverses. A base without exponent has none.
        self._halves = [1 << _width(total) - 2 if total else 0 for total in bits]
        self._steps = [self._recode(row) for row in exponents]

    @property
    def entries(self) -> int:
        """Number of odd powers in the tables of all bases together."""
        return sum(self._halves)

    @property
    def squarings(self) -> int:
        """Number of squarings in all products together."""
        return sum(len(steps) for steps in self._steps)

    @property
    def factors(self) -> int:
        """Number of multiplications by a table entry in all products together."""
        return sum(len(entries) for steps in self._steps for entries in steps)

    def _recode(self, exponents: Sequence[int]) -> list[list[int]]:
        """Return, for every squaring, highest first, the table entries to multiply by after it."""
        longest = max((exponent.bit_length() for exponent in exponents), default=0)
        steps: list[list[int]] = [[] for _ in range(longest + 1)]
        start = 0
        for half, exponent in zip(self._halves, exponents, strict=True):
            for position, digit in _signed_digits(exponent, half.bit_length() + 1):
                steps[position].append(start + (digit >> 1 if digit > 0 else half + (-digit >> 1)))
            start += 2 * half
        return steps[::-1]

    def compute(self, bases: Sequence[mpz], constants: Sequence[int], n: mpz) -> list[mpz]:
        """Return the products modulo n², each times 1 + n·constant."""
        values, logs = self._tables(bases, n)
        modulus = n * n
        results = []
        for steps, constant in zip(self._steps, constants, strict=True):
            product, log = mpz(1), mpz(0)
            for entries in steps:
                # (r + n·u)² = r² + n·(2ru mod n) modulo n²: cheaper than dividing by n², and below 2n².
                u, r = divmod(product, n)
                product = r * r + n * (2 * r * u % n)
                log += log
                for entry in entries:
                    product = product * values[entry] % modulus
                    log += logs[entry]
            results.append(residues.join(product, log + constant, n))
        return results

    def _tables(self, bases: Sequence[mpz], n: mpz) -> tuple[list[mpz], list[mpz]]:
        entries: list[residues.Split] = []
        for base, half in zip(bases, self._halves, strict=True):
            if half:
                powers = [residues.split(base, n)]
                if half > 1:
                    square = residues.multiply(powers[0], powers[0], n)
                    for _ in range(half - 1):
                        powers.append(residues.multiply(powers[-1], square, n))
                entries += powers
                entries += [residues.inverse(power, n) for power in powers]
        return [entry.value for entry in entries], [entry.log for entry in entries]


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
        self.products = Products(matrix)
        self._offset = offset
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
            Encryptions of weight·(M w + c), at scale 2F if w and M are at scale F and c at scale 2F.
        """
        modulus = public_key.n_squared
        products = self.products.compute(ciphertexts, self._offset, public_key.n)
        if self._weight != 1:
            # Raising d results costs less than lengthening d² exponents.
            products = [powmod(product, self._weight, modulus) for product in products]
        return [
            product * randomiser % modulus
            for product, randomiser in zip(products, randomisers.take(len(products)), strict=True)
        ]


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
    return Products([coefficients]).compute(ciphertexts, [constant], public_key.n)[0]
