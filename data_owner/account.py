"""The service's account as pages show it: at once, however long the chain takes to answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from commons.database import now
from commons.errors import DeltaMLError
from commons.http.contract import Contract

WAIT_S = 0.08
"""How long a page waits for the chain."""


@dataclass(frozen=True)
class Sight:
    """What is known of the account: ``contract`` as it was at the time ``seen``, None before the chain answered first.

    ``failed`` says that the last look that has ended got no answer.
    """

    contract: Contract | None = None
    seen: datetime | None = None
    failed: bool = False


class Glances:
    """Looks at the service's account on chain, one look at a time.

    Parameters
    ----------
    look : callable
        Asks the chain, for seconds if need be, and raises if it does not answer.
    """

    def __init__(self, look: Callable[[], Contract]) -> None:
        self._look = look
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="account")
        self._lock = threading.Lock()
        self._looking: Future[None] | None = None
        self._last = Sight()

    def sight(self) -> Sight:
        """Return what the chain says if it does so soon, else what it said last; a later call may get the answer."""
        with self._lock:
            if self._looking is None or self._looking.done():
                self._looking = self._executor.submit(self._ask)
            looking = self._looking
        with suppress(TimeoutError):
            looking.result(WAIT_S)
        return self._last

    def _ask(self) -> None:
        try:
            self._last = Sight(self._look(), now())
        except DeltaMLError:
            self._last = replace(self._last, failed=True)
