from __future__ import annotations

import statistics

import pytest
from gmpy2 import powmod
from hypothesis import given
from hypothesis import strategies as st

from commons.crypto.packing import SLOT_BITS, VALUE_BITS, pack_masked
from commons.crypto.paillier import PrivateKey, PublicKey, UniformRandomisers
from commons.protocol import round
from commons.protocol.round import MaskedVector

LARGEST = (1 << VALUE_BITS) - 1
aggregates = st.integers(-LARGEST, LARGEST)


def next_model(values: list[int], divisor: int, key: PrivateKey, hidden: MaskedVector) -> list[int]:
    refreshed = round.refresh(hidden.packed, len(values), divisor, key)
    model = round.unmask(refreshed, hidden.masks, divisor, key.public_key)
    return [key.decrypt_signed(ciphertext) for ciphertext in model]


def test_aggregate_encrypts_the_sum(private_key: PrivateKey) -> None:
    updates = [private_key.encrypt(values) for values in ([1, -2, 3], [10, 20, -30], [5, 5, 5])]
    total = round.aggregate(updates, private_key.public_key)
    assert [private_key.decrypt_signed(ciphertext) for ciphertext in total] == [16, 23, -22]


def test_aggregate_of_one_is_itself_and_lengths_must_agree(private_key: PrivateKey) -> None:
    update = private_key.encrypt([1, 2])
    assert round.aggregate([update], private_key.public_key) == update
    with pytest.raises(ValueError, match="zip"):
        round.aggregate([update, update[:1]], private_key.public_key)


@given(st.lists(aggregates, min_size=1, max_size=8), st.integers(2**40, 2**60))
def test_a_round_divides_to_within_one_unit(
    private_key: PrivateKey, uniform: UniformRandomisers, values: list[int], divisor: int
) -> None:
    hidden = round.mask(private_key.encrypt(values), private_key.public_key, uniform)
    for value, quotient in zip(values, next_model(values, divisor, private_key, hidden), strict=True):
        assert value // divisor <= quotient <= value // divisor + 1


@pytest.mark.parametrize("value", [LARGEST, -LARGEST, 0])
@pytest.mark.parametrize("mask", [1 << VALUE_BITS, (1 << SLOT_BITS) - (1 << VALUE_BITS) - 1])
def test_the_largest_aggregates_fit_under_the_extreme_masks(
    private_key: PrivateKey, uniform: UniformRandomisers, monkeypatch: pytest.MonkeyPatch, value: int, mask: int
) -> None:
    monkeypatch.setattr(round, "draw_masks", lambda count: [mask] * count)
    values = [value, -value, value]
    hidden = round.mask(private_key.encrypt(values), private_key.public_key, uniform)
    assert next_model(values, 1, private_key, hidden) == values


def test_rounding_is_unbiased(private_key: PrivateKey, uniform: UniformRandomisers) -> None:
    divisor = 3 << 40
    values = [divisor // 4 + 7 * divisor] * 240
    hidden = round.mask(private_key.encrypt(values), private_key.public_key, uniform)
    model = next_model(values, divisor, private_key, hidden)
    assert set(model) == {7, 8}
    # The mean of 240 draws of 7 or 8 with mean 7.25 has a standard deviation of 0.028.
    assert statistics.mean(model) == pytest.approx(7.25, abs=0.17)


def test_the_buyer_sees_masked_sums_only(private_key: PrivateKey, uniform: UniformRandomisers) -> None:
    values = [5, -6]
    hidden = round.mask(private_key.encrypt(values), private_key.public_key, uniform)
    (packed,) = hidden.packed
    seen = private_key.decrypt(packed)
    digits = [seen >> SLOT_BITS * slot & (1 << SLOT_BITS) - 1 for slot in range(2)]
    assert digits == [value + mask for value, mask in zip(values, hidden.masks, strict=True)]
    assert seen >> 2 * SLOT_BITS == 0
    assert hidden.masks != round.mask(private_key.encrypt(values), private_key.public_key, uniform).masks


def test_question_to_the_buyer_is_its_masked_packing_times_the_roots_that_are_kept(
    private_key: PrivateKey, public_key: PublicKey, uniform: UniformRandomisers
) -> None:
    aggregate = private_key.encrypt(range(-4, 4))  # six slots at 1024 bits
    hidden = round.mask(aggregate, public_key, uniform)
    plain = pack_masked(aggregate, hidden.masks, public_key)
    modulus = public_key.n_squared
    assert len(hidden.roots) == len(hidden.packed) == 2
    assert hidden.packed == [
        ciphertext * powmod(root, public_key.n, modulus) % modulus
        for ciphertext, root in zip(plain, hidden.roots, strict=True)
    ]
    assert not set(hidden.packed) & set(plain)
