"""Calls from one service to another: the only place where a service opens an HTTP connection.

Every call is idempotent by what it says, so that it may be repeated after a lost answer, even one cut half way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import requests
from pydantic import ValidationError
from requests.adapters import HTTPAdapter
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter
from urllib3.exceptions import HTTPError

from commons.errors import InvalidInput, PeerRefused, PeerUnavailable, VerificationFailed
from commons.http.bodies import MESSAGEPACK
from commons.protocol.messages import Message

CONNECT_TIMEOUT_S = 3.05
RETRIED_STATUSES = frozenset(
    {
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
        Seconds to wait for one answer.
    total_s : float
        Seconds after which no further try is made; 0 means a single try.
    """

    answer_s: float = 60.0
    total_s: float = 10.0


DEFAULT_PATIENCE = Patience()


class Peers:
    """The connections of one service to the others.

    Sessions are kept per thread: keep-alive without sharing a session between threads.
    """

    def __init__(self) -> None:
        self._local = threading.local()

    def call(
        self,
        method: str,
        url: str,
        content: Message | bytes | None,
        answer: type[Answer],
        patience: Patience = DEFAULT_PATIENCE,
        count: Counter | None = None,
    ) -> Answer:
        """Send a message and return the peer's answer.

        Parameters
        ----------
        method, url : str
            What to call.
        content : Message or bytes or None
            The message, or one that was encoded before.
        answer : type
            The message that is expected back.
        patience : Patience
            How long to wait and to try.
        count : callable, optional
            Told the bytes of both bodies of every exchange.

        Raises
        ------
        PeerUnavailable
            No answer, after all tries.
        PeerRefused
            An answer that says no: a retry would not help.
        VerificationFailed
            An answer that is no such message.
        """
        data = content.pack() if isinstance(content, Message) else content
        attempts = Retrying(
            retry=retry_if_exception_type(_TryAgain),
            wait=wait_exponential_jitter(multiplier=0.05, max=1.0, jitter=0.05),
            stop=stop_after_delay(patience.total_s),
            reraise=True,
        )
        try:
            body = attempts(self._send, method, url, data, patience.answer_s, count)
        except _TryAgain as error:
            raise PeerUnavailable(f"{url} does not answer: {error}") from None
        try:
            return answer.unpack(body)
        except (ValidationError, InvalidInput) as error:
            raise VerificationFailed(f"{url} answered what is no {answer.__name__}: {error}") from None

    def _send(self, method: str, url: str, data: bytes | None, timeout: float, count: Counter | None) -> bytes:
        try:
            response = self._session().request(
                method,
                url,
                data=data,
                headers={"Content-Type": MESSAGEPACK, "Accept": MESSAGEPACK},
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
            raise PeerRefused(url, response.status_code, _detail(response))
        return response.content

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = False  # peers are reached directly: no proxy sees who talks to whom
            session.mount("http://", HTTPAdapter(pool_maxsize=64))
        return session


def _detail(response: requests.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
