"""Answers that are over by a certain time.

The timeouts of `requests` are for single reads, so that a peer which sends a byte now and then is waited for for ever,
by a thread that others need. Here the time is for an answer as a whole, from the request to the last byte.
"""

from __future__ import annotations

import io
import socket
import time
from http.client import HTTPResponse
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

SHORTEST_S = 0.001
"""What the last read gets, since 0 would mean not to block."""


class _Until(io.RawIOBase):
    """Stands in for a socket where an answer is read from it."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._file = sock.makefile("rb", buffering=0)
        self._end = time.monotonic() + (sock.gettimeout() or 0.0)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(max(self._end - time.monotonic(), SHORTEST_S))
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Answer(HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(_Until(sock), *arguments, **named)  # type: ignore[arg-type]  # it asks for makefile only


class _Plain(HTTPConnection):
    response_class = _Answer


class _Encrypted(HTTPSConnection):
    response_class = _Answer


class Adapter(HTTPAdapter):
    """The way of a `requests` session to peers: the read timeout is for the whole answer."""

    def get_connection_with_tls_context(self, *arguments: Any, **named: Any) -> HTTPConnectionPool:
        """Return the connections to a peer, with answers that end in time."""
        pool = super().get_connection_with_tls_context(*arguments, **named)
        assert isinstance(pool, HTTPConnectionPool)
        pool.ConnectionCls = _Encrypted if isinstance(pool, HTTPSConnectionPool) else _Plain
        return pool
