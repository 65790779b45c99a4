"""Requests signed by the Ethereum account of the service that sends them: RFC 9421, with the algorithm EIP-191.

A signed message says who said something. A signed request also says that it was said now, once, and to this service:
it covers the method, the target URI, the digest of the body (RFC 9530) and its type, and names when it was made, a
nonce and the account.

    Content-Digest: sha-256=:…:
    Signature-Input: deltaml=("@method" "@target-uri" "content-digest" "content-type");created=…;nonce="…";
        keyid="0x…";alg="eip191-secp256k1";tag="deltaml"
    Signature: deltaml=:…:

There is this one way to write it, without ``"content-type"`` when the request has no such header: whatever is written
otherwise is refused, so that there is nothing to interpret.

**The target.** A service does not believe what a request says about where it was sent: neither ``Host`` nor
``X-Forwarded-*``, which whoever redirects a request can write. It puts its own public URL before the path that it
dispatches on. A request that was signed for one service is thus refused by any other, and proxies that rewrite
``Host`` or end TLS do no harm; but services have to call each other by their public URLs. The account of the
recipient would be the better name, if only callers always knew it: they look for some by URL.

**Replays.** Nonces are kept in memory until their requests are too old to pass. A service that has just started knows
none, and so refuses what was signed before it started; callers sign again at every try, and are told to try (503).
What its predecessor let pass, it can let pass again only if the sender's clock was ahead by more than the restart
took, less up to a second that ``created`` leaves out. Starting takes some two seconds, and no clock may be ahead by
more than five: the two minutes are for clocks that are behind, and for requests that wait. A service whose own clock
is put back while it runs keeps refusing whatever it may have forgotten.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from eth_account.signers.local import LocalAccount
from flask import request
from requests import PreparedRequest
from requests.auth import AuthBase
from werkzeug.exceptions import ServiceUnavailable

from commons.crypto import signatures
from commons.crypto.signatures import InvalidSignature
from commons.errors import NotAuthenticated, NotAuthorised

MAX_AGE_S = 120
"""Seconds for which a request counts, and for which its nonce is remembered."""
MAX_AHEAD_S = 5
"""Seconds by which a sender's clock may be ahead."""

ALGORITHM = "eip191-secp256k1"
TAG = "deltaml"

_CALLER = "deltaml.caller"  # in the WSGI environment, where no header gets a name like this
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_PATH_SAFE = "/!$&'()*+,:;=@~"
_INPUT = re.compile(
    rf'{TAG}=(?P<parameters>\("@method" "@target-uri" "content-digest"(?P<typed> "content-type")?\)'
    r';created=(?P<created>[0-9]{1,10});nonce="(?P<nonce>[A-Za-z0-9_-]{22,64})";keyid="(?P<keyid>0x[0-9A-Fa-f]{40})"'
    rf';alg="{ALGORITHM}";tag="{TAG}")'
)
_SIGNATURE = re.compile(f"{TAG}=:(?P<value>[A-Za-z0-9+/]{{87}}=):")

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
                prepared.headers.get("Content-Type"),
                int(self._clock()),
                secrets.token_urlsafe(16),
            )
        )
        return prepared


class RequestVerifier:
    """Finds out who signed the current Flask request.

    One per application, made when the service starts: it remembers what was asked.

    Parameters
    ----------
    public_url : str
        By which the other services call this one; a proxy may take its path away.
    clock : callable
        Says what time it is.
    """

    def __init__(self, public_url: str, clock: Clock = time.time) -> None:
        self._public_url = public_url.rstrip("/")
        self._clock = clock
        self._nonces = Nonces(since=int(clock()))

    def caller(self) -> str:
        """Return the checksummed address of the account that signed the current request.

        It may be asked for more than once while a request is answered.

        Raises
        ------
        NotAuthenticated
            The request is not signed, not as it should be, not over what has arrived, not for this service, not
            lately, or it has arrived before.
        ServiceUnavailable
            It was signed before this service started: it may come again, signed anew.
        """
        if _CALLER not in request.environ:
            request.environ[_CALLER] = self._verified()
        return str(request.environ[_CALLER])

    def require(self, *addresses: str) -> str:
        """Return the address of the account that signed the current request, which is one of these.

        Raises
        ------
        NotAuthorised
            It is none of them.
        NotAuthenticated, ServiceUnavailable
            As :meth:`caller`.
        """
        caller = self.caller()
        if caller.lower() not in {address.lower() for address in addresses}:
            raise NotAuthorised(f"signed by {caller}: this is for {' or '.join(addresses) or 'nobody'} to ask")
        return caller

    def _verified(self) -> str:
        found = _INPUT.fullmatch(_header("Signature-Input"))
        if found is None:
            raise NotAuthenticated(
                'Signature-Input must be deltaml=("@method" "@target-uri" "content-digest" "content-type")'
                ';created=SECONDS;nonce="22 to 64 of A-Za-z0-9_-";keyid="ADDRESS";alg="eip191-secp256k1";tag="deltaml"'
            )
        content_type = request.headers.get("Content-Type")
        if (content_type is None) != (found["typed"] is None):
            raise NotAuthenticated("the signature must cover content-type if the request has one, and only then")
        signature = _SIGNATURE.fullmatch(_header("Signature"))
        if signature is None:
            raise NotAuthenticated("Signature must be deltaml=:BASE64 OF 65 BYTES:")
        digest = _header("Content-Digest")
        target = self._target()
        base = signature_base(_components(request.method, target, digest, content_type), found["parameters"])
        try:
            signer = signatures.recover(base, base64.b64decode(signature["value"]))
        except InvalidSignature as error:
            raise NotAuthenticated(str(error)) from None
        if signer != found["keyid"]:
            raise NotAuthenticated(
                f"this is not the signature of {found['keyid']} over {request.method} {target}: the request was"
                " changed, or signed for another service, or for another name of this one"
            )
        actual = content_digest(request.get_data())  # only now: nobody else's body is read
        if digest != actual:
            raise NotAuthenticated(f"Content-Digest is {digest}, that of the body {actual}")
        self._nonces.use(signer, found["nonce"], int(found["created"]), self._clock())
        return signer

    def _target(self) -> str:
        query = request.query_string.decode("latin-1")
        return target_uri(self._public_url + quote(request.path, safe=_PATH_SAFE) + (query and f"?{query}"))


class Nonces:
    """The nonces of the requests that still count.

    Parameters
    ----------
    since : int
        The second before which nothing was remembered, so that no request may be older.
    """

    def __init__(self, since: int) -> None:
        self._oldest = since
        self._used: dict[int, set[tuple[str, str]]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many are remembered."""
        with self._lock:
            return sum(map(len, self._used.values()))

    def use(self, address: str, nonce: str, created: int, now: float) -> None:
        """Let a request pass, once and in its time.

        Parameters
        ----------
        address, nonce : str
            Who signed it, and its nonce.
        created : int
            When it was signed, by its sender's clock.
        now : float
            What time it is by ours.

        Raises
        ------
        NotAuthenticated
            It is too old, from the future, or has passed before.
        ServiceUnavailable
            It is so old that its nonce may be forgotten.
        """
        clocks = f"it was signed at {_moment(created)} by its sender's clock, and it is {_moment(now)} by ours"
        if created < now - MAX_AGE_S:
            raise NotAuthenticated(f"the request is too old: {clocks}; it counts for {MAX_AGE_S} s")
        if created > now + MAX_AHEAD_S:
            raise NotAuthenticated(f"the request is from the future: {clocks}; {MAX_AHEAD_S} s are allowed")
        with self._lock:
            self._forget(int(now) - MAX_AGE_S)
            if created < self._oldest:
                raise ServiceUnavailable(f"sign the request again: {clocks}, and what came before is forgotten")
            used = self._used.setdefault(created, set())
            if (address, nonce) in used:
                raise NotAuthenticated(f"the nonce {nonce} is used: each request is signed anew, with a new nonce")
            used.add((address, nonce))

    def _forget(self, oldest: int) -> None:
        if oldest > self._oldest:  # never back, even if the clock goes: what is forgotten stays refused
            self._oldest = oldest
            for second in [second for second in self._used if second < oldest]:
                del self._used[second]


def sign_request(
    account: LocalAccount, method: str, url: str, body: bytes, content_type: str | None, created: int, nonce: str
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
    content_type : str or None
        The header ``Content-Type``, if the request has one.
    created : int
        What time it is, in seconds since 1970.
    nonce : str
        Never used before by this account: 22 to 64 of ``A-Za-z0-9_-``.
    """
    digest = content_digest(body)
    components = _components(method, target_uri(url), digest, content_type)
    covered = " ".join(f'"{name}"' for name in components)
    parameters = (
        f'({covered});created={created};nonce="{nonce}";keyid="{account.address}";alg="{ALGORITHM}";tag="{TAG}"'
    )
    signature = base64.b64encode(signatures.sign(signature_base(components, parameters), account)).decode()
    return {
        "Content-Digest": digest,
        "Signature-Input": f"{TAG}={parameters}",
        "Signature": f"{TAG}=:{signature}:",
    }


def signature_base(components: Mapping[str, str], parameters: str) -> bytes:
    """Return what is signed (RFC 9421, section 2.5): the covered components, and the parameters of the signature."""
    lines = [f'"{name}": {value}' for name, value in components.items()]
    return "\n".join([*lines, f'"@signature-params": {parameters}']).encode("latin-1")  # as WSGI has headers


def content_digest(body: bytes) -> str:
    """Return the header ``Content-Digest`` of a body (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def target_uri(url: str) -> str:
    """Return a URL in the one form that is signed: host in lower case, no default port, no user, no fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, ""))
    return f"{parts.scheme}://{host}{parts.path or '/'}{parts.query and f'?{parts.query}'}"


def _components(method: str, target: str, digest: str, content_type: str | None) -> dict[str, str]:
    typed = {} if content_type is None else {"content-type": content_type}
    return {"@method": method, "@target-uri": target, "content-digest": digest, **typed}


def _header(name: str) -> str:
    value = request.headers.get(name)
    if value is None:
        raise NotAuthenticated(f"sign the request with your Ethereum account (RFC 9421): it has no header {name}")
    return value


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
