"""What a crowd costs that waits for a model: whole trainings with and without it, in turn, on one platform."""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from scripts.benchmarks.comparing import Town
from scripts.local.command_line import exit_on_signals
from scripts.local.platform import LocalPlatform, Ports

PERIOD_S = 1.0
"""Between two looks of one client."""


@dataclass
class Seen:
    """How long the answers took, in seconds, and what went wrong."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def _poll(url: str, headers: Mapping[str, str], first: float, done: threading.Event, seen: Seen) -> None:
    """Be one client: always on one connection, with a look each period from `first` on, a monotonic time."""
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=30)
    at = first
    while not done.wait(max(0.0, at - time.monotonic())):
        began = time.monotonic()
        try:
            connection.request("GET", parts.path, headers=dict(headers))
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200 or not body:
                seen.errors.append(f"{answer.status}, {len(body)} bytes")
        except (OSError, HTTPException) as error:
            seen.errors.append(f"{type(error).__name__}: {error}")
            connection.close()
        seen.seconds.append(time.monotonic() - began)
        at = max(at + PERIOD_S, began)
    connection.close()


def _crowd(url: str, headers: Mapping[str, str], clients: int, parent: Connection) -> None:
    """Be a crowd until `parent` says so, and tell it what was seen."""
    done, seen = threading.Event(), Seen()
    now = time.monotonic()
    threads = [
        threading.Thread(target=_poll, args=(url, headers, now + PERIOD_S * place / clients, done, seen))
        for place in range(clients)
    ]
    for thread in threads:
        thread.start()
    parent.recv()
    done.set()
    for thread in threads:
        thread.join()
    parent.send(seen)


@contextmanager
def watched(url: str, headers: Mapping[str, str], clients: int, seen: Seen) -> Iterator[None]:
    """Have a crowd, in a process of its own, ask for what is at a URL during the block, and note what it sees."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_crowd, args=(url, headers, clients, there), daemon=True)
    process.start()
    try:
        yield
    finally:
        here.send(None)
        found: Seen = here.recv()
        process.join()
        seen.seconds += found.seconds
        seen.errors += found.errors


def run(
    trainings: Annotated[int, typer.Option(min=1, help="Of each kind, after one that does not count.")] = 3,
    clients: Annotated[int, typer.Option(min=1, help="Each asks once a second, on a connection of its own.")] = 200,
) -> None:
    """Measure the demo's trainings while nobody, and while a crowd, asks for the model; takes about two minutes."""
    console = Console(highlight=False)
    exit_on_signals()
    seen = Seen()
    quiet: list[float] = []
    polled: list[float] = []
    with ExitStack() as stack, Progress(console=console, transient=True) as progress:
        bar = progress.add_task("Starting a platform", total=2 * trainings + 1)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        town = Town(stack.enter_context(LocalPlatform(directory, Ports.free())))
        progress.update(bar, description="Training")

        def crowd(training: str) -> AbstractContextManager[None]:
            return watched(f"{town.buyer.url}/models/{training}", town.buyer.authorization, clients, seen)

        town.train()
        progress.advance(bar)
        for _ in range(trainings):
            quiet.append(town.train())
            progress.advance(bar)
            polled.append(town.train(crowd))
            progress.advance(bar)
    table = Table("", "median", "all", title="From the last acceptance to FINISHED", title_justify="left")
    for name, seconds in (("nobody asks", quiet), (f"{clients} clients ask", polled)):
        every = ", ".join(f"{each:.2f}" for each in seconds)
        table.add_row(name, f"{statistics.median(seconds):.2f} s", every)
    console.print(table)
    console.print(f"asked / not asked: {statistics.median(polled) / statistics.median(quiet):.2f}")
    cuts = statistics.quantiles(seen.seconds, n=100)
    console.print(
        f"{len(seen.seconds)} questions, {len(seen.errors)} errors; half were answered in {1000 * cuts[49]:.0f} ms,"
        f" 99 % in {1000 * cuts[98]:.0f} ms"
    )
    for error in sorted(set(seen.errors)):
        console.print(f"  {seen.errors.count(error)} × {error}", markup=False)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(run)
    app(prog_name="python -m scripts.benchmarks.polling")
