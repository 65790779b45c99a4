"""Fixed-point numbers, and many masked numbers in the slots of one plaintext.

A real v is the integer round(v·2^FRACTION_BITS), "scale F"; a product of two such numbers is at scale 2F.
No exponent travels with a ciphertext.

Headroom. A value that is masked must lie strictly between −2^VALUE_BITS and 2^VALUE_BITS, and masks are
uniform in [2^VALUE_BITS, 2^SLOT_BITS − 2^VALUE_BITS): the sum stays in [0, 2^SLOT_BITS), so a slot never
carries into the next one, and it hides the value to within a statistical distance of
2^(VALUE_BITS + 1) / (2^SLOT_BITS − 2^(VALUE_BITS + 1)) < 2^−46.

An aggregate at scale 2F is 2^80·Σa·w for the weights w of a model, so it fits while Σa·|w| < 2^40. Nothing can
check that under encryption; it follows from what every owner checks of its own rows. Of a step that does not
diverge, T rounds of N local steps lead from zero to |w| ≤ T·√(2ηNc), see `commons.learning.local_steps`, with
η < 2 and c, the mean square of the scaled targets, at most 1. An order keeps T·√N to 2^15, so
|w| ≤ 2^16, which leaves Σa up to 2^24: more than 200 trainers of the largest weight, 2^16. Local models, for
contributions, are smaller.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence

from gmpy2 import mpz

from commons.crypto.paillier import PublicKey
from commons.crypto.residues import square_repeatedly

FRACTION_BITS = 40
SLOT_BITS = 168
VALUE_BITS = 120


def to_fixed(real: float, scale_bits: int = FRACTION_BITS) -> int:
    """Return round(real·2^scale_bits), exactly rounded."""
    return round(math.ldexp(real, scale_bits))


def from_fixed(value: int, scale_bits: int = FRACTION_BITS) -> float:
    """Return value / 2^scale_bits as the nearest float."""
    return int(value) / (1 << scale_bits)


def slots(public_key: PublicKey) -> int:
    """Return how many slots of SLOT_BITS bits fit in one plaintext: 12 at 2048 bits."""
    return (public_key.bits - 1) // SLOT_BITS


def draw_masks(count: int) -> list[int]:
    """Draw `count` masks, uniform in [2^VALUE_BITS, 2^SLOT_BITS − 2^VALUE_BITS)."""
    low = 1 << VALUE_BITS
    return [low + secrets.randbelow((1 << SLOT_BITS) - 2 * low) for _ in range(count)]


def pack(ciphertexts: Sequence[mpz], public_key: PublicKey) -> list[mpz]:
    """Put the plaintexts of `ciphertexts` into the slots of as few ciphertexts as possible.

    The first value is in the lowest slot (Horner's rule in 2^SLOT_BITS, from the last to the first).

    Parameters
    ----------
    ciphertexts : sequence of mpz
        Encryptions of numbers in [0, 2^SLOT_BITS), or that become so when masks are added to the slots.
    public_key : PublicKey
        The key they are encrypted under.

    Returns
    -------
    list of mpz
        ⌈len(ciphertexts) / slots⌉ ciphertexts, not re-randomised.
    """
    size = slots(public_key)
    return [_pack_one(ciphertexts[start : start + size], public_key) for start in range(0, len(ciphertexts), size)]


def _pack_one(ciphertexts: Sequence[mpz], public_key: PublicKey) -> mpz:
    modulus = public_key.n_squared
    *rest, packed = ciphertexts
    for ciphertext in reversed(rest):
        packed = square_repeatedly(packed, SLOT_BITS, public_key.n) * ciphertext % modulus
    return packed


def pack_masked(ciphertexts: Sequence[mpz], masks: Sequence[int], public_key: PublicKey) -> list[mpz]:
    """Pack plaintext + mask of every ciphertext. Re-randomise it before the key owner sees it.

    Parameters
    ----------
    ciphertexts : sequence of mpz
        Encryptions of numbers strictly between −2^VALUE_BITS and 2^VALUE_BITS.
    masks : sequence of int
        One for each, from :func:`draw_masks`.
    public_key : PublicKey
        The key they are encrypted under.
    """
    size = slots(public_key)
    return [
        public_key.add(ciphertext, _join(masks[start : start + size]))
        for ciphertext, start in zip(pack(ciphertexts, public_key), range(0, len(masks), size), strict=True)
    ]


def _join(values: Sequence[int]) -> int:
    return sum(value << SLOT_BITS * slot for slot, value in enumerate(values))


def unpack(plaintexts: Sequence[int], count: int, slots: int) -> list[int]:
    """Read `count` numbers back from plaintexts of `slots` slots each.

    Parameters
    ----------
    plaintexts : sequence of int
        Decryptions, in [0, n), of what :func:`pack` made.
    count : int
        How many numbers were packed.
    slots : int
        Slots in a plaintext, from :func:`slots`.
    """
    mask = (1 << SLOT_BITS) - 1
    return [int(plaintexts[i // slots]) >> SLOT_BITS * (i % slots) & mask for i in range(count)]
