from __future__ import annotations

import socket
from pathlib import Path

import pytest
import requests

from scripts.local.platform import LocalPlatform, PortInUse, Ports, development_accounts


def test_a_port_in_use_names_port_process_and_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        chain, aggregator, buyer, owner = Ports.free(owners=1).by_name().values()
        with pytest.raises(PortInUse, match=rf"port {port}, .* owner-2 needs, .* --port-base") as error:
            Ports(chain, aggregator, buyer, (owner, port)).require_free()
    assert (error.value.port, error.value.name) == (port, "owner-2")


def test_free_ports_are_free_and_different() -> None:
    ports = Ports.free(owners=5)
    ports.require_free()
    assert len(set(ports.by_name().values())) == 8


def test_a_port_base_moves_all_ports() -> None:
    assert list(Ports.consecutive(7000).by_name().values()) == list(range(7000, 7008))
    assert list(Ports.standard().by_name().values()) == [8545, 8080, 9090, 5000, 5001, 5002, 5003, 5004]


def test_development_accounts_are_those_that_anvil_funds() -> None:
    assert development_accounts(1)[0].address == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


def test_a_port_in_use_stops_the_platform_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken, LocalPlatform(tmp_path, Ports.free(owners=2)) as platform:
        taken.bind(("127.0.0.1", platform.ports.aggregator))
        taken.listen()
        with pytest.raises(PortInUse, match="the aggregator"):
            platform.start()
    assert list(tmp_path.iterdir()) == []


def test_every_process_has_an_account_of_its_own(tmp_path: Path) -> None:
    with LocalPlatform(tmp_path, Ports.free(owners=3)) as platform:
        names = {"deployer", "arbiter", "aggregator", "buyer", "owner-1", "owner-2", "owner-3"}
        assert set(platform.accounts) == names
        assert len({account.address for account in platform.accounts.values()}) == len(names)


def test_the_chain_keeps_its_state_over_a_stop(tmp_path: Path) -> None:
    with LocalPlatform(tmp_path, Ports.free(owners=1)) as platform:
        platform.start_chain()
        call(platform, "evm_mine")
        latest = call(platform, "eth_getBlockByNumber", "latest", False)
        platform.stop("chain")
        platform.restart("chain")
        assert call(platform, "eth_getBlockByNumber", "latest", False) == latest


def call(platform: LocalPlatform, method: str, *arguments: object) -> object:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": arguments}
    return requests.post(platform.urls["chain"], json=body, timeout=10).json()["result"]
