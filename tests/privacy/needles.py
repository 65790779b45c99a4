"""Looking for numbers that must not be somewhere, in every encoding that they might have there."""

from __future__ import annotations

import base64
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]

WINDOW = 8
"""Shorter patterns would be found by chance."""

DIGITS = 12

MANTISSA = 7
"""Bytes of a float that are not zero, at most, as a fixed-point number; it may begin within a byte."""


class Needles:
    """Numbers with labels, to be found in bytes as text or binary, as real or fixed-point numbers, whole or begun."""

    def __init__(self) -> None:
        self._labels: dict[bytes, set[str]] = defaultdict(set)

    def add_reals(self, label: str, values: Iterable[float], public: Iterable[float] = ()) -> None:
        """Add real numbers, but for those that are public anyway."""
        for value in set(values) - set(public):
            self._add(label, _real_patterns(value))

    def add_column(self, label: str, values: Sequence[float]) -> None:
        """Add a column of short numbers, none of which would be remarkable alone: three that stand together."""
        for three in zip(values, values[1:], values[2:], strict=False):
            texts = [comma.join(map(form, three)) for form in (str, _whole) for comma in (",", ", ", "\n", "\r\n")]
            self._add(label, [*(struct.pack(f"{order}3d", *three) for order in "<>"), *map(str.encode, texts)])

    def add_integers(self, label: str, values: Iterable[int], modulus: int = 0) -> None:
        """Add integers of many digits; negative ones as their residues too."""
        for value in values:
            self._add(label, _integer_patterns(abs(value)))
            if value < 0 and modulus:
                self._add(label, _binary_patterns(value % modulus))

    def add_bytes(self, label: str, content: bytes) -> None:
        """Add bytes, and what base64 makes of them wherever they start."""
        shifts = [base64.b64encode(bytes(shift) + content)[4:-4] for shift in range(3)]
        self._add(label, [content, content[::-1], *shifts, *(s.translate(_URL_SAFE) for s in shifts)])

    def _add(self, label: str, patterns: Iterable[bytes]) -> None:
        for pattern in patterns:
            if len(pattern) >= WINDOW:
                self._labels[pattern].add(label)

    def find(self, haystack: bytes, allowed: Needles | None = None) -> set[str]:
        """Return the labels of all numbers that are there, but for those that `allowed` has too."""
        keys, begins = self._index
        found: set[str] = set()
        for place in _places(haystack, keys):
            for pattern in begins[int.from_bytes(haystack[place : place + WINDOW], "big")]:
                if haystack.startswith(pattern, place) and (allowed is None or pattern not in allowed._labels):
                    found |= self._labels[pattern]
        return found

    @cached_property
    def _index(self) -> tuple[Keys, dict[int, list[bytes]]]:
        begins: dict[int, list[bytes]] = defaultdict(list)
        for pattern in self._labels:
            begins[int.from_bytes(pattern[:WINDOW], "big")].append(pattern)
        return np.array(sorted(begins), dtype=np.uint64), begins


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _places(haystack: bytes, keys: Keys) -> Iterator[int]:
    for shift in range(WINDOW):
        count = (len(haystack) - shift) // WINDOW
        if count <= 0:
            continue
        windows = np.frombuffer(haystack, dtype=">u8", count=count, offset=shift).astype(np.uint64)
        places = np.minimum(np.searchsorted(keys, windows), len(keys) - 1)
        yield from (int(i) * WINDOW + shift for i in np.flatnonzero(keys[places] == windows))


def _real_patterns(value: float) -> Iterator[bytes]:
    content = struct.pack(">d", value)
    if len(content.rstrip(b"\0")) > MANTISSA - 2:  # the few bytes of a small whole number are anywhere, before zeros
        yield content
        yield content[::-1]
    whole, _, fraction = f"{abs(value):.17f}".partition(".")
    # What the plain and the scientific notation have in common: digits after the point and after the first one.
    digits = fraction if int(whole) else fraction.lstrip("0")[1:]
    yield from _text_patterns(digits)
    if value != int(value):
        yield from _integer_patterns(round(abs(value) * 2.0**80))


def _integer_patterns(value: int) -> Iterator[bytes]:
    for text in (str(value), f"{value:x}", f"{value:X}"):
        yield from _text_patterns(text)
    yield from _binary_patterns(value)


def _whole(value: float) -> str:
    return str(round(value))


def _text_patterns(text: str) -> Iterator[bytes]:
    begin = text[:DIGITS]
    if len(begin.strip("0")) > DIGITS - 3:  # a few digits and zeros are anywhere
        yield begin.encode()


def _binary_patterns(value: int) -> Iterator[bytes]:
    content = value.to_bytes((value.bit_length() + 7) // 8, "big")
    if len(content.strip(b"\0")) >= MANTISSA - 1:
        yield content[-2 * WINDOW :]
        yield content[::-1][: 2 * WINDOW]
