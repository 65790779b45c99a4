"""Kills the process groups of a supervisor that is gone, however it went.

Run as a script. Its standard input is a pipe: every supervised process writes its id there before it becomes
the program (``+ID``), the supervisor when it has ended it (``-ID``). The pipe ends when the supervisor closes
it or dies, by SIGKILL too, and then nothing that is left may go on.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    """Read ids until the pipe ends, then kill the groups that are left."""
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
