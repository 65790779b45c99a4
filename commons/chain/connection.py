"""A service's way to the chain: its account at once, the contract as soon as the chain answers."""

from __future__ import annotations

import threading

from eth_account.signers.local import LocalAccount

from commons.chain.marketplace import Marketplace
from commons.configuration import Config
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
                address = self._config.contract()
                self._marketplace = Marketplace(self._config.chain_url, address, self.account)
            return self._marketplace
