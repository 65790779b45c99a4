"""Accounts of the tests, and where what they sign counts."""

from __future__ import annotations

from dataclasses import dataclass

from eth_account import Account
from eth_account.signers.local import LocalAccount

from commons.protocol.signed import Domain, Signer

DOMAIN = Domain(31337, "0x5FbDB2315678afecb367f032d93F642f64180aa3")


def account(number: int) -> LocalAccount:
    """Return an account, always the same for a number."""
    made: LocalAccount = Account.from_key(number.to_bytes(32, "big"))
    return made


def signer(number: int, domain: Domain = DOMAIN) -> Signer:
    """Return what signs as that account."""
    return Signer(account(number), domain)


@dataclass(frozen=True)
class Offline:
    """A service's way to a chain that is not there: all that signing needs of it."""

    account: LocalAccount
    domain: Domain = DOMAIN

    @property
    def address(self) -> str:
        return str(self.account.address)

    def signer(self) -> Signer:
        return Signer(self.account, self.domain)
