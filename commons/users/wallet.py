"""Login by wallet: Sign-In with Ethereum (EIP-4361), signed as EIP-191.

The grammar is that of the specification, read strictly: a text has at most one reading, and a reading one text. Of
what it leaves open, this service fixes everything: its own domain, URI and chain, and a statement that says what the
signature is for, so that one for logging in links no wallet and the other way round. Contracts as wallets (EIP-1271)
are not supported.
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from eth_utils.address import to_checksum_address

from commons.crypto import signatures
from commons.database import now
from commons.errors import InvalidInput, VerificationFailed
from commons.http.request_signing import target_uri

LIFETIME_S = 5 * 60
"""Seconds for which a nonce and a message count."""
MAX_AHEAD_S = 5
"""Seconds by which a user's clock may be ahead."""

LOGIN = "Log in to DeltaML."

_UNRESERVED = r"A-Za-z0-9\-._~"
_SUB_DELIMITERS = r"!$&'()*+,;="
_PCHAR = rf"(?:[{_UNRESERVED}{_SUB_DELIMITERS}:@]|%[0-9A-Fa-f]{{2}})"
_AUTHORITY = rf"(?:[{_UNRESERVED}{_SUB_DELIMITERS}:@\[\]]|%[0-9A-Fa-f]{{2}})+"
_URI = rf"[A-Za-z][A-Za-z0-9+.\-]*:(?:[{_UNRESERVED}{_SUB_DELIMITERS}:/?#\[\]@]|%[0-9A-Fa-f]{{2}})*"
_MOMENT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+\-][0-9]{2}:[0-9]{2})"

_GRAMMAR = re.compile(
    rf"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://)?(?P<domain>{_AUTHORITY})"
    r" wants you to sign in with your Ethereum account:\n"
    r"(?P<address>0x[0-9A-Fa-f]{40})\n"
    r"\n"
    rf"(?:(?P<statement>[{_UNRESERVED}{_SUB_DELIMITERS}:/?#\[\]@ ]+)\n)?"
    r"\n"
    rf"URI: (?P<uri>{_URI})\n"
    r"Version: 1\n"
    r"Chain ID: (?P<chain_id>0|[1-9][0-9]{0,77})\n"
    r"Nonce: (?P<nonce>[A-Za-z0-9]{8,128})\n"
    rf"Issued At: (?P<issued_at>{_MOMENT})"
    rf"(?:\nExpiration Time: (?P<expiration_time>{_MOMENT}))?"
    rf"(?:\nNot Before: (?P<not_before>{_MOMENT}))?"
    rf"(?:\nRequest ID: (?P<request_id>{_PCHAR}*))?"
    rf"(?P<resources>\nResources:(?:\n- {_URI})*)?"
)


def linking(user_id: object) -> str:
    """Return the statement of a message that links a wallet to a user."""
    return f"Link this account to the DeltaML user {user_id}."


@dataclass(frozen=True)
class Message:
    """A message as EIP-4361 has it. Times are texts of RFC 3339, as they were written."""

    domain: str
    address: str
    uri: str
    chain_id: int
    nonce: str
    issued_at: str
    statement: str | None = None
    scheme: str | None = None
    expiration_time: str | None = None
    not_before: str | None = None
    request_id: str | None = None
    resources: tuple[str, ...] | None = None

    def __str__(self) -> str:
        """Return the text that is signed."""
        origin = self.domain if self.scheme is None else f"{self.scheme}://{self.domain}"
        lines = [
            f"{origin} wants you to sign in with your Ethereum account:",
            self.address,
            "",
            *([] if self.statement is None else [self.statement]),
            "",
            f"URI: {self.uri}",
            "Version: 1",
            f"Chain ID: {self.chain_id}",
            f"Nonce: {self.nonce}",
            f"Issued At: {self.issued_at}",
        ]
        for label, value in (
            ("Expiration Time", self.expiration_time),
            ("Not Before", self.not_before),
            ("Request ID", self.request_id),
        ):
            if value is not None:
                lines.append(f"{label}: {value}")
        if self.resources is not None:
            lines += ["Resources:", *(f"- {resource}" for resource in self.resources)]
        return "\n".join(lines)

    @classmethod
    def parse(cls, text: str) -> Message:
        """Read a message.

        Raises
        ------
        InvalidInput
            It is none, to the letter; its address is not spelt with the checksum of EIP-55; or a time is none.
        """
        found = _GRAMMAR.fullmatch(text)
        if found is None:
            raise InvalidInput("is no message of EIP-4361, version 1", "message")
        parts: dict[str, Any] = found.groupdict()
        if parts["address"] != to_checksum_address(parts["address"]):
            raise InvalidInput("the address must be spelt with its checksum (EIP-55)", "message")
        for name in ("issued_at", "expiration_time", "not_before"):
            if parts[name] is not None:
                _moment(parts[name])
        resources = parts.pop("resources")
        return cls(
            **{**parts, "chain_id": int(parts["chain_id"])},
            resources=None if resources is None else tuple(resources.split("\n- ")[1:]),
        )


class SignIn:
    """Finds out whose wallet signed a message, for this service, now, and once.

    Parameters
    ----------
    public_url : str
        By which users call the service.
    chain_id : callable
        Returns the number of the service's chain (EIP-155).
    clock : callable
        Returns the current time, in UTC.
    """

    def __init__(self, public_url: str, chain_id: Callable[[], int], clock: Callable[[], datetime] = now) -> None:
        self._uri = public_url.rstrip("/")
        parts = urlsplit(target_uri(self._uri))
        self._scheme, self._domain = parts.scheme, parts.netloc
        self._chain_id = chain_id
        self._clock = clock
        self._nonces = Nonces()

    def offer(self, address: str, statement: str) -> Message:
        """Return what a wallet may sign now."""
        return Message(
            domain=self._domain,
            address=to_checksum_address(address),
            statement=statement,
            uri=self._uri,
            chain_id=self._chain_id(),
            nonce=self._nonces.issue(),
            issued_at=self._clock().isoformat(timespec="seconds").replace("+00:00", "Z"),
        )

    def verify(self, text: str, signature: bytes, statement: str) -> str:
        """Return the checksummed address of the account that signed a message, and use its nonce up.

        Raises
        ------
        InvalidInput
            The text is no message.
        VerificationFailed
            It is not for this service, chain or purpose, not of now, not with a fresh nonce of ours, or not signed
            by the account that it names.
        """
        message = Message.parse(text)
        for what, claimed, expected in (
            ("domain", message.domain, self._domain),
            ("scheme", message.scheme or self._scheme, self._scheme),
            ("URI", message.uri, self._uri),
            ("chain id", message.chain_id, self._chain_id()),
            ("statement", message.statement, statement),
        ):
            if claimed != expected:
                raise VerificationFailed(f"the message's {what} is {claimed!r}, and must be {expected!r}")
        self._require_now(message)
        signer = signatures.recover(text.encode(), signature)
        if signer != message.address:
            raise VerificationFailed(f"the message names {message.address}, and was signed by {signer}, or changed")
        self._nonces.use(message.nonce)
        return signer

    def _require_now(self, message: Message) -> None:
        moment, issued = self._clock(), _moment(message.issued_at)
        if not moment - timedelta(seconds=LIFETIME_S) <= issued <= moment + timedelta(seconds=MAX_AHEAD_S):
            raise VerificationFailed(
                f"the message was issued at {issued.isoformat()}, and it is {moment.isoformat()}: it counts for"
                f" {LIFETIME_S} s"
            )
        if message.expiration_time is not None and _moment(message.expiration_time) <= moment:
            raise VerificationFailed(f"the message expired at {message.expiration_time}")
        if message.not_before is not None and _moment(message.not_before) > moment:
            raise VerificationFailed(f"the message does not count before {message.not_before}")


class Nonces:
    """Numbers that this process has made, each good once and for five minutes.

    A nonce is its own record: the second of its making and 12 random bytes, with a MAC under a key that lives as
    long as the process. Only those that were used are remembered, so that asking for many fills no memory.

    Parameters
    ----------
    clock : callable
        Returns seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._used: dict[str, int] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many used ones are remembered."""
        return len(self._used)

    def issue(self) -> str:
        """Make a nonce: 64 hexadecimal digits."""
        content = int(self._clock()).to_bytes(4) + secrets.token_bytes(12)
        return (content + self._mac(content)).hex()

    def use(self, nonce: str) -> None:
        """Use a nonce up; VerificationFailed if it is not one of ours, too old, or used."""
        made = self._made(nonce)
        moment = self._clock()
        if made is None or moment - made > LIFETIME_S:
            raise VerificationFailed(f"the nonce {nonce} is none of this service's, or too old: ask for another one")
        with self._lock:
            for old in [used for used, when in self._used.items() if moment - when > LIFETIME_S]:
                del self._used[old]
            if nonce in self._used:
                raise VerificationFailed(f"the nonce {nonce} was used before: ask for another one")
            self._used[nonce] = made

    def _made(self, nonce: str) -> int | None:
        if not re.fullmatch("[0-9a-f]{64}", nonce):
            return None
        data = bytes.fromhex(nonce)
        content, mac = data[:16], data[16:]
        return int.from_bytes(content[:4]) if hmac.compare_digest(mac, self._mac(content)) else None

    def _mac(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, sha256)[:16]


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{text} is no time of RFC 3339", "message") from None
