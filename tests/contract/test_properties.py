"""Random calls by random people, and what must hold whatever they do."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from eth_abi.abi import decode, encode
from eth_utils.abi import abi_to_signature, function_signature_to_4byte_selector, get_abi_input_types
from eth_utils.crypto import keccak
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from commons.chain.artefact import load_artefact
from commons.chain.marketplace import Outcome, Result, Role, Status
from commons.chain.settlement import settle

from .world import DAY, ETHER, HOUR, World, address_of

FOLLOWS = {
    Status.NONE: {Status.OPEN},
    Status.OPEN: {Status.CLOSED, Status.CANCELLED},
    Status.CLOSED: {Status.CLOSED, Status.TRAINING, Status.FAILED, Status.EXPIRED},
    Status.TRAINING: {Status.REPORTED, Status.FAILED, Status.EXPIRED},
    Status.REPORTED: {Status.DISPUTED, Status.FINISHED},
    Status.DISPUTED: {Status.FINISHED},
}
AUDIT = function_signature_to_4byte_selector("audit(address,address[],bytes32[])")
ABI = load_artefact()["abi"]
CUSTOM_ERRORS = {"0x" + keccak(text=abi_to_signature(entry))[:4].hex() for entry in ABI if entry["type"] == "error"}
FUNCTIONS = {
    entry["name"]: (keccak(text=abi_to_signature(entry))[:4], get_abi_input_types(entry))
    for entry in ABI
    if entry["type"] == "function"
}


class Node:
    """JSON-RPC without ceremony: thousands of calls have to fit into seconds."""

    def __init__(self, url: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)

    def ask(self, method: str, *parameters: object) -> dict[str, Any]:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters})
        self.connection.request("POST", "/", body, {"Content-Type": "application/json"})
        answer: dict[str, Any] = json.loads(self.connection.getresponse().read())
        return answer

    def get(self, method: str, *parameters: object) -> Any:
        return self.ask(method, *parameters)["result"]


@dataclass
class Order:
    """What the model remembers of a training."""

    id: UUID
    buyer: str
    aggregator: str
    arbiter: str
    escrow: int
    fixed_share: int
    wanted: int
    minimum: int
    join_deadline: int
    training_deadline: int
    status: Status = Status.NONE
    owners: list[str] = field(default_factory=list)
    trainers: list[str] = field(default_factory=list)
    validators: list[str] = field(default_factory=list)
    result: Result | None = None
    disputer: str = ""
    next_iteration: int = 0

    @property
    def bond(self) -> int:
        return -(-self.escrow // 20)

    @property
    def word(self) -> bytes:
        return self.id.bytes.ljust(32, b"\0")


mses = st.one_of(st.integers(0, 1000), st.integers(0, 2**76))


def results(trainers: int, validators: int) -> st.SearchStrategy[Result]:
    def exactly(values: st.SearchStrategy[Any], count: int) -> st.SearchStrategy[tuple[Any, ...]]:
        return st.lists(values, min_size=count, max_size=count).map(tuple)

    return st.builds(
        Result,
        iterations=st.integers(0, 100),
        initial_mse=mses,
        final_mse=mses,
        partial_mses=st.just((0,) * trainers),
        contributions=exactly(st.one_of(st.integers(0, 3), st.integers(0, 2**200)), trainers),
        trainers_answered=exactly(st.booleans(), trainers),
        validators_answered=exactly(st.booleans(), validators),
        transcript_root=st.just(bytes(32)),
        model_hash=st.just(bytes(32)),
    )


class Marketplaces(RuleBasedStateMachine):
    """The contract beside a model of everybody's credits."""

    def __init__(self, world: World, auditor: str, seen: Counter[tuple[Status, Status]]) -> None:
        super().__init__()
        self.seen = seen
        self.world = world
        self.node = Node(world.rpc_url)
        self.auditor = auditor
        self.buyers = [address_of(each) for each in (world.buyer, world.other_buyer)]
        self.aggregators = [address_of(each) for each in (world.aggregator, world.other_aggregator)]
        self.arbiters = [address_of(each) for each in (world.arbiter, world.other_arbiter)]
        self.owners = [address_of(each) for each in world.owners]
        self.stranger = address_of(world.stranger)
        self.everybody = [*self.buyers, *self.aggregators, *self.arbiters, *self.owners, self.stranger]
        self.orders: list[Order] = []
        self.credits: Counter[str] = Counter()
        self.snapshot = self.node.get("evm_snapshot")

    def live(self) -> list[Order]:
        return [order for order in self.orders if not order.status.is_final]

    def now(self) -> int:
        return int(self.node.get("eth_getBlockByNumber", "pending", False)["timestamp"], 16)

    def send(self, caller: str, function: str, *arguments: object, value: int = 0) -> bool:
        """Call the contract; False when it refuses, which it does with one of its own errors only."""
        selector, kinds = FUNCTIONS[function]
        call = {
            "from": caller,
            "to": self.world.address,
            "data": "0x" + (selector + encode(kinds, arguments)).hex(),
            "value": hex(value),
            "gas": hex(3 * 10**6),
        }
        dry_run = self.node.ask("eth_call", call, "pending")
        if "error" in dry_run:
            assert dry_run["error"]["data"][:10] in CUSTOM_ERRORS, dry_run
            return False
        assert int(self.node.get("eth_sendTransactionSync", call)["status"], 16) == 1
        return True

    def pass_time(self, seconds: int) -> None:
        latest = int(self.node.get("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        self.node.get("evm_setNextBlockTimestamp", latest + seconds)
        self.node.get("evm_mine")

    def check(self) -> None:
        """Conservation and single payment: balance, credits and statuses are what the model says."""
        arguments = [self.world.address, self.everybody, [order.word for order in self.orders]]
        data = AUDIT + encode(["address", "address[]", "bytes32[]"], arguments)
        answer = self.node.get("eth_call", {"to": self.auditor, "data": "0x" + data.hex()}, "latest")
        kinds = ["uint256", "uint256[]", "uint256[]", "address[][]"]
        balance, credits, statuses, owners = decode(kinds, bytes.fromhex(answer[2:]))
        assert list(credits) == [self.credits[account] for account in self.everybody]
        assert list(statuses) == [order.status for order in self.orders]
        for order, present in zip(self.orders, owners, strict=True):
            assert sorted(present) == sorted(owner.lower() for owner in order.owners)
        escrows = sum(order.escrow for order in self.orders if not order.status.is_final)
        bonds = sum(order.bond for order in self.orders if order.status is Status.DISPUTED)
        assert balance == escrows + bonds + sum(self.credits.values())

    def move(self, order: Order, status: Status) -> None:
        assert status in FOLLOWS[order.status]
        self.seen[order.status, status] += 1
        order.status = status
        self.check()

    def refund(self, order: Order, status: Status) -> None:
        self.credits[order.buyer] += order.escrow
        self.move(order, status)

    def settle(self, order: Order) -> None:
        assert order.result is not None
        split = settle(order.escrow, order.fixed_share, order.result)
        self.credits[order.aggregator] += split.aggregator
        self.credits[order.buyer] += split.buyer
        self.credits.update(dict(zip(order.trainers, split.trainers, strict=True)))
        self.credits.update(dict(zip(order.validators, split.validators, strict=True)))
        self.move(order, Status.FINISHED)

    # Steps: each sends one call, and when it went through, checks that it was allowed and what it did.

    def accept(self, order: Order, caller: str) -> None:
        if self.send(caller, "acceptTraining", order.word, 10):
            assert order.status is Status.OPEN and caller in self.owners and caller not in order.owners
            order.owners.append(caller)
            assert len(order.owners) <= order.wanted
            self.check()

    def leave(self, order: Order, caller: str) -> None:
        if self.send(caller, "withdrawAcceptance", order.word):
            assert order.status is Status.OPEN
            order.owners.remove(caller)
            self.check()

    def cancel(self, order: Order, caller: str) -> None:
        if self.send(caller, "cancel", order.word):
            unwanted = caller == order.buyer and not order.owners
            patience = 0 if len(order.owners) < order.minimum else DAY
            assert unwanted or self.now() > order.join_deadline + patience
            self.refund(order, Status.CANCELLED)

    def close(self, order: Order, caller: str) -> None:
        if self.send(caller, "closeJoining", order.word):
            assert caller == order.aggregator and len(order.owners) >= order.minimum
            self.move(order, Status.CLOSED)

    def start(self, order: Order, caller: str) -> None:
        if self.send(caller, "startTraining", order.word):
            assert caller == order.aggregator
            training = self.world.buyer.training(order.id)
            order.trainers, order.validators = list(training.trainers), list(training.validators)
            assert sorted(order.trainers + order.validators) == sorted(order.owners)
            self.move(order, Status.TRAINING)

    def save(self, order: Order, caller: str, iteration: int) -> None:
        if self.send(caller, "saveMse", order.word, iteration, 1):
            assert order.status is Status.TRAINING and caller == order.aggregator
            assert iteration >= order.next_iteration and (iteration == 0 or order.next_iteration > 0)
            order.next_iteration = iteration + 1
            self.check()

    def report(self, order: Order, caller: str, result: Result) -> None:
        if self.send(caller, "reportResult", order.word, result.to_abi()):
            assert caller == order.aggregator
            order.result = result
            self.move(order, Status.REPORTED)

    def finish(self, order: Order, caller: str, digest: bytes) -> None:
        if self.send(caller, "finishModelTraining", order.word, digest):
            assert order.status is Status.REPORTED and caller == order.buyer
            assert order.result is not None and digest == order.result.digest()
            self.settle(order)

    def dispute(self, order: Order, caller: str, value: int) -> None:
        if self.send(caller, "disputeResult", order.word, bytes(32), value=value):
            assert caller in (order.buyer, *order.owners) and value == order.bond
            order.disputer = caller
            self.move(order, Status.DISPUTED)

    def resolve(self, order: Order, caller: str, outcome: Outcome, corrected: Result) -> None:
        if self.send(caller, "resolve", order.word, outcome, corrected.to_abi()):
            assert order.status is Status.DISPUTED and caller == order.arbiter
            self.credits[order.arbiter if outcome is Outcome.AS_REPORTED else order.disputer] += order.bond
            if outcome is Outcome.REFUND:
                self.refund(order, Status.FINISHED)
                return
            if outcome is Outcome.CORRECTED:
                order.result = corrected
            self.settle(order)

    def finalize(self, order: Order, caller: str) -> None:
        if self.send(caller, "finalize", order.word):
            if order.status is Status.DISPUTED:
                self.credits[order.disputer] += order.bond
            self.settle(order)

    def abort(self, order: Order, caller: str) -> None:
        if self.send(caller, "abortTraining", order.word, "too few answered"):
            assert caller == order.aggregator
            self.refund(order, Status.FAILED)

    def expire(self, order: Order, caller: str) -> None:
        if self.send(caller, "expire", order.word):
            assert self.now() > order.training_deadline
            self.refund(order, Status.EXPIRED)

    def withdraw(self, caller: str) -> None:
        sent = self.send(caller, "withdraw")
        assert sent == (self.credits[caller] > 0)
        if sent:
            self.credits[caller] = 0
            self.check()

    # Rules: what hypothesis does.

    @precondition(lambda self: len(self.orders) < 3)
    @rule(data=st.data(), escrow=st.one_of(st.integers(1, 100), st.integers(1, 9 * ETHER)))
    def order(self, data: st.DataObject, escrow: int) -> None:
        wanted = data.draw(st.integers(3, len(self.owners)))
        now = self.now()
        order = Order(
            id=UUID(int=len(self.orders) + 1),
            buyer=data.draw(st.sampled_from(self.buyers)),
            aggregator=data.draw(st.sampled_from(self.aggregators)),
            arbiter=data.draw(st.sampled_from(self.arbiters)),
            escrow=escrow,
            fixed_share=data.draw(st.sampled_from([0, ETHER // 10, ETHER // 3, ETHER])),
            wanted=wanted,
            minimum=data.draw(st.integers(3, wanted)),
            join_deadline=now + HOUR,
            training_deadline=now + 2 * DAY,
        )
        terms = (
            order.arbiter,
            wanted,
            order.minimum,
            order.join_deadline,
            order.training_deadline,
            HOUR,
            order.fixed_share,
            data.draw(st.sampled_from([0, 3 * ETHER // 10, ETHER // 2])),
            bytes(32),
        )
        assert self.send(order.buyer, "newModel", order.word, bytes(32), order.aggregator, terms, value=escrow)
        self.orders.append(order)
        self.move(order, Status.OPEN)

    @precondition(lambda self: any(order.status is Status.OPEN for order in self.orders))
    @rule(data=st.data(), count=st.integers(1, 6))
    def come_and_go(self, data: st.DataObject, count: int) -> None:
        order = data.draw(st.sampled_from([each for each in self.orders if each.status is Status.OPEN]))
        for _ in range(count):
            owner = data.draw(st.sampled_from(self.owners))
            if owner in order.owners:
                self.leave(order, owner)
                assert owner not in order.owners
            elif len(order.owners) < order.wanted and self.now() <= order.join_deadline:
                self.accept(order, owner)
                assert owner in order.owners

    @precondition(lambda self: self.live())
    @rule(data=st.data(), count=st.integers(1, 4))
    def step(self, data: st.DataObject, count: int) -> None:
        """What comes next in a training's life, by whoever may do it."""
        order = data.draw(st.sampled_from(self.live()))
        for _ in range(count):
            shape = len(order.trainers), len(order.validators)
            if order.status is Status.OPEN:
                for owner in [each for each in self.owners if each not in order.owners]:
                    self.accept(order, owner)
                self.close(order, order.aggregator)
            elif order.status is Status.CLOSED:
                self.start(order, order.aggregator)
            elif order.status is Status.TRAINING:
                self.save(order, order.aggregator, order.next_iteration)
                self.report(order, order.aggregator, data.draw(results(*shape)))
            elif order.status is Status.REPORTED and data.draw(st.booleans()):
                assert order.result is not None
                self.finish(order, order.buyer, order.result.digest())
            elif order.status is Status.REPORTED:
                self.dispute(order, data.draw(st.sampled_from([order.buyer, *order.owners])), order.bond)
            elif order.status is Status.DISPUTED:
                outcome = data.draw(st.sampled_from(Outcome))
                self.resolve(order, order.arbiter, outcome, data.draw(results(*shape)))

    @precondition(lambda self: any(order.status in (Status.CLOSED, Status.TRAINING) for order in self.orders))
    @rule(data=st.data(), give_up=st.integers(0, 3))
    def doubt(self, data: st.DataObject, give_up: int) -> None:
        order = data.draw(
            st.sampled_from([each for each in self.orders if each.status in (Status.CLOSED, Status.TRAINING)])
        )
        if give_up == 0:  # not too often, or nothing is ever reported
            self.abort(order, order.aggregator)

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def meddle(self, data: st.DataObject) -> None:
        """Anything, by anybody, at any time."""
        order = data.draw(st.sampled_from(self.orders))
        parties = [order.buyer, order.aggregator, order.arbiter, *order.owners]
        caller = data.draw(st.sampled_from(parties) | st.sampled_from(self.everybody))
        shape = max(len(order.trainers), 2), max(len(order.validators), 1)
        calls = {
            "accept": lambda: self.accept(order, caller),
            "leave": lambda: self.leave(order, caller),
            "cancel": lambda: self.cancel(order, caller),
            "close": lambda: self.close(order, caller),
            "start": lambda: self.start(order, caller),
            "save": lambda: self.save(order, caller, data.draw(st.integers(0, 3))),
            "report": lambda: self.report(order, caller, data.draw(results(*shape))),
            "finish": lambda: self.finish(
                order, caller, order.result.digest() if order.result and data.draw(st.booleans()) else bytes(32)
            ),
            "dispute": lambda: self.dispute(order, caller, order.bond + data.draw(st.sampled_from([0, -1, 1]))),
            "resolve": lambda: self.resolve(
                order, caller, data.draw(st.sampled_from(Outcome)), data.draw(results(*shape))
            ),
            "finalize": lambda: self.finalize(order, caller),
            "abort": lambda: self.abort(order, caller),
            "expire": lambda: self.expire(order, caller),
            "register": lambda: self.register(caller, data.draw(st.sampled_from(Role))),
        }
        for call in data.draw(st.lists(st.sampled_from(sorted(calls)), min_size=1, max_size=8, unique=True)):
            calls[call]()

    def register(self, caller: str, role: Role) -> None:
        if self.send(caller, "register", role):
            assert caller == self.stranger and role is not Role.NONE
            if role is Role.DATA_OWNER:
                self.owners.append(caller)
            self.check()

    @precondition(lambda self: self.credits.total() > 0)
    @rule(data=st.data())
    def take_out(self, data: st.DataObject) -> None:
        self.withdraw(data.draw(st.sampled_from(self.everybody)))

    @precondition(lambda self: self.live())
    @rule(seconds=st.sampled_from([1, 60, HOUR, DAY, 2 * DAY, 7 * DAY]))
    def wait(self, seconds: int) -> None:
        self.pass_time(seconds)
        self.check()

    def teardown(self) -> None:
        """From wherever we are, a stranger's calls and time free all the money."""
        try:
            self.pass_time(10 * DAY)
            for order in self.orders:
                if order.status is Status.OPEN:
                    self.cancel(order, self.stranger)
                elif order.status in (Status.CLOSED, Status.TRAINING):
                    self.expire(order, self.stranger)
                elif not order.status.is_final:
                    self.finalize(order, self.stranger)
                assert order.status.is_final
            for account in +self.credits:
                self.withdraw(account)
            assert int(self.node.get("eth_getBalance", self.world.address, "latest"), 16) == 0
        finally:
            self.node.get("evm_revert", self.snapshot)
            self.node.connection.close()


@pytest.mark.timeout(900)  # when it fails, shrinking the story takes a while
def test_whatever_anybody_does_the_money_adds_up_is_paid_once_and_can_be_freed(
    world: World, compiled: dict[str, Any]
) -> None:
    auditor = world.deploy(compiled["Auditor.sol"]["Auditor"])
    world.rpc("anvil_autoImpersonateAccount", True)
    # The chain's clock is ours: by the real one, an example could run differently twice.
    world.rpc("anvil_setBlockTimestampInterval", 1)
    seen: Counter[tuple[Status, Status]] = Counter()
    try:
        run_state_machine_as_test(
            lambda: Marketplaces(world, auditor, seen),  # type: ignore[arg-type]
            settings=settings(
                max_examples=200,
                stateful_step_count=20,
                deadline=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        world.rpc("anvil_removeBlockTimestampInterval")
        world.rpc("anvil_autoImpersonateAccount", False)
    assert {status for _, status in seen} == set(Status) - {Status.NONE}
