"""The contract as far as an owner sees it, and an account's way to it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from eth_account.signers.local import LocalAccount

from commons.chain.marketplace import Dispute, Participant, Payment, Result, Role, Terms
from commons.chain.marketplace import Status as ChainStatus
from commons.chain.marketplace import Training as OnChain
from commons.protocol.signed import Domain, Signer

BOND = 10


@dataclass
class Market:
    """One training. Transactions are mined at once."""

    terms: Terms
    buyer: str
    aggregator: str
    status: ChainStatus = ChainStatus.OPEN
    owners: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    trainer_count: int = 0
    time: int = 500
    deadline: int = 3000
    pending: int = 0
    funds: int = 10**18
    credited: int = 0
    paid: tuple[Payment, ...] = ()
    reason: str = ""
    metrics: tuple[tuple[int, int], ...] = ()
    result: Result | None = None
    disputed: Dispute | None = None
    refusal: Exception | None = None
    roles: dict[str, Role] = field(default_factory=dict)
    withdrawals: int = 0
    disputes: list[tuple[bytes, int]] = field(default_factory=list)
    address: str = "0x" + "0c" * 20
    chain_id: int = 31337

    @property
    def domain(self) -> Domain:
        return Domain(self.chain_id, self.address)

    def training(self, training_id: uuid.UUID) -> OnChain:
        rows = self.rows or [2] * len(self.owners)
        return OnChain(
            id=training_id,
            status=self.status,
            buyer=self.buyer,
            aggregator=self.aggregator,
            escrow=100,
            bond=BOND,
            terms=self.terms,
            owners=tuple(Participant(*owner, 0, False) for owner in zip(self.owners, rows, strict=True)),
            trainer_count=self.trainer_count,
            evaluations=0,
            ordered_block=1,
            closed_block=2,
            startable=True,
            digest=bytes(32),
            improvement=0,
            deadline=self.deadline,
            disputer=None if self.disputed is None else self.disputed.disputer,
            result=self.result,
        )

    def role(self, address: str) -> Role:
        return self.roles.get(address, Role.NONE)

    def unconfirmed(self, address: str) -> int:
        return self.pending

    def now(self) -> int:
        return self.time

    def history(self, training_id: uuid.UUID) -> tuple[tuple[int, int], ...]:
        return self.metrics

    def failure(self, training_id: uuid.UUID) -> str:
        return self.reason

    def dispute(self, training_id: uuid.UUID) -> Dispute | None:
        return self.disputed

    def payments(self, training_id: uuid.UUID) -> tuple[Payment, ...]:
        return self.paid

    def balance(self, address: str) -> int:
        return self.funds

    def credit(self, address: str) -> int:
        return self.credited


@dataclass
class Account:
    """The contract, acting as one account."""

    market: Market
    own: str

    def __getattr__(self, name: str) -> object:
        return getattr(self.market, name)

    def register(self, role: Role) -> None:
        self.market.roles[self.own] = role

    def accept_training(self, training_id: uuid.UUID, rows: int) -> None:
        if self.market.refusal is not None:
            raise self.market.refusal
        self.market.owners.append(self.own)

    def withdraw(self) -> None:
        self.market.withdrawals += 1
        self.market.credited = 0

    def finalize(self, training_id: uuid.UUID) -> None:
        assert self.market.status in (ChainStatus.REPORTED, ChainStatus.DISPUTED)
        assert self.market.time > self.market.deadline
        self.market.status = ChainStatus.FINISHED

    def dispute_result(self, training_id: uuid.UUID, evidence_hash: bytes, value: int) -> None:
        if self.market.refusal is not None:
            raise self.market.refusal
        assert self.market.status == ChainStatus.REPORTED
        self.market.disputes.append((evidence_hash, value))
        self.market.disputed = Dispute(self.own, evidence_hash, None)
        self.market.status = ChainStatus.DISPUTED


@dataclass
class Chain:
    """An account's way to the contract."""

    market: Market
    account: LocalAccount

    @property
    def address(self) -> str:
        return str(self.account.address)

    def signer(self) -> Signer:
        return Signer(self.account, self.market.domain)

    def marketplace(self) -> Account:
        return Account(self.market, self.address)
