"""A supervisor of processes on this machine that leaves none behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from commons.errors import DeltaMLError

_ENROL_THEN_RUN = 'echo "+$$" >&0; exec "$@" </dev/null'
"""Shell: tell the reaper (on standard input) who we are, then become the program. None goes untold."""


class ProcessFailed(DeltaMLError):
    """A process ended, or did not become healthy in time.

    Parameters
    ----------
    name : str
        The process.
    what : str
        What happened to it.
    log : Path
        Its log, whose last lines become part of the message.
    """

    def __init__(self, name: str, what: str, log: Path) -> None:
        tail = "\n".join(f"  | {line}" for line in log.read_text(errors="replace").splitlines()[-15:])
        super().__init__(f"{name} {what}. The end of {log}:\n{tail or '  (empty)'}")
        self.name = name


@dataclass(frozen=True)
class _Process:
    handle: subprocess.Popen[bytes]
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log: Path


class Supervisor:
    """Processes by name, each the leader of a process group, all gone when the supervisor is.

    Leave the context, or call :meth:`stop_all`. If the interpreter dies before that, by SIGKILL too, a small
    process beside it kills the groups (see :mod:`scripts.local.reaper`).
    """

    def __init__(self) -> None:
        self._processes: dict[str, _Process] = {}
        self._ended: set[str] = set()  # their ids may be other people's by now: never signalled again
        reaper = [sys.executable, "-I", "-S", str(Path(__file__).with_name("reaper.py"))]
        self._reaper = subprocess.Popen(reaper, stdin=subprocess.PIPE, start_new_session=True)
        assert self._reaper.stdin is not None
        self._enrolment = self._reaper.stdin

    def __enter__(self) -> Self:
        """Return the supervisor."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop everything."""
        self.stop_all()

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        """Start a process in a group of its own.

        Parameters
        ----------
        name : str
            What the other methods call it.
        argv : sequence of str
            Program and arguments.
        env : mapping of str to str
            Its whole environment.
        log : Path
            The file that its output is appended to.
        """
        if self.running(name):
            raise ValueError(f"{name} runs already")
        with log.open("ab") as output:
            handle = subprocess.Popen(
                ["/bin/sh", "-c", _ENROL_THEN_RUN, "sh", *argv],
                stdin=self._enrolment,
                stdout=output,
                stderr=output,
                env=env,
                start_new_session=True,
            )
        self._processes[name] = _Process(handle, tuple(argv), dict(env), log)
        self._ended.discard(name)

    def wait(self, name: str) -> None:
        """Wait until the process has ended, and raise ProcessFailed unless it succeeded."""
        process = self._processes[name]
        process.handle.wait()
        if (code := self._exit_code(name)) != 0:
            raise ProcessFailed(name, f"failed with exit code {code}", process.log)

    def wait_healthy(self, name: str, url: str, body: Any = None, timeout: float = 60) -> None:
        """Wait until a URL of the process answers 200.

        Parameters
        ----------
        name : str
            The process; when it ends there is no point in waiting on.
        url : str
            Where it tells its health.
        body : optional
            What to POST there as JSON; GET without.
        timeout : float
            Seconds.

        Raises
        ------
        ProcessFailed
            With the end of the process's log.
        """
        deadline = time.monotonic() + timeout
        with requests.Session() as session:
            session.trust_env = False  # a proxy is not for this machine's own ports
            while time.monotonic() < deadline:
                self.require_running(name)
                with contextlib.suppress(requests.RequestException):
                    if session.request("POST" if body else "GET", url, json=body, timeout=5).ok:
                        return
                time.sleep(0.1)
        raise ProcessFailed(name, f"is not healthy after {timeout:.0f} s", self.log(name))

    def running(self, name: str) -> bool:
        """Tell whether the process was started and has not ended."""
        return name in self._processes and self._exit_code(name) is None

    def require_running(self, name: str) -> None:
        """Raise ProcessFailed, with the end of its log, if the process has ended."""
        process = self._processes[name]
        if (code := self._exit_code(name)) is not None:
            raise ProcessFailed(name, f"ended with exit code {code}", process.log)

    def pid(self, name: str) -> int:
        """Return the process's id, which is its group's too."""
        return self._processes[name].handle.pid

    def log(self, name: str) -> Path:
        """Return the file that the process logs to."""
        return self._processes[name].log

    def signal(self, name: str, number: int) -> None:
        """Send a signal to the whole group, such as SIGSTOP and SIGCONT around a pause, unless it has ended."""
        if name not in self._ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid(name), number)

    def kill(self, name: str) -> None:
        """End the whole group with SIGKILL, as a crash would."""
        self._end(name, grace=0)

    def stop(self, name: str, grace: float = 5) -> None:
        """Ask the group to end (SIGTERM), and make it end (SIGKILL) after `grace` seconds."""
        self.signal(name, signal.SIGTERM)
        self._end(name, grace)

    def restart(self, name: str) -> None:
        """Start a process again with its arguments and environment, after a SIGKILL if it still runs."""
        process = self._processes[name]
        self.kill(name)
        self.start(name, process.argv, process.env, process.log)

    def stop_all(self, grace: float = 1) -> None:
        """Stop everything, within about `grace` seconds altogether. Nothing can be started afterwards."""
        try:
            for name in self._processes:
                self.signal(name, signal.SIGTERM)
            deadline = time.monotonic() + grace
            for name in self._processes:
                self._end(name, max(0.0, deadline - time.monotonic()))
            self._processes.clear()
        finally:  # interrupted, the reaper does the rest
            self._enrolment.close()
            self._reaper.wait()

    def _exit_code(self, name: str) -> int | None:
        code = self._processes[name].handle.poll()
        if code is not None:
            self._end(name, grace=0)  # what it left behind
        return code

    def _end(self, name: str, grace: float) -> None:
        if name in self._ended:
            return
        handle = self._processes[name].handle
        with contextlib.suppress(subprocess.TimeoutExpired):
            handle.wait(grace)
        self.signal(name, signal.SIGKILL)  # the leader that would not go, the workers that it left
        handle.wait()
        self._ended.add(name)
        if not self._enrolment.closed:
            os.write(self._enrolment.fileno(), b"-%d\n" % handle.pid)
