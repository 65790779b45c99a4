from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from scripts.local.processes import ProcessFailed, Supervisor

# A service with a worker: both in one group, as a gunicorn master and its worker are.
PARENT_AND_CHILD = ["/bin/sh", "-c", "sleep 300 & echo $!; wait"]
IGNORES_SIGTERM = ["/bin/sh", "-c", "trap '' TERM; echo 1; while true; do sleep 1; done"]


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    with Supervisor() as supervisor:
        yield supervisor


def start(supervisor: Supervisor, name: str, argv: list[str], directory: Path) -> int:
    """Start a process that prints a number, and return the number."""
    log = directory / f"{name}.log"
    supervisor.start(name, argv, dict(os.environ), log)
    return int(_first_line(log))


def _first_line(log: Path) -> str:
    _until(lambda: log.exists() and "\n" in log.read_text())
    return log.read_text().split("\n", 1)[0]


def _until(condition, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_kill_ends_the_whole_process_group(supervisor: Supervisor, tmp_path: Path) -> None:
    child = start(supervisor, "service", PARENT_AND_CHILD, tmp_path)
    assert not _gone(child)
    supervisor.kill("service")
    assert not supervisor.running("service")
    _until(lambda: _gone(child))


def test_stop_all_ends_what_ignores_sigterm_and_the_workers_of_what_died(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        start(supervisor, "stubborn", IGNORES_SIGTERM, tmp_path)
        orphan = start(supervisor, "service", PARENT_AND_CHILD, tmp_path)
        os.kill(supervisor.pid("service"), signal.SIGKILL)
        pids = [supervisor.pid("stubborn"), orphan]
        supervisor.stop_all(grace=0.2)
    assert all(_gone(pid) for pid in pids)


def test_nothing_survives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys, time\n"
        "from scripts.local.processes import Supervisor\n"
        "supervisor = Supervisor()\n"
        "supervisor.start('service', sys.argv[2:], os.environ, pathlib.Path(sys.argv[1]))\n"
        "time.sleep(300)\n"
    )
    log = tmp_path / "log"
    parent = subprocess.Popen([sys.executable, "-c", script, str(log), *PARENT_AND_CHILD])
    child = int(_first_line(log))
    parent.kill()
    parent.wait()
    _until(lambda: _gone(child))


def test_the_id_of_an_ended_process_is_not_signalled_again(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(supervisor, "killed", PARENT_AND_CHILD, tmp_path)
    supervisor.kill("killed")
    supervisor.start("done", ["/bin/true"], {}, tmp_path / "done.log")
    supervisor.wait("done")
    signalled: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, number: signalled.append(group))
    for name in ("killed", "done"):
        supervisor.kill(name)
        supervisor.stop(name)
        supervisor.signal(name, signal.SIGCONT)
    assert signalled == []


def test_restart_keeps_arguments_environment_and_log(supervisor: Supervisor, tmp_path: Path) -> None:
    log = tmp_path / "log"
    supervisor.start("service", ["/bin/sh", "-c", 'echo "$WORD"; exec sleep 300'], {"WORD": "again"}, log)
    _first_line(log)
    first = supervisor.pid("service")
    supervisor.restart("service")
    _until(lambda: log.read_text() == "again\nagain\n")
    assert supervisor.pid("service") != first


def test_a_paused_process_stands_still_until_it_is_continued(supervisor: Supervisor, tmp_path: Path) -> None:
    start(supervisor, "service", PARENT_AND_CHILD, tmp_path)
    process = psutil.Process(supervisor.pid("service"))
    supervisor.signal("service", signal.SIGSTOP)
    _until(lambda: process.status() == psutil.STATUS_STOPPED)
    supervisor.signal("service", signal.SIGCONT)
    _until(lambda: process.status() != psutil.STATUS_STOPPED)


def test_a_process_that_dies_shows_the_end_of_its_log(supervisor: Supervisor, tmp_path: Path) -> None:
    argv = ["/bin/sh", "-c", "echo no such database; exit 3"]
    supervisor.start("buyer", argv, dict(os.environ), tmp_path / "log")
    with pytest.raises(ProcessFailed, match="(?s)buyer ended with exit code 3.*no such database"):
        supervisor.wait_healthy("buyer", "http://127.0.0.1:1/helpers/ping", timeout=10)


def test_a_process_that_never_answers_is_given_up(supervisor: Supervisor, tmp_path: Path) -> None:
    start(supervisor, "owner-1", PARENT_AND_CHILD, tmp_path)
    with pytest.raises(ProcessFailed, match="owner-1 is not healthy after 0 s"):
        supervisor.wait_healthy("owner-1", "http://127.0.0.1:1/helpers/ping", timeout=0.3)


def test_wait_raises_when_the_process_fails(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start("good", ["/bin/sh", "-c", "exit 0"], {}, tmp_path / "good")
    supervisor.start("bad", ["/bin/sh", "-c", "echo no chain; exit 1"], {}, tmp_path / "bad")
    supervisor.wait("good")
    with pytest.raises(ProcessFailed, match="(?s)bad failed with exit code 1.*no chain"):
        supervisor.wait("bad")


def test_an_interrupted_stop_still_ends_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Supervisor, name: str, grace: float) -> None:
        raise KeyboardInterrupt

    supervisor = Supervisor()
    start(supervisor, "service", IGNORES_SIGTERM, tmp_path)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Supervisor, "_end", interrupted)
        supervisor.stop_all()
    _until(lambda: not supervisor.running("service"))
