"""A report for people."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from commons.audit.arbiter import Case
from commons.audit.findings import Check, Report


def render(report: Report) -> RenderableType:
    """Return the table of checks, and below it what they come to."""
    table = Table(title=f"Training {report.training}", title_justify="left")
    table.add_column("check")
    table.add_column("items", justify="right")
    table.add_column("found", overflow="fold")
    for check in report.checks:
        table.add_row(check.name, str(check.items), _found(check))
    return Group(table, _verdict(report))


def _found(check: Check) -> Text:
    if check.deviation is not None:
        return Text(f"deviation of the {check.deviation.party.role}", style="bold red")
    if check.not_checked is not None:
        return Text(f"not checked: {check.not_checked}", style="yellow")
    return Text("as it should be", style="green")


def _verdict(report: Report) -> Text:
    first = report.first
    if first is None:
        missing = "" if report.passed else " of what was checked"
        return Text(f"No deviation was found in anything{missing}.", style="green" if report.passed else "yellow")
    return Text.assemble(
        ("First deviation: the ", "bold red"),
        (str(first.party), "bold red"),
        f"\n  where    {first.entry}\n  claimed  {first.claimed}\n  found    {first.found}",
    )


def show(report: Report, console: Console) -> None:
    """Print a report."""
    console.print(render(report), highlight=False)


def show_case(case: Case, console: Console) -> None:
    """Print what an arbiter found and decided."""
    if case.claim is not None:
        claim = case.claim
        console.print(_theirs(f"{claim.disputer} claims about {claim.claim}:"))
        console.print(_theirs(f"  reported  {claim.reported}\n  computed  {claim.computed}"))
    for remark in case.remarks:
        console.print(_theirs(remark, "yellow"))
    decision = case.decision
    console.print(_theirs(f"Decision: {decision.outcome.name}: {decision.reason}", "bold"))


def _theirs(words: str, style: str = "") -> Text:
    """Return words that a party chose, without what a terminal would obey."""
    return Text("".join(char if char.isprintable() or char == "\n" else "?" for char in words), style=style)
