"""Waiting for something new about a training, within one process: as every service is one."""

from __future__ import annotations

import threading
import uuid


class Changes:
    """Counts what is written about each training, and wakes who waits for more."""

    def __init__(self) -> None:
        self._counts: dict[uuid.UUID, int] = {}
        self._news = threading.Condition()

    def tell(self, training_id: uuid.UUID) -> None:
        """Say that something new was written, and can be read now."""
        with self._news:
            self._counts[training_id] = self._counts.get(training_id, 0) + 1
            self._news.notify_all()

    def count(self, training_id: uuid.UUID) -> int:
        """Return how often there was something new. To be asked before reading it, so that nothing is missed."""
        with self._news:
            return self._counts.get(training_id, 0)

    def wait(self, training_id: uuid.UUID, seen: int, timeout_s: float) -> bool:
        """Wait until the count is another one than `seen`; return whether it is by now."""
        with self._news:
            return self._news.wait_for(lambda: self._counts.get(training_id, 0) != seen, timeout_s)
