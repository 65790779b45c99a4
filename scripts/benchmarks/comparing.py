"""The demo's training on two platforms in turn, one of whose services leave something out."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from scripts.local import diabetes, flow
from scripts.local.command_line import exit_on_signals
from scripts.local.demo import HYPER_PARAMETERS, ROWS
from scripts.local.platform import LocalPlatform, Ports


class Town:
    """A platform whose owners are ready, and how long its trainings took, in seconds."""

    def __init__(self, platform: LocalPlatform) -> None:
        platform.start()
        self._platform = platform
        self.owners = [flow.Owner(url) for url in platform.owner_urls]
        for number, (owner, table) in enumerate(zip(self.owners, diabetes.split(len(self.owners), ROWS), strict=True)):
            flow.enter(owner, f"owner-{number + 1}", diabetes.to_csv(table))
        self.buyer = flow.Buyer(platform.urls["buyer"])
        self._user, _ = self.buyer.sign_up("buyer")
        self.seconds: list[float] = []

    def train(self, watching: Callable[[str], AbstractContextManager[object]] = nullcontext) -> float:
        """Train the demo's model once, while it, by its id, is watched, and return how long that took, in seconds."""
        order = flow.order_for(self._user, diabetes.FEATURES, hyper_parameters=HYPER_PARAMETERS)
        training = self.buyer.order(order)
        with watching(training):
            for owner in self.owners:
                owner.wait_for_status(training, "READY")
                accepting = time.monotonic()
                owner.accept(training)
            self.buyer.wait_finished(training)
            self.seconds.append(time.monotonic() - accepting)
        return self.seconds[-1]


def compare(what: str, modules: Mapping[str, str], trainings: int) -> None:
    """Train in turn with and without something, and print how long it took.

    Parameters
    ----------
    what : str
        What is left out.
    modules : mapping from str to str
        The services that leave it out, as :class:`LocalPlatform` takes them.
    trainings : int
        Of each kind, after one that does not count.
    """
    console = Console(highlight=False)
    exit_on_signals()
    with ExitStack() as stack, Progress(console=console, transient=True) as progress:
        bar = progress.add_task("Starting two platforms", total=2 * (trainings + 1))
        towns = []
        for kind in (None, modules):
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            towns.append(Town(stack.enter_context(LocalPlatform(directory, Ports.free(), modules=kind))))
        progress.update(bar, description="Training")
        for _ in range(trainings + 1):
            for town in towns:
                town.train()
                progress.advance(bar)
    table = Table(
        "", "median", "all, after a first one", title="From the last acceptance to FINISHED", title_justify="left"
    )
    whole, less = (statistics.median(town.seconds[1:]) for town in towns)
    for name, town, median in ((f"with {what}", towns[0], whole), ("without", towns[1], less)):
        table.add_row(name, f"{median:.2f} s", ", ".join(f"{seconds:.2f}" for seconds in town.seconds[1:]))
    console.print(table)
    console.print(f"with {what} / without: {whole / less:.2f}")
