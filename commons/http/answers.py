"""Answers that are over by a certain time, and no longer than memory.

The timeouts of `requests` are for single reads, so that a peer which sends a byte now and then is waited for for ever,
by a thread that others need. Here the time is for an answer as a whole, from the request to the last byte.
Nor are there packed answers, which may be a thousand times longer than they look.
"""

from __future__ import annotations

import io
import socket
import time
from http.client import HTTPException, HTTPResponse
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

LONGEST = 256 * 2**20
"""Bytes of an answer at most, headers included: several times those of the longest message."""
SHORTEST_S = 0.001
"""What the last read gets, since 0 would mean not to block."""


class _Until(io.RawIOBase):
    """Stands in for a socket where an answer is read from it."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._file = sock.makefile("rb", buffering=0)
        self._end = time.monotonic() + (sock.gettimeout() or 0.0)
        self._left = LONGEST

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(max(self._end - time.monotonic(), SHORTEST_S))
        count = self._file.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise OSError(f"the answer is longer than {LONGEST} bytes")
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class _Answer(HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(_Until(sock), *arguments, **named)  # type: ignore[arg-type]  # it asks for makefile only

    def begin(self) -> None:
        super().begin()
        if "Content-Encoding" in self.headers:
            raise HTTPException("the answer is packed, and that was not asked for")


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
