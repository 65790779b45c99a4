"""A stream sends what is new, once, to all who follow, and ends."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest
from flask import Flask

from commons.changes import Changes
from commons.errors import NotLoggedIn
from commons.pages import streams
from commons.pages.streams import Frame, Point, Streams

TRAINING = uuid.UUID(int=7)


class Followed:
    """A training whose page shows a text, and whoever follows it."""

    def __init__(self, **bounds: float) -> None:
        self.changes = Changes()
        self.streams = Streams(self.changes, self.still, **bounds)  # type: ignore[arg-type]
        self.app = Flask(__name__)
        self.shown = Frame("<p>one</p>\n<p>two</p>", (), over=False)
        self.rendered = 0
        self.logged_in = True

        @self.app.get("/")
        def follow() -> object:
            return self.streams.follow(TRAINING, "en", self.render)

    def still(self) -> None:
        if not self.logged_in:
            raise NotLoggedIn("log in")

    def render(self) -> Frame:
        self.rendered += 1
        return self.shown

    def show(self, html: str, points: tuple[Point, ...] = (), over: bool = False) -> None:
        self.shown = Frame(html, points, over)
        self.changes.tell(TRAINING)

    def open(self) -> Iterator[str]:
        answer = self.app.test_client().get("/")
        assert answer.mimetype == "text/event-stream"
        return (f"{event}\n\n" for part in answer.iter_encoded() for event in part.decode().split("\n\n")[:-1])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PAUSE_S", 0.0)
    monkeypatch.setattr(streams, "PULSE_S", 0.01)


def measured(event: str) -> dict[str, object]:
    name, data = event.strip().split("\n")
    assert name == "event: measured"
    found: dict[str, object] = json.loads(data.removeprefix("data: "))
    return found


def test_a_stream_begins_with_what_there_is_and_goes_on_with_what_is_new() -> None:
    followed = Followed()
    followed.show("<p>one</p>\n<p>two</p>", ((0, 4.0), (5, 2.0)))
    events = followed.open()
    assert next(events) == "data: <p>one</p>\ndata: <p>two</p>\n\n"
    assert measured(next(events)) == {"start": 0, "points": [[0, 4.0], [5, 2.0]]}
    assert next(events) == ":\n\n"  # nothing is new
    followed.show("<p>one</p>\n<p>two</p>", ((0, 4.0), (5, 1.5), (10, 1.0)))
    assert measured(next(events)) == {"start": 1, "points": [[5, 1.5], [10, 1.0]]}
    followed.show("<p>end</p>", followed.shown.points, over=True)
    assert next(events) == "data: <p>end</p>\n\n"
    assert next(events) == "event: over\ndata: \n\n"
    assert list(events) == []


def test_what_all_followers_see_is_rendered_once() -> None:
    followed = Followed()
    everybody_has_the_first = threading.Barrier(5, lambda: followed.show("<p>new</p>"))

    def read(_: int) -> list[str]:
        events = followed.open()
        first = next(events)
        everybody_has_the_first.wait(30)
        return [first, next(event for event in events if event != ":\n\n")]

    with ThreadPoolExecutor(5) as pool:
        assert (
            list(pool.map(read, range(5))) == [["data: <p>one</p>\ndata: <p>two</p>\n\n", "data: <p>new</p>\n\n"]] * 5
        )
    assert followed.rendered == 2


def test_a_stream_ends_after_its_lifetime_so_that_logins_are_checked_again() -> None:
    events = list(Followed(lifetime_s=0.05).open())
    assert events[0].startswith("data: ") and set(events[1:]) <= {":\n\n"}


@pytest.mark.parametrize("news", [False, True], ids=["quiet", "news"])
def test_a_stream_brings_nothing_more_to_who_is_logged_out(news: bool) -> None:
    followed = Followed()
    events = followed.open()
    next(events)
    followed.logged_in = False
    if news:
        followed.show("<p>new</p>")
    assert list(islice(events, 3)) == []


def test_one_stream_too_many_is_answered_once_and_asked_to_come_later() -> None:
    followed = Followed(most=1)
    first = followed.app.test_client().get("/")
    assert list(followed.open()) == [f"retry: {streams.AGAIN_MS}\ndata: <p>one</p>\ndata: <p>two</p>\n\n"]
    first.close()
    assert next(followed.open()).startswith("data: ")
