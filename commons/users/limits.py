"""How often something may be tried.

The counts are in memory: a service is one process (:mod:`commons.http.server`), and whoever could have it started
again, to try anew, needs no password of it.
"""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from commons.errors import TooManyRequests

MAX_KEYS = 10_000
"""Keys that are remembered at most: beyond, those that were tried least lately are forgotten."""


class Limit:
    """Lets each key through so many times at once, and then once in a while (the generic cell rate algorithm).

    Parameters
    ----------
    what : str
        What is limited, for whoever is refused.
    burst : int
        How often at once.
    every_s : float
        Seconds after which once more.
    clock : callable
        Returns seconds that only grow.
    """

    def __init__(self, what: str, burst: int, every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._every_s = every_s
        self._slack_s = (burst - 1) * every_s
        self._clock = clock
        self._due: OrderedDict[str, float] = OrderedDict()  # when each key will have nothing on its account
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._due)

    def take(self, key: str) -> None:
        """Count a try; TooManyRequests, and not counted, if it is one too many."""
        with self._lock:
            now = self._clock()
            due = max(self._due.get(key, now), now)
            wait_s = due - now - self._slack_s
            if wait_s > 0:
                raise TooManyRequests(self._what, max(1, math.ceil(wait_s)))
            self._due[key] = due + self._every_s
            self._due.move_to_end(key)
            if len(self._due) > MAX_KEYS:
                self._due.popitem(last=False)

    def give_back(self, key: str) -> None:
        """Take one try off the count: it was a good one."""
        with self._lock:
            if key in self._due:
                self._due[key] -= self._every_s


def client_key(address: str | None) -> str:
    """Return what a client's address is counted as: an IPv6 address as its network of 64 bits, of which it has all."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    mapped = parsed.ipv4_mapped
    return str(mapped or ipaddress.ip_network((int(parsed), 64), strict=False))
