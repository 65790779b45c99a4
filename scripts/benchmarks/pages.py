"""What pages cost: their servers' time, what a browser loads, how late a curve is, and what 50 who watch slow down."""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from playwright.sync_api import Browser
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from commons.pages.streams import MOST
from scripts.benchmarks.comparing import Town
from scripts.local import flow
from scripts.local.browsing import browser, enter, session
from scripts.local.command_line import exit_on_signals
from scripts.local.platform import LocalPlatform, Ports

NOTE_POINTS = """
document.getElementById("live").addEventListener("measured", (event) => {
  const seen = JSON.parse(sessionStorage.seen || "[]");
  JSON.parse(event.detail.data).points.forEach(([iteration]) => seen.push([iteration, Date.now()]));
  sessionStorage.seen = JSON.stringify(seen);
});
"""
"""Notes when the page hears of each point of its curve, where it is still found after the page was reloaded."""


def server_times(service: flow.Service, path: str, loads: int) -> list[float]:
    """Return how long so many answers took, in seconds, from the request to the last byte, on one connection."""
    parts = urlsplit(service.url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=30)
    headers = {"Cookie": "=".join(session(service)), "Accept": "text/html"}
    times = []
    for _ in range(loads):
        began = time.perf_counter()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        times.append(time.perf_counter() - began)
        if answer.status != 200:
            raise RuntimeError(f"{service.url}{path}: expected 200, got {answer.status}")
    connection.close()
    return times


def transferred(chromium: Browser, service: flow.Service, path: str) -> int:
    """Return how many bytes, headers and all, a browser that has nothing yet loads for a page."""
    context = enter(chromium, service)
    page = context.new_page()
    sizes: list[int] = []
    network = context.new_cdp_session(page)
    network.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    network.send("Network.enable")
    page.goto(path)
    page.wait_for_timeout(1000)  # what a page asks for when it is there
    context.close()
    return sum(sizes)


@dataclass
class Heard:
    """What a crowd received: events, and what went wrong."""

    events: int = 0
    errors: list[str] = field(default_factory=list)


def _follow(url: str, cookie: str, done: threading.Event, heard: Heard) -> None:
    """Be one open page: follow the stream until it ends."""
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=60)
    try:
        connection.request("GET", parts.path, headers={"Cookie": cookie})
        answer = connection.getresponse()
        if answer.status != 200:
            heard.errors.append(f"status {answer.status}")
        while not done.is_set() and (line := answer.readline()):
            heard.events += line == b"\n"
    except (OSError, HTTPException) as error:
        heard.errors.append(f"{type(error).__name__}: {error}")
    finally:
        connection.close()


def _crowd(url: str, cookie: str, streams: int, parent: Connection) -> None:
    """Be a crowd until `parent` says so, and tell it what was heard."""
    done = threading.Event()
    heard = [Heard() for _ in range(streams)]
    threads = [threading.Thread(target=_follow, args=(url, cookie, done, each), daemon=True) for each in heard]
    for thread in threads:
        thread.start()
    parent.send(None)
    parent.recv()
    for thread in threads:
        thread.join(5)
    done.set()
    parent.send(Heard(sum(each.events for each in heard), [error for each in heard for error in each.errors]))


@contextmanager
def followed(service: flow.Service, training: str, streams: int, heard: Heard) -> Iterator[None]:
    """Have a crowd, in a process of its own, keep the page of a training open during the block."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    url = f"{service.url}/training/{training}/events"
    process = context.Process(target=_crowd, args=(url, "=".join(session(service)), streams, there), daemon=True)
    process.start()
    here.recv()
    try:
        yield
    finally:
        here.send(None)
        found: Heard = here.recv()
        process.join()
        heard.events += found.events
        heard.errors += found.errors


@contextmanager
def delays(chromium: Browser, buyer: flow.Buyer, training: str, found: list[float]) -> Iterator[None]:
    """Note the seconds from each measurement during the block to when an open page hears of it."""
    context = enter(chromium, buyer)
    page = context.new_page()
    page.goto(f"/training/{training}")
    page.evaluate(NOTE_POINTS)
    yield
    page.wait_for_timeout(2000)  # the last one
    seen: dict[int, float] = dict(page.evaluate("JSON.parse(sessionStorage.seen || '[]')"))
    for each in buyer.model(training)["metrics"]["mse_history"]:
        if each["iteration"] in seen:
            found.append(seen[each["iteration"]] / 1000 - datetime.fromisoformat(each["time"]).timestamp())
    context.close()


def run(
    trainings: Annotated[int, typer.Option(min=1, help="Of each kind, after one that does not count.")] = 3,
    streams: Annotated[int, typer.Option(min=1, max=MOST, help="Open pages of one training.")] = 50,
    loads: Annotated[int, typer.Option(min=2, help="Of each page.")] = 100,
) -> None:
    """Measure pages, and the demo's trainings with and without a crowd at the buyer's page; takes about two minutes."""
    console = Console(highlight=False)
    exit_on_signals()
    heard = Heard()
    late: list[float] = []
    quiet: list[float] = []
    followed_s: list[float] = []
    with ExitStack() as stack, Progress(console=console, transient=True) as progress:
        bar = progress.add_task("Starting a platform", total=2 * trainings + 2)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        platform = stack.enter_context(LocalPlatform(directory, Ports.free()))
        town = Town(platform)
        chromium = stack.enter_context(browser())
        progress.update(bar, description="Training")
        ordered: list[str] = []

        def watch(training: str) -> AbstractContextManager[None]:
            ordered.append(training)
            return delays(chromium, town.buyer, training, late)

        def crowd(training: str) -> AbstractContextManager[None]:
            return followed(town.buyer, training, streams, heard)

        town.train(watch)
        progress.advance(bar)
        for _ in range(trainings):
            quiet.append(town.train())
            progress.advance(bar)
            followed_s.append(town.train(crowd))
            progress.advance(bar)
        progress.update(bar, description="Loading pages")
        pages = _pages(town, flow.Aggregator.entered(platform.urls["aggregator"]), ordered[0])
        costs = [
            (name, server_times(service, path, loads), transferred(chromium, service, path))
            for name, service, path in pages
        ]
    table = Table("", "median", "95 %", "transferred at first", title="Pages", title_justify="left")
    for name, times, size in costs:
        cuts = statistics.quantiles(times, n=20)
        median = statistics.median(times)
        table.add_row(name, f"{1000 * median:.1f} ms", f"{1000 * cuts[18]:.1f} ms", f"{size / 1000:.0f} kB")
    console.print(table)
    console.print(
        f"From a measurement to the curve: half of {len(late)} in {1000 * statistics.median(late):.0f} ms,"
        f" all in {1000 * max(late):.0f} ms"
    )
    table = Table("", "median", "all", title="From the last acceptance to FINISHED", title_justify="left")
    for name, seconds in (("nobody watches", quiet), (f"{streams} pages are open", followed_s)):
        table.add_row(name, f"{statistics.median(seconds):.2f} s", ", ".join(f"{each:.2f}" for each in seconds))
    console.print(table)
    console.print(
        f"watched / not watched: {statistics.median(followed_s) / statistics.median(quiet):.2f};"
        f" {heard.events} events, {len(heard.errors)} errors"
    )
    for error in sorted(set(heard.errors)):
        console.print(f"  {heard.errors.count(error)} × {error}", markup=False)


def _pages(town: Town, aggregator: flow.Aggregator, training: str) -> list[tuple[str, flow.Service, str]]:
    owner = town.owners[0]
    [dataset] = owner.call("GET", "/datasets")["datasets"]
    return [
        ("buyer: log in", town.buyer, "/login"),
        ("buyer: trainings", town.buyer, "/"),
        ("buyer: order", town.buyer, "/order"),
        ("buyer: finished training", town.buyer, f"/training/{training}"),
        ("owner: requests", owner, "/"),
        ("owner: finished training", owner, f"/training/{training}"),
        ("owner: before accepting", owner, f"/training/{training}/accept"),
        ("owner: dataset", owner, f"/data/{dataset['id']}"),
        ("aggregator: status", aggregator, "/"),
        ("aggregator: training", aggregator, f"/training/{training}"),
    ]


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(run)
    app(prog_name="python -m scripts.benchmarks.pages")
