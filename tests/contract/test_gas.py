"""What a whole training costs, kept in docs/contract.md.

``UPDATE_GAS_TABLE=1 python -m pytest tests/contract/test_gas.py`` writes the table anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from uuid import UUID

import pytest
from eth_account import Account

from commons.chain.marketplace import Outcome, Receipt, Role, deploy

from .world import ESCROW, ETHER, World, address_of

DOCS = Path(__file__).resolve().parents[2] / "docs" / "contract.md"
MARKERS = "<!-- gas: begin -->\n", "<!-- gas: end -->\n"
EVALUATIONS = range(0, 101, 5)
STEPS = {
    "newModel": "buyer",
    "acceptTraining": "each owner",
    "closeJoining": "aggregator",
    "startTraining": "aggregator",
    "saveMse": f"aggregator, {len(EVALUATIONS)} times",
    "reportResult": "aggregator",
    "finishModelTraining": "buyer",
    "withdraw": "each owner, aggregator, buyer",
}
DISPUTE_STEPS = {"disputeResult": "whoever disputes", "resolve, with a corrected result": "arbiter"}
"""What a disputed training has in place of finishModelTraining. The withdrawals pay the bond back, too."""


def run_whole_training(world: World, owners: int, disputed: bool) -> dict[str, list[Receipt]]:
    """A training of 100 iterations, from the order to the last withdrawal; the receipts by step."""
    everybody = [world.join(f"gas {number}", Role.DATA_OWNER) for number in range(owners)]
    training_id = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
    terms = world.terms(wanted_owners=owners)
    aggregator = world.aggregator
    receipts = {
        "newModel": [world.buyer.new_model(training_id, "LINEAR_REGRESSION", address_of(aggregator), terms, ESCROW)],
        "acceptTraining": [owner.accept_training(training_id, 442) for owner in everybody],
        "closeJoining": [aggregator.close_joining(training_id)],
        "startTraining": [aggregator.start_training(training_id)],
        "saveMse": [aggregator.save_mse(training_id, iteration, ETHER // (iteration + 1)) for iteration in EVALUATIONS],
    }
    result = world.result(training_id, iterations=100)
    receipts["reportResult"] = [aggregator.report_result(training_id, result)]
    if disputed:
        bond = world.buyer.training(training_id).bond
        corrected = world.result(training_id, iterations=100, final_mse=result.final_mse + 1)
        receipts["disputeResult"] = [world.buyer.dispute_result(training_id, bytes(range(32)), bond)]
        receipts["resolve, with a corrected result"] = [
            world.arbiter.resolve(training_id, Outcome.CORRECTED, corrected)
        ]
    else:
        receipts["finishModelTraining"] = [world.buyer.finish_model_training(training_id, result.digest())]
    receipts["withdraw"] = [party.withdraw() for party in (*everybody, aggregator, world.buyer)]
    assert world.buyer.balance(world.address) == 0
    return receipts


def measure(world: World, disputed: bool) -> dict[str, tuple[int, int]]:
    """Per step, the gas with 4 trainers and 1 validator, and with 50 trainers and 21 validators."""
    sizes = []
    for owners in (5, 71):
        snapshot = world.snapshot()
        receipts = run_whole_training(world, owners, disputed)
        world.revert(snapshot)
        sizes.append({step: sum(receipt.gas for receipt in each) for step, each in receipts.items()})
    small, large = sizes
    return {step: (small[step], large[step]) for step in small}


@pytest.fixture(scope="module")
def gas(deployed: World) -> dict[str, tuple[int, int]]:
    return measure(deployed, disputed=False)


@pytest.fixture(scope="module")
def gas_of_dispute(deployed: World) -> dict[str, tuple[int, int]]:
    return measure(deployed, disputed=True)


def test_a_whole_training_with_four_trainers_stays_under_its_budget(gas: dict[str, tuple[int, int]]) -> None:
    assert sum(small for small, _ in gas.values()) < 3_500_000


def test_every_call_with_fifty_trainers_fits_a_block(gas: dict[str, tuple[int, int]]) -> None:
    assert max(gas[step][1] for step in ("startTraining", "reportResult", "finishModelTraining")) < 15_000_000


def test_the_table_in_the_docs_is_what_a_training_costs(
    world: World, gas: dict[str, tuple[int, int]], gas_of_dispute: dict[str, tuple[int, int]]
) -> None:
    deployer = Account.create()
    world.rpc("anvil_setBalance", deployer.address, hex(ETHER))
    deploy(world.rpc_url, deployer)
    apart = {
        "deployment": world.web3.eth.get_block("latest")["gasUsed"],
        "register": world.join("somebody", Role.NONE).register(Role.DATA_OWNER).gas,
    }
    total = tuple(sum(column) for column in zip(*gas.values(), strict=True))
    contested = tuple(sum(column) for column in zip(*gas_of_dispute.values(), strict=True))
    lines = ["| call | by | 4 trainers, 1 validator | 50 trainers, 21 validators |", "|---|---|--:|--:|"]
    lines += [f"| {step} | {by} | {gas[step][0]:,} | {gas[step][1]:,} |" for step, by in STEPS.items()]
    lines.append(f"| **a whole training of 100 iterations** | | **{total[0]:,}** | **{total[1]:,}** |")
    lines += [
        f"| {step} | {by} | {gas_of_dispute[step][0]:,} | {gas_of_dispute[step][1]:,} |"
        for step, by in DISPUTE_STEPS.items()
    ]
    lines.append(f"| **the same, disputed and corrected** | | **{contested[0]:,}** | **{contested[1]:,}** |")
    lines += [f"| {step} (once, apart) | | {cost:,} | {cost:,} |" for step, cost in apart.items()]
    begin, end = MARKERS
    text = DOCS.read_text(encoding="utf-8")
    before, rest = text.split(begin)
    table, after = rest.split(end)
    if os.environ.get("UPDATE_GAS_TABLE"):
        DOCS.write_text(before + begin + "\n".join(lines) + "\n" + end + after, encoding="utf-8")
        return

    def costs(table: list[str]) -> list[int]:
        # What the start costs depends on its draw: an owner that stays in its place is not written.
        steady = "\n".join(line for line in table if "startTraining" not in line)
        return [int(number.replace(",", "")) for number in re.findall(r"[\d,]{5,}", steady)]

    # Zero bytes in hashes and addresses move the others by a little.
    assert costs(table.splitlines()) == pytest.approx(costs(lines), rel=0.02), "write the table anew"
