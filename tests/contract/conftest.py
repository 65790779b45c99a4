"""A real chain for the contract's tests: one anvil process, and a state to return to after every test."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commons.chain.compiler import compile_sources, read_sources

from .world import World, deploy_world

ANVIL = Path(__file__).resolve().parents[2] / "node_modules" / ".bin" / "anvil"


@pytest.fixture(scope="session")
def rpc_url() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([str(ANVIL), "--port", str(port), "--accounts", "1", "--silent"])
    try:
        give_up = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "anvil exited"
                assert time.monotonic() < give_up, "anvil did not start"
                time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="session")
def deployed(rpc_url: str) -> World:
    return deploy_world(rpc_url)


@pytest.fixture
def world(deployed: World) -> Iterator[World]:
    """A chain on which the marketplace is deployed and everybody has registered; undone after the test."""
    snapshot = deployed.snapshot()
    yield deployed
    deployed.revert(snapshot)


@pytest.fixture(scope="session")
def compiled() -> dict[str, Any]:
    """The marketplace and the contracts of the tests, freshly compiled: file → contract → code."""
    helpers = (Path(__file__).parent / "contracts").glob("*.sol")
    return compile_sources(read_sources() | {path.name: path.read_text(encoding="utf-8") for path in helpers})
