"""The command line of the benchmarks."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import gmpy2
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from commons.crypto.paillier import PrivateKey
from scripts.benchmarks.cases import CLASSIC, ROWS, Floor, Work, World, multiplications
from scripts.benchmarks.measuring import SAMPLES, Case, Measurements

BITS = 2048


def benchmark(
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write all samples, in pyperf's format.", dir_okay=False),
    ] = None,
) -> None:
    """Measure the encrypted arithmetic at 2048 bits, in processor time; takes about a minute.

    The floor of a function is the time of the modular multiplications in it alone, measured in the same run.
    """
    console = Console()
    measurements = Measurements()
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("Making a key and data", total=None)
        world = World(PrivateKey.generate(BITS))
        bare = multiplications(BITS) | multiplications(BITS // 2)
        comparison, by_rows = world.comparison(), world.by_rows()
        by_dimension, dimension_floors = world.by_dimension()
        primitives, primitive_floors = world.primitives()
        groups: dict[str, Mapping[str, Case]] = {
            "Comparing with 2019": comparison,
            "Varying the rows": by_rows,
            "Varying the features": by_dimension | {_name(kind): case for kind, (_, case) in bare.items()},
            "Taking a training apart": primitives,
        }
        progress.update(bar, total=SAMPLES * sum(map(len, groups.values())))
        for title, cases in groups.items():
            progress.update(bar, description=title)
            for _ in measurements.measure(cases):
                progress.advance(bar)

    unit = {kind: measurements.seconds(_name(kind)) / count for kind, (count, _) in bare.items()}

    def floor_seconds(floor: Floor) -> float:
        return sum(times * _seconds(work, unit) for times, work in floor)

    console.print(
        f"{BITS}-bit key, Python {platform.python_version()}, gmpy2 {gmpy2.version()}, {platform.machine()}. "
        f"Processor time: medians of {SAMPLES} interleaved samples ± median absolute deviation."
    )
    table = _table("One owner's round: 50 rows, d = 11, randomised", "faster")
    for name in comparison:
        ratio = measurements.seconds(CLASSIC) / measurements.seconds(name)
        table.add_row(name, _milliseconds(measurements, name), f"{ratio:.0f} ×")
    console.print(table)

    table = _table("One owner's round by rows, d = 11", "to 50 rows")
    for name in by_rows:
        first = f"{ROWS[0]:,} rows:{name.split(':')[1]}"
        ratio = measurements.seconds(name) / measurements.seconds(first)
        table.add_row(name, _milliseconds(measurements, name), f"{ratio:.2f} ×")
    console.print(table)

    for title, cases, floors in (
        ("One owner's round by weights", by_dimension, dimension_floors),
        ("Everything in a training, d = 11", primitives, primitive_floors),
    ):
        table = _table(title, "floor", "to floor")
        for name in cases:
            cells = [name, _milliseconds(measurements, name)]
            if name in floors:
                least = floor_seconds(floors[name])
                cells += [f"{1e3 * least:.3f} ms", f"{measurements.seconds(name) / least:.2f} ×"]
            table.add_row(*cells)
        console.print(table)

    if json is not None:
        measurements.dump(json)
        console.print(f"Samples are in {json}.")


def _name(kind: Work) -> str:
    what = "square" if kind.squares else "half" if kind.halves else "product"
    return f"bare {what}s modulo the square of {kind.bits} bits"


def _seconds(work: Work, unit: Mapping[Work, float]) -> float:
    return (
        work.squares * unit[Work(work.bits, squares=1)]
        + work.halves * unit[Work(work.bits, halves=1)]
        + work.products * unit[Work(work.bits, products=1)]
    )


def _table(title: str, *columns: str) -> Table:
    table = Table("", title=title, title_justify="left")
    for column in ("time", *columns):
        table.add_column(column, justify="right")
    return table


def _milliseconds(measurements: Measurements, name: str) -> str:
    return f"{1e3 * measurements.seconds(name):.3f} ± {1e3 * measurements.spread(name):.3f} ms"


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(benchmark)
    app(prog_name="scripts/benchmark")
