"""What was seen last is shown at once, and looked at again beside."""

from __future__ import annotations

import threading
import time

from commons import lookout as module
from commons.errors import PeerUnavailable
from commons.lookout import Lookout, Seen


class Sight:
    """Something to look at, which can be slow or away."""

    def __init__(self) -> None:
        self.looks: list[str] = []
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None

    def __call__(self, key: str) -> str:
        self.looks.append(key)
        assert self.open.wait(10)
        if self.error is not None:
            raise self.error
        return f"{key} {len(self.looks)}"


def until(lookout: Lookout[str, str], key: str, view: str | None, problem: str | None = None) -> Seen[str]:
    deadline = time.monotonic() + 10
    while (seen := lookout.see(key)).view != view or seen.problem != problem:
        assert time.monotonic() < deadline, seen
        time.sleep(0.002)
    return seen


def test_first_look_is_waited_for_as_long_as_one_is_patient() -> None:
    sight = Sight()
    assert Lookout(sight).see("chain", 10).view == "chain 1"
    sight.open.clear()
    slow = Lookout(sight)
    started = time.monotonic()
    assert slow.see("chain", 0.05) == Seen()
    assert time.monotonic() - started < 5
    sight.open.set()
    until(slow, "chain", "chain 2")


def test_what_is_fresh_is_not_looked_at_again() -> None:
    sight = Sight()
    lookout = Lookout(sight, fresh_s=60)
    lookout.see("chain", 10)
    for _ in range(10):
        lookout.see("chain")
    assert sight.looks == ["chain"]


def test_what_is_stale_is_shown_until_the_next_look_is_done() -> None:
    sight = Sight()
    lookout = Lookout(sight, fresh_s=0)
    first = lookout.see("chain", 10)
    sight.open.clear()
    assert lookout.see("chain") == first == lookout.see("chain", 0.01)
    sight.open.set()
    until(lookout, "chain", "chain 2")


def test_one_thing_is_looked_at_once_at_a_time() -> None:
    sight = Sight()
    sight.open.clear()
    lookout = Lookout(sight, fresh_s=0)
    for _ in range(10):
        lookout.see("chain")
    sight.open.set()
    assert lookout.see("chain", 10).view is not None
    assert sight.looks.count("chain") <= 2


def test_what_cannot_be_seen_is_shown_as_it_was_with_the_reason() -> None:
    sight = Sight()
    lookout = Lookout(sight, fresh_s=0)
    first = lookout.see("chain", 10)
    sight.error = PeerUnavailable("the chain does not answer")
    while (seen := lookout.see("chain")).problem is None:
        time.sleep(0.002)
    assert seen.problem == "the chain does not answer" and seen.view is not None and seen.at is not None
    assert seen.at >= (first.at or seen.at)
    sight.error = ZeroDivisionError("secret")
    until(lookout, "chain", seen.view, "ZeroDivisionError")


def test_as_many_things_are_kept_as_there_is_room_for() -> None:
    lookout = Lookout(Sight(), fresh_s=60)
    for number in range(module.MOST + 10):
        lookout.see(f"{number}")
    assert len(lookout._watched) == module.MOST


def test_what_is_forgotten_before_its_turn_is_not_looked_at() -> None:
    sight = Sight()
    sight.open.clear()
    lookout = Lookout(sight, fresh_s=60)
    for number in range(module.MOST + 50):
        lookout.see(f"{number}")
    sight.open.set()
    assert lookout.see(f"{module.MOST + 49}", 10).view is not None
    assert len(sight.looks) <= module.MOST + module.THREADS
