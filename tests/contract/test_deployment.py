from __future__ import annotations

from pathlib import Path

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from commons.chain import deployment
from commons.chain.marketplace import ChainUnavailable, Marketplace, Role
from commons.errors import ConfigurationError

from .world import ETHER, World, address_of


@pytest.fixture
def deployer(world: World) -> LocalAccount:
    account: LocalAccount = Account.create()
    world.rpc("anvil_setBalance", account.address, hex(ETHER))
    return account


def run(world: World, deployer: LocalAccount, output: Path, **environment: str) -> int:
    keys = {"DELTAML_ACCOUNT_PRIVATE_KEY": deployer.key.hex(), **environment}
    return deployment.main(["--chain", world.rpc_url, "--output", str(output)], keys)


def test_the_command_deploys_once(
    world: World, deployer: LocalAccount, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new folder" / "address"
    assert run(world, deployer, output) == 0
    address = output.read_text().strip()
    assert capsys.readouterr().out == address + "\n"
    Marketplace(world.rpc_url, address).verify()
    sent = world.web3.eth.get_transaction_count(deployer.address)
    assert run(world, deployer, output) == 0
    assert output.read_text().strip() == address
    assert world.web3.eth.get_transaction_count(deployer.address) == sent
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize("stale", ["0x" + "11" * 20, "another contract"])
def test_an_address_without_the_marketplace_is_replaced(
    world: World, deployer: LocalAccount, tmp_path: Path, compiled: dict[str, dict[str, dict[str, str]]], stale: str
) -> None:
    output = tmp_path / "address"
    if stale == "another contract":
        stale = world.deploy(compiled["Auditor.sol"]["Auditor"])
    output.write_text(stale)
    assert run(world, deployer, output) == 0
    assert output.read_text().strip() != stale
    Marketplace(world.rpc_url, output.read_text().strip()).verify()


def test_the_deployer_has_no_privilege(world: World, deployer: LocalAccount, tmp_path: Path) -> None:
    output = tmp_path / "address"
    run(world, deployer, output)
    marketplace = Marketplace(world.rpc_url, output.read_text().strip(), deployer)
    assert marketplace.role(deployer.address) is Role.NONE


def test_the_arbiter_is_registered_once(world: World, deployer: LocalAccount, tmp_path: Path) -> None:
    arbiter: LocalAccount = Account.create()
    world.rpc("anvil_setBalance", arbiter.address, hex(ETHER))
    for _ in range(2):
        key = {"DELTAML_ARBITER_PRIVATE_KEY": arbiter.key.hex()}
        assert run(world, deployer, tmp_path / "address", **key) == 0
    marketplace = Marketplace(world.rpc_url, (tmp_path / "address").read_text().strip())
    assert marketplace.role(arbiter.address) is Role.ARBITER
    assert world.web3.eth.get_transaction_count(arbiter.address) == 1


def test_an_account_with_another_role_cannot_become_arbiter(world: World) -> None:
    with pytest.raises(ConfigurationError, match="MODEL_BUYER and cannot become ARBITER"):
        deployment.ensure_role(world.buyer, address_of(world.buyer), Role.ARBITER)


@pytest.mark.parametrize("variable", ["DELTAML_ACCOUNT_PRIVATE_KEY", "DELTAML_ARBITER_PRIVATE_KEY"])
def test_a_wrong_key_is_named_and_not_shown(
    world: World,
    deployer: LocalAccount,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    variable: str,
) -> None:
    assert run(world, deployer, tmp_path / "address", **{variable: "0x5ec2e7"}) == 1
    message = capsys.readouterr().err
    assert variable in message
    assert "5ec2e7" not in message
    assert not (tmp_path / "address").exists()


def test_a_deployment_without_a_key_or_without_ether_says_so(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deployment.main(["--chain", world.rpc_url], {}) == 1
    assert "DELTAML_ACCOUNT_PRIVATE_KEY" in capsys.readouterr().err
    assert run(world, Account.create(), tmp_path / "address") == 1
    assert "too little ether" in capsys.readouterr().err


def test_a_chain_that_does_not_come_up_is_waited_for_and_then_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(deployment, "PATIENCE", 0.6)
    attempts = []

    def deploy(rpc_url: str, account: LocalAccount) -> str:
        attempts.append(rpc_url)
        raise ChainUnavailable("the chain does not answer")

    monkeypatch.setattr(deployment, "deploy", deploy)
    keys = {"DELTAML_ACCOUNT_PRIVATE_KEY": "11" * 32}
    assert deployment.main(["--chain", "http://127.0.0.1:1"], keys) == 1
    assert "not deployed: the chain does not answer" in capsys.readouterr().err
    assert len(attempts) > 1
