"""The whole platform on this machine: a chain, the contract on it, and every service a process of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from eth_account import Account
from eth_account.signers.local import LocalAccount

from commons.errors import DeltaMLError
from scripts.local.processes import Supervisor

REPOSITORY = Path(__file__).resolve().parents[2]

DEVELOPMENT_MNEMONIC = "test test test test test test test test test test test junk"
"""The mnemonic whose accounts every anvil chain funds. All the world knows it: for local chains only."""

MODULES: Mapping[str, str] = {"aggregator": "federated_aggregator", "buyer": "model_buyer", "owner": "data_owner"}
"""What is run as which service."""


class PortInUse(DeltaMLError):
    """Somebody else listens on a port that the platform needs.

    Parameters
    ----------
    port : int
        The port.
    name : str
        The process of ours that needs it.
    """

    def __init__(self, port: int, name: str) -> None:
        super().__init__(
            f"port {port}, which the {name} needs, is in use. Stop what listens there, or move all ports "
            f"with --port-base N: then N, N+1, … are used."
        )
        self.port = port
        self.name = name


@dataclass(frozen=True)
class Ports:
    """The TCP ports of a platform; as many owners as `owners` has ports."""

    chain: int
    aggregator: int
    buyer: int
    owners: tuple[int, ...]

    @classmethod
    def standard(cls, owners: int = 5) -> Ports:
        """Return the usual ports."""
        return cls(8545, 8080, 9090, tuple(range(5000, 5000 + owners)))

    @classmethod
    def consecutive(cls, base: int, owners: int = 5) -> Ports:
        """Return `base`, `base` + 1, … in the order of the fields."""
        return cls(base, base + 1, base + 2, tuple(range(base + 3, base + 3 + owners)))

    @classmethod
    def free(cls, owners: int = 5) -> Ports:
        """Return ports that nobody uses now, chosen by the operating system."""
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(3 + owners)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            chain, aggregator, buyer, *rest = (each.getsockname()[1] for each in sockets)
        return cls(chain, aggregator, buyer, tuple(rest))

    def by_name(self) -> dict[str, int]:
        """Return the port of each process: chain, aggregator, buyer, owner-1, owner-2, …."""
        owners = {f"owner-{number}": port for number, port in enumerate(self.owners, start=1)}
        return {"chain": self.chain, "aggregator": self.aggregator, "buyer": self.buyer, **owners}

    def require_free(self) -> None:
        """Raise PortInUse for the first port that somebody listens on."""
        for name, port in self.by_name().items():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise PortInUse(port, name) from error


def development_accounts(count: int) -> list[LocalAccount]:
    """Return the first `count` accounts of :data:`DEVELOPMENT_MNEMONIC`."""
    Account.enable_unaudited_hdwallet_features()
    return [
        Account.from_mnemonic(DEVELOPMENT_MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}") for index in range(count)
    ]


class LocalPlatform:
    """Chain, contract, aggregator, buyer and data owners on this machine.

    Everything that the processes write, logs, homes and temporary files included, is in one directory. Use
    as a context manager: entering starts nothing (call :meth:`start`), leaving stops everything.

    Parameters
    ----------
    directory : Path
        An existing directory for this platform alone.
    ports : Ports
        Where the processes listen.
    extra_env : mapping of str to mapping, optional
        Environment to add for a process, by the process's name.
    modules : mapping of str to str, optional
        Modules that are run as services in place of the real ones, by the names in :data:`MODULES`.

    Attributes
    ----------
    supervisor : Supervisor
        Has the processes ``chain``, ``aggregator``, ``buyer``, ``owner-1``, ``owner-2``, ….
    accounts : dict of str to LocalAccount
        By the service's name, and ``deployer`` and ``arbiter``.
    urls : dict of str to str
        The base URL of each process.
    """

    def __init__(
        self,
        directory: Path,
        ports: Ports,
        extra_env: Mapping[str, Mapping[str, str]] | None = None,
        modules: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self.ports = ports
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.by_name().items()}
        self.services = [name for name in self.urls if name != "chain"]
        names = ["deployer", "arbiter", *self.services]
        self.accounts = dict(zip(names, development_accounts(len(names)), strict=True))
        self.supervisor = Supervisor()
        self._extra_env = extra_env or {}
        self._modules = {**MODULES, **(modules or {})}

    def __enter__(self) -> Self:
        """Return the platform; start nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop everything."""
        self.supervisor.stop_all()

    @property
    def owner_urls(self) -> list[str]:
        """The base URLs of the data owners, in order."""
        return [url for name, url in self.urls.items() if name.startswith("owner-")]

    def start(self, on_change: Callable[[str, str], None] = lambda name, state: None) -> None:
        """Start the chain, deploy the contract, start the services, and wait until all are healthy.

        Parameters
        ----------
        on_change : callable
            Called with a process's name (or ``contract``) and its new state, ``starting`` or ``up``.

        Raises
        ------
        PortInUse
            Before anything is started.
        ProcessFailed
            What did start goes on until the context is left.
        """
        self.ports.require_free()
        on_change("chain", "starting")
        self.start_chain()
        on_change("chain", "up")
        on_change("contract", "starting")
        self.deploy()
        on_change("contract", "up")
        for name in self.services:
            on_change(name, "starting")
            self._start(name, self._service_argv(name), self._service_env(name))
        for name in self.services:
            self.wait_healthy(name)
            on_change(name, "up")

    def start_chain(self) -> None:
        """Start an anvil chain and wait until it answers."""
        self._start("chain", self._chain_argv(), {})
        self.wait_healthy("chain")

    def deploy(self) -> None:
        """Deploy the contract and register the arbiter, where that has not been done."""
        argv = [sys.executable, "-m", "commons.chain.deployment", "--chain", self.urls["chain"]]
        keys = {
            "DELTAML_ACCOUNT_PRIVATE_KEY": _key(self.accounts["deployer"]),
            "DELTAML_ARBITER_PRIVATE_KEY": _key(self.accounts["arbiter"]),
        }
        self._start("contract", [*argv, "--output", str(self._contract_file)], keys)
        self.supervisor.wait("contract")

    def wait_healthy(self, name: str, timeout: float = 60) -> None:
        """Wait until the chain or a service answers; raise ProcessFailed if it does not."""
        url = self.urls[name]
        if name == "chain":
            call = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
            self.supervisor.wait_healthy(name, url, body=call, timeout=timeout)
        else:
            route = "helper" if name == "aggregator" else "helpers"
            self.supervisor.wait_healthy(name, f"{url}/{route}/ping", timeout=timeout)

    def require_running(self) -> None:
        """Raise ProcessFailed, with the end of its log, if the chain or a service has ended."""
        for name in self.urls:
            self.supervisor.require_running(name)

    def kill(self, name: str) -> None:
        """Kill a process as a crash would.

        A killed chain forgets everything: use :meth:`stop` on it.
        """
        self.supervisor.kill(name)

    def stop(self, name: str) -> None:
        """Stop a process in good order. The chain saves its state, and has it when it is started again."""
        self.supervisor.stop(name)

    def restart(self, name: str) -> None:
        """Start a process again, after a SIGKILL if it still runs, and wait until it is healthy."""
        self.supervisor.restart(name)
        self.wait_healthy(name)

    @property
    def _contract_file(self) -> Path:
        return self.directory / "contract-address"

    def _start(self, name: str, argv: list[str], own: Mapping[str, str]) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("DELTAML_")}
        places = {
            "HOME": str(self.directory),
            "TMPDIR": str(self.directory / "tmp"),
            "PYTHONPATH": str(REPOSITORY),
            "NO_PROXY": "127.0.0.1",
        }
        (self.directory / "tmp").mkdir(exist_ok=True)
        env = inherited | places | dict(own) | dict(self._extra_env.get(name, {}))
        self.supervisor.start(name, argv, env, self.directory / f"{name}.log")

    def _chain_argv(self) -> list[str]:
        # The program itself: npm's launcher in node_modules/.bin would be one process more, in Node.
        programs = sorted(REPOSITORY.glob("node_modules/@foundry-rs/anvil-*/bin/anvil"))
        if not programs:
            raise DeltaMLError("anvil is not installed for this platform: run scripts/setup")
        state = self.directory / "chain.json"
        accounts = max(10, len(self.accounts))
        options = {"--port": self.ports.chain, "--accounts": accounts, "--state": state}
        return [str(programs[0]), *(str(part) for option in options.items() for part in option)]

    def _service_argv(self, name: str) -> list[str]:
        kind = name if name in self._modules else "owner"
        return [
            sys.executable,
            "-m",
            self._modules[kind],
            "--host",
            "127.0.0.1",
            "--port",
            str(self.ports.by_name()[name]),
        ]

    def _service_env(self, name: str) -> dict[str, str]:
        data = self.directory / name
        data.mkdir(exist_ok=True)
        env = {
            "DELTAML_DATA_DIR": str(data),
            "DELTAML_CHAIN_URL": self.urls["chain"],
            "DELTAML_CONTRACT_ADDRESS_FILE": str(self._contract_file),
            "DELTAML_ACCOUNT_PRIVATE_KEY": _key(self.accounts[name]),
            "DELTAML_PUBLIC_URL": self.urls[name],
        }
        if name != "aggregator":
            env["DELTAML_AGGREGATOR_URL"] = self.urls["aggregator"]
        if name == "buyer":
            env["DELTAML_ARBITER_ADDRESS"] = self.accounts["arbiter"].address
        return env


def _key(account: LocalAccount) -> str:
    return "0x" + bytes(account.key).hex()
