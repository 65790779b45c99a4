"""A service's way to the chain: its account at once, the contract as soon as the chain answers."""

from __future__ import annotations

import threading

from eth_account.signers.local import LocalAccount

from commons.chain.marketplace import Marketplace, NoContract
from commons.configuration import Config
from commons.errors import InvalidInput
from commons.protocol.signed import Domain, Signer


class Connection:
    """Connects when first asked, and again until it works: a service starts while the chain is down.

    Parameters
    ----------
    config : Config
        Says where the chain and the contract are, and which account to act as.

    Raises
    ------
    ConfigurationError
        The account cannot be unlocked.
    """

    def __init__(self, config: Config) -> None:
        self.account: LocalAccount = config.account()
        self._config = config
        self._lock = threading.Lock()
        self._marketplace: Marketplace | None = None

    @property
    def address(self) -> str:
        """Address of the service's account."""
        return self.account.address

    def signer(self) -> Signer:
        """Return what signs messages for the contract as the service's account; raises as `marketplace`."""
        market = self.marketplace()
        return Signer(self.account, Domain(market.chain_id, market.address))

    def marketplace(self) -> Marketplace:
        """Return the contract, acting as the service's account.

        Raises
        ------
        ChainUnavailable
            The chain does not answer now.
        NoContract
            It does, but has no contract at the configured address.
        ConfigurationError
            The contract's address is not known.
        """
        with self._lock:
            if self._marketplace is None:
                self._marketplace = self._at(self._config.contract())
            return self._marketplace

    def verified(self, address: str) -> Marketplace:
        """Return another contract, acting as the service's account.

        Raises
        ------
        InvalidInput
            There is none of this version at `address`.
        ChainUnavailable
            The chain does not answer now.
        """
        market = self._at(address)
        try:
            market.verify()
        except NoContract as error:
            raise InvalidInput(str(error), "address") from None
        return market

    def move(self, to: Marketplace) -> None:
        """Work on another contract from now on, and after a restart; Conflict where that is configured elsewhere."""
        with self._lock:
            self._config.keep_contract(to.address)
            self._marketplace = to

    def _at(self, address: str) -> Marketplace:
        return Marketplace(self._config.chain_url, address, self.account)
