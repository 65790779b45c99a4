"""What the gateway makes of a real node's answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from eth_account import Account

import commons.chain.marketplace as gateway
from commons.chain.marketplace import (
    ChainUnavailable,
    InsufficientFunds,
    Marketplace,
    NoContract,
    Outcome,
    Reverted,
    Role,
    Status,
)
from commons.errors import ConfigurationError, InvalidInput

from .world import ESCROW, World, address_of, refused


def test_a_mined_transaction_tells_where_and_how_much(world: World) -> None:
    before = world.web3.eth.block_number
    receipt = world.join("newcomer", Role.NONE).register(Role.DATA_OWNER)
    assert receipt.block == before + 1
    assert 21_000 < receipt.gas < 60_000
    assert world.web3.eth.get_transaction(receipt.transaction)["blockNumber"] == receipt.block  # type: ignore[arg-type]


def test_what_runs_out_of_gas_is_estimated_and_sent_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when others' transactions came between the estimate and the block, and made this one dearer."""
    newcomer = world.join("newcomer", Role.NONE)
    eth, estimates = newcomer._node.web3.eth, [3, 5]
    estimate = eth.estimate_gas
    monkeypatch.setattr(eth, "estimate_gas", lambda *asked: estimate(*asked) * estimates.pop(0) // 5)
    before = world.web3.eth.block_number
    receipt = newcomer.register(Role.DATA_OWNER)
    assert receipt.block == before + 2 and not estimates
    assert newcomer.role(address_of(newcomer)) is Role.DATA_OWNER


def test_what_runs_out_of_gas_each_time_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    newcomer = world.join("newcomer", Role.NONE)
    eth = newcomer._node.web3.eth
    estimate = eth.estimate_gas
    monkeypatch.setattr(eth, "estimate_gas", lambda *asked: estimate(*asked) * 3 // 5)
    with pytest.raises(Reverted, match="no reason given"):
        newcomer.register(Role.DATA_OWNER)


def test_the_chain_and_its_clock(world: World) -> None:
    assert world.buyer.chain_id == 31337
    world.pass_time(1000)
    latest = world.web3.eth.get_block("latest")
    assert world.buyer.now() >= latest["timestamp"]
    assert world.buyer.head() == (latest["number"], latest["timestamp"])


def test_an_error_names_its_values() -> None:
    error = Reverted("WrongStatus", {"status": Status.OPEN, "needed": Status.TRAINING})
    assert str(error) == "the marketplace refused: WrongStatus(status=OPEN, needed=TRAINING)"


def test_errors_of_solidity_and_of_libraries_are_decoded(world: World) -> None:
    """A value that no enum has reverts without a reason; an overflow panics."""
    with refused(""):
        world.stranger.register(17)  # type: ignore[arg-type]
    training_id = world.started()
    with refused("Panic", code=0x11):
        world.aggregator.report_result(training_id, world.result(training_id, contributions=(2**255,) * 4))


def test_values_that_do_not_fit_their_type_are_the_callers_mistake(world: World) -> None:
    training_id = world.order()
    with pytest.raises(InvalidInput):
        world.owners[0].accept_training(training_id, 2**64)
    with pytest.raises(InvalidInput):
        world.buyer.finish_model_training(training_id, b"short")
    with pytest.raises(InvalidInput):
        world.order(wanted_owners=2**16)
    with pytest.raises(InvalidInput, match="not an Ethereum address"):
        world.order(arbiter="0x1234")
    with pytest.raises(InvalidInput, match="not an Ethereum address"):
        Marketplace(world.rpc_url, "")


def test_a_correction_comes_with_its_outcome_and_only_with_it(world: World) -> None:
    training_id = world.disputed()
    with pytest.raises(InvalidInput, match="CORRECTED"):
        world.arbiter.resolve(training_id, Outcome.CORRECTED)
    with pytest.raises(InvalidInput, match="CORRECTED"):
        world.arbiter.resolve(training_id, Outcome.REFUND, world.result(training_id))


def test_a_gateway_without_an_account_only_reads(world: World) -> None:
    reader = Marketplace(world.rpc_url, world.address)
    assert reader.role(address_of(world.buyer)) is Role.MODEL_BUYER
    with pytest.raises(ConfigurationError, match="account"):
        reader.register(Role.ARBITER)


@pytest.mark.parametrize("kind", ["nothing", "another contract"])
def test_an_address_without_the_marketplace_is_noticed_before_ether_is_sent(
    world: World, compiled: dict[str, dict[str, dict[str, str]]], kind: str
) -> None:
    address = "0x" + "11" * 20
    if kind == "another contract":
        address = world.deploy(compiled["Auditor.sol"]["Auditor"])
    lost = Marketplace(world.rpc_url, address, world.buyer.account)
    training_id = world.order()
    with pytest.raises(NoContract) as caught:
        lost.dispute_result(training_id, bytes(32), ESCROW)
    assert caught.value.address == lost.address
    for read in (lost.verify, lambda: lost.role(address), lambda: lost.training(training_id)):
        with pytest.raises(NoContract):
            read()
    with pytest.raises((NoContract, Reverted)):
        lost.cancel(training_id)
    assert world.buyer.balance(lost.address) == 0
    world.buyer.verify()


def test_an_account_without_ether_is_told_so(world: World) -> None:
    poor = Marketplace(world.rpc_url, world.address, Account.create())
    with pytest.raises(InsufficientFunds) as caught:
        poor.register(Role.MODEL_BUYER)
    assert (caught.value.account, caught.value.value) == (address_of(poor), 0)
    owned = world.buyer.balance(address_of(world.buyer))
    with pytest.raises(InsufficientFunds):
        world.order(value=owned + 1)
    with pytest.raises(InsufficientFunds):
        world.order(value=owned)


def test_a_race_lost_after_the_estimate_is_decoded_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    training_id = world.joined(2, wanted_owners=3)
    late, quick = world.owners[2:4]
    price = late._node._price

    def overtaken() -> object:
        quick.accept_training(training_id, 1)
        return price()

    monkeypatch.setattr(late._node, "_price", overtaken)
    with refused("EnoughOwners", wanted=3):
        late.accept_training(training_id, 1)
    owners = [owner.address for owner in world.buyer.training(training_id).owners]
    assert owners[2:] == [address_of(quick)]
    [failed] = world.rpc("eth_getBlockByNumber", "latest", True)["transactions"]
    assert int(failed["from"], 16) == int(address_of(late), 16)


def test_a_transaction_that_is_not_mined_in_time_is_found_by_reading(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    training_id = world.order()
    monkeypatch.setattr(gateway, "RECEIPT_TIMEOUT", 0.1)
    world.rpc("evm_setAutomine", False)
    try:
        with pytest.raises(ChainUnavailable, match="not mined"):
            world.buyer.cancel(training_id)
        assert world.status(training_id) is Status.OPEN
        world.rpc("evm_mine")
        assert world.status(training_id) is Status.CANCELLED
    finally:
        world.rpc("evm_setAutomine", True)
    with refused("InvalidTransition", status=Status.CANCELLED):
        world.buyer.cancel(training_id)


def test_threads_share_one_account(world: World) -> None:
    trainings = [world.order() for _ in range(12)]
    with ThreadPoolExecutor(6) as pool:
        receipts = list(pool.map(world.buyer.cancel, trainings))
    assert len({receipt.transaction for receipt in receipts}) == 12
    assert {world.status(training_id) for training_id in trainings} == {Status.CANCELLED}
