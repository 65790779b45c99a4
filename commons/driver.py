"""The loop that advances trainings: jobs live in tables, the driver steps them until they rest.

A step that fails because a peer or the chain is away is tried again later; nothing is lost, since every step saves
what it does before it acts on it. A service that starts again picks up what its tables say is unfinished.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import structlog

from commons.chain.marketplace import ChainUnavailable
from commons.errors import DeltaMLError, PeerUnavailable

POLL_S = 1.0
"""Seconds between two looks at an unfinished training; a nudge comes earlier."""

log = structlog.get_logger()


class Driver:
    """Steps every unfinished training, each by one thread at a time.

    Parameters
    ----------
    unfinished : callable
        Returns the ids of the trainings that may have something to do.
    advance : callable
        Does what can be done for one training now.
    prepare : callable, optional
        Has to succeed once before anything else is done.
    threads : int
        How many trainings are advanced at once.
    """

    def __init__(
        self,
        unfinished: Callable[[], Iterable[uuid.UUID]],
        advance: Callable[[uuid.UUID], None],
        prepare: Callable[[], None] = lambda: None,
        threads: int = 4,
    ) -> None:
        self._unfinished = unfinished
        self._advance = advance
        self._prepare = prepare
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._busy: set[uuid.UUID] = set()
        self._again: set[uuid.UUID] = set()
        self._troubles: dict[uuid.UUID, str] = {}
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="training")
        self._thread = threading.Thread(target=self._run, name="driver", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current steps."""
        self._stopped.set()
        self._wake.set()
        self._executor.shutdown(wait=True)

    def nudge(self, training_id: uuid.UUID) -> None:
        """Say that a training may have something to do now."""
        with self._lock:
            if training_id in self._busy:
                self._again.add(training_id)
        self._wake.set()

    def busy(self) -> frozenset[uuid.UUID]:
        """Return the trainings that are being stepped, or are next."""
        with self._lock:
            return frozenset(self._busy)

    def trouble(self, training_id: uuid.UUID) -> str | None:
        """Return what the last step of a training failed for; None if it did not."""
        with self._lock:
            return self._troubles.get(training_id)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._prepare()
                break
            except DeltaMLError as error:
                log.warning("not ready yet", error=str(error))
            except Exception:
                log.exception("not ready yet")
            self._stopped.wait(POLL_S)
        while not self._stopped.is_set():
            try:
                self._submit(self._unfinished())
            except Exception:
                log.exception("the driver could not read its jobs")
            self._wake.wait(POLL_S)
            self._wake.clear()

    def _submit(self, training_ids: Iterable[uuid.UUID]) -> None:
        for training_id in training_ids:
            with self._lock:
                if training_id in self._busy:
                    continue
                self._busy.add(training_id)
                self._again.discard(training_id)
            self._executor.submit(self._step, training_id)

    def _step(self, training_id: uuid.UUID) -> None:
        trouble = None
        try:
            self._advance(training_id)
        except (ChainUnavailable, PeerUnavailable) as error:
            trouble = str(error)
            log.warning("waiting for a peer", training=str(training_id), error=trouble)
        except DeltaMLError as error:
            trouble = f"{type(error).__name__}: {error}"
            log.warning("step failed", training=str(training_id), error=trouble)
        except Exception as error:
            trouble = type(error).__name__  # the log has the rest
            log.exception("step failed", training=str(training_id))
        finally:
            with self._lock:
                if trouble is None:
                    self._troubles.pop(training_id, None)
                else:
                    self._troubles[training_id] = trouble
                self._busy.discard(training_id)
                if training_id in self._again:  # nudged while it was being stepped: look once more
                    self._wake.set()
