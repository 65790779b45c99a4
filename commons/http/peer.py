"""Calls from one service to another: the only place where a service opens an HTTP connection.

Every call is idempotent by what it says, so that it may be repeated after a lost answer, even one cut half way. Every
try is signed anew (:mod:`commons.http.request_signing`). Messages about trainings are signed for themselves too, and
so are their answers, since they are kept and shown to others; that signature travels in a header. A refusal counts
when it is signed as well (:mod:`commons.http.refusal_signing`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Generic, Protocol, TypeVar

import requests
from pydantic import ValidationError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter
from urllib3.exceptions import HTTPError

from commons.crypto.signatures import InvalidSignature
from commons.errors import InvalidInput, NotAuthenticated, PeerRefused, PeerUnavailable, VerificationFailed
from commons.http import answers, refusal_signing
from commons.http.bodies import MESSAGEPACK
from commons.http.request_signing import RequestSigner
from commons.http.signatures import SIGNATURE_HEADER, decode_signature, encode_signature
from commons.protocol.messages import Message
from commons.protocol.signed import Signed, Signer

CONNECT_TIMEOUT_S = 3.05
RETRIED_STATUSES = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,  # clocks that differ, a body that was changed: it passes when it is signed again
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)

Answer = TypeVar("Answer", bound=Message)
Counter = Callable[[int], None]


class _TryAgain(Exception):
    """The peer did not answer, or asked to be called again."""


@dataclass(frozen=True)
class Patience:
    """How long a call may take.

    Parameters
    ----------
    answer_s : float
        Seconds to wait for one answer, and for its last byte.
    total_s : float
        Seconds after which no further try is made; 0 means a single try.
    """

    answer_s: float = 60.0
    total_s: float = 10.0


DEFAULT_PATIENCE = Patience()


@dataclass(frozen=True)
class Answered(Generic[Answer]):
    """A peer's answer, decoded, and as it signed it."""

    content: Answer
    signed: Signed


class Signing(Protocol):
    """Has an account that signs."""

    def signer(self) -> Signer:
        """Return what signs as that account, for one contract on one chain."""


class Peers:
    """The connections of one service to the others: all that goes out is signed by its account.

    Sessions are kept per thread: keep-alive without sharing a session between threads.

    Parameters
    ----------
    chain : Signing
        A service's connection to the chain: has the account that signs.
    """

    def __init__(self, chain: Signing) -> None:
        self._chain = chain
        self._local = threading.local()

    def sign(self, message: Message) -> Signed:
        """Sign a message as this service."""
        return self._chain.signer().sign(message)

    def ask(
        self,
        method: str,
        url: str,
        question: Signed,
        answer: type[Answer],
        sender: str,
        patience: Patience = DEFAULT_PATIENCE,
        count: Counter | None = None,
    ) -> Answered[Answer]:
        """Send a signed message and return the peer's signed answer.

        Parameters
        ----------
        method, url : str
            What to call.
        question : Signed
            The message, from :meth:`sign` or of somebody else, to be passed on.
        answer : type
            The message that is expected back.
        sender : str
            Address of the account that has to have signed the answer, as one to this question.
        patience : Patience
            How long to wait and to try.
        count : callable, optional
            Told the bytes of both bodies of every exchange.

        Raises
        ------
        PeerUnavailable
            No answer, after all tries, or one that `sender` did not sign as an answer to this.
        PeerRefused
            An answer of `sender` that says no: a retry would not help.
        VerificationFailed
            What `sender` signed is no such message.
        """
        headers = {SIGNATURE_HEADER: encode_signature(question.signature)}
        response = self._patiently(method, url, question.content, headers, sender, patience, count)
        try:
            signed = Signed(
                content=response.content, signature=decode_signature(response.headers.get(SIGNATURE_HEADER))
            )
            return Answered(signed.verified(answer, self._chain.signer().domain, sender, question), signed)
        except (NotAuthenticated, InvalidSignature) as error:  # who knows who answered: `sender` said nothing
            raise PeerUnavailable(f"{url} answered what {sender} did not sign: {error}") from None

    def call(
        self,
        method: str,
        url: str,
        content: Message | None,
        answer: type[Answer],
        patience: Patience = DEFAULT_PATIENCE,
        count: Counter | None = None,
    ) -> Answer:
        """Send a message that is about no training, and return the peer's unsigned answer.

        Parameters and errors are those of :meth:`ask`; nobody knows who refuses.
        """
        data = None if content is None else content.pack()
        response = self._patiently(method, url, data, {}, None, patience, count)
        try:
            return answer.unpack(response.content)
        except (ValidationError, InvalidInput) as error:
            raise VerificationFailed(f"{url} answered what is no {answer.__name__}: {error}") from None

    def _patiently(
        self,
        method: str,
        url: str,
        data: bytes | None,
        headers: Mapping[str, str],
        sender: str | None,
        patience: Patience,
        count: Counter | None,
    ) -> requests.Response:
        attempts = Retrying(
            retry=retry_if_exception_type(_TryAgain),
            wait=wait_exponential_jitter(multiplier=0.05, max=1.0, jitter=0.05),
            stop=stop_after_delay(patience.total_s),
            reraise=True,
        )
        try:
            return attempts(self._send, method, url, data, headers, sender, patience.answer_s, count)
        except _TryAgain as error:
            raise PeerUnavailable(f"{url} does not answer: {error}") from None

    def _send(
        self,
        method: str,
        url: str,
        data: bytes | None,
        headers: Mapping[str, str],
        sender: str | None,
        timeout: float,
        count: Counter | None,
    ) -> requests.Response:
        try:
            response = self._session().request(
                method,
                url,
                data=data,
                headers={"Content-Type": MESSAGEPACK, "Accept": MESSAGEPACK, **headers},
                timeout=(CONNECT_TIMEOUT_S, timeout),
                allow_redirects=False,
            )
        except (requests.RequestException, HTTPError) as error:  # a URL that is none, too: it came from the peer
            raise _TryAgain(type(error).__name__) from None
        if count is not None:
            count(len(data or b"") + len(response.content))
        if response.status_code in RETRIED_STATUSES:
            raise _TryAgain(f"{response.status_code}: {_detail(response)}")
        if response.status_code != HTTPStatus.OK:
            if sender is not None:
                _require_refused_by(sender, response)
            raise PeerRefused(url, response.status_code, _detail(response))
        return response

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.auth = RequestSigner(self._chain.signer().account)
            session.headers["Accept-Encoding"] = "identity"
            session.trust_env = False  # peers are reached directly: no proxy sees who talks to whom
            for scheme in ("http://", "https://"):
                session.mount(scheme, answers.Adapter(pool_maxsize=64))
        return session


def _require_refused_by(sender: str, response: requests.Response) -> None:
    try:
        refusal_signing.verify(response, sender)
    except (NotAuthenticated, InvalidSignature) as error:  # who knows who refused: `sender` said nothing
        raise PeerUnavailable(
            f"{response.url} answered {response.status_code} ({_detail(response)}), and {sender} did not: {error}"
        ) from None


def _detail(response: requests.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
