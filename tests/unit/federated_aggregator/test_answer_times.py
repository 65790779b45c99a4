"""How owners answer is noted as it is, in bounded space, by many threads at once."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from commons.errors import InvalidInput, PeerRefused, PeerUnavailable, VerificationFailed
from federated_aggregator import answer_times
from federated_aggregator.answer_times import LAST, MOST_FAILURES, Answers, AnswerTimes, Fault, nearest_rank
from tests.unit.federated_aggregator.parties import TRAINING, World

ONE, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = 0.0

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(answer_times, "time", made)
    return made


def answer(times: AnswerTimes, clock: Clock, seconds: float, training: uuid.UUID = ONE, address: str = "a") -> None:
    with times.asking(training, address):
        clock.time += seconds


def fail(times: AnswerTimes, error: Exception, training: uuid.UUID = ONE, address: str = "a") -> None:
    with pytest.raises(type(error)) as raised, times.asking(training, address):
        raise error
    assert raised.value is error


def test_median_and_95th_percentile_are_by_nearest_rank(clock: Clock) -> None:
    times = AnswerTimes()
    for seconds in range(20, 0, -1):
        answer(times, clock, seconds)
    found = times.of("a")
    assert (found.count, found.median_s, found.slow_s) == (20, 10, 19)
    assert found.last is not None and found.last >= times.since
    assert nearest_rank([], 0.5) is None and nearest_rank([3.0], 0.95) == 3.0


def test_only_the_last_answers_count(clock: Clock) -> None:
    times = AnswerTimes()
    for _ in range(LAST):
        answer(times, clock, 9)
    for _ in range(LAST):
        answer(times, clock, 1)
    found = times.of("a")
    assert (found.count, found.slow_s) == (LAST, 1)


def test_trainings_and_owners_are_told_apart(clock: Clock) -> None:
    times = AnswerTimes()
    answer(times, clock, 1, ONE)
    answer(times, clock, 3, OTHER)
    answer(times, clock, 5, ONE, "b")
    assert (times.of("a").count, times.of("a", ONE).slow_s, times.of("a", OTHER).slow_s) == (2, 1, 3)
    assert times.of("b").slow_s == 5
    assert times.of("nobody") == Answers()


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (PeerUnavailable("gone"), Fault.SILENT),
        (PeerRefused("http://owner", 409, "no"), Fault.REFUSED),
        (VerificationFailed("another length"), Fault.INVALID),
        (InvalidInput("no ciphertext"), Fault.INVALID),
    ],
)
def test_what_is_no_answer_is_told_apart_and_has_no_time(error: Exception, fault: Fault) -> None:
    times = AnswerTimes()
    fail(times, error)
    assert times.of("a") == Answers(faults={fault: 1}) == times.of("a", ONE)
    assert times.of("a", OTHER) == Answers()
    (failure,) = times.failures(ONE)
    assert (failure.address, failure.fault, failure.reason, failure.count) == ("a", fault, str(error), 1)


def test_equal_failures_are_one_and_the_latest_is_first() -> None:
    times = AnswerTimes()
    for reason in ("gone", "late", "gone"):
        fail(times, PeerUnavailable(reason))
    assert [(each.reason, each.count) for each in times.failures()] == [("gone", 2), ("late", 1)]
    assert times.of("a").faults == {Fault.SILENT: 3}


def test_failures_take_bounded_space_whatever_peers_write() -> None:
    times = AnswerTimes()
    for number in range(MOST_FAILURES + 1):
        fail(times, PeerRefused("http://owner", 409, f"{number}" + "x" * 10_000))
    kept = times.failures()
    assert len(kept) == MOST_FAILURES and "409: 0x" not in kept[-1].reason
    assert max(len(each.reason) for each in kept) == answer_times.REASON_LENGTH
    assert times.of("a").faults == {Fault.REFUSED: MOST_FAILURES + 1}  # all of them are counted


def test_what_is_no_owners_fault_is_not_counted() -> None:
    times = AnswerTimes()
    fail(times, ZeroDivisionError())
    assert times.of("a") == Answers() and times.failures() == []


def test_many_threads_lose_nothing() -> None:
    times = AnswerTimes()

    def ask(number: int) -> None:
        if number % 2:
            with times.asking(ONE, f"owner-{number % 10}"):
                pass
        else:
            fail(times, PeerUnavailable("gone"), address=f"owner-{number % 10}")
        times.of(f"owner-{number % 10}", ONE)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(1000)))
    answered = [times.of(f"owner-{number}") for number in range(10)]
    assert [each.count for each in answered] == [0, 100] * 5
    assert [each.faults.get(Fault.SILENT, 0) for each in answered] == [100, 0] * 5


def test_noting_takes_microseconds() -> None:
    times = AnswerTimes()
    started = time.perf_counter()
    for _ in range(1000):
        with times.asking(ONE, "a"):
            pass
    assert time.perf_counter() - started < 0.5  # beside a round of a tenth of a second, and more


def test_a_training_leaves_the_times_of_everybody_who_was_asked(world: World) -> None:
    world.training.run(world.course)
    for owner in (*world.trainers, *world.validators):
        found = world.times.of(owner.signer.address, TRAINING)
        assert found.count >= 2 and found.median_s is not None and 0 < found.median_s <= (found.slow_s or 0) < 60
        assert found.faults == {}


def test_an_owner_that_does_not_answer_in_a_training_is_noted(world: World) -> None:
    world.trainers[1].mute = lambda question: True
    world.training.run(world.course)
    silent = world.times.of(world.trainers[1].signer.address)
    assert silent.count == 0 and silent.faults[Fault.SILENT] >= 1
    assert {each.address for each in world.times.failures(TRAINING)} == {world.trainers[1].signer.address}
