"""Who waits for something new about a training hears of it, and misses nothing that came before it waited."""

from __future__ import annotations

import threading
import uuid

from commons.changes import Changes

ONE, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)


def test_what_came_between_reading_and_waiting_is_not_missed() -> None:
    changes = Changes()
    seen = changes.count(ONE)
    changes.tell(ONE)
    assert changes.wait(ONE, seen, timeout_s=0)


def test_everybody_who_waits_for_a_training_is_woken() -> None:
    changes = Changes()
    woken: list[bool] = []
    waiting = [threading.Thread(target=lambda: woken.append(changes.wait(ONE, 0, timeout_s=30))) for _ in range(5)]
    for thread in waiting:
        thread.start()
    changes.tell(ONE)
    for thread in waiting:
        thread.join(30)
    assert woken == [True] * 5


def test_news_of_another_training_is_none() -> None:
    changes = Changes()
    changes.tell(OTHER)
    assert not changes.wait(ONE, 0, timeout_s=0.01)
    assert (changes.count(ONE), changes.count(OTHER)) == (0, 1)
