"""What the demo and the compose test have in common on the command line."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

PortBase = Annotated[
    int | None,
    typer.Option(
        min=1024,
        max=65000,
        metavar="N",
        help="Use ports N, N+1, … instead of 8545, 8080, 9090 and 5000 to 5004.",
        show_default=False,
    ),
]


def exit_on_signals() -> None:
    """Turn the first Ctrl-C, SIGTERM or hang-up into an exit; while that cleans up, the next are ignored."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def leave(number: int, frame: object) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for each in signals:
        signal.signal(each, leave)
