"""The demo: the whole platform on this machine, and one training driven over REST as its users would."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.spinner import Spinner
from rich.table import Table as Grid
from rich.text import Text

from commons.chain.marketplace import Marketplace
from commons.errors import DeltaMLError
from scripts.local import cheats, diabetes, flow
from scripts.local.cheats import Cheat, Event, Stage, Trial
from scripts.local.command_line import PortBase, exit_on_signals
from scripts.local.platform import REPOSITORY, LocalPlatform, Ports
from scripts.local.report import Report, make_parties, make_report, train_in_plaintext
from scripts.local.story import Story, show_event

ROWS = 50
HYPER_PARAMETERS: dict[str, Any] = {
    "iterations": 100,
    "local_steps": 1,
    "learning_rate": 1.5,
    "ridge": 0.0,
    "evaluation_interval": 5,
    "weighting": "rows",
    "key_bits": 2048,
}


def run() -> None:
    """Run the command line."""
    app = typer.Typer(add_completion=False)
    app.command()(demo)
    app(prog_name="scripts/demo")


def demo(
    port_base: PortBase = None,
    keep: Annotated[
        bool, typer.Option("--keep", metavar="", help="Leave everything up, and show how to go on, until Ctrl-C.")
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", dir_okay=False, help="Write the report for machines, too."),
    ] = None,
    cheat: Annotated[
        str | None,
        typer.Option(
            "--cheat",
            metavar="WHO=HOW",
            help="Have one party cheat, and tell who notices and what it pays. 'list' lists the cheats.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Start a chain, the services and five data owners, and let a buyer have a model trained by them.

    Everything runs on this machine, on scikit-learn's Diabetes data, and is stopped at the end.
    """
    console = Console(highlight=False)
    if cheat == "list":
        _list_cheats(console)
        return
    chosen = None if cheat is None else _chosen(cheat)
    ports = Ports.standard() if port_base is None else Ports.consecutive(port_base)
    exit_on_signals()
    try:
        ports.require_free()
        if json_file is not None and not json_file.absolute().parent.is_dir():
            raise DeltaMLError(f"--json: there is no folder {json_file.absolute().parent}")
    except DeltaMLError as error:
        _fail(console, error)
    directory = _fresh_directory()
    finished = False
    try:
        with LocalPlatform(directory, ports, modules=None if chosen is None else cheats.MODULES) as platform:
            _bring_up(platform, console)
            told = _train(platform, console) if chosen is None else _cheat(platform, chosen, console)
            told.show(console)
            if json_file is not None:
                json_file.write_text(json.dumps(told.to_json(), indent=2) + "\n")
            told.require_success()
            finished = True
            if keep:
                _wait_for_the_user(platform, told.training_id, console)
            console.print("\nStopping everything…")
    except Exception as error:
        if not isinstance(error, (DeltaMLError, TimeoutError)):
            console.print_exception()
        _fail(console, error, f"The logs are in {directory}")
    except SystemExit:  # a signal
        console.print("\nStopped.")
        if not finished:
            _remove(directory)
            raise
    if not keep:
        _remove(directory)


def _bring_up(platform: LocalPlatform, console: Console) -> None:
    begun = time.monotonic()
    states = dict.fromkeys(["chain", "contract", *platform.services], "waiting")
    spinner = Spinner("dots", "starting")

    def picture() -> Grid:
        grid = Grid.grid(padding=(0, 2))
        for name, state in states.items():
            shown = spinner if state == "starting" else Text(state, "green" if state == "up" else "dim")
            grid.add_row(name, shown, Text(platform.urls.get(name, ""), "dim"))
        return grid

    def on_change(name: str, state: str) -> None:
        states[name] = state
        live.update(picture())

    with Live(picture(), console=console) as live:
        platform.start(on_change)
    console.print(f"\nThe platform is up after {time.monotonic() - begun:.1f} s.\n")


def _train(platform: LocalPlatform, console: Console) -> Report:
    buyer = flow.Buyer(platform.urls["buyer"])
    aggregator = flow.Aggregator.entered(platform.urls["aggregator"])
    owners = {name: flow.Owner(url) for name, url in platform.urls.items() if name.startswith("owner-")}
    tables = dict(zip(owners, diabetes.split(len(owners), ROWS), strict=True))
    rows = {name: f"{place * ROWS}–{(place + 1) * ROWS - 1}" for place, name in enumerate(owners)}
    services: dict[str, flow.Service] = {**owners, "aggregator": aggregator, "buyer": buyer}

    for name, owner in owners.items():
        member = flow.enter(owner, name, diabetes.to_csv(tables[name]))
        console.print(f"{name} registered: rows {rows[name]}, {member.address}")
    user_id, address = buyer.sign_up("buyer")
    console.print(f"buyer signed up: {address}")
    before = {name: service.contract() for name, service in services.items()}
    addresses = {name: str(contract["account"]) for name, contract in before.items()}

    order = flow.order_for(user_id, diabetes.FEATURES, ether=5, hyper_parameters=HYPER_PARAMETERS)
    (platform.directory / "order.json").write_text(json.dumps(order, indent=2))
    training_id = buyer.order(order)
    console.print(f"buyer ordered model {training_id} for 5 ether")
    for name, owner in owners.items():
        owner.wait_for_status(training_id, "READY")
        accepting = time.monotonic()
        owner.accept(training_id)
        console.print(f"{name} accepted")

    model = _wait_with_progress(platform, buyer, training_id, console)
    training_seconds = time.monotonic() - accepting
    for owner in owners.values():
        owner.wait_for_status(training_id, "FINISHED")
    flow.wait_for_withdrawals(services)

    training = aggregator.training(training_id)
    chain = Marketplace(platform.urls["chain"], str(before["buyer"]["address"]))
    received: Counter[str] = Counter()
    for payment in chain.payments(uuid.UUID(training_id)):
        received[payment.recipient] += payment.wei
    changes = {
        name: int(service.contract()["balance_wei"]) - int(before[name]["balance_wei"])
        for name, service in services.items()
    }
    table_of = {addresses[name]: table for name, table in tables.items()}
    trainers, validators = ([table_of[each] for each in training["roles"][role]] for role in ("trainers", "validators"))
    plaintext, sklearn_mse = train_in_plaintext(trainers, validators, HYPER_PARAMETERS)
    parties = make_parties(model, training, received, addresses, changes, rows)
    key_bits = HYPER_PARAMETERS["key_bits"]
    return make_report(model, training, parties, plaintext, sklearn_mse, key_bits, training_seconds)


def _cheat(platform: LocalPlatform, cheat: Cheat, console: Console) -> Story:
    stage = Stage.enter(platform, ROWS)
    order = stage.order(cheat)
    (platform.directory / "order.json").write_text(json.dumps(order, indent=2))
    who = {"trainer": "first trainer", "validator": "first validator"}.get(cheat.role, cheat.role)
    console.print(f"[bold]{cheat.name}[/]: the {who} {cheat.does}.\n")
    trial = Trial.begin(stage, cheat)
    stage.accept(trial.training_id)

    def on_event(event: Event) -> None:
        platform.require_running()
        show_event(event, console)

    return Story(stage, trial, trial.watch(on_event))


def _list_cheats(console: Console) -> None:
    grid = Grid.grid(padding=(0, 2))
    for each in cheats.CHEATS:
        grid.add_row(each.name, each.does)
    console.print(grid)


def _chosen(name: str) -> Cheat:
    try:
        return cheats.find(name)
    except DeltaMLError as error:
        raise typer.BadParameter(str(error), param_hint="--cheat") from None


def _wait_with_progress(platform: LocalPlatform, buyer: flow.Buyer, training_id: str, console: Console) -> flow.Json:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} rounds, MSE {task.fields[mse]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        rounds = HYPER_PARAMETERS["iterations"]
        bar = progress.add_task("roles are drawn", total=rounds, mse="…")

        def on_progress(model: flow.Json) -> None:
            platform.require_running()
            history = model["metrics"]["mse_history"]
            if history:
                done, mse = history[-1]["iteration"], history[-1]["mse"]
                stage = "training encrypted" if done < rounds else "contributions, settlement"
                progress.update(bar, description=stage, completed=done, mse=f"{mse:.2f}")

        model = buyer.wait_finished(training_id, on_progress)
        progress.update(bar, description="finished", completed=model["metrics"]["iterations"])
    return model


def _wait_for_the_user(platform: LocalPlatform, training_id: str, console: Console) -> None:
    urls, first_port = platform.urls, platform.ports.owners[0]
    deltaml = f"{Path(sys.executable).parent}/deltaml"
    users = {"buyer": "buyer", "aggregator": "aggregator operator", "owner-1": "owner-1"}
    as_who = {name: f'--oauth2-bearer "$(token {user})"' for name, user in users.items()}
    pages = {name: urls[name].replace("127.0.0.1", "localhost") for name in users}
    directory = platform.directory
    commands = {
        "A password for the pages": (
            f"password() {{ {deltaml} user password --data-dir {directory}/$1 --email ${{2:-$1}}@example.org; }}"
        ),
        f"of the buyer: log in at {pages['buyer']} as buyer@example.org": "password buyer",
        f"of the first owner: {pages['owner-1']}, owner-1@example.org": "password owner-1",
        f"of the aggregator: {pages['aggregator']}, operator@example.org": "password aggregator operator",
        "The user of a service, with a new token from its database": (
            f"token() {{ {deltaml} user token --data-dir {directory}/$1 --email ${{2:-$1}}@example.org; }}"
        ),
        "The model, its weights and its metrics": f"curl {as_who['buyer']} {urls['buyer']}/models/{training_id}",
        "Roles, time and bytes": f"curl {as_who['aggregator']} {urls['aggregator']}/model/{training_id}",
        "What the first owner sees": f"curl {as_who['owner-1']} {urls['owner-1']}/models",
        "Its account and the contract": f"curl {as_who['owner-1']} {urls['owner-1']}/contract",
        "Order another model, which has an id": (
            f"curl {as_who['buyer']} {urls['buyer']}/models --json @{directory}/order.json"
        ),
        "and accept it at every owner": (
            f'for n in {{1..{len(platform.ports.owners)}}}; do curl --oauth2-bearer "$(token owner-$n)"'
            f" -X PUT http://127.0.0.1:$(({first_port - 1} + n))/trainings/ID/accept; done"
        ),
    }
    console.print(f"\nEverything is up; logs and data are in {directory}. Go on with:\n")
    for title, command in commands.items():
        console.print(f"[dim]# {title}")
        console.print(command, soft_wrap=True, markup=False)
    console.print("\nCtrl-C stops everything.")
    while True:
        time.sleep(1)
        platform.require_running()


def _fresh_directory() -> Path:
    parent = REPOSITORY / ".demo"
    parent.mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=parent))


def _remove(directory: Path) -> None:
    shutil.rmtree(directory)
    with contextlib.suppress(OSError):  # another demo runs, or left its logs
        directory.parent.rmdir()


def _fail(console: Console, error: Exception, *hints: str) -> NoReturn:
    console.print("\n[bold red]The demo failed:[/] ", end="")
    for line in (str(error), *hints):
        console.print(line, markup=False, soft_wrap=True)
    raise SystemExit(1)
