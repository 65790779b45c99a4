"""Put the marketplace on a chain: ``python -m commons.chain.deployment --chain URL [--output FILE]``.

Nobody owns the contract, so whoever deploys it only pays the gas. Running it again changes nothing while FILE
names a marketplace of this version on that chain.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from commons.chain.marketplace import ChainUnavailable, Marketplace, NoContract, Role, deploy
from commons.errors import ConfigurationError, DeltaMLError

PATIENCE = 60.0
"""Seconds to wait for a chain that is starting."""


def ensure_deployed(rpc_url: str, deployer: LocalAccount, output: Path | None) -> str:
    """Deploy the marketplace unless `output` names one that is there.

    Parameters
    ----------
    rpc_url : str
        The node's JSON-RPC endpoint.
    deployer : LocalAccount
        Pays the gas.
    output : Path, optional
        Holds the address, and nothing else.

    Returns
    -------
    str
        The contract's address.

    Raises
    ------
    ChainUnavailable, InsufficientFunds
        The node does not answer, or the account cannot pay.
    """
    if output is not None and output.exists():
        try:
            marketplace = Marketplace(rpc_url, output.read_text(encoding="utf-8").strip())
            marketplace.verify()
            return marketplace.address
        except NoContract:
            pass
    address = deploy(rpc_url, deployer)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        # Services may be waiting for the file: it appears whole or not at all.
        draft = output.with_name(output.name + ".new")
        draft.write_text(address + "\n", encoding="utf-8")
        draft.replace(output)
    return address


def ensure_role(marketplace: Marketplace, address: str, role: Role) -> None:
    """Register the gateway's account in a role unless it has it.

    Parameters
    ----------
    marketplace : Marketplace
        Signs with the account.
    address : str
        The account.
    role : Role
        What it should be.

    Raises
    ------
    ConfigurationError
        It has another role, and roles are for ever.
    """
    present = marketplace.role(address)
    if present is Role.NONE:
        marketplace.register(role)
    elif present is not role:
        raise ConfigurationError(f"account {address} is {present.name} and cannot become {role.name}")


def _account(environment: Mapping[str, str], variable: str) -> LocalAccount | None:
    key = environment.get(variable)
    if not key:
        return None
    try:
        account: LocalAccount = Account.from_key(key)
    except ValueError:  # whose text may quote the key
        raise ConfigurationError(f"{variable} is not a private key: 32 bytes in hexadecimal") from None
    return account


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.
    environment : mapping of str to str
        Where the keys are: ``DELTAML_ACCOUNT_PRIVATE_KEY`` deploys, ``DELTAML_ARBITER_PRIVATE_KEY``, if set,
        is registered as an arbiter.

    Returns
    -------
    int
        Exit status: 0 when the marketplace is on the chain, else 1.
    """
    parser = argparse.ArgumentParser(prog="python -m commons.chain.deployment", description=__doc__)
    parser.add_argument("--chain", required=True, metavar="URL", help="JSON-RPC endpoint of the node")
    parser.add_argument("--output", type=Path, metavar="FILE", help="file to keep the contract's address in")
    options = parser.parse_args(arguments)
    patiently = retry(
        retry=retry_if_exception_type(ChainUnavailable),
        stop=stop_after_delay(PATIENCE),
        wait=wait_fixed(0.5),
        reraise=True,
    )
    try:
        deployer = _account(environment, "DELTAML_ACCOUNT_PRIVATE_KEY")
        if deployer is None:
            raise ConfigurationError("set DELTAML_ACCOUNT_PRIVATE_KEY to the account that pays for the deployment")
        arbiter = _account(environment, "DELTAML_ARBITER_PRIVATE_KEY")
        address = patiently(ensure_deployed)(options.chain, deployer, options.output)
        if arbiter is not None:
            marketplace = Marketplace(options.chain, address, arbiter)
            patiently(ensure_role)(marketplace, arbiter.address, Role.ARBITER)
    except DeltaMLError as error:
        print(f"not deployed: {error}", file=sys.stderr)
        return 1
    print(address)
    return 0


if __name__ == "__main__":
    sys.exit(main())
