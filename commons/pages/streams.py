"""Server-sent events about a training: what its page shows, as soon as there is something new.

Each stream holds a thread of the server. It waits, and reads nothing until something is written about its training;
then the first stream that wakes renders what all of them send.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flask import Response, stream_with_context

from commons.changes import Changes
from commons.errors import NotLoggedIn

MOST = 64
"""Streams at once. Who comes later is answered once, and asks again."""
LIFETIME_S = 300.0
"""After which a browser has to ask again, and give its place to who waits."""
PULSE_S = 15.0
"""After which something is sent in any case, to notice who is gone; who has logged out meanwhile is sent nothing."""
PAUSE_S = 0.5
"""Between what a stream sends and what it sends next: many streams wake for each change."""
AGAIN_MS = 5000

Point = tuple[int, float]


@dataclass(frozen=True)
class Frame:
    """What a page shows of a training now.

    Parameters
    ----------
    html : str
        Of the element that is kept up to date.
    points : tuple of (int, float)
        Iterations and their MSEs.
    over : bool
        Whether nothing will change any more.
    """

    html: str
    points: tuple[Point, ...]
    over: bool


class Streams:
    """The event streams of one service.

    Parameters
    ----------
    changes : Changes
        Says when there is something new.
    still : callable
        Raises NotLoggedIn when who follows is not logged in any more: :meth:`commons.users.access.Access.still`.
    most : int
        Streams at once.
    lifetime_s : float
        Seconds after which one ends.
    """

    def __init__(
        self, changes: Changes, still: Callable[[], object], most: int = MOST, lifetime_s: float = LIFETIME_S
    ) -> None:
        self._changes = changes
        self._still = still
        self._places = threading.BoundedSemaphore(most)
        self._lifetime_s = lifetime_s
        self._frames: dict[tuple[uuid.UUID, str], tuple[int, Frame]] = {}
        self._rendering = threading.Lock()

    def follow(self, training_id: uuid.UUID, kind: str, render: Callable[[], Frame]) -> Response:
        """Answer with a stream of frames.

        An unnamed event has the HTML; ``measured`` has the points from ``start`` on; ``over`` is the last one.

        Parameters
        ----------
        training_id : UUID
        kind : str
            What frames may be shared by: who follows the same training by the same kind sees the same.
        render : callable
            Makes a frame.
        """
        placed = self._places.acquire(blocking=False)
        lifetime_s = self._lifetime_s if placed else 0
        events = stream_with_context(self._events(training_id, kind, render, lifetime_s))
        answer = Response(events, content_type="text/event-stream")
        answer.headers["Cache-Control"] = "no-store"
        answer.headers["X-Accel-Buffering"] = "no"  # for a proxy that would collect events
        if placed:
            answer.call_on_close(self._places.release)
        return answer

    def _events(
        self, training_id: uuid.UUID, kind: str, render: Callable[[], Frame], lifetime_s: float
    ) -> Iterator[str]:
        end = time.monotonic() + lifetime_s
        sent = Frame("", (), over=False)
        # Not an event of its own: browsers' scripts overlook what comes without data.
        again = "" if lifetime_s else f"retry: {AGAIN_MS}\n"
        while True:
            count, frame = self._frame(training_id, kind, render)
            if events := _news(sent, frame):
                if not self._logged_in():
                    return
                yield again + events
            sent = frame
            if frame.over or time.monotonic() >= end:
                return
            time.sleep(PAUSE_S)
            while not self._changes.wait(training_id, count, min(PULSE_S, max(0.0, end - time.monotonic()))):
                if not self._logged_in() or time.monotonic() >= end:
                    return
                yield ":\n\n"

    def _logged_in(self) -> bool:
        try:
            self._still()
        except NotLoggedIn:
            return False
        return True

    def _frame(self, training_id: uuid.UUID, kind: str, render: Callable[[], Frame]) -> tuple[int, Frame]:
        with self._rendering:
            count = self._changes.count(training_id)
            known = self._frames.get((training_id, kind))
            if known is None or known[0] != count:
                known = count, render()
                self._frames[training_id, kind] = known
                if known[1].over or len(self._frames) > MOST:
                    self._frames = {(training_id, kind): known}
            return known


def _news(before: Frame, now: Frame) -> str:
    events = "" if now.html == before.html else _event(now.html)
    if now.points != before.points:
        events += _event(_points(before.points, now.points), "measured")
    return events + _event("", "over") if now.over else events


def _points(before: tuple[Point, ...], now: tuple[Point, ...]) -> str:
    same = 0
    while same < min(len(before), len(now)) and before[same] == now[same]:
        same += 1
    return json.dumps({"start": same, "points": now[same:]})


def _event(data: str, name: str | None = None) -> str:
    lines = [] if name is None else [f"event: {name}"]
    return "\n".join([*lines, *(f"data: {line}" for line in data.splitlines() or [""])]) + "\n\n"
