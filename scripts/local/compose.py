"""The compose test: the whole platform in containers, with a crash and a shutdown, under a project of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import typer

from commons.chain.marketplace import Marketplace
from commons.errors import DeltaMLError, VerificationFailed
from scripts.local import diabetes, flow
from scripts.local.command_line import PortBase, exit_on_signals
from scripts.local.platform import REPOSITORY, Ports
from scripts.local.report import AGREEMENT, ETHER, Candidates, train_in_plaintext

PRICE = 5
"""Ether for a model."""

PATIENCE = 300.0
"""Seconds for all services to become healthy: cold, and on a machine that has other things to do."""

_BEGUN = time.monotonic()


class ComposeFailed(DeltaMLError):
    """A compose command failed, or the containers did not become healthy."""


class Stack:
    """The services of docker-compose.yml in a project of their own: containers, network, volumes.

    Use as a context manager: entering removes what a killed test has left and starts nothing (call :meth:`up`),
    leaving removes everything but the image, after showing the last lines of the logs if an error is the reason.

    Parameters
    ----------
    ports : Ports
        Where the services are published on this machine.
    """

    def __init__(self, ports: Ports) -> None:
        named = ports.by_name()
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in named.items()}
        self._ports = ports
        self._project = f"deltaml-test-{ports.chain}"
        self._environment = os.environ | {f"{name.upper().replace('-', '_')}_PORT": str(named[name]) for name in named}
        self._command = [*_compose_command(), "--file", "docker-compose.yml", "--project-name", self._project]

    def __enter__(self) -> Self:
        """Make sure that nothing is in the way; raise PortInUse if a port is taken."""
        self.down("--volumes")
        self._ports.require_free()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove everything."""
        if isinstance(error, Exception):
            self._run("logs", "--no-color", "--tail=20", check=False)
        self.down("--volumes")

    def build(self) -> None:
        """Build the image."""
        self._run("build")

    def up(self, *options: str) -> None:
        """Start what is not running, and wait until everything is healthy.

        Raises
        ------
        ComposeFailed
            With the services that are not healthy after :data:`PATIENCE`.
        """
        self._run("up", "--detach", *options)
        deadline = time.monotonic() + PATIENCE
        while missing := self.urls.keys() - self._healthy():
            if time.monotonic() > deadline:
                raise ComposeFailed(f"not healthy after {PATIENCE:.0f} s: {', '.join(sorted(missing))}")
            time.sleep(0.5)

    def replace(self, service: str) -> None:
        """Kill a service's container (SIGKILL) and start a new one, which has nothing but the old one's volumes."""
        self._run("kill", service)
        self.up("--no-deps", "--force-recreate", service)

    def down(self, *options: str) -> None:
        """Stop and remove the containers; the volumes stay unless ``--volumes`` is given."""
        self._run("down", "--remove-orphans", *options)

    def _healthy(self) -> set[str]:
        healthy = ("--filter", f"label=com.docker.compose.project={self._project}", "--filter", "health=healthy")
        names = ("--format", '{{.Label "com.docker.compose.service"}}')
        return set(subprocess.check_output(["docker", "ps", *healthy, *names], text=True).split())

    def _run(self, *arguments: str, check: bool = True) -> None:
        # In a session of its own, so that Ctrl-C reaches only us, and we bring everything down in good order.
        done = subprocess.run(
            [*self._command, *arguments],
            cwd=REPOSITORY,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        if check and done.returncode != 0:
            raise ComposeFailed(f"{' '.join([*self._command, *arguments])}: exit code {done.returncode}, see above")


class Town:
    """The people at a stack's services, signed up: five owners with fifty rows each, and a buyer."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.buyer = flow.Buyer(stack.urls["buyer"])
        self._aggregator = flow.Aggregator.entered(stack.urls["aggregator"])
        owners = {name: flow.Owner(url) for name, url in stack.urls.items() if name.startswith("owner-")}
        self._services = {**owners, "aggregator": self._aggregator, "buyer": self.buyer}
        tables = diabetes.split(len(owners))
        self._members = [
            flow.enter(owner, name, diabetes.to_csv(table))
            for (name, owner), table in zip(owners.items(), tables, strict=True)
        ]
        self._tables = dict(zip((member.address for member in self._members), tables, strict=True))
        self._buyer_id, _ = self.buyer.sign_up("buyer")

    def train(self, iterations: int, crash: str | None = None) -> flow.Json:
        """Have a model trained; check it, and what everybody was paid.

        Parameters
        ----------
        iterations : int
            Rounds.
        crash : str, optional
            A service whose container is killed and replaced in the middle.

        Returns
        -------
        dict
            The buyer's answer to GET /models/{id}.

        Raises
        ------
        VerificationFailed
            The same training in plaintext comes to something else, or somebody is not paid.
        """
        settings = {"iterations": iterations, "local_steps": 1, "learning_rate": 1.5, "ridge": 0.0, "weighting": "rows"}
        order = flow.order_for(self._buyer_id, diabetes.FEATURES, ether=PRICE, hyper_parameters=settings)
        training_id = self.buyer.order(order)
        for member in self._members:
            member.owner.wait_for_status(training_id, "READY")
            member.owner.accept(training_id)
        begun = time.monotonic()
        left = [crash] if crash else []

        def on_progress(model: flow.Json) -> None:
            if left and any(point["iteration"] for point in model["metrics"]["mse_history"]):
                self._stack.replace(left.pop())

        model = self.buyer.wait_finished(training_id, on_progress)
        if left:
            raise VerificationFailed(f"the training was over before the {crash} could be killed")
        _say(f"{iterations} rounds in {time.monotonic() - begun:.1f} s")
        for member in self._members:
            member.owner.wait_for_status(training_id, "FINISHED")
        flow.wait_for_withdrawals(self._services)
        self._check_model(model, self._aggregator.training(training_id)["roles"], settings)
        self._check_payments(training_id)
        return model

    def _check_model(self, model: flow.Json, roles: dict[str, list[str]], settings: dict[str, Any]) -> None:
        trainers, validators = ([self._tables[each] for each in roles[role]] for role in ("trainers", "validators"))
        plaintext, _ = train_in_plaintext(trainers, validators, settings)
        encrypted = Candidates(model["metrics"]["trained_mse"], model["metrics"]["averaged_mse"])
        difference = encrypted.difference(plaintext)
        _say(f"MSE {encrypted.trained:.6f}, relative difference from plaintext {difference:.0e}")
        if not difference <= AGREEMENT:
            raise VerificationFailed(f"encrypted training gives {encrypted}, plaintext training {plaintext}")

    def _check_payments(self, training_id: str) -> None:
        contracts = [service.contract() for service in self._services.values()]
        payments = Marketplace(self._stack.urls["chain"], contracts[0]["address"]).payments(uuid.UUID(training_id))
        if (total := sum(payment.wei for payment in payments)) != PRICE * ETHER:
            raise VerificationFailed(f"the contract paid {total} wei in all, for an order of {PRICE} ether")
        paid = {payment.recipient for payment in payments if payment.wei > 0}
        if unpaid := {contract["account"] for contract in contracts} - paid:
            raise VerificationFailed(f"the contract paid nothing to {', '.join(unpaid)}")


def main(
    port_base: PortBase = None,
) -> None:
    """Build the image, start the platform in containers, train through it, and take it all down."""
    exit_on_signals()
    try:
        with Stack(Ports.standard() if port_base is None else Ports.consecutive(port_base)) as stack:
            stack.build()
            _say("built")
            stack.up()
            _say("up: every service is healthy")
            town = Town(stack)
            _say("five owners and a buyer signed up")
            model = town.train(100, crash="aggregator")
            _say("trained through a crash of the aggregator, paid, withdrawn")
            stack.down()
            stack.up()
            _say("down, and up again")
            if town.buyer.model(model["model"]["id"]) != model:
                raise VerificationFailed("the buyer does not show the model that it showed before")
            town.train(10)
            _say("trained, paid, withdrawn")
    except (DeltaMLError, TimeoutError) as error:
        sys.exit(f"compose-test: {error}")
    _say("passed")


def _compose_command() -> Sequence[str]:
    """Return the command of Compose v2, or else of v1."""
    for command in (["docker", "compose"], ["docker-compose"]):
        with contextlib.suppress(OSError):
            if subprocess.run([*command, "version"], capture_output=True).returncode == 0:
                return command
    raise ComposeFailed("neither `docker compose` nor `docker-compose` is installed")


def _say(text: str) -> None:
    print(f"{time.monotonic() - _BEGUN:6.1f} s  {text}", flush=True)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(main)
    app(prog_name="scripts/compose-test")
