from __future__ import annotations

import phe
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st

from commons.crypto.kernel import AffineMap, Products, linear_combination
from commons.crypto.paillier import PrivateKey, PublicKey, ShortRandomisers

entries = st.one_of(st.integers(-(2**42), 2**42), st.sampled_from([0, 1, -1, 2**40, -(2**40), 2**41 - 1]))


@st.composite
def maps(draw: st.DrawFn) -> tuple[list[list[int]], list[int], list[int]]:
    d = draw(st.integers(1, 4))
    vectors = st.lists(entries, min_size=d, max_size=d)
    return draw(st.lists(vectors, min_size=d, max_size=d)), draw(vectors), draw(vectors)


def apply(matrix: list[list[int]], offset: list[int], vector: list[int], weight: int) -> list[int]:
    return [
        weight * (sum(a * b for a, b in zip(row, vector, strict=True)) + constant)
        for row, constant in zip(matrix, offset, strict=True)
    ]


@given(maps(), st.sampled_from([1, 2, 3, 1000, 2**16]))
def test_encrypted_map_is_the_map(
    private_key: PrivateKey,
    public_key: PublicKey,
    short: ShortRandomisers,
    case: tuple[list[list[int]], list[int], list[int]],
    weight: int,
) -> None:
    matrix, offset, vector = case
    result = AffineMap(matrix, offset, weight).apply(private_key.encrypt(vector), public_key, short)
    assert [private_key.decrypt_signed(ciphertext) for ciphertext in result] == apply(matrix, offset, vector, weight)


def test_encrypted_map_agrees_with_python_paillier(
    private_key: PrivateKey, public_key: PublicKey, short: ShortRandomisers
) -> None:
    matrix, offset, vector = [[3 << 38, -(5 << 37)], [-(2**40) + 12345, 1]], [7, -(2**79)], [2**41 - 9, -(2**40)]
    reference = phe.PaillierPublicKey(int(public_key.n))
    encrypted = [reference.encrypt(value) for value in vector]
    expected = [
        sum((number * factor for number, factor in zip(encrypted, row, strict=True)), start=reference.encrypt(constant))
        for row, constant in zip(matrix, offset, strict=True)
    ]
    ours = AffineMap(matrix, offset).apply([mpz(number.ciphertext()) for number in encrypted], public_key, short)
    assert [private_key.decrypt(c) for c in ours] == [
        private_key.decrypt(mpz(number.ciphertext())) for number in expected
    ]


def test_large_random_map_is_the_map(private_key: PrivateKey, public_key: PublicKey, short: ShortRandomisers) -> None:
    d = 40
    matrix = [[(i * 7919 + j * 104729) ** 3 % 2**41 - 2**40 for j in range(d)] for i in range(d)]
    vector = [(i * 31337) ** 2 % 2**40 - 2**39 for i in range(d)]
    result = AffineMap(matrix, [0] * d).apply(private_key.encrypt(vector), public_key, short)
    assert [private_key.decrypt_signed(ciphertext) for ciphertext in result] == apply(matrix, [0] * d, vector, 1)


def test_every_application_has_fresh_randomness(
    private_key: PrivateKey, public_key: PublicKey, short: ShortRandomisers
) -> None:
    ciphertexts = private_key.encrypt([1, 2])
    step = AffineMap([[1, 0], [0, 1]], [0, 0])
    first, second = (step.apply(ciphertexts, public_key, short) for _ in range(2))
    assert len({*first, *second, *ciphertexts}) == 6


def test_one_map_serves_several_keys(private_key: PrivateKey) -> None:
    step = AffineMap([[5]], [1])
    other = PrivateKey.generate(1024)
    for key in (private_key, other):
        (result,) = step.apply(key.encrypt([-4]), key.public_key, ShortRandomisers(key.public_key))
        assert key.decrypt_signed(result) == -19


@settings(max_examples=40)
@given(st.lists(st.tuples(entries, st.integers(-(2**220), 2**220)), max_size=6), st.integers(-(2**300), 2**300))
def test_encrypted_linear_combination_is_the_combination(
    private_key: PrivateKey, public_key: PublicKey, terms: list[tuple[int, int]], constant: int
) -> None:
    plaintexts, coefficients = [a for a, _ in terms], [b for _, b in terms]
    result = linear_combination(private_key.encrypt(plaintexts), coefficients, constant, public_key)
    assert private_key.decrypt_signed(result) == sum(a * b for a, b in terms) + constant


@given(st.lists(entries, min_size=1, max_size=3))
def test_recoded_digits_stand_for_their_exponents(exponents: list[int]) -> None:
    products = Products([exponents])
    (steps,) = products._steps
    start = 0
    for half, exponent in zip(products._halves, exponents, strict=True):
        value = 0
        for entries_here in steps:
            value *= 2
            for entry in entries_here:
                if start <= entry < start + 2 * half:
                    odd, negative = (entry - start) % half, (entry - start) >= half
                    value += -(2 * odd + 1) if negative else 2 * odd + 1
        assert value == exponent
        start += 2 * half
