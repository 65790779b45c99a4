"""What proving costs: whole trainings with and without it, in turn, on two platforms."""

from __future__ import annotations

from typing import Annotated

import typer

from scripts.benchmarks.comparing import compare

UNPROVEN = {name: f"scripts.benchmarks.unproven.{name}" for name in ("aggregator", "buyer", "owner")}


def run(
    trainings: Annotated[int, typer.Option(min=1, help="Of each kind, after one that does not count.")] = 3,
) -> None:
    """Measure trainings with and without proofs of products and checked openings, in turn; takes about two minutes.

    The key's proof is made and checked before the last owner accepts: it is in neither.
    """
    compare("proofs", UNPROVEN, trainings)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(run)
    app(prog_name="python -m scripts.benchmarks.proving")
