"""Requests pass once, whatever happens to the service and to the clocks."""

from __future__ import annotations

import contextlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event
from werkzeug.exceptions import ServiceUnavailable

from commons.database import Database
from commons.errors import NotAuthenticated
from commons.http.nonces import MAX_AGE_S, MAX_AHEAD_S, Nonces

SENDER = "0x1a642f0E3c3aF545E7AcBD38b07251B3990914F1"


def test_nonce_is_used_once_by_threads_that_hurry(database: Database) -> None:
    nonces = Nonces(database)
    together = threading.Barrier(4)

    def use_all(_: int) -> int:
        passed = 0
        together.wait()
        for number in range(10_000):
            with contextlib.suppress(NotAuthenticated, ServiceUnavailable):
                nonces.use(SENDER, str(number), number // 100, number // 100)
                passed += 1
        return passed

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as executor:
            assert sum(executor.map(use_all, range(4))) == 10_000
    finally:
        sys.setswitchinterval(interval)


def test_nonces_are_forgotten_when_their_time_is_up(database: Database) -> None:
    nonces = Nonces(database)
    for second in range(400):
        nonces.use(SENDER, "same", second, second)
    assert len(nonces) == MAX_AGE_S + 1
    with pytest.raises(NotAuthenticated, match="the nonce same is used"):
        nonces.use(SENDER, "same", 399, 399 + MAX_AGE_S)
    assert len(nonces) == 1


@pytest.mark.parametrize("ahead", [-MAX_AGE_S, -1, 0, MAX_AHEAD_S])
@pytest.mark.parametrize("down_s", [0, 1, 3, MAX_AGE_S])
def test_what_has_passed_does_not_pass_after_a_restart(database: Database, ahead: int, down_s: int) -> None:
    Nonces(database).use(SENDER, "x", 1000 + ahead, 1000)
    with pytest.raises((NotAuthenticated, ServiceUnavailable)):
        Nonces(database).use(SENDER, "x", 1000 + ahead, 1000 + down_s)


def test_what_is_signed_after_the_last_that_has_passed_passes_after_a_restart(database: Database) -> None:
    Nonces(database).use(SENDER, "x", 1000, 1000)
    restarted = Nonces(database)
    with pytest.raises(ServiceUnavailable, match="sign the request again"):
        restarted.use(SENDER, "y", 1000, 1001)
    restarted.use(SENDER, "y", 1001, 1060)


def test_what_is_refused_does_not_move_the_second_before_which_everything_is_refused(database: Database) -> None:
    nonces = Nonces(database)
    with pytest.raises(NotAuthenticated, match="from the future"):
        nonces.use(SENDER, "x", 1000 + MAX_AHEAD_S + 1, 1000)
    Nonces(database).use(SENDER, "x", 1000, 1000)


def test_database_is_written_to_once_a_second(database: Database) -> None:
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *details: statements.append(details[2]))
    nonces = Nonces(database)
    for second in range(1000, 1010):
        for number in range(100):
            nonces.use(SENDER, str(number), second, second)
    assert sum(statement.startswith("INSERT") for statement in statements) == 10


def test_request_does_not_pass_that_could_not_be_noted(database: Database) -> None:
    nonces = Nonces(database)
    with database.writer.begin() as connection:
        connection.exec_driver_sql("DROP TABLE latest_request")
    for _ in range(2):
        with pytest.raises(Exception, match="no such table"):
            nonces.use(SENDER, "x", 1000, 1000)
    assert len(nonces) == 0
