"""How often something may be tried."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commons.errors import TooManyRequests
from commons.users import limits
from commons.users.limits import Limit, client_key
from tests.unit.users.service import Clock

BURST, EVERY_S = 5, 10.0


def limit(clock: Clock) -> Limit:
    return Limit("too many tries", BURST, EVERY_S, clock.seconds)


def allowed(limited: Limit, key: str) -> bool:
    try:
        limited.take(key)
    except TooManyRequests:
        return False
    return True


def test_as_many_as_the_burst_and_then_once_in_a_while() -> None:
    clock = Clock()
    limited = limit(clock)
    assert [allowed(limited, "a") for _ in range(BURST + 2)] == [True] * BURST + [False] * 2
    clock.forward(seconds=EVERY_S)
    assert [allowed(limited, "a") for _ in range(2)] == [True, False]
    clock.forward(seconds=EVERY_S * 100)
    assert [allowed(limited, "a") for _ in range(BURST + 1)] == [True] * BURST + [False]


def test_whoever_is_refused_is_told_how_long_to_wait_and_need_not_wait_longer() -> None:
    clock = Clock()
    limited = limit(clock)
    for _ in range(BURST):
        limited.take("a")
    clock.forward(seconds=2.5)
    with pytest.raises(TooManyRequests, match="too many tries: try again in 8 s") as refused:
        limited.take("a")
    clock.forward(seconds=refused.value.retry_after_s)
    limited.take("a")


def test_others_are_not_counted() -> None:
    limited = limit(Clock())
    while allowed(limited, "a"):
        pass
    assert allowed(limited, "b")


def test_good_tries_do_not_count() -> None:
    limited = limit(Clock())
    for _ in range(3 * BURST):
        limited.take("a")
        limited.give_back("a")
    assert [allowed(limited, "a") for _ in range(BURST + 1)] == [True] * BURST + [False]
    limited.give_back("never seen")


@given(st.lists(st.floats(min_value=0, max_value=60), max_size=100))
def test_never_more_than_the_burst_and_what_time_adds(pauses: list[float]) -> None:
    clock = Clock()
    limited, start, passed = limit(clock), clock.seconds(), 0
    for pause in pauses:
        clock.forward(seconds=pause)
        passed += allowed(limited, "a")
        assert passed <= BURST + (clock.seconds() - start) / EVERY_S + 1e-6


def test_many_keys_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_KEYS", 100)
    limited = limit(Clock())
    for number in range(1000):
        limited.take(str(number))
    assert len(limited) == 100
    while allowed(limited, "999"):
        pass
    limited.take("new")
    assert not allowed(limited, "999")  # the least lately tried are forgotten, not this one


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        (None, "unknown"),
        ("", "unknown"),
        ("nonsense", "unknown"),
    ],
)
def test_client_is_counted_as_what_it_cannot_choose(address: str | None, key: str) -> None:
    assert client_key(address) == key
