"""Units modulo m² in a form that makes table look-up exponentiation cheap.

Every unit modulo m² is a·(1 + m·t) for one a in [1, m) and one t modulo m. As (1 + m·t)(1 + m·t′) =
1 + m·(t + t′) modulo m², the second parts of a product add up like logarithms, and only the a have to be
multiplied. So a running product in [0, m²) is multiplied by numbers half its length, which takes little more
than half the time, and a table entry for the inverse of a known one costs one short multiplication.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gmpy2 import divexact, invert, mpz


class Split(NamedTuple):
    """The unit value·(1 + m·log) modulo m².

    Parameters
    ----------
    value : mpz
        In [1, m).
    inverse : mpz
        Inverse of `value` modulo m.
    log : mpz
        In (−2m, m); only its residue modulo m matters.
    """

    value: mpz
    inverse: mpz
    log: mpz


def split(unit: mpz, m: mpz) -> Split:
    """Return the form of a unit in [1, m²)."""
    high, value = divmod(unit, m)
    inverse = invert(value, m)
    return Split(value, inverse, high * inverse % m)


def multiply(left: Split, right: Split, m: mpz) -> Split:
    """Return left · right."""
    carry, value = divmod(left.value * right.value, m)
    inverse = left.inverse * right.inverse % m
    return Split(value, inverse, (left.log + right.log + carry * inverse) % m)


def inverse(unit: Split, m: mpz) -> Split:
    """Return 1 / unit, from value · inverse = 1 + m·carry."""
    carry = divexact(unit.value * unit.inverse - 1, m)
    return Split(unit.inverse, unit.value, -unit.log - carry)


def join(product: mpz, log: mpz, m: mpz) -> mpz:
    """Return product·(1 + m·log) modulo m², for any product ≥ 0 and any log."""
    return (product + m * (product * log % m)) % (m * m)


def square_repeatedly(unit: mpz, times: int, m: mpz) -> mpz:
    """Return unit^(2^times) modulo m².

    Written as r + m·u, a unit has the square r² + m·2ru: two short products and two short divisions, which
    beat one long one of each.
    """
    u, r = divmod(unit, m)
    for _ in range(times):
        u *= 2 * r
        carry, r = divmod(r * r, m)
        u = (u + carry) % m
    return r + m * u


class FixedBases:
    """Products of powers of fixed bases, all squarings replaced by tables.

    Fixed-base windowing: Brickell, Gordon, McCurley and Wilson, EUROCRYPT 1992; Handbook of Applied
    Cryptography, section 14.6.3, here with every multiple of every window in the table.

    Parameters
    ----------
    bases : iterable of mpz
        Units modulo m².
    m : mpz
        Root of the modulus.
    windows : int
        Digits of the exponent of each base.
    window_bits : int
        Bits of a digit, at most 8.
    """

    def __init__(self, bases: Iterable[mpz], m: mpz, windows: int, window_bits: int) -> None:
        self._m, self._modulus = m, m * m
        self._digit_mask = (1 << window_bits) - 1
        self._tables: list[tuple[list[mpz], list[mpz]]] = []
        for base in bases:
            unit = split(base, m)
            for _ in range(windows):
                powers = [Split(mpz(1), mpz(1), mpz(0)), unit]
                while len(powers) <= self._digit_mask:
                    powers.append(multiply(powers[-1], unit, m))
                self._tables.append(([power.value for power in powers], [power.log for power in powers]))
                unit = multiply(powers[-1], unit, m)

    @property
    def digits(self) -> int:
        """Number of digits of all exponents together."""
        return len(self._tables)

    def power(self, digits: bytes) -> mpz:
        """Return the product modulo m² of all bases, each to its exponent.

        Parameters
        ----------
        digits : bytes
            The windows of the first base's exponent, lowest first, then those of the next. Of each byte only
            the low `window_bits` bits count.
        """
        modulus, digit_mask = self._modulus, self._digit_mask
        product, log = mpz(1), mpz(0)
        for (values, logs), digit in zip(self._tables, digits, strict=True):
            digit &= digit_mask
            product = product * values[digit] % modulus
            log += logs[digit]
        return join(product, log, self._m)
