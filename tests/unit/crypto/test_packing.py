from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from commons.crypto.packing import (
    SLOT_BITS,
    VALUE_BITS,
    draw_masks,
    from_fixed,
    pack,
    pack_masked,
    slots,
    to_fixed,
    unpack,
)
from commons.crypto.paillier import PrivateKey, PublicKey

LOW, HIGH = 1 << VALUE_BITS, (1 << SLOT_BITS) - (1 << VALUE_BITS)
LARGEST = (1 << VALUE_BITS) - 1


@given(st.floats(-1e9, 1e9), st.sampled_from([0, 40, 80]))
def test_fixed_point_is_rounded_exactly(real: float, bits: int) -> None:
    fixed = to_fixed(real, bits)
    assert isinstance(fixed, int)
    assert abs(Fraction(real) * 2**bits - fixed) <= Fraction(1, 2)


@given(st.integers(-(2**53), 2**53), st.sampled_from([0, 40, 80]))
def test_fixed_point_numbers_come_back(value: int, bits: int) -> None:
    assert to_fixed(from_fixed(value, bits), bits) == value


def test_a_2048_bit_plaintext_has_twelve_slots() -> None:
    assert slots(PublicKey((1 << 2047) + 1)) == 12
    assert slots(PublicKey((1 << 3071) + 1)) == 18


def test_masks_are_uniform_within_their_bounds() -> None:
    masks = draw_masks(4000)
    assert len(set(masks)) == 4000
    assert all(LOW <= mask < HIGH for mask in masks)
    # Sixteen bins of 250 expected; a uniform source leaves this range less than once in 10^9 runs.
    bins = [0] * 16
    for mask in masks:
        bins[mask >> SLOT_BITS - 4] += 1
    assert all(150 < count < 350 for count in bins)


@given(st.lists(st.integers(0, 2**SLOT_BITS - 1), min_size=1, max_size=14))
def test_packed_numbers_come_back_in_order(private_key: PrivateKey, values: list[int]) -> None:
    key = private_key
    packed = pack(key.encrypt(values), key.public_key)
    size = slots(key.public_key)
    assert len(packed) == -(-len(values) // size)
    assert unpack([key.decrypt(ciphertext) for ciphertext in packed], len(values), size) == values


def test_values_and_masks_at_their_bounds_do_not_leave_their_slots(private_key: PrivateKey) -> None:
    key = private_key
    values = [LARGEST, -LARGEST, -LARGEST, LARGEST, 0, -1, 1, -LARGEST]
    masks = [HIGH - 1, LOW, HIGH - 1, LOW, LOW, LOW, HIGH - 1, LOW]
    packed = pack_masked(key.encrypt(values), masks, key.public_key)
    digits = unpack([key.decrypt(ciphertext) for ciphertext in packed], len(values), slots(key.public_key))
    assert digits == [value + mask for value, mask in zip(values, masks, strict=True)]
