"""The gateway to the marketplace contract, and the only importer of web3.

Transactions are signed here, by the service's own account, never by the node. A call that changes the chain
returns when its transaction is mined. If the receipt does not come, ``ChainUnavailable`` is raised and the
caller reads the training's status before it sends again: the contract's statuses, not this module, make sure
that nothing happens twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from eth_abi.abi import decode
from eth_account.signers.local import LocalAccount
from eth_typing import ABIComponent, ABIError, BlockNumber, ChecksumAddress, HexStr
from eth_utils.abi import abi_to_signature, function_abi_to_4byte_selector, get_abi_input_types
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from requests.exceptions import RequestException
from web3 import HTTPProvider, Web3
from web3.exceptions import (
    BadFunctionCallOutput,
    ContractLogicError,
    MismatchedABI,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
    Web3ValidationError,
)
from web3.types import EventData, LogReceipt, RPCEndpoint, TxParams, TxReceipt, Wei

from commons.chain.artefact import load_artefact
from commons.chain.training import (
    Dispute,
    Event,
    Outcome,
    Participant,
    Payment,
    PaymentKind,
    Result,
    Role,
    Status,
    Terms,
    Training,
    Transaction,
)
from commons.errors import ConfigurationError, Conflict, InvalidInput, PeerUnavailable

__all__ = [
    "ChainUnavailable",
    "Dispute",
    "Event",
    "InsufficientFunds",
    "Marketplace",
    "NoContract",
    "Outcome",
    "Participant",
    "Payment",
    "PaymentKind",
    "Receipt",
    "Result",
    "Reverted",
    "Role",
    "Status",
    "Terms",
    "Training",
    "Transaction",
    "Withdrawal",
    "deploy",
]

REQUEST_TIMEOUT = 10.0
RECEIPT_TIMEOUT = 120.0
TRIES = 3
"""How often a transaction is sent that changes elsewhere have made run out of gas."""
FIRST_POLL = 0.02
"""Seconds until the first look for a receipt; an automining node has it at once."""
SLOWEST_POLL = 2.0
BATCH = 100
"""Questions to the node in one request: some take no more."""
PRIORITY_FEE = 10**9
"""Tip per gas, in wei."""

_SOLIDITY_ERRORS = (
    {"type": "error", "name": "Error", "inputs": [{"name": "reason", "type": "string"}]},
    {"type": "error", "name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]},
)
_ENUMS = {f"enum IMarketplace.{kind.__name__}": kind for kind in (Role, Status, Outcome)}


class ChainUnavailable(PeerUnavailable):
    """The node does not answer, or did not mine the transaction in time; the call may be repeated."""


class NoContract(ConfigurationError):
    """The configured address holds no marketplace.

    Parameters
    ----------
    address : str
        Where it was looked for.
    """

    def __init__(self, address: str) -> None:
        super().__init__(f"there is no marketplace contract of this version at {address} on this chain")
        self.address = address


class InsufficientFunds(Conflict):
    """The account cannot pay for a transaction.

    Parameters
    ----------
    account : str
        Who tried.
    value : int
        Wei that the transaction was to carry, gas apart.
    """

    def __init__(self, account: str, value: int) -> None:
        ether = f"{Decimal(value).scaleb(-18).normalize():f}"
        super().__init__(f"account {account} has too little ether to send {ether} ether and pay for gas")
        self.account = account
        self.value = value


class Reverted(Conflict):
    """The contract refused a call.

    Parameters
    ----------
    name : str
        The contract's error, such as ``WrongStatus``; ``Panic`` and ``Error`` are Solidity's own, and empty
        means that the contract gave none (a value out of its type's range, for instance).
    arguments : mapping
        The error's values by name; roles and statuses as enums.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any]) -> None:
        values = ", ".join(f"{key}={getattr(value, 'name', value)}" for key, value in arguments.items())
        super().__init__(f"the marketplace refused: {name or 'no reason given'}({values})")
        self.name = name
        self.arguments = dict(arguments)


@dataclass(frozen=True)
class Receipt:
    """A mined transaction.

    Parameters
    ----------
    transaction : str
        Its hash, 0x-prefixed.
    block : int
        Where it was mined.
    gas : int
        Gas that it used.
    """

    transaction: str
    block: int
    gas: int


@dataclass(frozen=True)
class Withdrawal(Receipt):
    """A mined withdrawal of `amount` wei."""

    amount: int


class _Node:
    """One JSON-RPC node, and one account that signs; safe from several threads."""

    def __init__(self, rpc_url: str, account: LocalAccount | None) -> None:
        # Callers retry whole calls, so web3 must not; and its middleware, which asks for the chain's id again
        # and again, does nothing that is needed here.
        provider = HTTPProvider(
            rpc_url, request_kwargs={"timeout": REQUEST_TIMEOUT}, exception_retry_configuration=None
        )
        self.web3 = Web3(provider, middleware=[])
        self.account = account
        self.abi: list[Any] = load_artefact()["abi"]
        self._errors: dict[bytes, ABIError] = {
            keccak(text=abi_to_signature(entry))[:4]: entry
            for entry in (*self.abi, *_SOLIDITY_ERRORS)
            if entry["type"] == "error"
        }
        self._nonce_lock = threading.Lock()
        self._chain_id: int | None = None

    @property
    def chain_id(self) -> int:
        if self._chain_id is None:
            with self.translated():
                self._chain_id = self.web3.eth.chain_id
        return self._chain_id

    @contextmanager
    def translated(self, value: int = 0) -> Iterator[None]:
        """Turn what web3 and requests raise into the errors of this module."""
        try:
            yield
        except ContractLogicError as error:
            raise self._reverted(error.data) from error
        except (MismatchedABI, Web3ValidationError) as error:
            raise InvalidInput(f"the marketplace does not take these values: {error}") from error
        except Web3RPCError as error:
            if "insufficient funds" in str(error).lower() and self.account is not None:
                raise InsufficientFunds(self.account.address, value) from error
            raise ChainUnavailable(f"the node refused: {error}") from error
        except (RequestException, Web3Exception, ValueError) as error:  # ValueError: the answer is no JSON
            # Without the error's text, which quotes the node's URL, and that may hold a key.
            raise ChainUnavailable(f"the chain does not answer ({type(error).__name__})") from error

    def _reverted(self, data: object) -> Reverted:
        payload = bytes.fromhex(data.removeprefix("0x")) if isinstance(data, str) else b""
        error = self._errors.get(payload[:4])
        if error is None:
            return Reverted("", {})
        values = decode(get_abi_input_types(error), payload[4:])
        return Reverted(
            error["name"],
            {entry["name"]: _readable(entry, value) for entry, value in zip(error["inputs"], values, strict=True)},
        )

    def ask(self, questions: Sequence[tuple[str, list[Any]]]) -> list[Any]:
        """Return the node's answer to each question (method, parameters); None where it knows nothing."""
        provider = cast(HTTPProvider, self.web3.provider)
        found: list[Any] = []
        for start in range(0, len(questions), BATCH):
            batch = [(RPCEndpoint(method), parameters) for method, parameters in questions[start : start + BATCH]]
            with self.translated():
                answers = provider.make_batch_request(batch)
            if not isinstance(answers, list) or len(answers) != len(batch) or any("error" in each for each in answers):
                raise ChainUnavailable("the node refused to answer several questions at once")
            found += [each.get("result") for each in answers]
        return found

    def send(self, data: HexStr, to: str | None, value: int = 0) -> TxReceipt:
        """Estimate, sign, send and wait for one transaction; `to` None creates a contract."""
        if self.account is None:
            raise ConfigurationError("an account is needed to send transactions, and none is configured")
        eth = self.web3.eth
        call: TxParams = {"from": self.account.address, "data": data, "value": Wei(value)}
        if to is not None:
            call["to"] = to
        with self.translated(value):
            for _ in range(TRIES):
                # The pending block is where it will run: hashes and times of the latest one may not do yet.
                estimate = eth.estimate_gas(call, "pending")
                transaction: TxParams = {**call, **self._price(), "chainId": self.chain_id}
                # Somebody else's transaction may come first and make this one write fresh slots.
                transaction["gas"] = estimate * 5 // 4
                with self._nonce_lock:
                    transaction["nonce"] = eth.get_transaction_count(self.account.address, "pending")
                    signed = self.account.sign_transaction(cast(dict[str, Any], transaction))
                    transaction_hash = eth.send_raw_transaction(signed.raw_transaction)
                receipt = self._receipt(transaction_hash)
                if receipt["status"] == 1:
                    return receipt
                # The state changed between estimate and mining; asked again, the contract says why. If it does not, the
                # gas ran out: many credits that were withdrawn meanwhile are written anew.
                eth.call(call, receipt["blockNumber"])
        raise Reverted("", {})

    def _price(self) -> TxParams:
        base_fee = self.web3.eth.get_block("latest").get("baseFeePerGas")
        if base_fee is None:
            return {"gasPrice": self.web3.eth.gas_price}
        return {
            "maxPriorityFeePerGas": Wei(PRIORITY_FEE),
            "maxFeePerGas": Wei(2 * base_fee + PRIORITY_FEE),
        }

    def _receipt(self, transaction_hash: HexBytes) -> TxReceipt:
        give_up = time.monotonic() + RECEIPT_TIMEOUT
        pause = FIRST_POLL
        while True:
            with suppress(TransactionNotFound):
                return self.web3.eth.get_transaction_receipt(transaction_hash)
            if time.monotonic() > give_up:
                raise ChainUnavailable(
                    f"transaction {transaction_hash.to_0x_hex()} was not mined in {RECEIPT_TIMEOUT:.0f} s"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, SLOWEST_POLL)


class Marketplace:
    """The contract at one address, as one account uses it.

    Safe to share between threads. Nothing is asked of the chain before the first call.

    Parameters
    ----------
    rpc_url : str
        The node's JSON-RPC endpoint.
    address : str
        The contract.
    account : LocalAccount, optional
        Signs transactions; without it the chain can only be read.

    Raises
    ------
    InvalidInput
        `address` is not an address.

    Notes
    -----
    Every method may raise `ChainUnavailable` and `NoContract`; every method that sends may also raise
    `Reverted`, `InsufficientFunds`, `InvalidInput` (a value that the contract's types cannot hold) and
    `ConfigurationError` (no account). Two gateways that send from one account at the same moment may choose one
    nonce; the loser gets `ChainUnavailable` and repeats its call.
    """

    def __init__(self, rpc_url: str, address: str, account: LocalAccount | None = None) -> None:
        self.address: str = _address(address)
        self.account = account
        self._node = _Node(rpc_url, account)
        self._contract = self._node.web3.eth.contract(address=_address(address), abi=self._node.abi, decode_tuples=True)

    @property
    def chain_id(self) -> int:
        """The chain's id; asked once."""
        return self._node.chain_id

    def verify(self) -> None:
        """Check that the address holds the marketplace that this code was built for.

        Raises
        ------
        NoContract
            It holds nothing, or something else, or another version.
        """
        with self._node.translated():
            code = self._node.web3.eth.get_code(self._contract.address).hex()
        # What is deployed is the tail of what deploys it: the contract has no immutable variables.
        if not code or not load_artefact()["bytecode"].endswith(code):
            raise NoContract(self.address)

    def now(self) -> int:
        """Read the chain's clock.

        Returns
        -------
        int
            Unix seconds that a transaction sent now would see: deadlines are judged by it. An idle
            development chain mines no blocks, so its latest block would lag behind.
        """
        with self._node.translated():
            return int(self._node.web3.eth.get_block("pending")["timestamp"])

    def head(self) -> tuple[int, int]:
        """Read the newest block.

        Returns
        -------
        number, time : int
            Its number, and when it was made, in Unix seconds.
        """
        with self._node.translated():
            block = self._node.web3.eth.get_block("latest")
        return int(block["number"]), int(block["timestamp"])

    def balance(self, address: str) -> int:
        """Read what an account owns outside the contract.

        Parameters
        ----------
        address : str
            Any account.

        Returns
        -------
        int
            Wei.
        """
        with self._node.translated():
            return int(self._node.web3.eth.get_balance(_address(address)))

    def credit(self, address: str) -> int:
        """Read what an account can withdraw.

        Parameters
        ----------
        address : str
            Any account.

        Returns
        -------
        int
            Wei.
        """
        return int(self._read("credit", _address(address)))

    def role(self, address: str) -> Role:
        """Read the role of an account.

        Parameters
        ----------
        address : str
            Any account.

        Returns
        -------
        Role
            NONE when it has not registered.
        """
        return Role(self._read("role", _address(address)))

    def training(self, training_id: UUID) -> Training:
        """Read everything the contract knows about a training.

        One call to the node; one more while joining is closed, and one more once there is a result.

        Parameters
        ----------
        training_id : UUID
            The training.

        Returns
        -------
        Training
            With status NONE when the contract has no such training.
        """
        view = self._read("training", _bytes32(training_id))
        status = Status(view.status)
        closed = int(view.closedBlock)
        startable = status is Status.CLOSED and closed <= self._block_number() < closed + 256
        reported = any(view.digest)
        return Training(
            id=training_id,
            status=status,
            buyer=view.buyer,
            aggregator=view.aggregator,
            escrow=view.escrow,
            bond=view.bond,
            terms=Terms(
                wanted_owners=view.terms.wantedOwners,
                minimum_owners=view.terms.minimumOwners,
                join_deadline=view.terms.joinDeadline,
                training_deadline=view.terms.trainingDeadline,
                review_period=view.terms.reviewPeriod,
                fixed_share=view.terms.fixedShare,
                validator_share=view.terms.validatorShare,
                arbiter=view.terms.arbiter,
                order_hash=view.terms.orderHash,
            ),
            owners=tuple(Participant(*owner) for owner in view.owners),
            trainer_count=view.trainers,
            evaluations=view.evaluations,
            ordered_block=view.orderedBlock,
            closed_block=closed,
            startable=startable,
            digest=view.digest,
            improvement=view.improvement,
            deadline=view.deadline,
            disputer=view.disputer if int(view.disputer, 16) else None,
            result=self._result(training_id, view.orderedBlock) if reported else None,
        )

    def payments(self, training_id: UUID) -> list[Payment]:
        """Read who was credited with what by a training.

        Parameters
        ----------
        training_id : UUID
            The training.

        Returns
        -------
        list of Payment
            In the order of the contract; empty while nothing was paid.
        """
        since = self._read("training", _bytes32(training_id)).orderedBlock
        return [
            Payment(log["args"]["receiver"], PaymentKind(log["event"]), log["args"]["amount"])
            for log in self._events(training_id, since, *PaymentKind)
        ]

    def unconfirmed(self, address: str) -> int:
        """Count the transactions that an account has sent and that are not mined yet.

        Parameters
        ----------
        address : str
            The account.

        Returns
        -------
        int
            Those that the node knows of.
        """
        with self._node.translated():
            count = self._node.web3.eth.get_transaction_count
            account = to_checksum_address(address)
            return count(account, "pending") - count(account, "latest")

    def history(self, training_id: UUID) -> list[tuple[int, int]]:
        """Read the recorded MSEs of a training.

        Parameters
        ----------
        training_id : UUID
            The training.

        Returns
        -------
        list of (int, int)
            Iteration and MSE in 1e-18 units, in ascending order.
        """
        since = self._read("training", _bytes32(training_id)).orderedBlock
        return [(log["args"]["iteration"], log["args"]["mse"]) for log in self._events(training_id, since, "MseSaved")]

    def reported(self, training_id: UUID) -> Result | None:
        """Read what the aggregator reported, whatever an arbiter put in its place.

        Parameters
        ----------
        training_id : UUID
            The training.

        Returns
        -------
        Result or None
            None when nothing was reported.
        """
        logs = self._events(training_id, self._ordered(training_id), "ResultReported")
        return _result(logs[-1]) if logs else None

    def accepted(self, training_id: UUID) -> tuple[tuple[str, int], ...]:
        """Read who accepted a training and did not withdraw, in the order that the shuffle started from.

        Parameters
        ----------
        training_id : UUID
            The training.

        Returns
        -------
        tuple of (str, int)
            Address and rows of each owner.
        """
        owners: list[tuple[str, int]] = []
        names = ("TrainingAccepted", "AcceptanceWithdrawn")
        for log in self._events(training_id, self._ordered(training_id), *names):
            owner = log["args"]["owner"]
            if log["event"] == "TrainingAccepted":
                owners.append((owner, log["args"]["rows"]))
            else:  # the last takes the place of the one who left
                place = [address for address, _ in owners].index(owner)
                owners[place] = owners[-1]
                owners.pop()
        return tuple(owners)

    def events(self, training_id: UUID, known: Sequence[Event] = ()) -> tuple[Event, ...]:
        """Read everything that the contract says has happened in a training.

        Parameters
        ----------
        training_id : UUID
            The training.
        known : sequence of Event
            What was read before: it is not decoded again.

        Returns
        -------
        tuple of Event
            The oldest first; none when the contract has no such training.
        """
        since = self._ordered(training_id)
        if not since:
            return ()
        decoded = {(event.block_hash, event.index): event for event in known}
        names = [entry["name"] for entry in self._node.abi if _of_training(entry)]
        found = self._raw([_bytes32(training_id)], since, *names)
        with self._node.translated():
            return tuple(
                decoded.get((log["blockHash"].to_0x_hex(), log["logIndex"])) or self._event(kind.process_log(log))
                for kind, log in found
            )

    def transactions(self, events: Sequence[Event]) -> list[Transaction]:
        """Read what made events happen.

        Parameters
        ----------
        events : sequence of Event
            As :meth:`events` returned them.

        Returns
        -------
        list of Transaction
            One for each.
        """
        sent = list(dict.fromkeys(event.transaction for event in events))
        mined = list(dict.fromkeys(event.block_hash for event in events))
        answers = self._node.ask(
            [("eth_getTransactionByHash", [each]) for each in sent]
            + [("eth_getBlockByHash", [each, False]) for each in mined]
        )
        if None in answers:
            raise ChainUnavailable("the node has lost transactions of its own events")
        with self._node.translated():
            calls = dict(zip(sent, answers, strict=False))
            times = {key: int(block["timestamp"], 16) for key, block in zip(mined, answers[len(sent) :], strict=True)}
            return [
                Transaction(
                    sender=to_checksum_address(calls[event.transaction]["from"]),
                    call=self._called(calls[event.transaction]),
                    time=times[event.block_hash],
                )
                for event in events
            ]

    def block_hash(self, number: int) -> bytes:
        """Read the hash of a block.

        Parameters
        ----------
        number : int
            The block.

        Returns
        -------
        bytes
            32 bytes.
        """
        with self._node.translated():
            return bytes(self._node.web3.eth.get_block(number)["hash"])

    def ledger(self, address: str) -> tuple[int, int]:
        """Read what an account was ever credited with and has ever withdrawn: the difference is its credit.

        Parameters
        ----------
        address : str
            Any account.

        Returns
        -------
        credited, withdrawn : int
            Wei, over all trainings.
        """
        account = "0x" + _address(address).removeprefix("0x").lower().rjust(64, "0")
        credited = self._logs([None, account], 0, *PaymentKind)
        withdrawn = self._logs([account], 0, "CreditWithdrawn")
        return sum(log["args"]["amount"] for log in credited), sum(log["args"]["amount"] for log in withdrawn)

    def failure(self, training_id: UUID) -> str:
        """Read why the aggregator gave a training up.

        Parameters
        ----------
        training_id : UUID
            The training.

        Returns
        -------
        str
            Its words; empty when it did not.
        """
        since = self._read("training", _bytes32(training_id)).orderedBlock
        return "".join(log["args"]["reason"] for log in self._events(training_id, since, "TrainingFailed"))

    def dispute(self, training_id: UUID) -> Dispute | None:
        """Read the dispute of a training.

        Parameters
        ----------
        training_id : UUID
            The training.

        Returns
        -------
        Dispute or None
            None when nobody disputed.
        """
        since = self._read("training", _bytes32(training_id)).orderedBlock
        disputed = self._events(training_id, since, "ResultDisputed")
        if not disputed:
            return None
        resolved = self._events(training_id, since, "DisputeResolved")
        return Dispute(
            disputer=disputed[-1]["args"]["disputer"],
            evidence_hash=bytes(disputed[-1]["args"]["evidenceHash"]),
            outcome=Outcome(resolved[-1]["args"]["outcome"]) if resolved else None,
        )

    def register(self, role: Role) -> Receipt:
        """Take a role, once and for ever.

        Parameters
        ----------
        role : Role
            Any but NONE.

        Returns
        -------
        Receipt
            The mined transaction.
        """
        return self._send("register", role)

    def new_model(self, training_id: UUID, model_type: str, aggregator: str, terms: Terms, value: int) -> Receipt:
        """Order a training and pay for it, as a buyer.

        Parameters
        ----------
        training_id : UUID
            Fresh.
        model_type : str
            Kind of model, at most 32 bytes.
        aggregator : str
            A registered aggregator.
        terms : Terms
            The order.
        value : int
            Escrow in wei.

        Returns
        -------
        Receipt
            The mined transaction.
        """
        order = {
            "arbiter": _address(terms.arbiter),
            "wantedOwners": terms.wanted_owners,
            "minimumOwners": terms.minimum_owners,
            "joinDeadline": terms.join_deadline,
            "trainingDeadline": terms.training_deadline,
            "reviewPeriod": terms.review_period,
            "fixedShare": terms.fixed_share,
            "validatorShare": terms.validator_share,
            "orderHash": terms.order_hash,
        }
        kind = model_type.encode().ljust(32, b"\0")
        return self._send("newModel", _bytes32(training_id), kind, _address(aggregator), order, value=value)

    def cancel(self, training_id: UUID) -> Receipt:
        """Take an order back, or end one that did not find its owners.

        Parameters
        ----------
        training_id : UUID
            The training.

        Returns
        -------
        Receipt
            The mined transaction.
        """
        return self._send("cancel", _bytes32(training_id))

    def accept_training(self, training_id: UUID, rows: int) -> Receipt:
        """Take part, as a data owner.

        Parameters
        ----------
        training_id : UUID
            The training.
        rows : int
            Rows that the owner trains or validates on, at least 1.

        Returns
        -------
        Receipt
            The mined transaction.
        """
        return self._send("acceptTraining", _bytes32(training_id), rows)

    def withdraw_acceptance(self, training_id: UUID) -> Receipt:
        """Take no part after all, while joining is open.

        Parameters
        ----------
        training_id : UUID
            The training.

        Returns
        -------
        Receipt
            The mined transaction.
        """
        return self._send("withdrawAcceptance", _bytes32(training_id))

    def close_joining(self, training_id: UUID) -> Receipt:
        """Freeze the set of owners, as the aggregator.

        Parameters
        ----------
        training_id : UUID
            The training.

        Returns
        -------
        Receipt
            The mined transaction.
        """
        return self._send("closeJoining", _bytes32(training_id))

    def start_training(self, training_id: UUID) -> Receipt:
        """Draw trainers and validators, as the aggregator, within 256 blocks of the closing.

        Parameters
        ----------
        training_id : UUID
            The training.

        Returns
        -------
        Receipt
            The mined transaction.
        """
        return self._send("startTraining", _bytes32(training_id))

    def save_mse(self, training_id: UUID, iteration: int, mse: int) -> Receipt:
        """Record the MSE of an evaluated iteration, as the aggregator.

        Parameters
        ----------
        training_id : UUID
            The training.
        iteration : int
            Rounds run so far; 0 first, then strictly increasing.
        mse : int
            In 1e-18 units of the squared scaled target.

        Returns
        -------
        Receipt
            The mined transaction.
        """
        return self._send("saveMse", _bytes32(training_id), iteration, mse)

    def report_result(self, training_id: UUID, result: Result) -> Receipt:
        """Report how the training went, as the aggregator.

        Parameters
        ----------
        training_id : UUID
            The training.
        result : Result
            In the contract's order of trainers and validators.

        Returns
        -------
        Receipt
            The mined transaction.
        """
        return self._send("reportResult", _bytes32(training_id), result.to_abi())

    def finish_model_training(self, training_id: UUID, digest: bytes) -> Receipt:
        """Confirm the reported result, as the buyer, and pay everybody.

        Parameters
        ----------
        training_id : UUID
            The training.
        digest : bytes
            ``Result.digest()`` of the result as the buyer computed it.

        Returns
        -------
        Receipt
            The mined transaction.
        """
        return self._send("finishModelTraining", _bytes32(training_id), digest)

    def dispute_result(self, training_id: UUID, evidence_hash: bytes, value: int) -> Receipt:
        """Dispute the reported result, as the buyer or an owner of the training.

        Parameters
        ----------
        training_id : UUID
            The training.
        evidence_hash : bytes
            32 bytes that bind what the arbiter will be shown.
        value : int
            Wei; exactly the training's ``bond``.

        Returns
        -------
        Receipt
            The mined transaction.
        """
        return self._send("disputeResult", _bytes32(training_id), evidence_hash, value=value)

    def resolve(self, training_id: UUID, outcome: Outcome, corrected: Result | None = None) -> Receipt:
        """Decide a dispute, as the arbiter.

        Parameters
        ----------
        training_id : UUID
            The training.
        outcome : Outcome
            The decision.
        corrected : Result, optional
            What to pay by; given exactly when the outcome is CORRECTED.

        Returns
        -------
        Receipt
            The mined transaction.

        Raises
        ------
        InvalidInput
            A corrected result is missing, or given with another outcome.
        """
        if (outcome is Outcome.CORRECTED) != (corrected is not None):
            raise InvalidInput("a corrected result comes with the outcome CORRECTED, and only with it")
        return self._send("resolve", _bytes32(training_id), outcome, (corrected or _NO_RESULT).to_abi())

    def finalize(self, training_id: UUID) -> Receipt:
        """Pay by the reported result when its review, or the arbiter's period, has passed. By anyone.

        Parameters
        ----------
        training_id : UUID
            The training.

        Returns
        -------
        Receipt
            The mined transaction.
        """
        return self._send("finalize", _bytes32(training_id))

    def abort_training(self, training_id: UUID, reason: str) -> Receipt:
        """Give a training up, as the aggregator. Full refund.

        Parameters
        ----------
        training_id : UUID
            The training.
        reason : str
            Why; public for ever.

        Returns
        -------
        Receipt
            The mined transaction.
        """
        return self._send("abortTraining", _bytes32(training_id), reason)

    def expire(self, training_id: UUID) -> Receipt:
        """End a training whose deadline passed without a report. Full refund. By anyone.

        Parameters
        ----------
        training_id : UUID
            The training.

        Returns
        -------
        Receipt
            The mined transaction.
        """
        return self._send("expire", _bytes32(training_id))

    def withdraw(self) -> Withdrawal:
        """Withdraw the account's whole credit.

        Returns
        -------
        Withdrawal
            The mined transaction, and how much it was.
        """
        receipt = self._mine("withdraw")
        (event,) = self._contract.events.CreditWithdrawn().process_receipt(receipt)
        return Withdrawal(**vars(_receipt(receipt)), amount=event["args"]["amount"])

    def _read(self, function: str, *arguments: object) -> Any:
        with self._node.translated():
            try:
                return self._contract.functions[function](*arguments).call()
            except (BadFunctionCallOutput, ContractLogicError) as error:
                # No view of the marketplace reverts, or answers something else.
                raise NoContract(self.address) from error

    def _send(self, function: str, *arguments: object, value: int = 0) -> Receipt:
        return _receipt(self._mine(function, *arguments, value=value))

    def _mine(self, function: str, *arguments: object, value: int = 0) -> TxReceipt:
        with self._node.translated():
            data = self._contract.encode_abi(function, arguments)
        if value:
            # Ether sent to an address without the contract would be lost.
            self.verify()
        receipt = self._node.send(data, self.address, value)
        # Every transaction of the contract emits an event; an empty address takes any call in silence.
        if not receipt["logs"]:
            raise NoContract(self.address)
        return receipt

    def _event(self, log: EventData) -> Event:
        kind = next(entry for entry in self._node.abi if entry["type"] == "event" and entry["name"] == log["event"])
        return Event(
            name=log["event"],
            values={
                entry["name"]: _plain(entry, log["args"][entry["name"]])
                for entry in kind["inputs"]
                if entry["name"] != "id"
            },
            transaction=log["transactionHash"].to_0x_hex(),
            block_hash=log["blockHash"].to_0x_hex(),
            block=log["blockNumber"],
            index=log["logIndex"],
        )

    def _called(self, transaction: Mapping[str, Any]) -> str:
        if str(transaction["to"]).lower() != self.address.lower():
            return ""
        selector = transaction["input"][:10]
        functions = (entry for entry in self._node.abi if entry["type"] == "function")
        return next(
            (entry["name"] for entry in functions if function_abi_to_4byte_selector(entry).hex() == selector[2:]), ""
        )

    def _block_number(self) -> int:
        with self._node.translated():
            return self._node.web3.eth.block_number

    def _result(self, training_id: UUID, since: int) -> Result:
        logs = self._events(training_id, since, "ResultReported", "ResultCorrected")
        if not logs:
            raise ChainUnavailable(f"the node has lost the events of training {training_id}")
        return _result(logs[-1])

    def _ordered(self, training_id: UUID) -> int:
        return int(self._read("training", _bytes32(training_id)).orderedBlock)

    def _events(self, training_id: UUID, since: int, *names: str) -> list[EventData]:
        """Decode the training's events of these names, oldest first."""
        return self._logs([_bytes32(training_id)], since, *names)

    def _logs(self, indexed: list[Any], since: int, *names: str) -> list[EventData]:
        """Decode the events of these names and indexed values (None for any), oldest first."""
        found = self._raw(indexed, since, *names)
        with self._node.translated():
            return [kind.process_log(log) for kind, log in found]

    def _raw(self, indexed: list[Any], since: int, *names: str) -> list[tuple[Any, LogReceipt]]:
        """Read the events of these names and indexed values, each with what decodes it."""
        events = {HexBytes(event.topic): event for event in (self._contract.events[name]() for name in names)}
        topics: list[Any] = [list(events), *indexed]
        with self._node.translated():
            logs = self._node.web3.eth.get_logs(
                {"address": self._contract.address, "fromBlock": BlockNumber(since), "topics": topics}
            )
            return [(events[log["topics"][0]], log) for log in logs]


_NO_RESULT = Result(
    iterations=0,
    initial_mse=0,
    final_mse=0,
    partial_mses=(),
    contributions=(),
    trainers_answered=(),
    validators_answered=(),
    transcript_root=bytes(32),
    model_hash=bytes(32),
)


def _receipt(receipt: TxReceipt) -> Receipt:
    return Receipt(receipt["transactionHash"].to_0x_hex(), receipt["blockNumber"], receipt["gasUsed"])


def _result(log: EventData) -> Result:
    result = log["args"]["result"]
    return Result(
        iterations=result["iterations"],
        initial_mse=result["initialMse"],
        final_mse=result["finalMse"],
        partial_mses=tuple(result["partialMses"]),
        contributions=tuple(result["contributions"]),
        trainers_answered=tuple(result["trainersAnswered"]),
        validators_answered=tuple(result["validatorsAnswered"]),
        transcript_root=result["transcriptRoot"],
        model_hash=result["modelHash"],
    )


def deploy(rpc_url: str, account: LocalAccount) -> str:
    """Put a fresh marketplace on the chain.

    Parameters
    ----------
    rpc_url : str
        The node's JSON-RPC endpoint.
    account : LocalAccount
        Pays the gas, and gets no privilege by it.

    Returns
    -------
    str
        The contract's address.

    Raises
    ------
    ChainUnavailable, InsufficientFunds
        The node does not answer, or the account cannot pay.
    """
    receipt = _Node(rpc_url, account).send(load_artefact()["bytecode"], None)
    return str(receipt["contractAddress"])


def _bytes32(training_id: UUID) -> bytes:
    return training_id.bytes.ljust(32, b"\0")


def _address(text: str) -> ChecksumAddress:
    try:
        return to_checksum_address(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is not an Ethereum address") from error


def _of_training(entry: Mapping[str, Any]) -> bool:
    return entry["type"] == "event" and any(value["name"] == "id" for value in entry["inputs"])


def _plain(entry: Any, value: Any) -> Any:
    """Give a decoded ABI value a form that JSON has."""
    kind = str(entry["type"])
    if kind.endswith("[]"):
        return [_plain({**entry, "type": kind.removesuffix("[]")}, each) for each in value]
    if kind == "tuple":
        return {part["name"]: _plain(part, value[part["name"]]) for part in entry["components"]}
    readable = _readable(entry, value)
    if isinstance(readable, (Role, Status, Outcome)):
        return readable.name
    return str(readable) if isinstance(readable, int) and not isinstance(readable, bool) else readable


def _readable(entry: ABIComponent, value: Any) -> Any:
    """Give a decoded ABI value the type a Python reader expects."""
    kind = _ENUMS.get(str(entry.get("internalType")))
    if kind is not None:
        return kind(value)
    if entry["type"] == "address":
        return to_checksum_address(value)
    return "0x" + value.hex() if isinstance(value, bytes) else value
