"""Several vectors in one byte string, and back."""

from __future__ import annotations

import uuid

import pytest
from gmpy2 import mpz
from hypothesis import given
from hypothesis import strategies as st

from commons.crypto.packing import SLOT_BITS
from commons.crypto.paillier import InvalidCiphertext, PrivateKey, PublicKey
from commons.errors import InvalidInput
from commons.protocol import wire
from commons.protocol.messages import ScoreQuestion

masks = st.lists(st.integers(0, 2**SLOT_BITS - 1), max_size=12)


@given(masks)
def test_masks_survive(values: list[int]) -> None:
    data = wire.encode_masks(values)
    assert len(data) == 21 * len(values)
    assert wire.decode_masks(data, len(values)) == values


@given(masks, st.integers(0, 14))
def test_other_number_of_masks_is_refused(values: list[int], count: int) -> None:
    data = wire.encode_masks(values)
    if count != len(values):
        with pytest.raises(InvalidInput, match=f"masks: {len(data)} bytes are not {count} masks of 21 bytes"):
            wire.decode_masks(data, count)


def test_half_a_mask_is_refused() -> None:
    with pytest.raises(InvalidInput, match="20 bytes are not 1 masks"):
        wire.decode_masks(bytes(20), 1)


@given(roots=st.lists(st.integers(1, 2**1023), max_size=4))
def test_roots_survive(public_key: PublicKey, roots: list[int]) -> None:
    roots = [mpz(root) for root in [*roots, 1, public_key.n - 1]]
    data = wire.encode_roots(roots, public_key)
    assert len(data) == 128 * len(roots)
    assert wire.decode_roots(data, len(roots), public_key) == roots


@pytest.mark.parametrize("size", [0, 127, 129, 256])
def test_other_number_of_roots_is_refused(public_key: PublicKey, size: int) -> None:
    with pytest.raises(InvalidInput, match=f"randomisers: {size} bytes are not 1 numbers of 128 bytes"):
        wire.decode_roots(b"\x01" * size, 1, public_key)


@pytest.mark.parametrize("beyond", [0, 1])
def test_root_that_is_not_reduced_is_refused(public_key: PublicKey, beyond: int) -> None:
    for root in (mpz(0), public_key.n + beyond):
        data = wire.encode_roots([mpz(1), root], public_key)
        with pytest.raises(InvalidInput, match="randomisers: a number is not between 1 and the modulus"):
            wire.decode_roots(data, 2, public_key)


@given(st.integers(0, 6), st.integers(0, 6))
def test_joined_vectors_are_split_again(parts: int, length: int) -> None:
    vectors = [[part * length + index for index in range(length)] for part in range(parts)]
    assert wire.split(wire.join(vectors), parts) == vectors


@pytest.mark.parametrize(("length", "count"), [(1, 1), (2, 3), (11, 66), (31, 496)])
def test_products_are_of_pairs_with_repetition(length: int, count: int) -> None:
    assert wire.product_count(length) == count == len([(j, k) for k in range(length) for j in range(k + 1)])


@pytest.fixture
def question(private_key: PrivateKey) -> ScoreQuestion:
    """Return a question about two models of length two."""
    encode = private_key.public_key.encode
    return ScoreQuestion(
        training=uuid.UUID(int=7),
        kind="iteration",
        round=5,
        masked=encode(private_key.encrypt([1, 2, 3, 4])),
        products=encode(private_key.encrypt([11, 12, 22, 33, 34, 44])),
        masks=wire.encode_masks([5, 6, 7, 8]),
    )


def test_question_is_split_into_its_models(question: ScoreQuestion, private_key: PrivateKey) -> None:
    def decrypted(ciphertexts: list[mpz]) -> list[int]:
        return [int(private_key.decrypt_signed(ciphertext)) for ciphertext in ciphertexts]

    vectors = wire.questioned_vectors(question, 2, 2, private_key.public_key)
    assert [(decrypted(masked), decrypted(products), masks) for masked, products, masks in vectors] == [
        ([1, 2], [11, 12, 22], [5, 6]),
        ([3, 4], [33, 34, 44], [7, 8]),
    ]


@pytest.mark.parametrize("field", ["masked", "products", "masks"])
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b""])
def test_question_of_other_lengths_is_refused(
    question: ScoreQuestion, public_key: PublicKey, field: str, change: object
) -> None:
    assert callable(change)
    wrong = question.model_copy(update={field: change(getattr(question, field))})
    with pytest.raises((InvalidCiphertext, InvalidInput), match="bytes"):
        wire.questioned_vectors(wrong, 2, 2, public_key)


def test_question_with_numbers_that_are_no_ciphertexts_is_refused(
    question: ScoreQuestion, public_key: PublicKey
) -> None:
    wrong = question.model_copy(update={"masked": bytes(len(question.masked))})
    with pytest.raises(InvalidCiphertext):
        wire.questioned_vectors(wrong, 2, 2, public_key)
