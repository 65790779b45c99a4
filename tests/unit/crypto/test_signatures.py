"""Signatures over bytes: the one that eth-account makes, in its one form, and nobody else's."""

from __future__ import annotations

import contextlib

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from hypothesis import given
from hypothesis import strategies as st

from commons.crypto.signatures import SIGNATURE_BYTES, InvalidSignature, recover, sign

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
ACCOUNT = Account.from_key(b"\x07" * 32)
TEXT = b"two trainers and a validator"


@given(st.binary(max_size=300), st.integers(1, ORDER - 1))
def test_signatures_are_those_of_personal_messages_in_ethereum(text: bytes, key: int) -> None:
    account = Account.from_key(key.to_bytes(32, "big"))
    signature = sign(text, account)
    assert signature == bytes(account.sign_message(encode_defunct(text)).signature)
    assert recover(text, signature) == account.address
    assert Account.recover_message(encode_defunct(text), signature=signature) == account.address


def test_the_same_message_signed_again_is_the_same_bytes() -> None:
    assert sign(TEXT, ACCOUNT) == sign(TEXT, ACCOUNT)


def test_a_known_signature() -> None:
    # Made by web3.js: accounts.sign in its documentation.
    account = Account.from_key("0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318")
    assert sign(b"Some data", account).hex() == (
        "b91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd"
        "6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a0291c"
    )


@given(st.integers(0, 8 * SIGNATURE_BYTES - 1))
def test_a_signature_with_another_bit_is_of_somebody_else_or_none(bit: int) -> None:
    changed = bytearray(sign(TEXT, ACCOUNT))
    changed[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(InvalidSignature):
        assert recover(TEXT, bytes(changed)) != ACCOUNT.address


def test_a_signature_of_other_bytes_gives_another_address() -> None:
    assert recover(TEXT + b".", sign(TEXT, ACCOUNT)) != ACCOUNT.address


def test_the_twin_of_a_signature_is_refused() -> None:
    # (r, n − s) with the other v is of the same account: without this rule every message had two signatures.
    signature = sign(TEXT, ACCOUNT)
    r, s, v = signature[:32], int.from_bytes(signature[32:64], "big"), signature[64]
    twin = r + (ORDER - s).to_bytes(32, "big") + bytes([55 - v])
    with pytest.raises(InvalidSignature, match="upper half"):
        recover(TEXT, twin)


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        bytes(SIGNATURE_BYTES),
        bytes(64) + b"\x1b",
        b"\xff" * 32 + bytes(31) + b"\x01\x1b",
        sign(TEXT, ACCOUNT)[:-1],
        sign(TEXT, ACCOUNT) + b"\x00",
        sign(TEXT, ACCOUNT)[:-1] + b"\x00",
        sign(TEXT, ACCOUNT)[:-1] + b"\x1d",
    ],
)
def test_bytes_that_are_no_signature_are_refused(signature: bytes) -> None:
    with pytest.raises(InvalidSignature):
        recover(TEXT, signature)
