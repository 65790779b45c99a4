"""The driver steps every unfinished training, each by one thread at a time, whatever its steps do."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from commons import driver as module
from commons.chain.marketplace import ChainUnavailable
from commons.driver import Driver
from commons.errors import Conflict, DeltaMLError, PeerUnavailable

ONE, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)
LONG_S = 60.0
"""Nothing is polled during a test: what happens was asked for."""


@contextmanager
def running(driver: Driver) -> Iterator[Driver]:
    driver.start()
    try:
        yield driver
    finally:
        driver.stop()


@pytest.fixture
def rare_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", LONG_S)


@pytest.fixture
def frequent_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


class Steps:
    """Counts steps, and holds them up while it is closed."""

    def __init__(self) -> None:
        self.begun: list[uuid.UUID] = []
        self.ended: list[uuid.UUID] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, training_id: uuid.UUID) -> None:
        self.begun.append(training_id)
        self.gate.wait(10)
        self.ended.append(training_id)


@pytest.mark.usefixtures("rare_polls")
def test_unfinished_trainings_are_stepped_at_the_start() -> None:
    steps = Steps()
    with running(Driver(lambda: [ONE, OTHER], steps)):
        until(lambda: set(steps.ended) == {ONE, OTHER})


@pytest.mark.usefixtures("frequent_polls")
def test_unfinished_trainings_are_stepped_again_and_again() -> None:
    steps = Steps()
    with running(Driver(lambda: [ONE], steps)):
        until(lambda: len(steps.ended) >= 3)


@pytest.mark.usefixtures("frequent_polls")
def test_training_is_stepped_by_one_thread_at_a_time() -> None:
    steps = Steps()
    steps.gate.clear()
    with running(Driver(lambda: [ONE, OTHER], steps)) as driver:
        until(lambda: len(steps.begun) == 2)
        for _ in range(10):
            driver.nudge(ONE)
            time.sleep(0.005)
        assert sorted(steps.begun) == [ONE, OTHER]
        steps.gate.set()


@pytest.mark.usefixtures("rare_polls")
def test_nudge_is_heard_at_once() -> None:
    steps = Steps()
    with running(Driver(lambda: [ONE], steps)) as driver:
        until(lambda: len(steps.ended) == 1)
        time.sleep(0.02)
        assert len(steps.ended) == 1
        driver.nudge(ONE)
        until(lambda: len(steps.ended) == 2)


@pytest.mark.usefixtures("rare_polls")
def test_nudge_during_a_step_leads_to_another_step() -> None:
    steps = Steps()
    steps.gate.clear()
    with running(Driver(lambda: [ONE], steps)) as driver:
        until(lambda: len(steps.begun) == 1)
        driver.nudge(ONE)
        time.sleep(0.02)
        assert len(steps.begun) == 1
        steps.gate.set()
        until(lambda: len(steps.ended) == 2)
        time.sleep(0.02)
        assert len(steps.ended) == 2


@pytest.mark.usefixtures("rare_polls")
def test_nudge_about_a_finished_training_is_forgotten() -> None:
    steps = Steps()
    with running(Driver(list, steps)) as driver:
        driver.nudge(ONE)
        time.sleep(0.02)
        assert steps.begun == []
        assert driver._again == set()


@pytest.mark.usefixtures("frequent_polls")
@pytest.mark.parametrize(
    "error", [PeerUnavailable("away"), ChainUnavailable("down"), Conflict("not now"), ZeroDivisionError("a bug")]
)
def test_step_that_fails_is_tried_again_and_holds_up_nobody(error: Exception) -> None:
    steps = Steps()

    def advance(training_id: uuid.UUID) -> None:
        steps(training_id)
        if training_id == ONE:
            raise error

    with running(Driver(lambda: [ONE, OTHER], advance)):
        until(lambda: steps.ended.count(ONE) >= 3 and steps.ended.count(OTHER) >= 3)


@pytest.mark.usefixtures("frequent_polls")
def test_jobs_that_cannot_be_read_are_read_again() -> None:
    steps = Steps()
    attempts: list[None] = []

    def unfinished() -> list[uuid.UUID]:
        attempts.append(None)
        if len(attempts) < 3:
            raise OSError("the database is away")
        return [ONE]

    with running(Driver(unfinished, steps)):
        until(lambda: bool(steps.ended))


@pytest.mark.usefixtures("frequent_polls")
@pytest.mark.parametrize("error", [DeltaMLError("the chain is down"), ZeroDivisionError("a bug")])
def test_preparation_is_tried_until_it_succeeds_before_anything_else(error: Exception) -> None:
    steps = Steps()
    attempts: list[int] = []

    def prepare() -> None:
        attempts.append(len(steps.begun))
        if len(attempts) < 4:
            raise error

    with running(Driver(lambda: [ONE], steps, prepare)):
        until(lambda: bool(steps.ended))
    assert attempts == [0] * 4


@pytest.mark.usefixtures("rare_polls")
def test_stopping_waits_for_steps_and_begins_no_more() -> None:
    steps = Steps()
    steps.gate.clear()
    driver = Driver(lambda: [ONE], steps)
    driver.start()
    until(lambda: len(steps.begun) == 1)
    threading.Timer(0.05, steps.gate.set).start()
    driver.stop()
    assert steps.ended == [ONE]
    driver.nudge(ONE)
    time.sleep(0.02)
    assert steps.begun == [ONE]


@pytest.mark.usefixtures("rare_polls")
def test_as_many_trainings_advance_at_once_as_there_are_threads() -> None:
    steps = Steps()
    steps.gate.clear()
    trainings = [uuid.UUID(int=number) for number in range(5)]
    with running(Driver(lambda: trainings, steps, threads=2)):
        until(lambda: len(steps.begun) == 2)
        time.sleep(0.02)
        assert len(steps.begun) == 2
        steps.gate.set()
        until(lambda: sorted(steps.ended) == trainings)


@pytest.mark.usefixtures("frequent_polls")
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PeerUnavailable("the buyer is away"), "the buyer is away"),
        (Conflict("not now"), "Conflict: not now"),
        (ZeroDivisionError("a secret"), "ZeroDivisionError"),
    ],
)
def test_trouble_of_a_training_is_told_until_a_step_succeeds(error: Exception, text: str) -> None:
    errors: list[Exception] = [error]

    def advance(training_id: uuid.UUID) -> None:
        if training_id == ONE and errors:
            raise errors[0]

    with running(Driver(lambda: [ONE, OTHER], advance)) as driver:
        until(lambda: driver.trouble(ONE) == text)
        assert driver.trouble(OTHER) is None
        errors.clear()
        until(lambda: driver.trouble(ONE) is None)


@pytest.mark.usefixtures("rare_polls")
def test_trainings_that_are_stepped_are_told() -> None:
    steps = Steps()
    steps.gate.clear()
    with running(Driver(lambda: [ONE], steps)) as driver:
        until(lambda: driver.busy() == {ONE})
        steps.gate.set()
        until(lambda: driver.busy() == frozenset())
