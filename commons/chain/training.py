"""What a training is on the chain: roles, statuses, an order's terms, a result. Pure values.

Shares are integers in 1e-18 units. MSEs and contributions are integers in 1e-18 units of the squared scaled
target. Times are unix seconds, money is wei, hashes are 32 bytes, addresses are checksummed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

from eth_abi.abi import encode
from eth_utils.crypto import keccak

WHOLE = 10**18
"""100 % in share units."""

RESULT_ABI = "(uint64,uint256,uint256,uint256[],uint256[],bool[],bool[],bytes32,bytes32)"


class Role(IntEnum):
    """What an account may do. An account has one role, for ever."""

    NONE = 0
    DATA_OWNER = 1
    MODEL_BUYER = 2
    FEDERATED_AGGREGATOR = 3
    ARBITER = 4


class Status(IntEnum):
    """Where a training stands; ``contracts/Marketplace.sol`` holds the table of transitions."""

    NONE = 0
    OPEN = 1
    CLOSED = 2
    TRAINING = 3
    REPORTED = 4
    DISPUTED = 5
    FINISHED = 6
    CANCELLED = 7
    FAILED = 8
    EXPIRED = 9

    @property
    def is_final(self) -> bool:
        """Whether nothing can happen any more; the escrow has become credits."""
        return self >= Status.FINISHED


class Outcome(IntEnum):
    """What an arbiter can decide."""

    AS_REPORTED = 0
    CORRECTED = 1
    REFUND = 2


class PaymentKind(StrEnum):
    """Why somebody was credited: the name of the contract's event."""

    CONTRIBUTION = "ContributionPayment"
    VALIDATION = "ValidationPayment"
    ORCHESTRATION = "OrchestrationPayment"
    BUYER_RETURN = "ModelBuyerReturnPayment"
    BOND = "BondPayment"


@dataclass(frozen=True)
class Payment:
    """One credit that a training gave: `wei` to `recipient`."""

    recipient: str
    kind: PaymentKind
    wei: int


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a buyer orders, and what everybody who accepts agrees to.

    Parameters
    ----------
    wanted_owners, minimum_owners : int
        Owners at which joining may close before its deadline, and below which there is no training;
        3 ≤ minimum ≤ wanted ≤ 256.
    join_deadline, training_deadline : int
        Last unix second to accept, and to report.
    review_period : int
        Seconds in which a reported result may be disputed, 1 to 30 days.
    fixed_share : int
        Part of the trainers' money that is paid whatever the improvement, in 1e-18 units.
    arbiter : str
        Registered arbiter.
    order_hash : bytes
        32 bytes that bind requirements and hyper-parameters.
    validator_share : int
        Part of the owners that become validators, in 1e-18 units.
    """

    wanted_owners: int
    minimum_owners: int
    join_deadline: int
    training_deadline: int
    review_period: int
    fixed_share: int
    arbiter: str
    order_hash: bytes
    validator_share: int = 3 * WHOLE // 10


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a training went, in the contract's order of trainers and validators.

    Parameters
    ----------
    iterations : int
        Rounds that were run.
    initial_mse, final_mse : int
        MSE of the zero model and of the delivered one.
    partial_mses, contributions : tuple of int
        Per trainer: the MSE that the others reach without it, and its Shapley value floored at 0.
    trainers_answered, validators_answered : tuple of bool
        Who answered in at least 80 % of its rounds; nobody else is paid.
    transcript_root, model_hash : bytes
        Merkle root of the transcript and hash of the delivered model's ciphertexts, 32 bytes each.
    """

    iterations: int
    initial_mse: int
    final_mse: int
    partial_mses: tuple[int, ...]
    contributions: tuple[int, ...]
    trainers_answered: tuple[bool, ...]
    validators_answered: tuple[bool, ...]
    transcript_root: bytes
    model_hash: bytes

    def to_abi(self) -> tuple[object, ...]:
        """Order the fields as the contract's struct does.

        Returns
        -------
        tuple
            One value per field of ``IMarketplace.Result``.
        """
        return (
            self.iterations,
            self.initial_mse,
            self.final_mse,
            list(self.partial_mses),
            list(self.contributions),
            list(self.trainers_answered),
            list(self.validators_answered),
            self.transcript_root,
            self.model_hash,
        )

    def digest(self) -> bytes:
        """Hash the result as the contract does, ``keccak256(abi.encode(result))``.

        Returns
        -------
        bytes
            32 bytes, what ``finishModelTraining`` is called with.
        """
        return keccak(encode([RESULT_ABI], [self.to_abi()]))


@dataclass(frozen=True)
class Dispute:
    """Somebody's doubt about a result.

    Parameters
    ----------
    disputer : str
        Who disputed.
    evidence_hash : bytes
        32 bytes that bind the disputer to its evidence.
    outcome : Outcome or None
        The arbiter's decision, None before it (and for ever, if the arbiter stays silent).
    """

    disputer: str
    evidence_hash: bytes
    outcome: Outcome | None


@dataclass(frozen=True)
class Event:
    """Something that the contract says has happened in a training.

    Parameters
    ----------
    name : str
        As the contract calls it: ``TrainingAccepted``.
    values : mapping
        What it says, by the contract's names, without the training: integers as decimal digits, bytes as 0x and
        hexadecimal digits, enums by name, structs as mappings.
    transaction, block_hash : str
        Where it happened, 0x-prefixed.
    block, index : int
        The block's number, and the event's place in it.
    """

    name: str
    values: Mapping[str, Any]
    transaction: str
    block_hash: str
    block: int
    index: int


@dataclass(frozen=True)
class Transaction:
    """What made something happen.

    Parameters
    ----------
    sender : str
        The account that signed it, and paid for it.
    call : str
        The contract's function: ``acceptTraining``; empty if it was not called directly.
    time : int
        Of its block, in unix seconds.
    """

    sender: str
    call: str
    time: int


@dataclass(frozen=True)
class Participant:
    """A data owner in one training.

    Parameters
    ----------
    address : str
        Its account.
    rows : int
        Rows that it declared when it accepted.
    share : int
        Its part of the reward for improvement, in 1e-18 units; 0 for a validator, and before the report.
    answered : bool
        Whether it is paid; False before the report.
    """

    address: str
    rows: int
    share: int
    answered: bool


@dataclass(frozen=True, kw_only=True)
class Training:
    """Everything the contract knows about one training.

    Parameters
    ----------
    id : UUID
        The training, which is also the model's id.
    status : Status
        NONE when the contract knows no such training; the other fields are then empty.
    buyer, aggregator : str
        Who ordered and paid, and who runs it.
    escrow : int
        Wei that the buyer paid in.
    bond : int
        Wei that a dispute costs, exactly.
    terms : Terms
        The order.
    owners : tuple of Participant
        Who accepted; from the start on, trainers first.
    trainer_count : int
        How many of them train, 0 before the start.
    evaluations : int
        Last saved iteration plus one, 0 before the first.
    ordered_block, closed_block : int
        Blocks of the order and of the (last) closing of joining.
    startable : bool
        Whether ``startTraining`` would find the closing block's hash now. In status CLOSED, False means that
        joining has to be closed again.
    digest : bytes
        Hash of the result, zeros before the report.
    improvement : int
        What the result is paid by, in 1e-18 units.
    deadline : int
        End of the review, or of the arbiter's period when disputed; 0 before the report.
    disputer : str or None
        Who disputed.
    result : Result or None
        As reported, or as corrected by the arbiter.
    """

    id: UUID
    status: Status
    buyer: str
    aggregator: str
    escrow: int
    bond: int
    terms: Terms
    owners: tuple[Participant, ...]
    trainer_count: int
    evaluations: int
    ordered_block: int
    closed_block: int
    startable: bool
    digest: bytes
    improvement: int
    deadline: int
    disputer: str | None
    result: Result | None

    @property
    def arbiter(self) -> str:
        """Who decides a dispute."""
        return self.terms.arbiter

    @property
    def trainers(self) -> tuple[str, ...]:
        """Addresses of the trainers, in the result's order; none before the start."""
        return tuple(owner.address for owner in self.owners[: self.trainer_count])

    @property
    def validators(self) -> tuple[str, ...]:
        """Addresses of the validators, in the result's order; none before the start."""
        return tuple(owner.address for owner in self.owners[self.trainer_count :]) if self.trainer_count else ()
