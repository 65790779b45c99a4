"""Vectors in messages: how several of them become one byte string and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from gmpy2 import mpz

from commons.crypto.packing import SLOT_BITS
from commons.crypto.paillier import PublicKey
from commons.crypto.proofs import Opening
from commons.errors import InvalidInput
from commons.protocol.messages import ScoreQuestion

MASK_BYTES = SLOT_BITS // 8

T = TypeVar("T")


def split(flat: Sequence[T], parts: int) -> list[list[T]]:
    """Cut a sequence into that many parts of one length."""
    length = len(flat) // parts if parts else 0
    return [list(flat[i * length : (i + 1) * length]) for i in range(parts)]


def join(vectors: Sequence[Sequence[T]]) -> list[T]:
    """Put vectors one after the other."""
    return [item for vector in vectors for item in vector]


def encode_masks(masks: Sequence[int]) -> bytes:
    """Encode masks as fixed-width big-endian integers."""
    return b"".join(mask.to_bytes(MASK_BYTES, "big") for mask in masks)


def decode_masks(data: bytes, count: int) -> list[int]:
    """Decode that many masks; InvalidInput if there are more or fewer."""
    if len(data) != count * MASK_BYTES:
        raise InvalidInput(f"{len(data)} bytes are not {count} masks of {MASK_BYTES} bytes", "masks")
    return [int.from_bytes(data[i : i + MASK_BYTES], "big") for i in range(0, len(data), MASK_BYTES)]


def encode_roots(roots: Sequence[mpz], key: PublicKey) -> bytes:
    """Encode numbers modulo n, each big-endian in as many bytes as n."""
    return b"".join(root.to_bytes(_root_bytes(key), "big") for root in roots)


def decode_roots(data: bytes, count: int, key: PublicKey) -> list[mpz]:
    """Decode that many numbers modulo n; InvalidInput if there are more or fewer, or one is not in [1, n)."""
    width = _root_bytes(key)
    if len(data) != count * width:
        raise InvalidInput(f"{len(data)} bytes are not {count} numbers of {width} bytes", "randomisers")
    roots = [mpz.from_bytes(data[i : i + width], "big") for i in range(0, len(data), width)]
    if not all(1 <= root < key.n for root in roots):
        raise InvalidInput("a number is not between 1 and the modulus", "randomisers")
    return roots


def decode_openings(totals: Sequence[str], randomisers: Sequence[str]) -> list[Opening]:
    """Decode openings from as many totals as randomisers, both in hexadecimal."""
    return [Opening(int(t, 16), int(r, 16)) for t, r in zip(totals, randomisers, strict=True)]


def _root_bytes(key: PublicKey) -> int:
    return (key.bits + 7) // 8


def product_count(length: int) -> int:
    """Return how many products û_j·û_k, j ≤ k, a vector of that length has."""
    return length * (length + 1) // 2


def questioned_vectors(
    question: ScoreQuestion, vectors: int, length: int, key: PublicKey
) -> list[tuple[list[mpz], list[mpz], list[int]]]:
    """Return the masked vector, the products and the masks of every model that a validator is asked about.

    Raises
    ------
    InvalidCiphertext, InvalidInput
        There are not that many of that length, or one is no ciphertext under the key.
    """
    masked = key.decode(question.masked, vectors * length)
    products = key.decode(question.products, vectors * product_count(length))
    masks = decode_masks(question.masks, vectors * length)
    return list(zip(split(masked, vectors), split(products, vectors), split(masks, vectors), strict=True))
