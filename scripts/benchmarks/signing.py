"""What it costs that services sign their calls and know their users: whole trainings with and without, in turn."""

from __future__ import annotations

from typing import Annotated

import typer

from scripts.benchmarks.comparing import compare

UNSIGNED = {name: f"scripts.benchmarks.unsigned.{name}" for name in ("aggregator", "buyer", "owner")}


def run(
    trainings: Annotated[int, typer.Option(min=1, help="Of each kind, after one that does not count.")] = 5,
) -> None:
    """Measure trainings with and without signed requests and closed routes, in turn; takes about three minutes.

    Messages are signed in both: their signatures are what a transcript is made of. Users log in before.
    """
    compare("signed requests and closed routes", UNSIGNED, trainings)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(run)
    app(prog_name="python -m scripts.benchmarks.signing")
