"""Saying something in a service's place, with the signatures of one of the platform's accounts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ormsgpack
import requests
from eth_account import Account
from pydantic import ValidationError

from commons.http.bodies import MESSAGEPACK
from commons.http.request_signing import RequestSigner
from commons.http.signatures import SIGNATURE_HEADER, encode_signature
from commons.protocol.messages import Message
from commons.protocol.signed import Domain, Signer
from scripts.local.platform import LocalPlatform

CHAIN_ID = 31337
OUTSIDER = "outsider"
"""Nobody's account; the others are named as in :attr:`LocalPlatform.accounts`."""


def domain(platform: LocalPlatform) -> Domain:
    """Return where the platform's signatures count."""
    return Domain(CHAIN_ID, (platform.directory / "contract-address").read_text().strip())


@dataclass(frozen=True)
class Voice:
    """Says something as an account, which signs both the message and the request."""

    signer: Signer

    @property
    def auth(self) -> RequestSigner:
        """What signs requests."""
        return RequestSigner(self.signer.account)

    def headers(self, kind: type[Message], body: Mapping[str, Any]) -> dict[str, str]:
        """Return the header with the signature of a body; none if it is no such message, so that nobody could sign."""
        try:
            signed = self.signer.sign(kind.model_validate(body))
        except ValidationError:
            return {}
        return {SIGNATURE_HEADER: encode_signature(signed.signature)}

    def send(
        self, http: requests.Session, method: str, url: str, kind: type[Message], body: Mapping[str, Any]
    ) -> requests.Response:
        """Send a body as a service would."""
        headers = {"Content-Type": MESSAGEPACK} | self.headers(kind, body)
        return http.request(method, url, data=ormsgpack.packb(body), headers=headers, auth=self.auth)

    def say(
        self, http: requests.Session, method: str, url: str, message: Message, through: Voice | None = None
    ) -> requests.Response:
        """Send a message, even one that its type would not let in, or have somebody pass it on."""
        signature = encode_signature(self.signer.sign(message).signature)
        headers = {"Content-Type": MESSAGEPACK, SIGNATURE_HEADER: signature}
        return http.request(method, url, data=message.pack(), headers=headers, auth=(through or self).auth, timeout=30)


def voice(platform: LocalPlatform, name: str) -> Voice:
    """Return what says something as a service, or as an outsider."""
    account = Account.create() if name == OUTSIDER else platform.accounts[name]
    return Voice(Signer(account, domain(platform)))
