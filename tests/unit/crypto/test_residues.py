from __future__ import annotations

import math

from gmpy2 import invert, mpz, powmod
from hypothesis import assume, given
from hypothesis import strategies as st

from commons.crypto import residues

M = mpz(3**5 * 10007 * 2**89 + 1)

units = st.integers(1, int(M * M) - 1).filter(lambda value: math.gcd(value, int(M)) == 1).map(mpz)


def value(unit: residues.Split) -> mpz:
    assert unit.value * unit.inverse % M == 1
    return unit.value * (1 + M * unit.log) % (M * M)


@given(units)
def test_split_and_join_are_inverse(unit: mpz) -> None:
    split = residues.split(unit, M)
    assert value(split) == unit
    assert residues.join(split.value, split.log, M) == unit


@given(units, units)
def test_products_of_split_units_are_products_of_units(left: mpz, right: mpz) -> None:
    product = residues.multiply(residues.split(left, M), residues.split(right, M), M)
    assert value(product) == left * right % (M * M)


@given(units, units)
def test_inverses_of_split_units_are_inverses_of_units(unit: mpz, other: mpz) -> None:
    inverse = residues.inverse(residues.split(unit, M), M)
    assert value(inverse) == invert(unit, M * M)
    assert value(residues.multiply(inverse, residues.split(other, M), M)) == other * invert(unit, M * M) % (M * M)


@given(units, st.integers(0, 30))
def test_repeated_squaring_is_a_power(unit: mpz, times: int) -> None:
    assert residues.square_repeatedly(unit, times, M) == powmod(unit, 2**times, M * M)


@given(
    st.lists(units, min_size=1, max_size=3), st.integers(1, 4), st.integers(1, 5), st.binary(min_size=12, max_size=12)
)
def test_fixed_bases_give_products_of_powers(bases: list[mpz], windows: int, window_bits: int, noise: bytes) -> None:
    tables = residues.FixedBases(bases, M, windows, window_bits)
    assert tables.digits == windows * len(bases)
    digits = noise[: tables.digits]
    assume(len(digits) == tables.digits)
    expected = mpz(1)
    for index, base in enumerate(bases):
        own = digits[index * windows : (index + 1) * windows]
        exponent = sum((digit % 2**window_bits) << window_bits * i for i, digit in enumerate(own))
        expected = expected * powmod(base, exponent, M * M) % (M * M)
    assert tables.power(digits) == expected
