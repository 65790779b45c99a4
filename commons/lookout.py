"""What is slow to read, and may be some seconds old: shown as it was last seen, and looked at again meanwhile."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Generic, TypeVar

import structlog

from commons.database import now
from commons.errors import DeltaMLError

FRESH_S = 4.0
"""How old what was seen may be before it is looked at again."""
MOST = 256
"""Things that are kept in sight: beyond, the one that was asked for longest ago is forgotten."""
THREADS = 2

Key = TypeVar("Key", bound=Hashable)
View = TypeVar("View")

log = structlog.get_logger()


@dataclass(frozen=True)
class Seen(Generic[View]):
    """What was last seen of something.

    Parameters
    ----------
    view : optional
        What it was; None as long as nothing was seen.
    at : datetime or None
        When.
    problem : str or None
        Why nothing was seen the last time.
    """

    view: View | None = None
    at: datetime | None = None
    problem: str | None = None


@dataclass
class _Watched(Generic[View]):
    seen: Seen[View] = field(default_factory=Seen)
    looked: float = 0.0
    looking: Future[None] | None = None


class Lookout(Generic[Key, View]):
    """Shows what was seen last, and looks again beside, when somebody asks and it is no longer fresh.

    Nobody waits longer than they care to, and nothing is looked at that nobody asks for.

    Parameters
    ----------
    look : callable
        Reads the thing of a key.
    fresh_s : float
        Seconds for which what it returned will do.
    """

    def __init__(self, look: Callable[[Key], View], fresh_s: float = FRESH_S) -> None:
        self._look = look
        self._fresh_s = fresh_s
        self._watched: OrderedDict[Key, _Watched[View]] = OrderedDict()
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="lookout")

    def see(self, key: Key, patience_s: float = 0.0) -> Seen[View]:
        """Return what was last seen of a thing.

        Parameters
        ----------
        key
            Which one.
        patience_s : float
            Seconds to wait at most for a new look, if there was none of late.
        """
        with self._lock:
            watched = self._watched.setdefault(key, _Watched())
            self._watched.move_to_end(key)
            if len(self._watched) > MOST:
                _, forgotten = self._watched.popitem(last=False)
                if forgotten.looking is not None:
                    forgotten.looking.cancel()  # else ever more would wait for their turn
            idle = watched.looking is None or watched.looking.done()
            if idle and (watched.looking is None or time.monotonic() - watched.looked > self._fresh_s):
                watched.looking = self._executor.submit(self._refresh, key, watched)
            looking = watched.looking
        if looking is not None:
            wait((looking,), patience_s)
        return watched.seen

    def _refresh(self, key: Key, watched: _Watched[View]) -> None:
        try:
            watched.seen = Seen(self._look(key), now())
        except DeltaMLError as error:
            watched.seen = replace(watched.seen, problem=str(error))
        except Exception as error:
            log.exception("nothing seen")
            watched.seen = replace(watched.seen, problem=type(error).__name__)
        watched.looked = time.monotonic()
