"""What proving costs: whole trainings with and without it, in turn, on two platforms."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from scripts.local import diabetes, flow
from scripts.local.command_line import exit_on_signals
from scripts.local.demo import HYPER_PARAMETERS, ROWS
from scripts.local.platform import LocalPlatform, Ports

UNPROVEN = {name: f"scripts.benchmarks.unproven.{name}" for name in ("aggregator", "buyer", "owner")}


class Town:
    """A platform whose owners are ready, and how long its trainings took, in seconds."""

    def __init__(self, platform: LocalPlatform) -> None:
        platform.start()
        self._platform = platform
        self._owners = [flow.Owner(url) for url in platform.owner_urls]
        for number, (owner, table) in enumerate(
            zip(self._owners, diabetes.split(len(self._owners), ROWS), strict=True)
        ):
            flow.enter(owner, f"owner-{number + 1}", diabetes.to_csv(table))
        self.buyer = flow.Buyer(platform.urls["buyer"])
        self._user, _ = self.buyer.sign_up("buyer")
        self.seconds: list[float] = []

    def train(self, watching: Callable[[str], AbstractContextManager[object]] = nullcontext) -> float:
        """Train the demo's model once, while it, by its id, is watched, and return how long that took, in seconds."""
        order = flow.order_for(self._user, diabetes.FEATURES, hyper_parameters=HYPER_PARAMETERS)
        training = self.buyer.order(order)
        with watching(training):
            for owner in self._owners:
                owner.wait_for_status(training, "READY")
                accepting = time.monotonic()
                owner.accept(training)
            self.buyer.wait_finished(training)
            self.seconds.append(time.monotonic() - accepting)
        return self.seconds[-1]


def run(
    trainings: Annotated[int, typer.Option(min=1, help="Of each kind, after one that does not count.")] = 3,
) -> None:
    """Measure trainings with and without proofs of products and checked openings, in turn; takes about two minutes.

    The key's proof is made and checked before the last owner accepts: it is in neither.
    """
    console = Console(highlight=False)
    exit_on_signals()
    with ExitStack() as stack, Progress(console=console, transient=True) as progress:
        bar = progress.add_task("Starting two platforms", total=2 * (trainings + 1))
        towns = []
        for modules in (None, UNPROVEN):
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            towns.append(Town(stack.enter_context(LocalPlatform(directory, Ports.free(), modules=modules))))
        progress.update(bar, description="Training")
        for _ in range(trainings + 1):
            for town in towns:
                town.train()
                progress.advance(bar)
    table = Table(
        "", "median", "all, after a first one", title="From the last acceptance to FINISHED", title_justify="left"
    )
    proven, unproven = (statistics.median(town.seconds[1:]) for town in towns)
    for name, town, median in (("with proofs", towns[0], proven), ("without", towns[1], unproven)):
        table.add_row(name, f"{median:.2f} s", ", ".join(f"{seconds:.2f}" for seconds in town.seconds[1:]))
    console.print(table)
    console.print(f"with proofs / without: {proven / unproven:.2f}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(run)
    app(prog_name="python -m scripts.benchmarks.proving")
