"""Requests signed by the Ethereum account of the service that sends them: RFC 9421, with the algorithm EIP-191.

A signed message says who said something. A signed request also says that it was said now, once, and to this service:
it covers the method, the target URI, the digest of the body (RFC 9530), its type and the signature of the message in
it, and names when it was made, a nonce and the account.

    Content-Digest: sha-256=:…:
    Signature-Input: deltaml=("@method" "@target-uri" "content-digest" "content-type" "deltaml-signature");created=…;
        nonce="…";keyid="0x…";alg="eip191-secp256k1";tag="deltaml"
    Signature: deltaml=:…:

There is this one way to write it, without ``"content-type"`` or ``"deltaml-signature"`` when the request has no such
header: whatever is written otherwise is refused, so that there is nothing to interpret.

**The target.** A service does not believe what a request says about where it was sent: neither ``Host`` nor
``X-Forwarded-*``, which whoever redirects a request can write. It puts its own public URL before the path that it
dispatches on. A request that was signed for one service is thus refused by any other, and proxies that rewrite
``Host`` or end TLS do no harm; but services have to call each other by their public URLs. The account of the
recipient would be the better name, if only callers always knew it: they look for some by URL.

**The order.** What the headers say is verified first, which takes no more than they are long; then who may ask; and
only then is the body read, so that nobody else's is. Replays are refused last (:mod:`commons.http.nonces`).
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from eth_account.signers.local import LocalAccount
from flask import request
from requests import PreparedRequest
from requests.auth import AuthBase

from commons.crypto import signatures
from commons.crypto.signatures import InvalidSignature
from commons.errors import NotAuthenticated, NotAuthorised
from commons.http.signatures import SIGNATURE_HEADER

if TYPE_CHECKING:  # who only signs needs no database
    from commons.http.nonces import Nonces

ALGORITHM = "eip191-secp256k1"
TAG = "deltaml"

COVERED_IF_PRESENT = ("content-type", SIGNATURE_HEADER.lower())
"""Headers that a signature covers if the request has them."""

_SIGNED = "deltaml.signed"  # in the WSGI environment, where no header gets a name like these
_CALLER = "deltaml.caller"
_ANSWERED = "deltaml.answered"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_PATH_SAFE = "/!$&'()*+,:;=@~"
_INPUT = re.compile(
    rf'{TAG}=(?P<parameters>\((?P<covered>"@method" "@target-uri" "content-digest"( "[a-z-]+")*)\)'
    r';created=(?P<created>[0-9]{1,10});nonce="(?P<nonce>[A-Za-z0-9_-]{22,64})";keyid="(?P<keyid>0x[0-9A-Fa-f]{40})"'
    rf';alg="{ALGORITHM}";tag="{TAG}")'
)
SIGNATURE = re.compile(f"{TAG}=(?P<item>:(?P<value>[A-Za-z0-9+/]{{87}}=):)")
"""The header ``Signature``: the byte sequence as it is written, and the base64 in it."""

Clock = Callable[[], float]
"""Seconds since 1970."""


class RequestSigner(AuthBase):
    """Signs whatever a `requests` session sends: ``session.auth = RequestSigner(account)``.

    Parameters
    ----------
    account : LocalAccount
        Whoever sends the requests.
    clock : callable
        Says what time it is.
    """

    def __init__(self, account: LocalAccount, clock: Clock = time.time) -> None:
        self._account = account
        self._clock = clock

    def __call__(self, prepared: PreparedRequest) -> PreparedRequest:
        """Add the headers to a request whose method, URL and body are final."""
        body = prepared.body or b""
        if not isinstance(body, bytes):
            raise TypeError(f"a body of bytes can be signed, not one of {type(body).__name__}")
        prepared.headers.update(
            sign_request(
                self._account,
                str(prepared.method),
                str(prepared.url),
                body,
                {name: prepared.headers[name] for name in COVERED_IF_PRESENT if name in prepared.headers},
                int(self._clock()),
                secrets.token_urlsafe(16),
            )
        )
        return prepared


@dataclass(frozen=True)
class _Signed:
    """What the headers of a request say, and who signed that."""

    address: str
    digest: str
    created: int
    nonce: str
    item: str


class RequestVerifier:
    """Finds out who signed the current Flask request.

    One per application.

    Parameters
    ----------
    public_url : str
        By which the other services call this one; a proxy may take its path away.
    nonces : Nonces
        Says what has passed before.
    clock : callable
        Says what time it is.
    """

    def __init__(self, public_url: str, nonces: Nonces, clock: Clock = time.time) -> None:
        self._public_url = public_url.rstrip("/")
        self._nonces = nonces
        self._clock = clock

    def caller(self) -> str:
        """Return the checksummed address of the account that signed the current request.

        It may be asked for more than once while a request is answered.

        Raises
        ------
        NotAuthenticated
            The request is not signed, not as it should be, not over what has arrived, not for this service, not
            lately, or it has arrived before.
        ServiceUnavailable
            It may have arrived before this service was started: it may come again, signed anew.
        """
        if _CALLER not in request.environ:
            signed = self._signed()
            del request.environ[_ANSWERED]  # how much body comes is not signed, and it may come too often
            actual = content_digest(request.get_data())
            if signed.digest != actual:
                raise NotAuthenticated(f"Content-Digest is {signed.digest}, that of the body {actual}")
            self._nonces.use(signed.address, signed.nonce, signed.created, self._clock())
            request.environ[_ANSWERED] = signed.item
            request.environ[_CALLER] = signed.address
        return str(request.environ[_CALLER])

    def require(self, allowed: Callable[[], Iterable[str]]) -> str:
        """Return the address of the account that signed the current request, one of those that may.

        Nobody else's body is read.

        Parameters
        ----------
        allowed : callable
            Returns the addresses of who may send this request. It is called for signed requests only, so that
            whatever it raises is for somebody.

        Raises
        ------
        NotAuthorised
            Somebody else signed it.
        NotAuthenticated, ServiceUnavailable
            As :meth:`caller`.
        """
        signer, addresses = self._signed().address, tuple(allowed())
        if signer.lower() not in {address.lower() for address in addresses}:
            raise NotAuthorised(f"signed by {signer}: this is for {' or '.join(addresses) or 'nobody'} to ask")
        return self.caller()

    def _signed(self) -> _Signed:
        if _SIGNED not in request.environ:
            signed = self._verified()
            request.environ |= {_SIGNED: signed, _ANSWERED: signed.item}
        found: _Signed = request.environ[_SIGNED]
        return found

    def _verified(self) -> _Signed:
        found = _INPUT.fullmatch(_header("Signature-Input"))
        if found is None:
            raise NotAuthenticated(
                'Signature-Input must be deltaml=("@method" "@target-uri" "content-digest" "content-type"'
                ' "deltaml-signature");created=SECONDS;nonce="22 to 64 of A-Za-z0-9_-";keyid="ADDRESS"'
                ';alg="eip191-secp256k1";tag="deltaml"'
            )
        target = self._target()
        covered = {name: request.headers[name] for name in COVERED_IF_PRESENT if name in request.headers}
        components = _components(request.method, target, _header("Content-Digest"), covered)
        if found["covered"] != " ".join(components):
            raise NotAuthenticated(
                f"the signature must cover {' and '.join(COVERED_IF_PRESENT)} if the request has them, and only then:"
                f" it covers {found['covered']}, and should cover {' '.join(components)}"
            )
        signature = SIGNATURE.fullmatch(_header("Signature"))
        if signature is None:
            raise NotAuthenticated("Signature must be deltaml=:BASE64 OF 65 BYTES:")
        try:
            base = signature_base(components, found["parameters"])
            signer = signatures.recover(base, base64.b64decode(signature["value"]))
        except InvalidSignature as error:
            raise NotAuthenticated(str(error)) from None
        if signer != found["keyid"]:
            raise NotAuthenticated(
                f"this is not the signature of {found['keyid']} over {request.method} {target}: the request was"
                " changed, or signed for another service, or for another name of this one"
            )
        digest = components['"content-digest"']
        return _Signed(signer, digest, int(found["created"]), found["nonce"], signature["item"])

    def _target(self) -> str:
        query = request.query_string.decode("latin-1")
        return target_uri(self._public_url + quote(request.path, safe=_PATH_SAFE) + (query and f"?{query}"))


def answered_signature() -> str | None:
    """Return the signature of the current request if it covers everything that the answer follows from.

    A structured field's byte sequence; None if the request is unsigned, or refused for what its signature does not
    cover, such as the length of its body.
    """
    item: str | None = request.environ.get(_ANSWERED)
    return item


def sign_request(
    account: LocalAccount,
    method: str,
    url: str,
    body: bytes,
    covered: Mapping[str, str],
    created: int,
    nonce: str,
) -> dict[str, str]:
    """Return the headers that sign a request.

    Parameters
    ----------
    account : LocalAccount
        Whoever sends it.
    method, url : str
        What is called; the URL as it will be sent, percent-encoded.
    body : bytes
        Empty if there is none.
    covered : mapping from str to str
        Those of :data:`COVERED_IF_PRESENT` that the request has, in this order.
    created : int
        What time it is, in seconds since 1970.
    nonce : str
        Never used before by this account: 22 to 64 of ``A-Za-z0-9_-``.
    """
    digest = content_digest(body)
    components = _components(method, target_uri(url), digest, covered)
    parameters = (
        f'({" ".join(components)});created={created};nonce="{nonce}";keyid="{account.address}"'
        f';alg="{ALGORITHM}";tag="{TAG}"'
    )
    signature = base64.b64encode(signatures.sign(signature_base(components, parameters), account)).decode()
    return {
        "Content-Digest": digest,
        "Signature-Input": f"{TAG}={parameters}",
        "Signature": f"{TAG}=:{signature}:",
    }


def signature_base(components: Mapping[str, str], parameters: str) -> bytes:
    """Return what is signed (RFC 9421, section 2.5): the covered components, and the parameters of the signature.

    Components are named by their serialised identifiers: ``"@method"``, with the quotes.
    """
    lines = [f"{identifier}: {value}" for identifier, value in components.items()]
    return "\n".join([*lines, f'"@signature-params": {parameters}']).encode("latin-1")  # as WSGI has headers


def content_digest(body: bytes) -> str:
    """Return the header ``Content-Digest`` of a body (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def target_uri(url: str) -> str:
    """Return a URL in the one form that is signed: host in lower case, no default port, no user, no fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, ""))
    return f"{parts.scheme}://{host}{parts.path or '/'}{parts.query and f'?{parts.query}'}"


def _components(method: str, target: str, digest: str, covered: Mapping[str, str]) -> dict[str, str]:
    headers = {f'"{name}"': value for name, value in covered.items()}
    return {'"@method"': method, '"@target-uri"': target, '"content-digest"': digest, **headers}


def _header(name: str) -> str:
    value = request.headers.get(name)
    if value is None:
        raise NotAuthenticated(f"sign the request with your Ethereum account (RFC 9421): it has no header {name}")
    return value
