from __future__ import annotations

import math
import time

import phe
import pytest
from gmpy2 import jacobi, mpz, next_prime, powmod
from hypothesis import given
from hypothesis import strategies as st

from commons.crypto.kernel import AffineMap
from commons.crypto.paillier import (
    InvalidCiphertext,
    InvalidKey,
    PrivateKey,
    PublicKey,
    Randomisers,
    ShortRandomisers,
    UniformRandomisers,
    random_non_residue,
)

P = int(next_prime(3 << 510))
Q = int(next_prime(3 << 510 | 1 << 300))
BLUM_P, BLUM_Q = 2**127 - 1, 2**521 - 1
KEY = PrivateKey(P, Q)
PUBLIC = KEY.public_key
SHORT = ShortRandomisers(PUBLIC)
REFERENCE = phe.PaillierPublicKey(P * Q)
REFERENCE_PRIVATE = phe.PaillierPrivateKey(REFERENCE, P, Q)

plaintexts = st.integers(0, P * Q - 1)
signed = st.integers(-(P * Q // 2), P * Q // 2)
randomness = st.integers(1, P * Q - 1).filter(lambda r: math.gcd(r, P * Q) == 1)


def is_nth_power(number: mpz) -> bool:
    return KEY.decrypt(number) == 0


def test_encryption_has_the_published_form() -> None:
    # (1 + 77)^42 · 23^77 mod 77², worked out by hand.
    key = PublicKey(mpz(77))
    assert key.encrypt(42, powmod(23, 77, 77**2)) == 3840
    assert PrivateKey(7, 11).decrypt(mpz(3840)) == 42
    assert PrivateKey(7, 11).opening(mpz(3840)) == (42, 23)


@given(plaintexts, randomness)
def test_encryption_is_that_of_python_paillier(plaintext: int, r: int) -> None:
    ciphertext = PUBLIC.encrypt(plaintext, powmod(r, PUBLIC.n, PUBLIC.n_squared))
    assert ciphertext == REFERENCE.raw_encrypt(plaintext, r)


@given(plaintexts, randomness)
def test_decryption_and_opening_invert_python_paillier(plaintext: int, r: int) -> None:
    ciphertext = mpz(REFERENCE.raw_encrypt(plaintext, r))
    assert KEY.decrypt(ciphertext) == plaintext
    assert KEY.opening(ciphertext) == (plaintext, r)


@given(signed)
def test_key_owner_encrypts_what_python_paillier_decrypts(value: int) -> None:
    (ciphertext,) = KEY.encrypt([value])
    assert REFERENCE_PRIVATE.raw_decrypt(int(ciphertext)) == value % (P * Q)
    assert KEY.decrypt_signed(ciphertext) == value


@given(signed, signed)
def test_products_and_constants_add_plaintexts(left: int, right: int) -> None:
    first, second = KEY.encrypt([left, right])
    n = PUBLIC.n
    assert (KEY.decrypt(first * second % PUBLIC.n_squared) - left - right) % n == 0
    assert (KEY.decrypt(PUBLIC.add(first, right)) - left - right) % n == 0
    assert PUBLIC.add(first, right) == first * PUBLIC.trivial(right) % PUBLIC.n_squared


def test_encryptions_of_equal_numbers_differ() -> None:
    assert len(set(KEY.encrypt([7] * 50))) == 50


def test_generated_keys_have_the_length_asked_for_and_decrypt() -> None:
    key = PrivateKey.generate(1024)
    assert key.public_key.bits == 1024
    assert key.decrypt_signed(key.encrypt([-5])[0]) == -5
    PublicKey.from_modulus(key.public_key.n, minimum_bits=1024)


def test_stored_keys_decrypt_after_reading() -> None:
    copy = PrivateKey.from_bytes(KEY.to_bytes())
    assert copy.public_key == PUBLIC
    assert copy.decrypt(KEY.encrypt([11])[0]) == 11


def test_primes_with_gcd_of_n_and_phi_above_one_are_refused() -> None:
    with pytest.raises(InvalidKey, match="gcd"):
        PrivateKey(3, 7)
    with pytest.raises(InvalidKey):
        PrivateKey(P, P)


def test_repr_shows_no_prime() -> None:
    for text in (repr(KEY), str(KEY), f"{KEY!r:s}"):
        assert text == "PrivateKey(1024 bits)"
    assert repr(PUBLIC) == "PublicKey(1024 bits)"


@pytest.mark.parametrize(
    ("modulus", "reason"),
    [
        (P * Q, "1024 bits instead of 2048 to 4096"),
        (0, "0 bits"),
        (-(P**4) * Q, "not positive"),
        (1 << 8192, "8193 bits"),
        (2 * int(next_prime(1 << 2047)), "even"),
        (int(next_prime(3 << 1022)) ** 2, "perfect power"),
        (int(next_prime(1 << 683)) ** 3, "perfect power"),
        (int(next_prime(3 << 2046)), "a prime"),
    ],
    ids=["short", "zero", "negative", "long", "even", "square", "cube", "prime"],
)
def test_moduli_that_are_no_product_of_two_long_primes_are_refused(modulus: int, reason: str) -> None:
    with pytest.raises(InvalidKey, match=reason):
        PublicKey.from_modulus(modulus)


def test_short_moduli_pass_only_where_a_test_names_them() -> None:
    with pytest.raises(InvalidKey):
        PublicKey.from_modulus(P * Q)
    assert PublicKey.from_modulus(P * Q, minimum_bits=1024) == PUBLIC


@given(st.lists(st.integers(-1000, 1000), max_size=4))
def test_encoded_ciphertexts_decode_to_themselves(values: list[int]) -> None:
    ciphertexts = KEY.encrypt(values)
    blob = PUBLIC.encode(ciphertexts)
    assert len(blob) == len(values) * PUBLIC.ciphertext_bytes
    assert PUBLIC.decode(blob, len(values)) == ciphertexts


def test_encoding_is_fixed_width_and_big_endian() -> None:
    assert PUBLIC.encode([mpz(258)]) == bytes(254) + b"\x01\x02"
    assert PUBLIC.ciphertext_bytes == 256


@pytest.mark.parametrize(
    "number",
    [
        mpz(0),
        mpz(P),
        mpz(Q) * 12345,
        PUBLIC.n,
        PUBLIC.n * 99,
        PUBLIC.n_squared,
        PUBLIC.n_squared + 1,
        mpz(2) ** 2048 - 1,
    ],
)
def test_numbers_that_are_no_units_below_n_squared_are_refused(number: mpz) -> None:
    blob = PUBLIC.encode([*KEY.encrypt([1]), number, *KEY.encrypt([2])])
    with pytest.raises(InvalidCiphertext):
        PUBLIC.decode(blob, 3)


@pytest.mark.parametrize("change", [-1, 1, 256])
def test_blobs_of_another_length_are_refused(change: int) -> None:
    blob = (PUBLIC.encode(KEY.encrypt([1, 2])) + bytes(256))[: 512 + change]
    with pytest.raises(InvalidCiphertext, match="instead of 2 ciphertexts of 256 bytes"):
        PUBLIC.decode(blob, 2)


def assert_fresh_nth_powers(source: Randomisers) -> None:
    taken = source.take(20) + source.take(1)
    assert source.take(0) == []
    assert len(set(taken)) == 21
    assert all(is_nth_power(number) and 1 < number < PUBLIC.n_squared for number in taken)


def test_short_randomisers_are_fresh_nth_powers() -> None:
    assert_fresh_nth_powers(SHORT)


def test_longer_keys_get_longer_short_exponents() -> None:
    assert 448 <= SHORT._tables.digits * 6 < 512
    assert ShortRandomisers(PublicKey(mpz(3) ** 1700 * 2 + 1))._tables.digits * 6 >= 512


def test_uniform_randomisers_are_fresh_nth_powers_before_and_after_they_have_tables() -> None:
    source = UniformRandomisers(PUBLIC, count=4)
    assert_fresh_nth_powers(source)
    source.close()
    source.take(60)
    assert_fresh_nth_powers(source)
    assert source._tables is not None
    # Exponents are at least 128 bits longer than the modulus: what the leftover hash lemma asks for.
    assert source._tables.digits * 5 >= PUBLIC.bits + 128


def test_uniform_randomisers_are_ready_before_they_are_asked_for() -> None:
    source = UniformRandomisers(PUBLIC, count=3)
    while len(source._ready) < 3:
        time.sleep(0.01)
    ready = list(source._ready)
    assert source.take_with_roots(3) == ready
    source.close()
    assert is_nth_power(source.take(5)[4])


def test_generated_primes_leave_three_when_divided_by_four() -> None:
    for _ in range(8):
        p, q = PrivateKey.generate(256).factors
        assert p % 4 == q % 4 == 3
        assert p.bit_length() == q.bit_length() == 128
        assert (p * q).bit_length() == 256


def test_uniform_randomisers_come_with_their_roots_before_and_after_they_have_tables() -> None:
    source = UniformRandomisers(PUBLIC, count=4)
    pairs = source.take_with_roots(20)
    source.close()
    source.take(60)
    pairs += source.take_with_roots(20)
    assert source._tables is not None
    assert len({root for _, root in pairs}) == 40
    for power, root in pairs:
        assert 0 < root < PUBLIC.n
        assert power == powmod(root, PUBLIC.n, PUBLIC.n_squared)


def symbols(numbers: list[mpz]) -> set[int]:
    return {jacobi(number, PUBLIC.n) for number in numbers}


@pytest.mark.parametrize("coefficient", [6, 7], ids=["even", "odd"])
def test_jacobi_symbols_of_an_answer_do_not_tell_parities(coefficient: int) -> None:
    """An aggregator that sends ciphertexts with symbol −1 sees both symbols, whatever it is multiplied by."""
    crafted = SHORT.take(1)[0]
    while jacobi(crafted, PUBLIC.n) != -1:
        crafted = SHORT.take(1)[0]
    step = AffineMap([[coefficient]], [3])
    answers = [step.apply([crafted], PUBLIC, SHORT)[0] for _ in range(60)]
    assert symbols(answers) == {-1, 1}
    # Both are equally likely: beyond these bounds once in 10^9 runs.
    assert 7 <= sum(jacobi(answer, PUBLIC.n) == 1 for answer in answers) <= 53


def test_the_key_owners_ciphertexts_have_both_jacobi_symbols() -> None:
    assert symbols(KEY.encrypt([5] * 60)) == {-1, 1}
    assert symbols(KEY.encrypt_uniformly([5] * 60)) == {-1, 1}


@given(signed)
def test_uniform_encryptions_decrypt(value: int) -> None:
    first, second = KEY.encrypt_uniformly([value, value])
    assert first != second
    assert KEY.decrypt_signed(first) == KEY.decrypt_signed(second) == value


@given(randomness)
def test_nth_roots_are_what_was_raised(r: int) -> None:
    assert KEY.nth_root(powmod(r, PUBLIC.n, PUBLIC.n)) == r


@given(randomness)
def test_fourth_roots_are_squares_and_exist_of_squares_only(r: int) -> None:
    key = PrivateKey(BLUM_P, BLUM_Q)
    n = key.public_key.n
    root = key.fourth_root(mpz(r * r % n))
    assert root is not None
    assert powmod(root, 4, n) == r * r % n
    assert jacobi(root, BLUM_P) == jacobi(root, BLUM_Q) == 1
    assert key.fourth_root(random_non_residue(n)) is None
    assert key.fourth_root(-r * r % n) is None


def test_primes_that_leave_one_have_no_fourth_roots_to_give() -> None:
    with pytest.raises(InvalidKey, match="1 instead of 3"):
        PrivateKey(13, 19).fourth_root(mpz(1))


@pytest.mark.parametrize("value", [0, 1, (1 << 168) - 1])
def test_short_decryption_gives_short_plaintexts(private_key: PrivateKey, value: int) -> None:
    (ciphertext,) = private_key.encrypt([value])
    assert private_key.decrypt_short(ciphertext) == value


def test_short_decryption_gives_another_number_for_a_long_plaintext(private_key: PrivateKey) -> None:
    half = int(private_key.public_key.n) // 2
    (ciphertext,) = private_key.encrypt([half])
    assert private_key.decrypt_short(ciphertext) == half % private_key.factors[0] != half
