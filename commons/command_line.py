"""The ``deltaml`` command: what needs no running service."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from commons.audit import Report, audit, report
from commons.audit.arbiter import Arbiter, Case, NoAnswer
from commons.audit.arbitration import withheld
from commons.audit.onchain import audit_with_chain
from commons.chain.marketplace import Marketplace
from commons.configuration import unlock
from commons.errors import DeltaMLError
from commons.protocol.messages import Address, Url
from commons.protocol.transcript import InvalidTranscript, Transcript, read

PASSED, DEVIATION, UNREADABLE, UNCHECKED = range(4)

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)


@app.callback()
def main() -> None:
    """DeltaML: check how a model was trained, decide disputes, and make users."""


@app.command(
    "user",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def user_command(context: typer.Context) -> None:
    """Make and change the users of a service, on the service's own machine."""
    from commons.users import command_line as users  # the other commands need no database

    whole = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
    whole.add_typer(users.app, name="user")
    whole(["user", *context.args], prog_name="deltaml")


@app.command("audit")
def audit_command(
    transcript: Annotated[Path, typer.Argument(metavar="TRANSCRIPT", help="The transcript's file.")],
    chain: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="JSON-RPC endpoint of a node of the training's chain. The contract's address is in the transcript.",
            show_default=False,
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the report there as well, as JSON.", show_default=False),
    ] = None,
) -> None:
    """Replay a training's transcript without any secret key, and name the first deviation and its party.

    It is checked that every message is signed by who said it and answers what it says it answers; that the key is
    sound; every sum of ciphertexts, mask and delivered number; the proofs of products and of openings; the validators'
    signatures; and the errors, contributions and result that follow. With --chain it is also checked that training,
    owners, roles (drawn with the hash of a block), errors, result and payments are those on chain.

    Needs no running service and no database.

    Exit status: 0 if every check passed that was asked for; 1 if somebody deviated; 2 if the file cannot be read as a
    transcript, or the command was not understood; 3 if all checks without the chain passed, and those with it could
    not be made, as the table says why.
    """
    screen = Console()
    errors = Console(stderr=True)
    try:
        found = _audit(_read(transcript), chain, errors)
    except InvalidTranscript as error:
        errors.print(f"{transcript} cannot be read: {error}", style="red", highlight=False, markup=False)
        raise typer.Exit(UNREADABLE) from None
    report.show(found, screen)
    if json_file is not None:
        _write(json_file, json.dumps(found.document(), indent=2) + "\n", errors)
    if found.first is not None:
        raise typer.Exit(DEVIATION)
    raise typer.Exit(PASSED if found.passed else UNCHECKED)


@app.command("arbitrate")
def arbitrate_command(
    training: Annotated[UUID, typer.Argument(metavar="TRAINING", help="The disputed training's id.")],
    chain: Annotated[str, typer.Option(metavar="URL", help="JSON-RPC endpoint of a node of the training's chain.")],
    contract: Annotated[str, typer.Option(metavar="ADDRESS", help="The marketplace's address.")],
    aggregator: Annotated[str, typer.Option(metavar="URL", help="Where the training's aggregator is.")],
    keystore: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The arbiter's account, an encrypted keystore.", show_default=False),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", metavar="FILE", help="The keystore's password.", show_default=False),
    ] = None,
    refund_unanswered: Annotated[
        bool,
        typer.Option(
            "--refund-unanswered",
            metavar="",
            help="Refund the buyer if the aggregator does not answer, or neither shows its transcript nor says no.",
        ),
    ] = False,
    owner: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS=URL",
            help="Where an owner, or the buyer, is, if not where the aggregator says. May be given several times.",
            show_default=False,
        ),
    ] = None,
    without_evidence: Annotated[
        bool,
        typer.Option(
            "--without-evidence", metavar="", help="Decide even if an owner's or the buyer's evidence cannot be had."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Decide, and change nothing on chain.")
    ] = False,
) -> None:
    """Audit a disputed training as its arbiter, decide, and resolve the dispute on chain.

    The transcript is asked of the aggregator, the evidence of whoever disputed and of every owner that is said not to
    have answered; all show them to the arbiter only. The result that follows from the transcript is what is paid for.
    If the aggregator refuses its transcript, twice, or shows another than that of the training on chain, or one without
    a result, the buyer is refunded. A model that was not delivered is delivered by the arbiter, from the transcript's
    masks.

    Nothing is decided while the aggregator does not answer, or the evidence cannot be had: try again, or use the
    options below.

    The arbiter's account is that of the keystore, or, on development chains only, of the private key in the
    environment variable DELTAML_ACCOUNT_PRIVATE_KEY.

    Exit status: 0 if the dispute is resolved (with --dry-run: decided); 1 if it could not be; 2 if the command was
    not understood.
    """
    screen, errors = Console(), Console(stderr=True)
    urls = dict(_address_and_url(option) for option in owner or ())
    try:
        account = unlock(os.environ.get("DELTAML_ACCOUNT_PRIVATE_KEY"), keystore, password_file)
        arbiter = Arbiter(Marketplace(chain, contract, account), account, urls)
        case = _examined(arbiter, training, aggregator.rstrip("/"), refund_unanswered, without_evidence, errors)
        if case.report is not None:
            report.show(case.report, screen)
        report.show_case(case, screen)
        refused = None if dry_run else arbiter.settle(training, case)
    except DeltaMLError as error:
        errors.print(f"{training} cannot be decided: {error}", style="red", highlight=False, markup=False)
        raise typer.Exit(1) from None
    if refused is not None:
        screen.print(f"The buyer did not take the model: {refused}", style="yellow", highlight=False, markup=False)
    screen.print("Nothing was changed." if dry_run else "Resolved on chain.", highlight=False)


def _examined(
    arbiter: Arbiter,
    training: UUID,
    aggregator: str,
    refund_unanswered: bool,
    without_evidence: bool,
    console: Console,
) -> Case:
    try:
        return arbiter.examine(training, aggregator, lambda shown: _audit(shown, None, console), without_evidence)
    except NoAnswer as error:
        if not refund_unanswered:
            raise NoAnswer(f"{error}. Try again; if it stays so, --refund-unanswered refunds the buyer") from None
        return Case(None, None, None, (), withheld(str(error)))


def _address_and_url(option: str) -> tuple[str, str]:
    try:
        address, url = option.split("=", 1)
        return TypeAdapter(Address).validate_python(address), TypeAdapter(Url).validate_python(url)
    except ValueError:
        raise typer.BadParameter(f"{option!r} is not an Ethereum address, =, and a URL", param_hint="--owner") from None


def _read(path: Path) -> Transcript:
    try:
        with path.open("rb") as file:
            return read(file)
    except OSError as error:
        raise InvalidTranscript(error.strerror or str(error)) from None


def _write(path: Path, text: str, console: Console) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        console.print(f"{path} cannot be written: {error.strerror}", style="red", highlight=False, markup=False)
        raise typer.Exit(UNREADABLE) from None


def _audit(transcript: Transcript, chain: str | None, console: Console) -> Report:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Replaying the transcript", total=None)
        found = audit(transcript, lambda done, total: bar.update(task, completed=done, total=total))
        if chain is None:
            return found
        bar.update(task, description="Asking the chain", total=None)
        return audit_with_chain(transcript, found, chain)


if __name__ == "__main__":  # where the package is not installed, as in the image
    app(prog_name="deltaml")
