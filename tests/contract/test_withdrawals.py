from __future__ import annotations

from typing import Any

import pytest

from commons.chain.marketplace import Marketplace, Role

from .world import ESCROW, ETHER, World, address_of, refused

REFUSE, REENTER = 0, 1


class Puppet:
    """A data owner that is a contract (``contracts/Puppet.sol``)."""

    def __init__(self, world: World, compiled: dict[str, Any], mood: int) -> None:
        code = compiled["Puppet.sol"]["Puppet"]
        self.address = world.deploy(code, mood)
        self.contract = world.web3.eth.contract(address=self.address, abi=code["abi"])
        self._world = world

    def act(self, function: str, *arguments: object) -> bool:
        data = self._world.buyer._contract.encode_abi(function, arguments)
        call = self.contract.encode_abi("act", [self._world.address, data])
        return self._world.call_from(address_of(self._world.stranger), self.address, call)


def finish_with(world: World, puppet: Puppet) -> None:
    """A whole training in which the puppet is one of three owners."""
    training_id = world.order(wanted_owners=3)
    assert puppet.act("register", Role.DATA_OWNER)
    assert puppet.act("acceptTraining", training_id.bytes.ljust(32, b"\0"), 10)
    for owner in world.owners[:2]:
        owner.accept_training(training_id, 10)
    world.aggregator.close_joining(training_id)
    world.aggregator.start_training(training_id)
    result = world.result(training_id)
    world.aggregator.report_result(training_id, result)
    world.buyer.finish_model_training(training_id, result.digest())


def test_an_account_withdraws_its_whole_credit_once(world: World) -> None:
    world.finished()
    aggregator = address_of(world.aggregator)
    before = world.buyer.balance(aggregator)
    receipt = world.aggregator.withdraw()
    assert receipt.amount == ESCROW // 10
    price = world.web3.eth.get_transaction_receipt(receipt.transaction)["effectiveGasPrice"]  # type: ignore[arg-type]
    assert world.buyer.balance(aggregator) == before + ESCROW // 10 - receipt.gas * price
    assert world.buyer.credit(aggregator) == 0
    [log] = world.web3.eth.get_logs({"address": world.buyer._contract.address})
    event = world.buyer._contract.events.CreditWithdrawn().process_log(log)
    assert dict(event["args"]) == {"account": aggregator, "amount": ESCROW // 10}
    with refused("NothingToWithdraw", account=aggregator):
        world.aggregator.withdraw()


def test_whoever_has_no_credit_withdraws_nothing(world: World) -> None:
    world.finished()
    with refused("NothingToWithdraw", account=address_of(world.stranger)):
        world.stranger.withdraw()


def test_credits_of_several_trainings_add_up(world: World) -> None:
    world.finished()
    world.finished()
    assert world.buyer.credit(address_of(world.aggregator)) == 2 * (ESCROW // 10)
    world.aggregator.withdraw()
    assert world.buyer.credit(address_of(world.aggregator)) == 0


def test_a_payee_that_reenters_is_paid_once(world: World, compiled: dict[str, Any]) -> None:
    puppet = Puppet(world, compiled, REENTER)
    finish_with(world, puppet)
    credit = world.buyer.credit(puppet.address)
    left = world.buyer.balance(world.address) - credit
    assert credit > 0
    assert puppet.act("withdraw")
    assert puppet.contract.functions.reentered().call() is False
    assert world.buyer.balance(puppet.address) == credit
    assert world.buyer.credit(puppet.address) == 0
    assert world.buyer.balance(world.address) == left


def test_a_payee_that_refuses_ether_hurts_nobody_else(world: World, compiled: dict[str, Any]) -> None:
    puppet = Puppet(world, compiled, REFUSE)
    finish_with(world, puppet)
    credit = world.buyer.credit(puppet.address)
    assert credit > 0
    assert not puppet.act("withdraw")
    assert world.buyer.credit(puppet.address) == credit
    parties: list[Marketplace] = [*world.owners[:2], world.aggregator, world.buyer]
    for party in parties:
        party.withdraw()
    assert world.buyer.balance(world.address) == credit


@pytest.mark.parametrize("data", ["0x", "0xdeadbeef"])
def test_ether_that_belongs_to_no_training_is_refused(world: World, data: str) -> None:
    assert not world.call_from(address_of(world.stranger), world.address, data, value=ETHER)


@pytest.mark.parametrize("function", ["withdraw", "cancel", "finalize"])
def test_calls_that_cost_nothing_take_no_ether(world: World, function: str) -> None:
    arguments = [] if function == "withdraw" else [bytes(32)]
    data = world.buyer._contract.encode_abi(function, arguments)
    assert not world.call_from(address_of(world.stranger), world.address, data, value=1)
