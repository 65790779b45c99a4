"""Signatures of Ethereum accounts over bytes: EIP-191, version 0x45 ("personal message"), on secp256k1.

The signature is 65 bytes, r ‖ s ‖ v. It is deterministic (RFC 6979), so the same message signed again, after a crash,
is the same message.
"""

from __future__ import annotations

from eth_account.signers.local import LocalAccount
from eth_keys.datatypes import PrivateKey, Signature
from eth_keys.exceptions import BadSignature
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from commons.errors import VerificationFailed

SIGNATURE_BYTES = 65

_V_OFFSET = 27
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


class InvalidSignature(VerificationFailed):
    """A signature that the named account did not make over these bytes."""


def sign(text: bytes, account: LocalAccount) -> bytes:
    """Return the account's signature of `text`, 65 bytes."""
    signature = PrivateKey(bytes(account.key)).sign_msg_hash(_digest(text))
    return bytes(signature.to_bytes()[:-1]) + bytes([signature.v + _V_OFFSET])


def recover(text: bytes, signature: bytes) -> str:
    """Return the checksummed address of the account that signed `text`.

    Raises
    ------
    InvalidSignature
        These bytes are no signature of anybody, or not the one form that a signature has here.
    """
    if len(signature) != SIGNATURE_BYTES or signature[-1] - _V_OFFSET not in (0, 1):
        raise InvalidSignature("a signature has 65 bytes, of which the last is 27 or 28")
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        raise InvalidSignature("the signature's s is in the upper half of the order: it is another's twin (EIP-2)")
    try:
        parsed = Signature(signature[:-1] + bytes([signature[-1] - _V_OFFSET]))
        return str(parsed.recover_public_key_from_msg_hash(_digest(text)).to_checksum_address())
    except (BadSignature, ValidationError) as error:
        raise InvalidSignature(f"the signature is none: {error}") from None


def _digest(text: bytes) -> bytes:
    return keccak(b"\x19Ethereum Signed Message:\n" + str(len(text)).encode() + text)
