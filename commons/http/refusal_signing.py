"""Refusals signed by the service that refuses: RFC 9421, bound to the request that is refused.

A refusal ends what was asked for, so that whoever answers in a peer's place could end a training. What is signed
covers the status, the problem document, and the signature of the request (RFC 9421, section 2.4), so that it fits no
other request:

    Signature-Input: deltaml=("@status" "content-type" "content-digest" "signature";req;key="deltaml");created=…;
        keyid="0x…";alg="eip191-secp256k1";tag="deltaml-refusal"

Only what follows from a request as it was signed is refused with a signature. Somebody on the way who changes the
path, takes the message's signature away, or promises a body of a terabyte, gets a refusal that is worth nothing.
"""

from __future__ import annotations

import base64
import re
import time

import requests
from eth_account.signers.local import LocalAccount
from flask import Flask, Response

from commons.crypto import signatures
from commons.crypto.signatures import InvalidSignature
from commons.errors import NotAuthenticated
from commons.http.request_signing import (
    ALGORITHM,
    SIGNATURE,
    TAG,
    answered_signature,
    content_digest,
    signature_base,
)

REFUSALS = range(400, 500)
REFUSAL_TAG = "deltaml-refusal"

_REQUEST = f'"signature";req;key="{TAG}"'
_COVERED = f'("@status" "content-type" "content-digest" {_REQUEST})'
_INPUT = re.compile(
    rf"{TAG}=(?P<parameters>{re.escape(_COVERED)};created=[0-9]{{1,10}}"
    rf';keyid="(?P<keyid>0x[0-9A-Fa-f]{{40}})";alg="{ALGORITHM}";tag="{REFUSAL_TAG}")'
)


def register(app: Flask, account: LocalAccount) -> None:
    """Sign the refusals of an application with its service's account."""

    @app.after_request
    def sign(answer: Response) -> Response:
        asked = answered_signature()
        if asked is not None and answer.status_code in REFUSALS:
            digest = content_digest(answer.get_data())
            parameters = (
                f'{_COVERED};created={int(time.time())};keyid="{account.address}";alg="{ALGORITHM}";tag="{REFUSAL_TAG}"'
            )
            base = _base(answer.status_code, answer.headers["Content-Type"], digest, asked, parameters)
            answer.headers["Content-Digest"] = digest
            answer.headers["Signature-Input"] = f"{TAG}={parameters}"
            answer.headers["Signature"] = f"{TAG}=:{base64.b64encode(signatures.sign(base, account)).decode()}:"
        return answer


def verify(response: requests.Response, sender: str) -> None:
    """Check that `sender` signed a refusal, of the very request that it is the response to.

    Raises
    ------
    NotAuthenticated
        It is not signed, or not as it should be, or not over what has arrived.
    InvalidSignature
        Somebody else signed it, or signed the refusal of another request.
    """
    found = _INPUT.fullmatch(response.headers.get("Signature-Input", ""))
    signature = SIGNATURE.fullmatch(response.headers.get("Signature", ""))
    asked = SIGNATURE.fullmatch(response.request.headers.get("Signature", ""))
    if found is None or signature is None or asked is None:
        raise NotAuthenticated("the refusal is not signed")
    digest = content_digest(response.content)
    if response.headers.get("Content-Digest") != digest:
        raise NotAuthenticated(f"Content-Digest is not that of the refusal's body, {digest}")
    content_type = response.headers.get("Content-Type", "")
    base = _base(response.status_code, content_type, digest, asked["item"], found["parameters"])
    signer = signatures.recover(base, base64.b64decode(signature["value"]))
    if signer.lower() != sender.lower():
        raise InvalidSignature(f"a refusal of {sender} was expected, and its signature gives {signer}")


def _base(status: int, content_type: str, digest: str, asked: str, parameters: str) -> bytes:
    components = {
        '"@status"': str(status),
        '"content-type"': content_type,
        '"content-digest"': digest,
        _REQUEST: asked,
    }
    return signature_base(components, parameters)
